//! Lines for the host's log, as hclog writes them: one JSON object each, on stderr.

use std::fs::File;
use std::io::Write as _;
use std::panic::PanicHookInfo;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::log::{self, Level};

/// Has what is logged written to `stderr`, under the name `module`, and panics logged as errors.
pub(super) fn begin(stderr: File, module: String) {
    let stderr = Mutex::new(stderr);
    log::send_to(move |level, message| {
        let line = line(level, &module, message, log::trace_id().as_deref(), SystemTime::now());
        // At once, so that lines of several threads do not mix. A host that reads no more loses them.
        let _ = stderr.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    });
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let payload = info.payload();
        let message = payload.downcast_ref::<&str>().copied();
        let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = message.unwrap_or("a value that is no text");
        let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        log::log(Level::Error, &format!("panic: {message} ({place})"));
    }));
}

fn line(level: Level, module: &str, message: &str, trace: Option<&str>, now: SystemTime) -> String {
    let level = level.to_string().to_ascii_lowercase();
    // Text is always JSON.
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let (message, module) = (quoted(message), quoted(module));
    let time = timestamp(now);
    let trace = trace.map_or_else(String::new, |id| format!(",\"trace_id\":\"{id}\""));
    format!("{{\"@level\":\"{level}\",\"@message\":{message},\"@module\":{module},\"@timestamp\":\"{time}\"{trace}}}\n")
}

/// A time in UTC, to the microsecond: `2006-01-02T15:04:05.000000Z`.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of a day since 1970.
fn date(days: u64) -> (u64, u64, u64) {
    // Counted from March of the year 0, so that a leap day is the last day of its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_is_one_object_whatever_the_message() {
        let time = UNIX_EPOCH + Duration::from_micros(1_136_214_245_000_042);
        assert_eq!(
            line(Level::Warn, "kv", "a \"word\"\nand more", None, time),
            "{\"@level\":\"warn\",\"@message\":\"a \\\"word\\\"\\nand more\",\"@module\":\"kv\",\
             \"@timestamp\":\"2006-01-02T15:04:05.000042Z\"}\n"
        );
        assert_eq!(
            line(Level::Info, "kv", "put", Some("4bf92f3577b34da6a3ce929d0e0e4736"), time),
            "{\"@level\":\"info\",\"@message\":\"put\",\"@module\":\"kv\",\
             \"@timestamp\":\"2006-01-02T15:04:05.000042Z\",\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\"}\n"
        );
    }

    #[test]
    fn dates_are_right_around_leap_days() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (789, (1972, 2, 29)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_454, (2026, 1, 1)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), expected, "{days}");
        }
    }
}
