//! When a change is over: the rules, without files and without a clock.
//!
//! A plugin is *still*, or it *moves*, or it has been *read* once since it moved. It is told of when it has not
//! moved for a while and two reads, a moment apart, found the same. Who copies a file in place, pauses and goes on
//! would pass that, so a plugin also waits for those who are known to be writing, up to a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// SHA-256 of what a plugin's files contain, and of where they lie.
pub(super) type Digest = [u8; 32];

/// How long is waited for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Time without a change before a plugin's files are read.
    pub(crate) quiet: Duration,
    /// Time between the two reads.
    pub(crate) between: Duration,
    /// The same as `quiet`, for a plugin that is gone or broken: many a tool deletes a file and writes it anew.
    pub(crate) broken: Duration,
    /// Time without a change after which a file counts as whole although it is empty or open for writing.
    pub(crate) held: Duration,
    /// Time between two looks when nothing gave a reason for one.
    pub(crate) idle: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(250),
            between: Duration::from_millis(100),
            broken: Duration::from_secs(1),
            held: Duration::from_secs(30),
            idle: Duration::from_secs(2),
        }
    }
}

/// A plugin's files as a look shows them, none of them read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Each file by its own path, symbolic links resolved; `None` for one that cannot be looked at.
    pub(super) files: Vec<(PathBuf, Option<Stamp>)>,
    /// Whether its manifest was understood, and names files that are there.
    pub(super) whole: bool,
}

/// What changes when a file does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) len: u64,
    pub(super) modified: Option<SystemTime>,
    /// Device, inode and time of change, seconds and nanoseconds: what cannot be set back. Unix only.
    pub(super) node: [i128; 4],
}

/// The plugins and how far each is. They are known by the path of the manifest, or of the file without one.
#[derive(Debug)]
pub(super) struct Settle {
    pace: Pace,
    plugins: BTreeMap<PathBuf, Plugin>,
}

#[derive(Debug)]
struct Plugin {
    told: Told,
    /// As the last look showed it; `None` if it was not there.
    shape: Option<Shape>,
    phase: Phase,
}

/// What was last told of a plugin: a change back to it is none.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Absent,
    /// It was there from the beginning, and never had to be read.
    Unread,
    Read(Digest),
}

#[derive(Debug)]
enum Phase {
    Still,
    Moving { since: Instant },
    Read { since: Instant, digest: Digest, at: Instant },
}

impl Settle {
    /// Begins with plugins that nobody needs to be told of.
    pub(super) fn new(pace: Pace, plugins: BTreeMap<PathBuf, Shape>) -> Self {
        let still = |shape| Plugin { told: Told::Unread, shape: Some(shape), phase: Phase::Still };
        Self { pace, plugins: plugins.into_iter().map(|(path, shape)| (path, still(shape))).collect() }
    }

    /// Takes in what a look at `now` showed, and gives the plugins whose change is over.
    ///
    /// `is_held` says whether somebody is known to be at the files of a plugin. `read` reads them; `None` if that
    /// fails, because one has just gone, say. Of a plugin that is still nothing is read.
    pub(super) fn see(
        &mut self,
        mut shapes: BTreeMap<PathBuf, Shape>,
        now: Instant,
        is_held: impl Fn(&Path, &Shape) -> bool,
        read: impl Fn(&Shape) -> Option<Digest>,
    ) -> BTreeSet<PathBuf> {
        for path in shapes.keys() {
            let absent = || Plugin { told: Told::Absent, shape: None, phase: Phase::Still };
            self.plugins.entry(path.clone()).or_insert_with(absent);
        }
        let mut settled = BTreeSet::new();
        for (path, plugin) in &mut self.plugins {
            let seen = shapes.remove(path);
            let held = seen.as_ref().is_some_and(|shape| is_held(path, shape));
            if plugin.see(seen, &self.pace, now, held, &read) {
                settled.insert(path.clone());
            }
        }
        self.plugins.retain(|_, plugin| plugin.told != Told::Absent || plugin.shape.is_some());
        settled
    }

