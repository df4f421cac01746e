//! The runner as a host uses it: `exec`, on Linux.

#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use jackfield_protocol::runner::{ORDERS_VERSION, Orders, ProcessLimits, Profile, Report};

fn orders() -> Orders {
    Orders { version: ORDERS_VERSION, ..Orders::default() }
}

fn shut_in() -> Orders {
    Orders { profile: Profile::Default, ..orders() }
}

fn limited(limits: ProcessLimits) -> Orders {
    Orders { limits, ..orders() }
}

/// What came of a program under orders.
struct Ran {
    report: Report,
    stdout: String,
    /// Without the report.
    stderr: String,
    output: Output,
}

impl Ran {
    /// How something is kept: `memory 10 by rlimit_data`.
    fn kept(&self, limit: &str) -> String {
        let found = self.report.enforced.iter().find(|enforced| enforced.limit == limit);
        found.unwrap_or_else(|| panic!("no `{limit}` in {:?}", self.report)).to_string()
    }
}

fn run(orders: &Orders, program: &[&str]) -> Ran {
    let orders = serde_json::to_string(orders).expect("JSON");
    let mut runner = Command::new(env!("CARGO_BIN_EXE_jackfield-runner"));
    let output = runner.args(["exec", &orders, "--"]).args(program).output().expect("the runner runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let (first, rest) = stderr.split_once('\n').unwrap_or_else(|| panic!("no report: {stderr:?}"));
    let report = Report::from_line(first).unwrap_or_else(|| panic!("no report: {stderr:?}"));
    Ran { report, stdout, stderr: rest.to_owned(), output }
}

#[test]
fn it_becomes_the_program_with_its_arguments_and_exit_status() {
    let ran = run(&orders(), &["/bin/sh", "-c", "echo $0 $1; exit 7", "one", "two"]);
    assert_eq!(ran.stdout, "one two\n");
    assert_eq!(ran.output.status.code(), Some(7));
    assert_eq!(ran.report, Report { version: ORDERS_VERSION, ..Report::default() });
}

#[test]
fn the_program_leads_a_session_and_leaves_no_core() {
    let ran = run(&orders(), &["/bin/sh", "-c", "ps -o sid= -p $$ | tr -d ' '; echo $$; ulimit -c"]);
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(lines[0], lines[1], "the session has the program's number");
    assert_eq!(lines[2], "0");
}

#[test]
fn a_program_that_cannot_be_run_is_named() {
    let ran = run(&orders(), &["/no/such/program"]);
    assert_eq!(ran.output.status.code(), Some(126));
    assert!(ran.stderr.contains("cannot run `/no/such/program`: No such file"), "{}", ran.stderr);
}

#[test]
fn orders_of_another_version_run_nothing() {
    let ran = run(&Orders { version: 99, ..orders() }, &["/bin/echo", "ran"]);
    assert_eq!((ran.output.status.code(), &*ran.stdout), (Some(125), ""));
    let refused = ran.report.refused.expect("a refusal");
    assert_eq!(refused.why, "the host gives orders of version 99, this runner takes 1");
}

#[test]
fn limits_are_in_force_and_cannot_be_raised() {
    let limits = ProcessLimits {
        address_space: Some(100 << 20),
        cpu_time: Some(3),
        files: Some(32),
        file_size: Some(4096),
        ..ProcessLimits::default()
    };
    // 512-byte blocks and KiB, as shells count.
    let script = "ulimit -Hv; ulimit -St; ulimit -Ht; ulimit -Hn; ulimit -Hf; ulimit -n 33";
    let ran = run(&limited(limits), &["/bin/sh", "-c", script]);
    assert_eq!(ran.stdout, "102400\n3\n8\n32\n8\n", "{}", ran.stderr);
    assert_ne!(ran.output.status.code(), Some(0), "a limit was raised");
    assert_eq!(ran.kept("cpu_time"), "cpu_time 3 by rlimit_cpu (SIGXCPU at 3 s, SIGKILL at 8 s)");
    assert_eq!(ran.kept("files"), "files 32 by rlimit_nofile");
}

#[test]
fn what_cannot_be_kept_runs_nothing_unless_it_may_be_missing() {
    // A directory that is no cgroup.
    let directory = tempfile::tempdir().expect("a directory");
    let limits = ProcessLimits { cpu_rate: Some(500), ..ProcessLimits::default() };
    let wanted = Orders { cgroup: Some(directory.path().to_owned()), ..limited(limits) };
    let ran = run(&wanted, &["/bin/echo", "ran"]);
    assert_eq!((ran.output.status.code(), &*ran.stdout), (Some(125), ""));
    let refused = ran.report.refused.expect("a refusal");
    assert_eq!(refused.limit, "cpu_rate");
    assert!(refused.why.starts_with("no cgroup: "), "{}", refused.why);

    let ran = run(&Orders { best_effort: vec!["cpu_rate".into()], ..wanted }, &["/bin/echo", "ran"]);
    assert_eq!(ran.stdout, "ran\n");
    assert!(ran.kept("cpu_rate").starts_with("cpu_rate 500 not in force: no cgroup: "), "{}", ran.kept("cpu_rate"));
}

/// The files of a cgroup as the kernel would show them, so that this runs where no cgroup is delegated.
#[test]
fn a_delegated_cgroup_gets_the_limits_and_the_process() {
    let root = tempfile::tempdir().expect("a directory");
    fs::write(root.path().join("cgroup.subtree_control"), "cpu memory pids\n").expect("written");
    let limits =
        ProcessLimits { memory: Some(64 << 20), cpu_rate: Some(500), processes: Some(16), ..ProcessLimits::default() };
    let wanted = Orders { cgroup: Some(root.path().to_owned()), ..limited(limits) };
    let ran = run(&wanted, &["/bin/sh", "-c", "echo $$"]);
    assert_eq!(ran.kept("memory"), "memory 67108864 by cgroup (of all its processes together)");
    assert_eq!(ran.kept("cpu_rate"), "cpu_rate 500 by cgroup");
    assert_eq!(ran.kept("processes"), "processes 16 by cgroup (threads count)");
    let made = ran.report.cgroup.expect("a cgroup");
    let written = |file: &str| fs::read_to_string(made.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert_eq!(written("memory.max"), "67108864");
    assert_eq!(written("memory.swap.max"), "0");
    assert_eq!(written("cpu.max"), "50000 100000");
    assert_eq!(written("pids.max"), "16");
    assert_eq!(written("cgroup.procs"), ran.stdout.trim());
}

#[test]
fn without_a_controller_in_the_cgroup_memory_is_kept_by_the_process() {
    let root = tempfile::tempdir().expect("a directory");
    fs::write(root.path().join("cgroup.subtree_control"), "cpu\n").expect("written");
    // A cgroup whose control file cannot be written hands on what it hands on.
    let limits = ProcessLimits { memory: Some(64 << 20), ..ProcessLimits::default() };
    let wanted = Orders { cgroup: Some(root.path().join("absent")), ..limited(limits) };
    let ran = run(&wanted, &["/bin/sh", "-c", "ulimit -Hd"]);
    assert_eq!(ran.stdout, "65536\n");
    assert!(ran.kept("memory").starts_with("memory 67108864 by rlimit_data (of each process; no cgroup: "));
}

#[test]
fn one_process_makes_no_second() {
    let limits = ProcessLimits { processes: Some(1), ..ProcessLimits::default() };
    let ran = run(&limited(limits), &["/bin/sh", "-c", "/bin/true; echo $?"]);
    assert_eq!(ran.kept("processes"), "processes 1 by seccomp");
    assert!(ran.stderr.contains("fork"), "{:?} {:?}", ran.stdout, ran.stderr);
}

#[test]
fn a_program_in_the_sandbox_reaches_what_is_granted_and_nothing_else() {
    let home = tempfile::tempdir().expect("a directory");
    let (open, closed, work) = (home.path().join("open"), home.path().join("closed"), home.path().join("work"));
    for directory in [&open, &closed, &work] {
        fs::create_dir(directory).expect("made");
        fs::write(directory.join("file"), "content\n").expect("written");
    }
    let wanted = Orders { read: vec![open.clone()], write: vec![work.clone()], ..shut_in() };
    let script = |of: &Path, what: &str| what.replace('@', &of.join("file").display().to_string());
    let tried = |of: &Path, what: &str| run(&wanted, &["/bin/sh", "-c", &script(of, what)]).output.status.success();
    assert!(tried(&open, "cat @"), "what is granted is read");
    assert!(!tried(&open, "echo x > @"), "what is granted for reading was written");
    assert!(tried(&work, "echo x > @ && cat @ && mv @ @.old && rm @.old"), "what is granted is written");
    assert!(!tried(&closed, "cat @"), "what is not granted was read");
    assert!(!tried(&closed, "echo x > @"), "what is not granted was written");
    assert!(!tried(&closed, "rm @") && closed.join("file").exists());
    let ran = run(&wanted, &["/bin/cat", "/etc/passwd"]);
    assert!(!ran.output.status.success() && ran.stdout.is_empty());
    assert!(ran.stderr.contains("Permission denied"), "{}", ran.stderr);
    assert!(ran.kept("fs").starts_with("fs default by landlock"), "{}", ran.kept("fs"));
}

#[test]
fn a_program_in_the_sandbox_has_no_capabilities_and_no_descriptors() {
    // In one process: the `/proc/self` of one that it starts is another directory.
    let script = "import os\nprint(open('/proc/self/status').read() + str(len(os.listdir('/proc/self/fd'))))";
    let ran = run(&shut_in(), &["/usr/bin/python3", "-c", script]);
    let zero = "0000000000000000";
    for line in ran.stdout.lines().filter(|line| line.starts_with("Cap")) {
        assert!(line.ends_with(zero) || line.starts_with("CapBnd"), "{line}");
    }
    assert!(ran.stdout.contains("NoNewPrivs:\t1") && ran.stdout.contains("Seccomp:\t2"), "{}", ran.stdout);
    // stdin, stdout, stderr, and that of the listing itself.
    assert_eq!(ran.stdout.lines().last().map(str::trim), Some("4"), "{}", ran.stdout);
}

#[test]
fn no_network_is_left_unless_it_is_granted() {
    let script = "import socket\nfor family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):\n \
                  try:\n  socket.socket(family, socket.SOCK_RAW if family == 16 else socket.SOCK_DGRAM).close(); \
                  print('open')\n except PermissionError: print('denied')\n except OSError: print('other')\n\
                  socket.socketpair(); print('pair')";
    let ran = run(&shut_in(), &["/usr/bin/python3", "-c", script]);
    assert_eq!(ran.stdout, "denied\ndenied\ndenied\npair\n", "{}", ran.stderr);
    assert_eq!(ran.kept("net"), "net none by seccomp");
    let ran = run(&Orders { net: true, ..shut_in() }, &["/usr/bin/python3", "-c", script]);
    assert!(ran.stdout.starts_with("open\n"), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.kept("net"), "net all by grant");
}

#[test]
fn the_strict_profile_lets_a_program_start_and_compute_with_threads_and_nothing_more() {
    let script = "import os, socket, threading\n\
                  thread = threading.Thread(target=lambda: print('thread')); thread.start(); thread.join()\n\
                  for what in (os.fork, lambda: socket.socket(socket.AF_UNIX), lambda: os.listdir('/sys/fs/cgroup')):\n \
                  try:\n  what(); print('done')\n except OSError as error: print(type(error).__name__)";
    let ran = run(&Orders { profile: Profile::Strict, ..orders() }, &["/usr/bin/python3", "-c", script]);
    assert_eq!(ran.stdout, "thread\nPermissionError\nPermissionError\nPermissionError\n", "{}", ran.stderr);
}
