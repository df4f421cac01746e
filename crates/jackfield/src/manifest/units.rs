//! Durations and sizes as people write them: `250ms`, `16MiB`.

use std::time::Duration;

const DURATIONS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

const SIZES: [(&str, u64); 8] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Reads a duration: a whole number with its unit, `ms`, `s`, `m` or `h`.
///
/// ```
/// # use jackfield::parse_duration;
/// assert_eq!(parse_duration("250ms")?.as_millis(), 250);
/// assert_eq!(
///     parse_duration("5").unwrap_err().to_string(),
///     r#""5" is not a duration: a whole number and `ms`, `s`, `m` or `h`, as in "250ms""#,
/// );
/// # Ok::<(), jackfield::UnitError>(())
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let milliseconds = parse(text, &DURATIONS);
    milliseconds.map(Duration::from_millis).ok_or_else(|| UnitError {
        text: text.to_owned(),
        what: "a duration: a whole number and `ms`, `s`, `m` or `h`, as in \"250ms\"",
    })
}

/// Reads a size in bytes: a whole number with its unit, `B`, `kB`, `MB`, `GB`, `KiB`, `MiB`, `GiB`.
pub(super) fn parse_size(text: &str) -> Result<u64, UnitError> {
    parse(text, &SIZES).ok_or_else(|| UnitError {
        text: text.to_owned(),
        what: "a size: a whole number and `B`, `kB`, `MB`, `GB`, `KiB`, `MiB` or `GiB`, as in \"16MiB\"",
    })
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(known, _)| *known == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A text that is not a duration, or not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}")]
pub struct UnitError {
    text: String,
    what: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_wants_a_unit_and_a_unit_a_number() {
        let seconds = |text| parse_duration(text).map(|duration| duration.as_secs()).ok();
        assert_eq!(["2m", "1h", "90 s", "0s"].map(seconds), [120, 3600, 90, 0].map(Some));
        for text in ["", "5", "s", "5 sec", "-1s", "1.5s", "5S", "99999999999999999h"] {
            assert_eq!(parse_duration(text).ok(), None, "{text}");
        }
        let bytes = |text| parse_size(text).ok();
        assert_eq!(["10MB", "16MiB", "1 KiB", "7B"].map(bytes), [10_000_000, 16 << 20, 1024, 7].map(Some));
        for text in ["10M", "10mib", "16", "MiB", "99999999999999999999B", "18446744073709551615KiB"] {
            assert_eq!(parse_size(text).ok(), None, "{text}");
        }
    }
}
