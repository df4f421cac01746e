use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;

use super::*;

/// Tells a process of this test binary to be a host, with this state directory.
const STATE: &str = "JACKFIELD_TEST_JOURNAL";

/// A host that may die: the test [`a_host_of_another_test`] in a process of its own. It is told what to do
/// line by line, and answers each line when that is done.
struct Host {
    child: Child,
    answers: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Host {
    fn start(state: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "journal::tests::a_host_of_another_test", "--nocapture", "--test-threads=1"])
            .env(STATE, state)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        let answers = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let mut host = Self { child, answers };
        host.wait_for("ready");
        host
    }

    fn does(mut self, what: &str) -> Self {
        let stdin = self.child.stdin.as_mut().expect("stdin");
        writeln!(stdin, "{what}").expect("told");
        self.wait_for(&format!("done {what}"));
        self
    }

    /// Tells it what it will not answer, and waits for its end.
    fn ends_by(mut self, what: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin");
        writeln!(stdin, "{what}").expect("told");
        self.child.wait().expect("ended");
    }

    fn dies_by_kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    fn wait_for(&mut self, answer: &str) {
        // The test's own output is among the lines.
        let found = self.answers.by_ref().map_while(Result::ok).any(|line| line.ends_with(answer));
        assert!(found, "the host said {answer:?}");
    }
}

#[test]
fn a_host_of_another_test() {
    let Some(state) = std::env::var_os(STATE) else { return };
    let (journal, _) = Journal::open(Some(Path::new(&state)));
    let (mut loading, mut leases) = (Vec::new(), Vec::new());
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line.expect("a line");
        match line.split_once(' ') {
            Some(("load", plugin)) => loading.push(journal.loading(plugin)),
            Some(("call", plugin)) => {
                let counter = journal.leases(plugin, true);
                counter.fetch_add(1, Ordering::AcqRel);
                leases.push(counter);
            }
            Some(("call-program", plugin)) => {
                let counter = journal.leases(plugin, false);
                counter.fetch_add(1, Ordering::AcqRel);
                leases.push(counter);
            }
            Some(("more", _)) => _ = leases[0].fetch_add(1, Ordering::AcqRel),
            Some(("close", _)) => _ = leases[0].fetch_or(CLOSED, Ordering::AcqRel),
            Some(("release", _)) => _ = leases[0].fetch_sub(1, Ordering::AcqRel),
            Some(("loaded", _)) => loading.clear(),
            None if line == "abort" => std::process::abort(),
            None if line == "end" => break,
            _ => panic!("{line:?}"),
        }
        println!("done {line}");
    }
}

fn suspects(state: &Path) -> Vec<String> {
    Journal::open(Some(state)).1.iter().map(|suspect| format!("{} {:?}", suspect.plugin, suspect.doing)).collect()
}

fn files(state: &Path) -> usize {
    fs::read_dir(state.join("journal")).expect("a directory").count()
}

#[test]
fn a_host_that_is_killed_leaves_what_it_was_loading_and_calling() {
    let state = tempfile::tempdir().expect("a directory");
    let host = Host::start(state.path()).does("load b").does("call a").does("more a").does("call-program c");
    let process = host.child.id();
    assert!(suspects(state.path()).is_empty(), "it lives");
    host.dies_by_kill();
    let (journal, found) = Journal::open(Some(state.path()));
    let suspect = |plugin: &str, doing| Suspect { plugin: plugin.to_owned(), doing, host: process };
    assert_eq!(found, [suspect("a", Doing::Calling(2)), suspect("b", Doing::Loading)]);
    assert_eq!(files(state.path()), 1, "its file is gone, ours is there");
    drop(journal);
    assert!(suspects(state.path()).is_empty(), "each is told of once");
}

#[test]
fn a_host_that_aborts_leaves_it_too() {
    let state = tempfile::tempdir().expect("a directory");
    Host::start(state.path()).does("call a").ends_by("abort");
    assert_eq!(suspects(state.path()), ["a Calling(1)"]);
}

#[test]
fn a_plugin_that_was_loaded_and_is_not_called_is_no_suspect() {
    let state = tempfile::tempdir().expect("a directory");
    let host = Host::start(state.path()).does("load a").does("loaded a").does("call a").does("close a");
    host.does("release a").dies_by_kill();
    assert!(suspects(state.path()).is_empty());
}