    /// When to look again, should nothing give a reason before.
    pub(super) fn due(&self, now: Instant) -> Instant {
        let due = self.plugins.values().filter_map(|plugin| match plugin.phase {
            Phase::Still => None,
            Phase::Moving { since } => {
                let quiet = since + self.pace.wait(plugin.shape.as_ref());
                // One that is due and moves still is held. Whoever holds it gives a reason to look when he lets go.
                Some(if quiet > now { quiet } else { since + self.pace.held })
            }
            Phase::Read { at, .. } => Some(at + self.pace.between),
        });
        due.fold(now + self.pace.idle, Instant::min)
    }
}

impl Plugin {
    /// Takes in a look. True if a change is over, and is one.
    fn see(
        &mut self,
        seen: Option<Shape>,
        pace: &Pace,
        now: Instant,
        held: bool,
        read: impl Fn(&Shape) -> Option<Digest>,
    ) -> bool {
        if seen != self.shape {
            self.shape = seen;
            self.phase = Phase::Moving { since: now };
            return false;
        }
        let moving = Phase::Moving { since: now };
        self.phase = match self.phase {
            Phase::Still => return false,
            Phase::Moving { since } | Phase::Read { since, .. } if held && now < since + pace.held => {
                Phase::Moving { since }
            }
            Phase::Moving { since } if now < since + pace.wait(self.shape.as_ref()) => return false,
            Phase::Moving { since } => match &self.shape {
                None => return self.settle(Told::Absent),
                Some(shape) => read(shape).map_or(moving, |digest| Phase::Read { since, digest, at: now }),
            },
            Phase::Read { at, .. } if now < at + pace.between => return false,
            Phase::Read { digest, .. } => match self.shape.as_ref().and_then(read) {
                Some(again) if again == digest => return self.settle(Told::Read(digest)),
                _ => moving,
            },
        };
        false
    }

    fn settle(&mut self, told: Told) -> bool {
        self.phase = Phase::Still;
        std::mem::replace(&mut self.told, told) != self.told
    }
}

