//! What is done to plugins.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::http::Connection;
use crate::random::Random;
use crate::{MARK, PLUGINS, Place, carries};

pub struct Faults<'a> {
    place: &'a Place,
    random: Random,
    admin: Connection,
    /// What ends by itself, and when.
    ends: Vec<(Instant, End)>,
    done: BTreeMap<&'static str, u32>,
}

/// The end of a fault that lasts.
enum End {
    /// The process goes on.
    Continue(u32),
    /// The good file is put back.
    PutBack(PathBuf),
}

impl<'a> Faults<'a> {
    pub fn new(place: &'a Place, random: Random) -> Self {
        let admin = Connection::to(&place.socket());
        Self { place, random, admin, ends: Vec::new(), done: BTreeMap::new() }
    }

    /// The next fault, and the ends that are due.
    pub fn next(&mut self) {
        self.end_those(|end, now| *end <= now);
        // Always as many draws, so that what happens to one plugin does not change what happens to the next.
        let [plugin, kind, detail, lasts] = [(); 4].map(|()| self.random.next());
        let programs = (PLUGINS[0].1 + PLUGINS[1].1) as u64;
        let name = format!("p{:02}", plugin % programs);
        let lasts = Instant::now() + Duration::from_millis(100 + lasts % 1500);
        let what = match kind % 10 {
            0..=2 => self.kill(&name),
            3 | 4 => self.stop(&name, lasts),
            // Shorter than the time of a call: it is late, and not lost.
            5 | 6 => self.slow(&name),
            7 | 8 => self.babble(&name, detail),
            _ => self.replace(&name, detail, lasts),
        };
        *self.done.entry(what).or_default() += 1;
    }

    /// Ends all faults that last. Gives what was done, how often.
    pub fn end(mut self) -> BTreeMap<&'static str, u32> {
        self.end_those(|_, _| true);
        self.done
    }

    fn end_those(&mut self, are: impl Fn(&Instant, Instant) -> bool) {
        let now = Instant::now();
        let (due, left) = std::mem::take(&mut self.ends).into_iter().partition(|(end, _)| are(end, now));
        self.ends = left;
        let due: Vec<(Instant, End)> = due;
        for (_, end) in due {
            match end {
                End::Continue(process) => self.signal(process, "CONT"),
                End::PutBack(dir) => put(&dir, &fs::read(dir.join(".good")).expect("the good file")),
            }
        }
    }

    fn kill(&mut self, name: &str) -> &'static str {
        let Some(process) = self.process(name) else { return "nobody there" };
        self.signal(process, "KILL");
        "killed"
    }

    fn stop(&mut self, name: &str, until: Instant) -> &'static str {
        let Some(process) = self.process(name) else { return "nobody there" };
        self.signal(process, "STOP");
        self.ends.push((until, End::Continue(process)));
        "stopped"
    }

    fn slow(&mut self, name: &str) -> &'static str {
        self.stop(name, Instant::now() + Duration::from_millis(300));
        "slowed down"
    }

    /// Writes into the pipe on which the plugin answers, beside it.
    fn babble(&mut self, name: &str, detail: u64) -> &'static str {
        let Some(process) = self.process(name) else { return "nobody there" };
        let babble: Vec<u8> = match detail % 6 {
            0 => b"what am I doing here?\n".to_vec(),
            1 => b"no end of the line".to_vec(),
            2 => br#"{"jsonrpc":"2.0","id":987654321,"result":"nobody asked"}"#.iter().copied().chain(*b"\n").collect(),
            3 => vec![0xF5, 0xEE, 0xFF, 0xFF, 0xFF, 0x7F, 0, 0, 0, 0],
            4 => vec![b'x'; 48 << 10],
            _ => detail.to_le_bytes().repeat(64),
        };
        let pipes = answers(process);
        for pipe in &pipes {
            // A full pipe of a stopped host would hold us for ever; the host is never stopped.
            let opened = fs::File::options().write(true).open(pipe);
            let _ = opened.and_then(|mut pipe| pipe.write_all(&babble));
        }
        if pipes.is_empty() { "nobody there" } else { "made to babble" }
    }

    fn replace(&mut self, name: &str, detail: u64, until: Instant) -> &'static str {
        let dir = self.place.path("plugins").join(name);
        let good = fs::read(dir.join(".good")).expect("the good file");
        put(&dir, &good[..(detail % good.len() as u64) as usize]);
        self.ends.push((until, End::PutBack(dir)));
        "cut short"
    }

    /// The plugin's process, if it has one at this moment.
    fn process(&mut self, name: &str) -> Option<u32> {
        let (_, shown) = self.admin.get(&format!("/v1/plugins/{name}"));
        let process = u32::try_from(shown["process"].as_u64()?).ok()?;
        carries(process, &format!("{MARK}={}", self.place.mark)).then_some(process)
    }

    fn signal(&self, process: u32, signal: &str) {
        // It may have ended since, and its number belong to somebody else.
        if carries(process, &format!("{MARK}={}", self.place.mark)) {
            let _ = Command::new("kill").args([&format!("-{signal}"), &process.to_string()]).output();
        }
    }
}

/// Puts a file in the place of a plugin's, as one should: beside it, then renamed.
fn put(dir: &Path, bytes: &[u8]) {
    let entries = fs::read_dir(dir).expect("the plugin's directory").map(|entry| entry.expect("an entry").path());
    let is_entry = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !name.starts_with('.') && name != "plugin.toml"
    };
    let entry = entries.into_iter().find(is_entry).expect("the plugin's file");
    let beside = dir.join(".new");
    fs::write(&beside, bytes).expect("written");
    let permissions = fs::metadata(dir.join(".good")).expect("the good file").permissions();
    fs::set_permissions(&beside, permissions).expect("set");
    fs::rename(beside, entry).expect("renamed");
}

/// The pipes into which a plugin writes, but for its stderr: for a program with the SDK, that of its answers; for one
/// that speaks gRPC, its stdout.
fn answers(process: u32) -> BTreeSet<PathBuf> {
    let dir = PathBuf::from(format!("/proc/{process}"));
    let stderr = fs::read_link(dir.join("fd/2")).ok();
    let open = fs::read_dir(dir.join("fd")).into_iter().flatten().filter_map(Result::ok);
    let is_one = |number: &String| {
        let what = fs::read_link(dir.join("fd").join(number)).ok();
        let is_pipe = what.as_ref().is_some_and(|what| what.to_string_lossy().starts_with("pipe:"));
        let flags = fs::read_to_string(dir.join("fdinfo").join(number)).unwrap_or_default();
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")?.trim().chars().last());
        // The last octal digit has the access mode: 1 is to write.
        is_pipe && what != stderr && flags == Some('1')
    };
    let numbers = open.filter_map(|entry| entry.file_name().into_string().ok()).filter(is_one);
    numbers.map(|number| dir.join("fd").join(number)).collect()
}
