use std::fs;

use expect_test::{Expect, expect};

use super::*;

fn report() -> CrashReport {
    CrashReport {
        plugin: "resize".to_owned(),
        version: Some("1.4.0".to_owned()),
        hash: Some("9f86d081884c7d659a2feaa0c55ad015".to_owned()),
        mechanism: MechanismKind::Process,
        generation: 3,
        phase: CrashPhase::Call,
        process: Some(4242),
        uptime: Duration::from_millis(12_340),
        at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_986_245_123),
        calls_in_flight: BTreeMap::from([("scale".to_owned(), 2), ("thumb".to_owned(), 1)]),
        how: "signal 6 (SIGABRT)".to_owned(),
        exit: CrashExit::Signal { number: 6, core_dumped: true },
        limit: None,
        stderr: Vec::new(),
        restarts: 2,
        next: CrashNext::Restart { after: Duration::from_millis(412) },
        host: "jackfield/0.1.0".to_owned(),
    }
}

fn check(report: &CrashReport, expected: Expect) {
    expected.assert_eq(&report.to_string());
    let json = serde_json::to_string(report).expect("JSON");
    assert_eq!(&serde_json::from_str::<CrashReport>(&json).expect("a report"), report, "{json}");
}

#[test]
fn an_abort_in_calls_names_the_calls_and_the_limit() {
    let stderr = ["ready", "memory allocation of 1048576 bytes failed"].map(str::to_owned).to_vec();
    let limit = likely_limit(report().exit, &stderr, &[("memory", "64 MiB".to_owned())]);
    check(
        &CrashReport { limit, stderr, ..report() },
        expect![[
            r#"plugin `resize` 1.4.0 (process, generation 3, process 4242, sha256 9f86d081884c) died at 2026-11-29T21:04:05.123000Z after 12.3s in 2 calls of `scale` and a call of `thumb`: signal 6 (SIGABRT), core dumped. It probably hit its limit `memory`, 64 MiB: it wrote "memory allocation of 1048576 bytes failed". Last on stderr: "ready", "memory allocation of 1048576 bytes failed". It had been restarted 2 times before; it is restarted in 412ms (jackfield/0.1.0)"#
        ]],
    );
}

#[test]
fn a_program_that_dies_at_its_start_has_neither_version_nor_calls() {
    let report = CrashReport {
        version: None,
        hash: None,
        generation: 1,
        phase: CrashPhase::Start,
        uptime: Duration::from_millis(7),
        calls_in_flight: BTreeMap::new(),
        how: "exit status 127".to_owned(),
        exit: CrashExit::Code(127),
        stderr: vec!["error while loading shared libraries: libx.so".to_owned()],
        restarts: 0,
        next: CrashNext::Down { start: "jackfield enable resize".to_owned() },
        ..report()
    };
    check(
        &report,
        expect![[
            r#"plugin `resize` (process, generation 1, process 4242) died at 2026-11-29T21:04:05.123000Z after 7.0ms while it was being started: exit status 127. Last on stderr: "error while loading shared libraries: libx.so". It had not been restarted before; it stays down until `jackfield enable resize` (jackfield/0.1.0)"#
        ]],
    );
}

#[test]
fn an_end_without_a_call_that_is_one_too_many_is_quarantine() {
    let report = CrashReport {
        phase: CrashPhase::Idle,
        calls_in_flight: BTreeMap::new(),
        how: "signal 9 (SIGKILL)".to_owned(),
        exit: CrashExit::Signal { number: 9, core_dumped: false },
        stderr: (1..=50).map(|number| format!("line {number}")).collect(),
        restarts: 5,
        next: CrashNext::Quarantined { lift: "jackfield quarantine lift resize".to_owned() },
        ..report()
    };
    check(
        &report,
        expect![[
            r#"plugin `resize` 1.4.0 (process, generation 3, process 4242, sha256 9f86d081884c) died at 2026-11-29T21:04:05.123000Z after 12.3s without a call under way: signal 9 (SIGKILL). Last on stderr: "line 48", "line 49", "line 50". It had been restarted 5 times before; it is quarantined until `jackfield quarantine lift resize` (jackfield/0.1.0)"#
        ]],
    );
}

#[test]
fn a_host_that_died_has_a_report_of_the_library_it_called() {
    let report = CrashReport {
        mechanism: MechanismKind::Native,
        process: None,
        phase: CrashPhase::Drain,
        calls_in_flight: BTreeMap::from([("scale".to_owned(), 1)]),
        how: "the host that called it died".to_owned(),
        exit: CrashExit::Unknown,
        stderr: vec!["x".repeat(1000)],
        restarts: 1,
        next: CrashNext::Kept { generation: 2 },
        ..report()
    };
    check(
        &report,
        expect![[
            r#"plugin `resize` 1.4.0 (native, generation 3, sha256 9f86d081884c) died at 2026-11-29T21:04:05.123000Z after 12.3s while it ended its last calls, in a call of `scale`: the host that called it died. Last on stderr: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…". It had been restarted once before; its calls go to generation 2 (jackfield/0.1.0)"#
        ]],
    );
}