#[test]
fn a_call_of_a_closed_generation_is_still_a_call() {
    let state = tempfile::tempdir().expect("a directory");
    Host::start(state.path()).does("call a").does("close a").dies_by_kill();
    assert_eq!(suspects(state.path()), ["a Calling(1)"]);
}

#[test]
fn a_host_that_ends_well_leaves_nothing() {
    let state = tempfile::tempdir().expect("a directory");
    Host::start(state.path()).does("load a").does("call a").ends_by("end");
    assert_eq!(files(state.path()), 0);
    assert!(suspects(state.path()).is_empty());
}

#[test]
fn hosts_side_by_side_have_a_journal_each() {
    let state = tempfile::tempdir().expect("a directory");
    let one = Host::start(state.path()).does("call a");
    let other = Host::start(state.path()).does("call b");
    one.dies_by_kill();
    assert_eq!(suspects(state.path()), ["a Calling(1)"]);
    other.dies_by_kill();
    assert_eq!(suspects(state.path()), ["b Calling(1)"]);
}

#[test]
fn a_file_of_another_boot_or_format_blames_nobody() {
    let state = tempfile::tempdir().expect("a directory");
    let journal = || fs::read_dir(state.path().join("journal")).expect("a directory").next().expect("a file");
    for (at, byte) in [(16, b'!'), (0, b'x'), (8, 1)] {
        Host::start(state.path()).does("call a").dies_by_kill();
        let file = journal().expect("an entry").path();
        let file = fs::OpenOptions::new().write(true).open(file).expect("a file");
        file.write_all_at(&[byte], at).expect("written");
        assert!(suspects(state.path()).is_empty(), "byte {at}");
        assert_eq!(files(state.path()), 0);
    }
    fs::write(state.path().join("journal/short.journal"), "jf-jrnl1").expect("a file");
    assert!(suspects(state.path()).is_empty());
    assert_eq!(files(state.path()), 0);
}

#[test]
fn slots_are_used_again_and_what_has_none_counts_all_the_same() {
    let state = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open(Some(state.path()));
    for _ in 0..3 {
        let all: Vec<_> = (0..600).map(|number| journal.leases(&format!("p{number}"), true)).collect();
        let mapped = all.iter().filter(|leases| matches!(leases.0, Counter::Mapped(_))).count();
        assert_eq!(mapped, file::SLOTS);
        for (number, leases) in all.iter().enumerate() {
            assert_eq!(leases.fetch_add(number, Ordering::AcqRel), 0, "it begins at 0");
        }
        assert!(all.iter().enumerate().all(|(number, leases)| leases.load(Ordering::Acquire) == number));
    }
}

#[test]
fn a_counter_outlives_its_journal() {
    let state = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open(Some(state.path()));
    let (leases, loading) = (journal.leases("a", true), journal.loading("b"));
    drop(journal);
    assert_eq!(files(state.path()), 0);
    assert_eq!(leases.fetch_add(1, Ordering::AcqRel), 0);
    assert_eq!(leases.load(Ordering::Acquire), 1);
    drop(loading);
}

#[test]
fn threads_count_in_one_slot() {
    let state = tempfile::tempdir().expect("a directory");
    let (journal, _) = Journal::open(Some(state.path()));
    let leases = journal.leases("a", true);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..10_000).for_each(|_| _ = leases.fetch_add(1, Ordering::AcqRel)));
        }
        // Others come and go beside it.
        (0..1_000).for_each(|number| drop(journal.leases(&format!("p{number}"), true)));
    });
    assert_eq!(leases.load(Ordering::Acquire), 40_000);
}

#[test]
fn without_a_directory_counters_are_private() {
    let (journal, found) = Journal::open(None);
    assert!(found.is_empty());
    let leases = journal.leases("a", true);
    assert_eq!(leases.fetch_add(1, Ordering::AcqRel), 0);
    let _loading = journal.loading("a");
}

#[test]
fn a_directory_that_cannot_hold_one_costs_only_the_evidence() {
    let state = tempfile::tempdir().expect("a directory");
    fs::write(state.path().join("journal"), "").expect("a file");
    let (journal, found) = Journal::open(Some(state.path()));
    assert!(found.is_empty());
    assert_eq!(journal.leases("a", true).fetch_add(1, Ordering::AcqRel), 0);
}
