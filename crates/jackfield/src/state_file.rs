//! Files in which a host keeps what it must still know when it is started again: one for each record,
//! so that one which is damaged costs no other.
//!
//! A file is written beside its place and put there whole. One that cannot be read is passed over and
//! named in the log: what is remembered here helps, and must keep no host from starting.
//!
//! Not here: what is in them (`crash.rs`, `quarantine.rs`). All of it blocks its thread.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::private_dir;

/// Most bytes of a record that are read.
const BYTES_MAX: u64 = 1 << 20;

/// Ends the names of files that are being written.
const PARTIAL: &str = "partial";

/// Age at which a file that is being written has been given up.
const PARTIAL_AGE_MAX: Duration = Duration::from_secs(3600);

/// A directory with records, `<name>.json` each.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    directory: PathBuf,
}

impl Records {
    /// The records in `directory`, which is made when the first is written.
    pub(crate) fn open(directory: PathBuf) -> Self {
        let records = Self { directory };
        records.sweep();
        records
    }

    /// Writes a record; one of this name is replaced. It is on the disk when this is over.
    pub(crate) fn write<T: Serialize>(&self, name: &str, record: &T) -> io::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(record)?;
        bytes.push(b'\n');
        private_dir::make(&self.directory)?;
        // Not the number of the process: two of different containers may have one, and this directory in common.
        let partial = self.directory.join(format!("{name}.{:016x}.{PARTIAL}", unique()));
        let written = new_file(&partial).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        let placed = written.and_then(|()| fs::rename(&partial, self.path(name)));
        if placed.is_err() {
            let _ = fs::remove_file(&partial);
        }
        placed?;
        sync_directory(&self.directory)
    }

    /// The record of this name. None if there is none, or none that can be read.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let path = self.path(name);
        match read(&path) {
            Ok(record) => Some(record),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(target: "jackfield::state", "`{}` is passed over: {error}", path.display());
                None
            }
        }
    }

    /// Whether there is a file of this name, whatever is in it.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Removes a record; whether it was there.
    pub(crate) fn remove(&self, name: &str) -> io::Result<bool> {
        match fs::remove_file(self.path(name)) {
            Ok(()) => sync_directory(&self.directory).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The names of all records, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let name = |path: PathBuf| {
            let is_record = path.extension().is_some_and(|extension| extension == "json");
            is_record.then(|| path.file_stem()?.to_str().map(str::to_owned)).flatten()
        };
        let mut names: Vec<_> = self.files().into_iter().filter_map(name).collect();
        names.sort_unstable();
        names
    }

    /// Where the record of this name is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }

    fn files(&self) -> Vec<PathBuf> {
        match fs::read_dir(&self.directory) {
            Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.path()).collect(),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    let directory = self.directory.display();
                    tracing::warn!(target: "jackfield::state", "`{directory}` cannot be looked through: {error}");
                }
                Vec::new()
            }
        }
    }

    /// Removes what writers that died left.
    fn sweep(&self) {
        for path in self.files() {
            let is_partial = path.extension().is_some_and(|extension| extension == PARTIAL);
            let written = || fs::symlink_metadata(&path).and_then(|seen| seen.modified());
            if is_partial && written().is_ok_and(|at| is_older(at, PARTIAL_AGE_MAX)) {
                let _ = fs::remove_file(&path);
            }
        }
    }
}

fn is_older(at: SystemTime, age: Duration) -> bool {
    at.elapsed().is_ok_and(|elapsed| elapsed > age)
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let mut bytes = Vec::new();
    File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(io::Error::other(format!("it is longer than {BYTES_MAX} bytes")));
    }
    serde_json::from_slice(&bytes).map_err(|error| io::Error::other(error.to_string()))
}

/// A file that was not there, and that nobody else may read: lines of a plugin can have secrets in them.
pub(crate) fn new_file(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// A number that nobody else has thought of. Its randomness is what std keys its hash tables with: good
/// enough for names and dice, and no crate more.
pub(crate) fn unique() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};

    RandomState::new().build_hasher().finish()
}

#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// A directory is no file to be opened on Windows, and its entries are written with the file.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