#[test]
fn a_report_is_an_object_that_programs_read() {
    let json = serde_json::to_string_pretty(&CrashReport {
        limit: likely_limit(CrashExit::Signal { number: 24, core_dumped: false }, &[], &[]),
        ..report()
    });
    expect![[r#"
        {
          "plugin": "resize",
          "version": "1.4.0",
          "hash": "9f86d081884c7d659a2feaa0c55ad015",
          "mechanism": "process",
          "generation": 3,
          "phase": "call",
          "process": 4242,
          "uptime_ms": 12340,
          "at": "2026-11-29T21:04:05.123000Z",
          "calls_in_flight": {
            "scale": 2,
            "thumb": 1
          },
          "how": "signal 6 (SIGABRT)",
          "exit": {
            "signal": {
              "number": 6,
              "core_dumped": true
            }
          },
          "limit": {
            "limit": "cpu",
            "in_force": null,
            "evidence": "signal 24 is SIGXCPU, for too much processor time"
          },
          "stderr": [],
          "restarts": 2,
          "next": {
            "restart": {
              "after_ms": 412
            }
          },
          "host": "jackfield/0.1.0"
        }"#]]
    .assert_eq(&json.expect("JSON"));
}

/// What is likely for a plugin with these limits in force.
fn likely(exit: CrashExit, stderr: &str, in_force: &[(&str, String)]) -> String {
    let lines: Vec<_> = stderr.lines().map(str::to_owned).collect();
    likely_limit(exit, &lines, in_force).map_or_else(|| "none".to_owned(), |limit| limit.to_string())
}

#[test]
fn a_limit_is_told_from_the_end_and_from_what_was_written() {
    let signal = |number| CrashExit::Signal { number, core_dumped: false };
    let cases = [
        (signal(6), "memory allocation of 33554432 bytes failed"),
        (CrashExit::Code(2), "fatal error: runtime: out of memory\n\ngoroutine 1 [running]:\nmain.main()"),
        (CrashExit::Code(2), "runtime: out of memory: cannot allocate 4194304-byte block (3932160 in use)"),
        (signal(6), "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory"),
        (CrashExit::Code(1), "Exception in thread \"main\" java.lang.OutOfMemoryError: Java heap space"),
        (CrashExit::Code(1), "There is insufficient memory for the Java Runtime Environment to continue."),
        (CrashExit::Code(1), "Traceback (most recent call last):\n  File \"x.py\", line 1\nMemoryError"),
        (signal(6), "terminate called after throwing an instance of 'std::bad_alloc'"),
        (signal(6), "thread 'main' (17) has overflowed its stack\nfatal runtime error: stack overflow"),
        (CrashExit::Code(2), "runtime: goroutine stack exceeds 1000000000-byte limit\nfatal error: stack overflow"),
        (CrashExit::Code(101), "failed to spawn thread: Os { code: 11, kind: WouldBlock }"),
        (CrashExit::Code(1), "OSError: [Errno 24] Too many open files: '/tmp/x'"),
        (CrashExit::Code(1), "write /tmp/x: file too large"),
        (signal(24), ""),
        (signal(25), ""),
        (CrashExit::Code(152), ""),
        (signal(9), ""),
        (signal(11), "about to do something"),
        (CrashExit::Code(1), "no MemoryError here, and nothing else"),
        (CrashExit::Unknown, ""),
    ];
    let in_force = [("memory", "64 MiB".to_owned()), ("cpu", "5s".to_owned())];
    let told: Vec<_> = cases.iter().map(|(exit, stderr)| likely(*exit, stderr, &in_force)).collect();
    expect![[r#"
        It probably hit its limit `memory`, 64 MiB: it wrote "memory allocation of 33554432 bytes failed"
        It probably hit its limit `memory`, 64 MiB: it wrote "fatal error: runtime: out of memory"
        It probably hit its limit `memory`, 64 MiB: it wrote "runtime: out of memory: cannot allocate 4194304-byte block (3932160 in use)"
        It probably hit its limit `memory`, 64 MiB: it wrote "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory"
        It probably hit its limit `memory`, 64 MiB: it wrote "Exception in thread \"main\" java.lang.OutOfMemoryError: Java heap space"
        It probably hit its limit `memory`, 64 MiB: it wrote "There is insufficient memory for the Java Runtime Environment to continue."
        It probably hit its limit `memory`, 64 MiB: it wrote "MemoryError"
        It probably hit its limit `memory`, 64 MiB: it wrote "terminate called after throwing an instance of 'std::bad_alloc'"
        It probably hit a limit of `stack`, though not one of this host's: it wrote "thread 'main' (17) has overflowed its stack"
        It probably hit a limit of `stack`, though not one of this host's: it wrote "runtime: goroutine stack exceeds 1000000000-byte limit"
        It probably hit a limit of `processes`, though not one of this host's: it wrote "failed to spawn thread: Os { code: 11, kind: WouldBlock }"
        It probably hit a limit of `files`, though not one of this host's: it wrote "OSError: [Errno 24] Too many open files: '/tmp/x'"
        It probably hit a limit of `file_size`, though not one of this host's: it wrote "write /tmp/x: file too large"
        It probably hit its limit `cpu`, 5s: signal 24 is SIGXCPU, for too much processor time
        It probably hit a limit of `file_size`, though not one of this host's: signal 25 is SIGXFSZ, for too large a file
        It probably hit its limit `cpu`, 5s: exit status 152 is SIGXCPU, for too much processor time
        It probably hit its limit `memory`, 64 MiB: signal 9 is SIGKILL, with which the kernel ends what exceeds its memory
        none
        none
        none"#]].assert_eq(&told.join("\n"));
}

#[test]
fn a_kill_means_a_limit_only_where_there_is_one() {
    let killed = CrashExit::Signal { number: 9, core_dumped: false };
    assert_eq!(likely(killed, "", &[]), "none");
    expect!["It probably hit its limit `cpu`, 5s: signal 9 is SIGKILL, with which the kernel ends what goes on after SIGXCPU"].assert_eq(&likely(killed, "", &[("cpu", "5s".to_owned())]));
}

#[cfg(target_os = "linux")]
#[test]
fn a_forbidden_system_call_is_the_sandbox_s() {
    let killed = CrashExit::Signal { number: 31, core_dumped: true };
    expect!["It probably hit a limit of `sandbox`, though not one of this host's: signal 31 is SIGSYS, for a system call that is not allowed"].assert_eq(&likely(killed, "", &[]));
}

// ---- Kept ---------------------------------------------------------------------------------------

fn of(plugin: &str, second: u64) -> CrashReport {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
    CrashReport { plugin: plugin.to_owned(), at, ..report() }
}

fn listed(crashes: &Crashes) -> Vec<(String, u64)> {
    let second = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    crashes.list().iter().map(|report| (report.plugin.clone(), second(report.at))).collect()
}

#[test]
fn reports_are_there_when_the_host_is_started_again() {
    let state = tempfile::tempdir().expect("a directory");
    let crashes = Crashes::open(Some(state.path()));
    crashes.add(of("b", 2));
    crashes.add(of("a-b", 1));
    let expected = [("a-b".to_owned(), 1), ("b".to_owned(), 2)];
    assert_eq!(listed(&crashes), expected, "oldest first, whichever came first");
    let again = Crashes::open(Some(state.path()));
    assert_eq!(listed(&again), expected);
    assert_eq!(again.list(), crashes.list());
}

#[test]
fn one_plugin_has_twenty_reports_and_all_have_a_hundred() {
    let state = tempfile::tempdir().expect("a directory");
    let files = || fs::read_dir(state.path().join("crashes")).expect("files").count();
    let crashes = Crashes::open(Some(state.path()));
    (0..30).for_each(|second| drop(crashes.add(of("noisy", second))));
    assert_eq!((listed(&crashes).len(), files()), (20, 20));
    assert_eq!(listed(&crashes)[0], ("noisy".to_owned(), 10), "the oldest went");
    for plugin in 0..10 {
        (0..10).for_each(|second| drop(crashes.add(of(&format!("p{plugin}"), 100 + second))));
    }
    assert_eq!((listed(&crashes).len(), files()), (100, 100));
    assert!(listed(&crashes).iter().all(|(plugin, _)| plugin != "noisy"));
    assert_eq!(listed(&Crashes::open(Some(state.path()))), listed(&crashes));
}

#[test]
fn what_is_too_much_when_the_host_starts_is_removed() {
    let state = tempfile::tempdir().expect("a directory");
    let (one, other) = (Crashes::open(Some(state.path())), Crashes::open(Some(state.path())));
    for second in 0..20 {
        one.add(of("a", 2 * second));
        other.add(of("a", 2 * second + 1));
    }
    let third = Crashes::open(Some(state.path()));
    assert_eq!(listed(&third).first(), Some(&("a".to_owned(), 20)));
    assert_eq!(fs::read_dir(state.path().join("crashes")).expect("files").count(), 20);
}

#[test]
fn a_damaged_file_costs_no_other_and_goes_when_its_time_has_come() {
    let state = tempfile::tempdir().expect("a directory");
    let crashes = Crashes::open(Some(state.path()));
    crashes.add(of("a", 1));
    crashes.add(of("a", 2));
    let directory = state.path().join("crashes");
    let first = fs::read_dir(&directory).expect("files").map(|entry| entry.expect("an entry").path()).min();
    let first = first.expect("a file");
    fs::write(&first, "{\"plugin\": \"a\"").expect("a file");
    fs::write(directory.join("notes.json"), "mine").expect("a file");
    let again = Crashes::open(Some(state.path()));
    assert_eq!(listed(&again), [("a".to_owned(), 2)]);
    (3..22).for_each(|second| drop(again.add(of("a", second))));
    assert!(!first.exists(), "it was the oldest of 21");
    assert!(directory.join("notes.json").exists());
}

#[test]
fn without_a_directory_they_are_in_memory() {
    let crashes = Crashes::open(None);
    (0..30).for_each(|second| drop(crashes.add(of("a", second))));
    assert_eq!(listed(&crashes).len(), 20);
}
