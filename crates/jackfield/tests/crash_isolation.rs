//! The table of `docs/guarantees.md`: what dies of what, for every mechanism. Each cell is a host of its own, in
//! which the same plugin does the same thing; what is in the table is what was seen.
//!
//! `UPDATE_EXPECT=1` puts the table that was seen into the document.

#![cfg(all(feature = "native", feature = "process", feature = "grpc", feature = "wasm", target_os = "linux"))]

mod suite;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use fixtures_api::misbehave::{Misbehave, MisbehaveBlocking};
use jackfield::{CallError, Client, Host, Status};
use suite::processes::runs;
use suite::{Fixture, Mechanism, Plugins, fixtures, root};

/// Names the plugin directory to a host that may die.
const PLUGINS: &str = "JACKFIELD_TEST_PLUGINS";
/// Names the fault to it.
const FAULT: &str = "JACKFIELD_TEST_FAULT";
/// Names the file into which it writes what it has seen.
const SEEN: &str = "JACKFIELD_TEST_SEEN";
/// With what a host ends that has lived to the end.
const ALIVE: i32 = 42;

/// How long a call that has a deadline may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// After this a call without one does not come back.
const NEVER: Duration = Duration::from_secs(8);
/// How long a plugin has to come back.
const RESTART: Duration = Duration::from_secs(1);
/// How much leaks, and what a mechanism that bounds it allows.
const LEAK: u64 = 96 << 20;
const MEMORY: &str = "\"64MiB\"";

/// A row: how a plugin is run.
struct Row {
    name: &'static str,
    mechanism: Mechanism,
    /// The limits that this mechanism can enforce.
    limits: &'static [(&'static str, &'static str)],
}

const ROWS: [Row; 6] = [
    Row { name: "`native`", mechanism: Mechanism::Native, limits: &[] },
    Row { name: "`process`", mechanism: Mechanism::Process, limits: &[("call_timeout", "\"4s\"")] },
    Row { name: "`grpc`", mechanism: Mechanism::Grpc, limits: &[("call_timeout", "\"4s\"")] },
    Row {
        name: "`wasm`, Extism",
        mechanism: Mechanism::Extism,
        limits: &[("call_timeout", "\"4s\""), ("memory", MEMORY)],
    },
    Row {
        name: "`wasm`, component",
        mechanism: Mechanism::Component,
        limits: &[("call_timeout", "\"4s\""), ("memory", MEMORY)],
    },
    Row {
        name: "`wasm`, WASI command",
        mechanism: Mechanism::Command,
        limits: &[("call_timeout", "\"4s\""), ("memory", MEMORY)],
    },
];

/// A column: what the plugin does. Gives what the call came to.
type Fault = fn(&MisbehaveBlocking) -> Status;

const FAULTS: [(&str, Fault); 7] = [
    ("panics", |rascal| of(rascal.panic("out of milk".into()))),
    ("aborts", |rascal| of(rascal.abort())),
    ("overflows its stack", |rascal| of(rascal.overflow_stack())),
    ("writes where no memory is", |rascal| of(rascal.segfault())),
    ("exits", |rascal| of(rascal.exit(3))),
    ("computes for ever", |rascal| of(rascal.spin())),
    ("leaks 96 MiB", |rascal| of(rascal.leak(LEAK))),
];

#[test]
fn what_dies_of_what_is_as_the_table_says() {
    if let Some(fault) = std::env::var_os(FAULT) {
        let fault = fault.to_str().expect("text").parse::<usize>().expect("a number");
        live_through(FAULTS[fault].1);
    }
    let cells: Vec<(&Row, usize)> =
        ROWS.iter().flat_map(|row| (0..FAULTS.len()).map(move |fault| (row, fault))).collect();
    let left = Mutex::new(cells.iter().enumerate());
    let seen = Mutex::new(vec![String::new(); cells.len()]);
    // Most of a cell's time is waiting.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let next = left.lock().expect("no panic").next();
                    let Some((cell, (row, fault))) = next else { break };
                    let text = look(row, *fault);
                    seen.lock().expect("no panic")[cell] = text;
                }
            });
        }
    });
    let seen = seen.into_inner().expect("no panic");
    let mut table = "\n| it |".to_owned();
    FAULTS.iter().for_each(|(name, _)| write!(table, " {name} |").expect("to memory"));
    write!(table, "\n|---|{}\n", "---|".repeat(FAULTS.len())).expect("to memory");
    for (row, cells) in ROWS.iter().zip(seen.chunks(FAULTS.len())) {
        writeln!(table, "| {} | {} |", row.name, cells.join(" | ")).expect("to memory");
    }
    println!("{table}");
    check(&table);
}

