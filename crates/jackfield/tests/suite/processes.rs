//! Which programs a test has left behind: those with its mark among their variables.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) use rustix::process::Signal;

/// Marks programs, and what they start, as one test's.
pub(crate) struct Mark(String);

impl Mark {
    /// The variable that carries it.
    pub(crate) const VARIABLE: &str = "JACKFIELD_TEST_MARK";

    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        Self(format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    pub(crate) fn value(&self) -> &str {
        &self.0
    }

    /// The marked programs that run. One that has ended and was not reaped has no variables.
    pub(crate) fn running(&self) -> Vec<u32> {
        let wanted = format!("{}={}", Self::VARIABLE, self.0);
        let processes = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let is_marked = |number: &u32| {
            let variables = fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
            variables.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
        };
        numbers.filter(is_marked).collect()
    }

    /// Kills those that escaped a host on purpose, and waits until they are gone.
    pub(crate) fn kill(&self) {
        self.running().into_iter().for_each(kill);
        super::eventually("the killed programs are gone", || self.running().is_empty());
    }
}

/// Kills one process.
pub(crate) fn kill(process: u32) {
    signal(process, Signal::KILL);
}

/// Sends a signal to one process.
pub(crate) fn signal(process: u32, signal: Signal) {
    let process = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw).expect("a process");
    let _ = rustix::process::kill_process(process, signal);
}

/// The children of a process that are there, ended ones that nobody has reaped among them.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|number| stat(*number).is_some_and(|(_, of)| of == parent)).collect()
}

/// Whether a process is there and has not ended.
pub(crate) fn runs(process: u32) -> bool {
    stat(process).is_some_and(|(state, _)| state != 'Z')
}

/// The guards of a host that run.
pub(crate) fn guards(host: u32) -> Vec<u32> {
    let is_guard = |process: &u32| {
        let words = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|word| word == b"jackfield-guard")
    };
    children(host).into_iter().filter(is_guard).collect()
}

/// A process's state and its parent.
fn stat(process: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name stands in parentheses, and may have some itself.
    let mut words = text.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

/// Kills the guards of a host until it starts no more, so that what ends, ends by itself.
pub(crate) fn without_guard(host: u32) {
    let mut killed = Vec::new();
    // As many deaths as it takes, and one more.
    for _ in 0..6 {
        super::eventually("there is a guard", || guards(host).iter().any(|guard| !killed.contains(guard)));
        let guard = guards(host).into_iter().find(|guard| !killed.contains(guard)).expect("just seen");
        kill(guard);
        killed.push(guard);
    }
    super::eventually("there is none", || children(host).iter().all(|child| !killed.contains(child)));
    assert_eq!(guards(host), [0; 0]);
}
