//! The page for a meter of OpenTelemetry: an observable instrument for each family.
//!
//! OpenTelemetry's API has no histogram that is observed, and its SDK takes none from outside: of times there are how many
//! and how long together, as two counters.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::durations::Taken;
use super::page::{Family, Kind, Labels, Number, Page, Samples, seconds};

/// Longest time for which a page is looked at: that of one collection.
const FRESH: Duration = Duration::from_secs(1);

/// Makes instruments for families, which ask `write` for a page when they are collected.
pub(crate) fn observe(
    families: &[&'static Family],
    meter: &Meter,
    write: impl Fn(&mut dyn Page) + Send + Sync + 'static,
) {
    let look = Arc::new(Look { write: Box::new(write), seen: Mutex::default() });
    for Family { name, help, kind, unit } in families.iter().copied() {
        // As UCUM has them.
        let unit = match unit {
            Some("seconds") => "s",
            Some("bytes") => "By",
            _ => "",
        };
        let whole = |name: String| {
            let (look, of) = (Arc::clone(&look), name.clone());
            let counter = meter.u64_observable_counter(name).with_description(*help);
            counter.with_callback(move |observer| {
                look.take(&of).iter().for_each(|one| observer.observe(one.number.whole(), &one.attributes));
            })
        };
        let real = |name: String| {
            let (look, of) = (Arc::clone(&look), name.clone());
            let counter = meter.f64_observable_counter(name).with_description(*help).with_unit(unit);
            counter.with_callback(move |observer| {
                look.take(&of).iter().for_each(|one| observer.observe(one.number.real(), &one.attributes));
            })
        };
        // What is built lives in the meter's provider; the values that come back have no use.
        match kind {
            Kind::Counter if unit.is_empty() => _ = whole((*name).to_owned()).build(),
            Kind::Counter => _ = real((*name).to_owned()).build(),
            Kind::Gauge => {
                let look = Arc::clone(&look);
                let gauge = meter.f64_observable_gauge(*name).with_description(*help).with_unit(unit);
                let gauge = gauge.with_callback(move |observer| {
                    look.take(name).iter().for_each(|one| observer.observe(one.number.real(), &one.attributes));
                });
                _ = gauge.build();
            }
            Kind::Histogram => {
                _ = whole(format!("{name}_count")).build();
                _ = real(format!("{name}_sum")).build();
            }
        }
    }
}

/// A page that is written once for a collection, in which every instrument is asked for itself.
struct Look {
    write: Box<Write>,
    seen: Mutex<Option<(Instant, Series)>>,
}

/// Writes a page of now.
type Write = dyn Fn(&mut dyn Page) + Send + Sync;

/// What each instrument has not yet taken, by its name.
type Series = HashMap<String, Vec<One>>;

struct One {
    attributes: Vec<KeyValue>,
    number: Number,
}

impl Look {
    /// What an instrument has now. One that asks again begins the next collection.
    fn take(&self, name: &str) -> Vec<One> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, series)) = &mut *seen
            && at.elapsed() < FRESH
            && let Some(taken) = series.remove(name)
        {
            return taken;
        }
        let mut page = MeterPage::default();
        (self.write)(&mut page);
        let taken = page.series.remove(name).unwrap_or_default();
        *seen = Some((Instant::now(), page.series));
        taken
    }
}

#[derive(Default)]
struct MeterPage {
    series: Series,
}

impl Page for MeterPage {
    fn family(&mut self, family: &'static Family, samples: &mut dyn FnMut(&mut dyn Samples)) {
        let mut taken = MeterSamples::default();
        samples(&mut taken);
        if family.kind == Kind::Histogram {
            self.series.insert(format!("{}_count", family.name), taken.numbers);
            self.series.insert(format!("{}_sum", family.name), taken.sums);
        } else {
            self.series.insert(family.name.to_owned(), taken.numbers);
        }
    }
}

#[derive(Default)]
struct MeterSamples {
    numbers: Vec<One>,
    sums: Vec<One>,
}

impl Samples for MeterSamples {
    fn number(&mut self, labels: Labels<'_>, number: Number) {
        self.numbers.push(One { attributes: attributes(labels), number });
    }

    fn times(&mut self, labels: Labels<'_>, taken: &Taken) {
        self.number(labels, taken.count().into());
        self.sums.push(One { attributes: attributes(labels), number: seconds(taken.nanos).into() });
    }
}

fn attributes(labels: Labels<'_>) -> Vec<KeyValue> {
    labels.iter().map(|(name, value)| KeyValue::new(*name, (*value).to_owned())).collect()
}

impl Number {
    fn whole(self) -> u64 {
        match self {
            Number::Whole(whole) => whole,
            // Counters without a unit are whole.
            Number::Real(real) => real as u64,
        }
    }

    fn real(self) -> f64 {
        match self {
            Number::Whole(whole) => whole as f64,
            Number::Real(real) => real,
        }
    }
}