impl Pace {
    fn wait(&self, shape: Option<&Shape>) -> Duration {
        if shape.is_some_and(|shape| shape.whole) { self.quiet } else { self.broken }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One plugin whose file is written, looked at each 10 ms.
    struct Bench {
        settle: Settle,
        now: Instant,
        began: Instant,
        file: Option<(u64, Digest)>,
        held: bool,
        whole: bool,
    }

    fn pace() -> Pace {
        let [quiet, between, broken, held, idle] = [250, 100, 1000, 30_000, 2000].map(Duration::from_millis);
        Pace { quiet, between, broken, held, idle }
    }

    /// A file of this length, whose content is this byte.
    fn file(len: u64, content: u8) -> Option<(u64, Digest)> {
        Some((len, [content; 32]))
    }

    impl Bench {
        fn new(file: Option<(u64, Digest)>) -> Self {
            let now = Instant::now();
            let mut bench =
                Self { settle: Settle::new(pace(), BTreeMap::new()), now, began: now, file, held: false, whole: true };
            bench.settle = Settle::new(pace(), bench.shapes());
            bench
        }

        fn shapes(&self) -> BTreeMap<PathBuf, Shape> {
            let shape = |(len, _)| Shape {
                files: vec![(PathBuf::from("p"), Some(Stamp { len, ..Stamp::default() }))],
                whole: self.whole,
            };
            self.file.map(shape).map(|shape| (PathBuf::from("p"), shape)).into_iter().collect()
        }

        fn look(&mut self) -> bool {
            let content = self.file.map(|(_, content)| content);
            !self.settle.see(self.shapes(), self.now, |_, _| self.held, |_| content).is_empty()
        }

        /// Looks each 10 ms for so long, and gives the times at which a change was over, counted from now.
        fn watch(&mut self, time: u64) -> Vec<u128> {
            let from = self.now;
            let until = from + Duration::from_millis(time);
            let mut over = Vec::new();
            while self.now < until {
                if self.look() {
                    over.push((self.now - from).as_millis());
                }
                self.now += Duration::from_millis(10);
            }
            over
        }
    }

    #[test]
    fn a_change_is_told_once_when_it_has_been_quiet_and_was_read_twice() {
        let mut bench = Bench::new(file(1, 1));
        assert_eq!(bench.watch(5000), [0; 0]);
        bench.file = file(2, 2);
        assert_eq!(bench.watch(5000), [350]);
    }

    #[test]
    fn a_storm_is_one_change() {
        let mut bench = Bench::new(file(1, 1));
        for write in 0..50 {
            bench.file = file(100 + write, 2);
            assert_eq!(bench.watch(20), [0; 0]);
        }
        assert_eq!(bench.watch(5000), [330]);
    }

    #[test]
    fn a_file_that_somebody_writes_is_waited_for_but_not_for_ever() {
        let mut bench = Bench::new(file(1, 1));
        (bench.file, bench.held) = (file(2, 2), true);
        assert_eq!(bench.watch(10_000), [0; 0]);
        bench.held = false;
        assert_eq!(bench.watch(1000), [100]);
        (bench.file, bench.held) = (file(3, 3), true);
        assert_eq!(bench.watch(60_000), [30_100]);
    }

    #[test]
    fn a_plugin_that_reads_differently_is_read_again() {
        let mut bench = Bench::new(file(1, 1));
        bench.file = file(2, 2);
        assert_eq!(bench.watch(300), [0; 0]);
        // In the same place, of the same length, and too soon for another time.
        bench.file = file(2, 3);
        assert_eq!(bench.watch(5000), [400]);
    }

    #[test]
    fn a_change_back_to_what_was_told_is_none() {
        let mut bench = Bench::new(file(1, 1));
        bench.file = file(2, 2);
        assert_eq!(bench.watch(1000), [350]);
        bench.file = file(3, 3);
        assert_eq!(bench.watch(200), [0; 0]);
        bench.file = file(2, 2);
        assert_eq!(bench.watch(5000), [0; 0]);
    }

    #[test]
    fn a_deleted_file_is_waited_for_longer() {
        let mut bench = Bench::new(file(1, 1));
        bench.file = None;
        assert_eq!(bench.watch(900), [0; 0]);
        bench.file = file(2, 2);
        assert_eq!(bench.watch(5000), [350]);
        bench.file = None;
        assert_eq!(bench.watch(5000), [1000]);
        assert!(bench.settle.plugins.is_empty());
        bench.file = file(2, 2);
        assert_eq!(bench.watch(5000), [350], "it is new");
    }

    #[test]
    fn what_comes_and_goes_is_never_told() {
        let mut bench = Bench::new(None);
        bench.file = file(1, 1);
        assert_eq!(bench.watch(200), [0; 0]);
        bench.file = None;
        assert_eq!(bench.watch(5000), [0; 0]);
    }

    #[test]
    fn a_broken_plugin_is_given_time_to_become_whole() {
        let mut bench = Bench::new(file(1, 1));
        (bench.file, bench.whole) = (file(2, 2), false);
        assert_eq!(bench.watch(900), [0; 0]);
        (bench.file, bench.whole) = (file(3, 3), true);
        assert_eq!(bench.watch(5000), [350]);
        (bench.file, bench.whole) = (file(4, 4), false);
        assert_eq!(bench.watch(5000), [1100]);
    }

    #[test]
    fn a_look_is_due_when_something_may_be_over() {
        let mut bench = Bench::new(file(1, 1));
        let due = |bench: &Bench| (bench.settle.due(bench.now) - bench.began).as_millis();
        assert_eq!(due(&bench), 2000);
        bench.file = file(2, 2);
        bench.look();
        assert_eq!(due(&bench), 250);
        bench.now += Duration::from_millis(250);
        bench.look();
        assert_eq!(due(&bench), 350);
        bench.held = true;
        bench.look();
        assert_eq!(due(&bench), 250 + 2000, "not sooner than without");
    }
}
