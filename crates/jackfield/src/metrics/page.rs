//! A page of series, and one as text: what Prometheus reads, in OpenMetrics 1.0.
//!
//! The text is written here, and not by prometheus-client, which can neither be given exemplars from outside nor
//! write the 240,000 lines of a large host in the time that a scrape may take.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::durations::{BOUNDS, Exemplar, Taken};

/// Series of one name.
#[derive(Debug)]
pub(crate) struct Family {
    /// Without `_total`.
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: Kind,
    /// With which the name ends.
    pub(crate) unit: Option<&'static str>,
}

/// What the numbers of a family are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grows.
    Counter,
    Gauge,
    Histogram,
}

/// A number of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Number {
    fn from(whole: u64) -> Self {
        Number::Whole(whole)
    }
}

impl From<f64> for Number {
    fn from(real: f64) -> Self {
        Number::Real(real)
    }
}

/// Labels of a series, in the order in which they are shown.
pub(crate) type Labels<'a> = &'a [(&'static str, &'a str)];

/// Takes the series of a family, one after the other.
pub(crate) trait Samples {
    fn number(&mut self, labels: Labels<'_>, number: Number);

    fn times(&mut self, labels: Labels<'_>, taken: &Taken);
}

/// Takes all families, one after the other.
pub(crate) trait Page {
    fn family(&mut self, family: &'static Family, samples: &mut dyn FnMut(&mut dyn Samples));
}

/// The page as text.
#[derive(Debug, Default)]
pub(crate) struct TextPage {
    text: String,
}

impl TextPage {
    /// An empty page with room for so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes) }
    }

    /// Its text, with the line that says that it is whole.
    pub(crate) fn finish(mut self) -> String {
        self.text.push_str("# EOF\n");
        self.text
    }
}

impl Page for TextPage {
    fn family(&mut self, family: &'static Family, samples: &mut dyn FnMut(&mut dyn Samples)) {
        let (before, text) = (self.text.len(), &mut self.text);
        let Family { name, help, kind, unit } = family;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Into a string: cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        if let Some(unit) = unit {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        let head = text.len();
        let (labels, begin, ends) = (String::new(), String::new(), ends());
        samples(&mut TextSamples { text, family, labels, begin, ends });
        if self.text.len() == head {
            self.text.truncate(before);
        }
    }
}

struct TextSamples<'a> {
    text: &'a mut String,
    family: &'static Family,
    /// Room for the labels of a series, and for what all its lines begin with.
    labels: String,
    begin: String,
    /// What stands between the labels and the number of each bucket.
    ends: [String; BOUNDS.len() + 1],
}

impl TextSamples<'_> {
    fn label(&mut self, labels: Labels<'_>) {
        self.labels.clear();
        for (name, value) in labels {
            if !self.labels.is_empty() {
                self.labels.push(',');
            }
            self.labels.push_str(name);
            self.labels.push_str("=\"");
            escape(value, &mut self.labels);
            self.labels.push('"');
        }
    }

    fn begin(&mut self, suffix: &str) {
        self.text.push_str(self.family.name);
        self.text.push_str(suffix);
        self.text.push('{');
        self.text.push_str(&self.labels);
    }
}

impl Samples for TextSamples<'_> {
    fn number(&mut self, labels: Labels<'_>, number: Number) {
        self.label(labels);
        self.begin(if self.family.kind == Kind::Counter { "_total" } else { "" });
        self.text.push_str("} ");
        match number {
            Number::Whole(whole) => digits(whole, self.text),
            Number::Real(real) => {
                let _ = write!(self.text, "{real:?}");
            }
        }
        self.text.push('\n');
    }

    fn times(&mut self, labels: Labels<'_>, taken: &Taken) {
        self.label(labels);
        // Two dozen lines that differ in their ends: what they have in common is put together once, and a number that is
        // that of the line before is not written anew.
        self.begin.clear();
        for part in [self.family.name, "_bucket{", &self.labels] {
            self.begin.push_str(part);
        }
        let (mut count, mut number) = (0, "0".to_owned());
        for ((at, bucket), end) in taken.buckets.iter().enumerate().zip(&self.ends) {
            if *bucket > 0 {
                count += bucket;
                number.clear();
                digits(count, &mut number);
            }
            self.text.push_str(&self.begin);
            self.text.push_str(end);
            self.text.push_str(&number);
            if let Some(exemplar) = taken.exemplars.get(&at) {
                let Exemplar { trace, nanos, at } = exemplar;
                self.text.push_str(" # {trace_id=\"");
                for byte in trace {
                    let _ = write!(self.text, "{byte:02x}");
                }
                let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                let _ = write!(self.text, "\"}} {:?} {:.3}", seconds(*nanos), at.as_secs_f64());
            }
            self.text.push('\n');
        }
        self.begin("_count");
        self.text.push_str("} ");
        digits(count, self.text);
        self.text.push('\n');
        self.begin("_sum");
        let _ = writeln!(self.text, "}} {:?}", seconds(taken.nanos));
    }
}