/// Runs one host of one cell. Gives what the call came to, what died, and what the next call came to.
fn look(row: &Row, fault: usize) -> String {
    let mut fixture = Fixture::new(row.mechanism, "misbehave");
    for (limit, value) in row.limits {
        fixture = fixture.limit(limit, value);
    }
    let plugins = Plugins::with(fixture);
    let seen = plugins.path().join("seen");
    let mut host = suite::again("what_dies_of_what_is_as_the_table_says");
    host.env(PLUGINS, plugins.path()).env(FAULT, fault.to_string()).env(SEEN, &seen);
    let output = host.output().expect("a host");
    if output.status.code() == Some(ALIVE) {
        return fs::read_to_string(seen).expect("what it has seen");
    }
    // It ended in the call, or the test is broken.
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(seen.with_extension("before").exists(), "{} {}: {:?}: {told}", row.name, FAULTS[fault].0, output.status);
    assert!(!told.contains("the test is broken"), "{told}");
    format!("none; **the host**, {}; none", how(output.status))
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(6)) => "SIGABRT".to_owned(),
        (None, Some(11)) => "SIGSEGV".to_owned(),
        (None, other) => format!("signal {other:?}"),
    }
}

/// The host of one cell: lets its plugin do it, looks at what is left, and tells.
fn live_through(fault: Fault) -> ! {
    let plugins = std::env::var_os(PLUGINS).expect("a directory");
    let seen = std::env::var_os(SEEN).expect("a file");
    let builder = Host::builder().plugin_dir(plugins).cache_dir(fixtures::cache_dir());
    let host = builder.build_blocking().expect("a host");
    let client: Client<dyn Misbehave> = suite::misbehave(&host, "misbehave");
    let plugin = Client::plugin(&client).clone();
    let process = plugin.info().process;
    // What only this instance of it knows.
    client.blocking().release("it".into()).expect("it works");
    fs::write(Path::new(&seen).with_extension("before"), "").expect("written");
    let memory = |of: Option<u32>| of.map_or(0, resident);
    let before = (resident(std::process::id()), memory(process));

    let call = text(within(NEVER, client.blocking(), fault));
    let grown = |before: u64, now: u64| now.saturating_sub(before) > LEAK * 3 / 4;
    let host_grew = grown(before.0, resident(std::process::id()));
    let plugin_grew = grown(before.1, memory(process));
    let has_died = process.is_some_and(|process| !runs(process));
    let next = next_call(&client);
    let computes = |process: Option<u32>| process.is_some_and(still_computes);
    let knows: Fault = |rascal| of(rascal.wait("it".into(), vec![]));
    let died = if has_died {
        "**the plugin**"
    } else if !matches!(within(CALL_TIMEOUT, client.blocking(), knows), Some(Status::Ok)) {
        "its instance"
    } else if host_grew {
        "nothing, the host keeps it"
    } else if plugin_grew {
        "nothing, the plugin keeps it"
    } else if call != "`ok`" && computes(process) {
        "nothing, a thread of the plugin is lost"
    } else if call != "`ok`" && computes(Some(std::process::id())) {
        "nothing, a thread of the host is lost"
    } else {
        "nothing"
    };
    fs::write(seen, format!("{call}; {died}; {next}")).expect("written");
    std::process::exit(ALIVE);
}

/// What a call comes to, on a thread of its own, if it comes back.
fn within(time: Duration, rascal: MisbehaveBlocking, fault: Fault) -> Option<Status> {
    let (done, result) = channel();
    std::thread::spawn(move || done.send(fault(&rascal)));
    match result.recv_timeout(time) {
        Ok(status) => Some(status),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => panic!("the test is broken: a call has panicked here"),
    }
}

/// What the next call comes to, and whether the plugin has to come back for that.
fn next_call(client: &Client<dyn Misbehave>) -> String {
    let deadline = Instant::now() + RESTART;
    let echo: Fault = |rascal| of(rascal.echo("x".into()));
    let first = text(within(NEVER, client.blocking(), echo));
    while first != "`ok`" && Instant::now() < deadline {
        if within(NEVER, client.blocking(), echo) == Some(Status::Ok) {
            return format!("{first}, then `ok`");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    first
}

fn of<T, E>(result: Result<T, CallError<E>>) -> Status {
    result.map_or_else(|error| error.status(), |_| Status::Ok)
}

fn text(status: Option<Status>) -> String {
    status.map_or_else(|| "never ends".to_owned(), |status| format!("`{}`", status.as_str()))
}

/// Whether a process uses the processor although nobody has asked it for anything.
fn still_computes(process: u32) -> bool {
    let used = || -> u64 {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let words = stat.rsplit_once(')').map(|(_, words)| words).unwrap_or_default();
        // Hundredths of a second in user mode and in the kernel's.
        words.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum()
    };
    let (before, deadline) = (used(), Instant::now() + CALL_TIMEOUT);
    while Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
        if used() - before >= 10 {
            return true;
        }
    }
    false
}

/// The memory of a process, in bytes, that is there and not only promised.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Compares the table with the document's, or puts it there.
fn check(table: &str) {
    const BEGIN: &str = "<!-- WHAT DIES OF WHAT: written by tests/crash_isolation.rs -->\n";
    const END: &str = "\n<!-- END -->";
    let file = root().join("docs/guarantees.md");
    let text = fs::read_to_string(&file).expect("the document");
    let (before, rest) = text.split_once(BEGIN).expect("the place of the table");
    let (written, after) = rest.split_once(END).expect("its end");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&file, format!("{before}{BEGIN}{table}{END}{after}")).expect("written");
        return;
    }
    assert!(written == table, "docs/guarantees.md has another table; `UPDATE_EXPECT=1` takes this one:\n{table}");
}
