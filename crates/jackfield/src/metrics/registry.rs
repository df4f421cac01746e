//! The page for a registry of prometheus-client, beside an application's own series. Without exemplars, which that
//! registry takes from its own histograms alone.

use std::collections::HashMap;
use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, MetricEncoder, NativeHistogram, NativeHistogramBuckets, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;

use super::durations::{BOUNDS, Taken};
use super::fine::SCHEMA;
use super::page::{Family, Kind, Labels, Number, Page, Samples, seconds};

/// Writes families with an encoder of prometheus-client.
pub(crate) struct RegistryPage<'a> {
    encoder: DescriptorEncoder<'a>,
    result: fmt::Result,
}

impl<'a> RegistryPage<'a> {
    pub(crate) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self { encoder, result: Ok(()) }
    }

    pub(crate) fn finish(self) -> fmt::Result {
        self.result
    }
}

impl Page for RegistryPage<'_> {
    fn family(&mut self, family: &'static Family, samples: &mut dyn FnMut(&mut dyn Samples)) {
        if self.result.is_err() {
            return;
        }
        let kind = match family.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        // The names have their units.
        self.result = self.encoder.encode_descriptor(family.name, family.help, None, kind).and_then(|metric| {
            let mut taken = RegistrySamples { metric, kind: family.kind, result: Ok(()) };
            samples(&mut taken);
            taken.result
        });
    }
}

struct RegistrySamples<'a> {
    metric: MetricEncoder<'a>,
    kind: Kind,
    result: fmt::Result,
}

impl Samples for RegistrySamples<'_> {
    fn number(&mut self, labels: Labels<'_>, number: Number) {
        let none = None::<&Exemplar<NoLabelSet, f64>>;
        let written = self.metric.encode_family(&labels).and_then(|mut metric| match (self.kind, number) {
            (Kind::Counter, Number::Whole(whole)) => metric.encode_counter(&whole, none),
            (Kind::Counter, Number::Real(real)) => metric.encode_counter(&real, none),
            (_, Number::Whole(whole)) => metric.encode_gauge(&(whole as f64)),
            (_, Number::Real(real)) => metric.encode_gauge(&real),
        });
        self.result = self.result.and(written);
    }

    fn times(&mut self, labels: Labels<'_>, taken: &Taken) {
        let bounds = BOUNDS.map(seconds).into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(taken.buckets).collect();
        let none = None::<&HashMap<usize, Exemplar<NoLabelSet, f64>>>;
        let written = self.metric.encode_family(&labels).and_then(|mut metric| match &taken.fine {
            None => metric.encode_histogram(seconds(taken.nanos), taken.count(), &buckets, none),
            Some(fine) => {
                let (spans, deltas) = spans(&fine.buckets);
                let native = NativeHistogram {
                    schema: SCHEMA,
                    zero_threshold: 0.0,
                    zero_count: fine.zero,
                    negative: NativeHistogramBuckets { spans: &[], deltas: &[] },
                    positive: NativeHistogramBuckets { spans: &spans, deltas: &deltas },
                    created: None,
                };
                // Both kinds of buckets have to say how many there are, and may have been read a moment apart.
                metric.encode_histogram_with_native(seconds(taken.nanos), fine.count(), &buckets, none, native)
            }
        });
        self.result = self.result.and(written);
    }
}

/// Buckets as Prometheus wants them: runs of them, each by its distance from the end of the one before and its length,
/// and all counts as differences from the one before.
fn spans(buckets: &[(i32, u64)]) -> (Vec<(i32, u32)>, Vec<i64>) {
    let (mut spans, mut deltas) = (Vec::<(i32, u32)>::new(), Vec::with_capacity(buckets.len()));
    let (mut next, mut before) = (0, 0i64);
    for (index, count) in buckets {
        match spans.last_mut() {
            Some((_, length)) if *index == next => *length += 1,
            _ => spans.push((index - next, 1)),
        }
        next = index + 1;
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        deltas.push(count - before);
        before = count;
    }
    (spans, deltas)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_that_follow_each_other_are_a_span() {
        assert_eq!(spans(&[]), (vec![], vec![]));
        let buckets = [(-3, 5), (-2, 7), (4, 1), (6, 1)];
        assert_eq!(spans(&buckets), (vec![(-3, 2), (5, 1), (1, 1)], vec![5, 2, -6, 0]));
    }
}