/// A time as records have it, `2026-11-29T21:04:05.123Z`: for `#[serde(with = "…")]`.
pub(crate) mod time {
    use std::time::{Duration, SystemTime};

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&text(*time))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(from)?;
        read(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a time of RFC 3339 in UTC")))
    }

    /// In UTC, to the millisecond. A time before 1970 is its beginning.
    pub(crate) fn text(time: SystemTime) -> String {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
    }

    fn read(text: &str) -> Option<SystemTime> {
        let (date_text, time) = text.strip_suffix('Z')?.split_once('T')?;
        let mut date = date_text.splitn(3, '-').map(|part| part.parse::<u64>().ok());
        let (year, month, day) = (date.next()??, date.next()??, date.next()??);
        let (time, millis) = time.split_once('.').unwrap_or((time, "0"));
        let mut time = time.splitn(3, ':').map(|part| part.parse::<u64>().ok());
        let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
        let millis = millis.parse::<u64>().ok()?;
        let is_time = hour < 24 && minute < 60 && second < 61 && millis < 1000;
        if !is_time || !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(seconds * 1000 + millis))
    }

    // Both ways after Howard Hinnant, "chrono-compatible low-level date algorithms": the year begins in
    // March there, so that the day that is sometimes missing is its last.

    /// The date that many days after 1970-01-01.
    fn date(days: u64) -> (u64, u64, u64) {
        let days = days + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let months = (5 * day_of_year + 2) / 153;
        let (day, month) =
            (day_of_year - (153 * months + 2) / 5 + 1, if months < 10 { months + 3 } else { months - 9 });
        (era * 400 + year_of_era + u64::from(month <= 2), month, day)
    }

    /// Days from 1970-01-01 to a date after it.
    fn days(year: u64, month: u64, day: u64) -> u64 {
        let year = year - u64::from(month <= 2);
        let (era, year_of_era) = (year / 400, year % 400);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn at(millis: u64) -> SystemTime {
            SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
        }

        #[test]
        fn a_time_is_written_as_people_and_programs_read_it() {
            for (millis, written) in [
                (0, "1970-01-01T00:00:00.000Z"),
                (951_782_399_999, "2000-02-28T23:59:59.999Z"),
                (951_782_400_000, "2000-02-29T00:00:00.000Z"),
                (1_709_251_199_000, "2024-02-29T23:59:59.000Z"),
                (1_795_986_245_123, "2026-11-29T21:04:05.123Z"),
            ] {
                assert_eq!(text(at(millis)), written);
                assert_eq!(read(written), Some(at(millis)), "{written}");
            }
        }

        #[test]
        fn every_day_comes_back() {
            for day in 0..80_000 {
                let time = at(day * 86_400_000 + 1);
                assert_eq!(read(&text(time)), Some(time), "{}", text(time));
            }
        }

        #[test]
        fn what_is_no_time_is_none() {
            for text in
                ["", "2026", "2026-11-29", "2026-11-29T21:04:05", "2026-13-29T21:04:05Z", "2026-11-29T25:04:05Z"]
            {
                assert_eq!(read(text), None, "{text}");
            }
            assert_eq!(text(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00.000Z");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> (tempfile::TempDir, Records) {
        let outer = tempfile::tempdir().expect("a directory");
        let records = Records::open(outer.path().join("state/records"));
        (outer, records)
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_replaced_whole() {
        let (_outer, records) = records();
        assert_eq!((records.names().len(), records.read::<u32>("a")), (0, None));
        records.write("b", &2).expect("written");
        records.write("a", &1).expect("written");
        records.write("a", &3).expect("written");
        assert_eq!(records.names(), ["a", "b"]);
        assert_eq!((records.read::<u32>("a"), records.read::<u32>("b")), (Some(3), Some(2)));
        assert_eq!(records.files().len(), 2, "nothing is left beside them");
        assert!(records.remove("a").expect("removed") && !records.remove("a").expect("gone"));
        assert!(!records.has("a") && records.has("b"));
    }

    #[test]
    fn a_damaged_record_is_none() {
        let (_outer, records) = records();
        records.write("good", &1).expect("written");
        fs::write(records.path("torn"), "{\"a\":").expect("a file");
        fs::write(records.path("long"), " ".repeat(BYTES_MAX as usize + 1)).expect("a file");
        fs::create_dir(records.path("directory")).expect("a directory");
        let read: Vec<_> = records.names().iter().map(|name| records.read::<u32>(name)).collect();
        assert_eq!(read, [None, Some(1), None, None]);
    }

    #[cfg(unix)]
    #[test]
    fn what_cannot_be_written_leaves_what_was_there() {
        let (_outer, records) = records();
        records.write("a", &1).expect("written");
        // In the way of the rename.
        fs::create_dir_all(records.path("b").join("x")).expect("a directory");
        assert!(records.write("b", &1).is_err());
        assert_eq!(records.read::<u32>("a"), Some(1));
        assert_eq!(records.files().len(), 2, "no partial file is left");
    }

    #[cfg(unix)]
    #[test]
    fn records_are_their_owner_s_alone() {
        use std::os::unix::fs::PermissionsExt as _;

        let (_outer, records) = records();
        records.write("a", &1).expect("written");
        let mode = |path: &Path| fs::metadata(path).expect("seen").permissions().mode() & 0o777;
        assert_eq!((mode(&records.path("a")), mode(&records.directory)), (0o600, 0o700));
    }

    #[test]
    fn what_a_dead_writer_left_is_swept() {
        let (_outer, records) = records();
        records.write("a", &1).expect("written");
        let (old, new) = (records.directory.join("a.1.partial"), records.directory.join("a.2.partial"));
        let long_ago = SystemTime::now() - 2 * PARTIAL_AGE_MAX;
        File::create(&old).and_then(|file| file.set_modified(long_ago)).expect("a file");
        File::create(&new).expect("a file");
        Records::open(records.directory.clone());
        assert_eq!((old.exists(), new.exists(), records.has("a")), (false, true, true));
    }
}