pub(super) fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// The end of each bucket's labels.
fn ends() -> [String; BOUNDS.len() + 1] {
    let bound = |at: usize| BOUNDS.get(at).map_or_else(|| "+Inf".to_owned(), |nanos| format!("{:?}", seconds(*nanos)));
    std::array::from_fn(|at| format!(",le=\"{}\"}} ", bound(at)))
}

fn escape(value: &str, to: &mut String) {
    if !value.contains(['\\', '"', '\n']) {
        return to.push_str(value);
    }
    for character in value.chars() {
        match character {
            '\\' => to.push_str("\\\\"),
            '"' => to.push_str("\\\""),
            '\n' => to.push_str("\\n"),
            other => to.push(other),
        }
    }
}

/// Writes a number: most of them have a digit or two, for which `write!` is the longest part.
fn digits(mut number: u64, to: &mut String) {
    let (mut written, mut at) = ([0u8; 20], 20);
    loop {
        at -= 1;
        // A digit.
        written[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    // Digits are text.
    to.push_str(std::str::from_utf8(&written[at..]).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::expect;

    use super::*;
    use crate::metrics::durations::Durations;

    static CALLS: Family = Family { name: "calls", help: "Calls.", kind: Kind::Counter, unit: None };
    static NONE: Family = Family { name: "none", help: "Nothing.", kind: Kind::Gauge, unit: None };
    static TOOK: Family = Family { name: "took_seconds", help: "Time.", kind: Kind::Histogram, unit: Some("seconds") };

    #[test]
    fn a_page_is_openmetrics() {
        let mut page = TextPage::default();
        page.family(&CALLS, &mut |samples| {
            samples.number(&[("plugin", "a\"b\\c\nd"), ("status", "ok")], 10.into());
            samples.number(&[], 0.5.into());
        });
        page.family(&NONE, &mut |_| {});
        let durations = Durations::default();
        [40, 1_500_000].into_iter().for_each(|nanos| durations.add(nanos));
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        durations.note(Exemplar { trace: [0xab; 16], nanos: 1_500_000, at });
        page.family(&TOOK, &mut |samples| samples.times(&[("plugin", "p")], &durations.read()));
        let text = page.finish();
        let short: Vec<_> = text.lines().filter(|line| !line.contains("e-") && !line.contains("le=\"0.0")).collect();
        expect![[r##"
            # HELP calls Calls.
            # TYPE calls counter
            calls_total{plugin="a\"b\\c\nd",status="ok"} 10
            calls_total{} 0.5
            # HELP took_seconds Time.
            # TYPE took_seconds histogram
            # UNIT took_seconds seconds
            took_seconds_bucket{plugin="p",le="0.1"} 2
            took_seconds_bucket{plugin="p",le="0.2"} 2
            took_seconds_bucket{plugin="p",le="0.5"} 2
            took_seconds_bucket{plugin="p",le="1.0"} 2
            took_seconds_bucket{plugin="p",le="2.0"} 2
            took_seconds_bucket{plugin="p",le="5.0"} 2
            took_seconds_bucket{plugin="p",le="10.0"} 2
            took_seconds_bucket{plugin="p",le="+Inf"} 2
            took_seconds_count{plugin="p"} 2
            took_seconds_sum{plugin="p"} 0.00150004
            # EOF"##]]
        .assert_eq(&short.join("\n"));
        let exemplar = format!(" # {{trace_id=\"{}\"}} 0.0015 1.500", "ab".repeat(16));
        assert!(text.contains(&format!("le=\"0.002\"}} 2{exemplar}\n")), "{text}");
    }

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 7, 10, 1_234_567_890, u64::MAX] {
            let mut text = String::new();
            digits(number, &mut text);
            assert_eq!(text, number.to_string());
        }
    }
}
