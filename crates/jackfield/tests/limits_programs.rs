//! Limits, and what becomes of those that reach them: plugins that have a process of their own, and, where they can
//! do the same harm, WebAssembly. What only WebAssembly has is in `wasm_limits.rs`.

#![cfg(all(feature = "native", feature = "process", target_os = "linux"))]

mod suite;

use std::time::{Duration, Instant};

use fixtures_api::misbehave::Misbehave;
use fixtures_api::zoo::Zoo;
use jackfield::{Client, Host};
use suite::{Fixture, Mechanism, Plugins, ended, in_time, misbehave, refused, says};

/// The ways to have a process of one's own, and memory in which each of them starts.
fn ways() -> Vec<(Mechanism, &'static str)> {
    let mut ways = vec![(Mechanism::Process, "10MiB"), (Mechanism::Isolated, "10MiB")];
    if cfg!(feature = "grpc") {
        ways.push((Mechanism::Grpc, "24MiB"));
    }
    ways
}

/// How a way to run a plugin is misused, and what is said of it then.
struct Misuse {
    mechanism: Mechanism,
    /// Memory in which it starts, and the words for who wants more.
    memory: &'static str,
    beyond_memory: &'static [&'static str],
    /// The limit on what it computes, as it is written; and the words for who computes on.
    computing: (&'static str, &'static str),
    beyond_computing: &'static [&'static str],
    /// Whether it can sleep. A guest without WASI cannot: the only way not to answer is to compute.
    sleeps: bool,
}

/// The misuse of everything that can be limited.
fn misuses() -> Vec<Misuse> {
    // Which allocation fails last is not said: with RUST_BACKTRACE set, the runtime wants memory to tell of the first.
    let of_program = |(mechanism, memory)| Misuse {
        mechanism,
        memory,
        beyond_memory: &["limit: ", "`memory`", "memory allocation of ", " bytes failed", "SIGABRT"],
        computing: ("cpu_time", "\"1s\""),
        beyond_computing: &["limit: ", "`cpu_time`", "it used its 1 s of processor time (SIGXCPU)"],
        sleeps: true,
    };
    let mut misuses: Vec<_> = ways().into_iter().map(of_program).collect();
    if cfg!(feature = "wasm") {
        let guests = [(Mechanism::Extism, false), (Mechanism::Component, false), (Mechanism::Command, true)];
        misuses.extend(guests.map(|(mechanism, sleeps)| Misuse {
            mechanism,
            memory: "10MiB",
            beyond_memory: &["limit: ", "limit `memory`: it wanted ", " bytes of memory of 10485760 allowed"],
            computing: ("fuel", "1000000000"),
            beyond_computing: &["limit: ", "limit `fuel`"],
            sleeps,
        }));
    }
    misuses
}

/// A host with `misbehave` as `fixture` says, and with a plugin that is well.
async fn host_of(fixture: Fixture) -> (Plugins, Host, Client<dyn Misbehave>) {
    let plugins = Plugins::with(fixture);
    plugins.add(Fixture::new(Mechanism::Process, "zoo"));
    let host = plugins.host().await;
    let rascal = misbehave(&host, "misbehave");
    (plugins, host, rascal)
}

/// How `limit` is kept, as `inspect` shows it. Of a guest nothing is shown: its limits are the host's own.
fn kept(mechanism: Mechanism, host: &Host, limit: &str) -> Option<String> {
    if is_guest(mechanism) {
        return None;
    }
    let enforced = host.plugin("misbehave").expect("a plugin").info().enforced;
    let found = enforced.iter().find(|enforced| enforced.limit == limit);
    Some(found.unwrap_or_else(|| panic!("no `{limit}` in {enforced:?}")).to_string())
}

fn is_guest(mechanism: Mechanism) -> bool {
    matches!(mechanism, Mechanism::Extism | Mechanism::Component | Mechanism::Command)
}

/// The host serves others meanwhile.
async fn serves(host: &Host) {
    let zoo: Client<dyn Zoo> = host.get("zoo").expect("a zoo");
    assert_eq!(in_time(zoo.join("a".into(), 1, Some("b".into()))).await, Ok("ab".into()));
}

/// It works again; the death of a program is reported with the limit. A guest has not died: it got a new instance.
async fn comes_back(mechanism: Mechanism, host: &Host, rascal: &Client<dyn Misbehave>, limit: &str) {
    let back = async {
        while rascal.echo("back".into()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    in_time(back).await;
    if is_guest(mechanism) {
        assert_eq!(host.plugin("misbehave").expect("a plugin").info().state.as_str(), "ready");
        return;
    }
    let crashes = host.crashes();
    let report = crashes.last().expect("a report").to_string();
    says(&report, &["misbehave", limit]);
}

#[tokio::test]
async fn who_allocates_more_than_it_may_ends_with_the_limit_and_the_evidence_and_comes_back() {
    for Misuse { mechanism, memory, beyond_memory, .. } in misuses() {
        let fixture = Fixture::new(mechanism, "misbehave").limit("memory", &format!("{memory:?}"));
        let (_plugins, host, rascal) = host_of(fixture).await;
        if let Some(kept) = kept(mechanism, &host, "memory") {
            says(&kept, &["memory", " by "]);
        }
        assert_eq!(in_time(rascal.echo("alive".into())).await, Ok("alive".into()));
        let (died, ()) = tokio::join!(in_time(rascal.allocate(64 << 20)), serves(&host));
        says(&ended(died), beyond_memory);
        comes_back(mechanism, &host, &rascal, "memory").await;
    }
}

#[tokio::test]
async fn who_computes_for_longer_than_it_may_ends_with_the_limit_and_the_signal_and_comes_back() {
    for Misuse { mechanism, computing: (limit, value), beyond_computing, .. } in misuses() {
        let fixture = Fixture::new(mechanism, "misbehave").limit(limit, value);
        let (_plugins, host, rascal) = host_of(fixture).await;
        if let Some(kept) = kept(mechanism, &host, limit) {
            says(&kept, &["cpu_time 1 by rlimit_cpu"]);
        }
        let (spun, ()) = tokio::join!(in_time(rascal.spin()), serves(&host));
        says(&ended(spun), beyond_computing);
        comes_back(mechanism, &host, &rascal, limit).await;
    }
}

#[tokio::test]
async fn who_hangs_is_timed_out_and_ended_and_comes_back() {
    for Misuse { mechanism, sleeps, .. } in misuses() {
        let fixture = Fixture::new(mechanism, "misbehave").limit("call_timeout", "\"500ms\"");
        let is_guest = is_guest(mechanism);
        // A program is told, and only killed where its manifest says so; a guest is ended.
        let fixture = if is_guest { fixture } else { fixture.limit("on_timeout", "\"kill\"") };
        let (_plugins, host, rascal) = host_of(fixture).await;
        let process = host.plugin("misbehave").expect("a plugin").info().process;
        assert_eq!(process.is_none(), is_guest);
        let begun = Instant::now();
        let hang = async { if sleeps { rascal.hang(3_600_000).await } else { rascal.spin().await } };
        let (late, ()) = tokio::join!(in_time(hang), serves(&host));
        says(&ended(late), &["timeout: ", "no answer after 500ms"]);
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        if let Some(process) = process {
            suite::eventually("it is gone", || !suite::processes::runs(process));
        }
        comes_back(mechanism, &host, &rascal, "call_timeout").await;
    }
}

#[tokio::test]
async fn a_call_beside_one_that_hangs_ends_with_the_limit_for_which_its_plugin_is_killed() {
    let fixture = Fixture::new(Mechanism::Process, "misbehave").limit("on_timeout", "\"kill\"");
    let (_plugins, host, rascal) = host_of(fixture).await;
    let options = jackfield::CallOptions { timeout: Some(Duration::from_millis(300)) };
    let hasty = host.select().options(options).get::<dyn Misbehave>("misbehave").expect("a plugin");
    let (late, beside) = tokio::join!(in_time(hasty.hang(3_600_000)), in_time(rascal.wait("never".into(), Vec::new())));
    says(&ended(late), &["timeout: "]);
    says(&ended(beside), &["limit: ", "`call_timeout`", "a call took longer than 300ms"]);
}

#[tokio::test]
async fn a_limit_that_the_platform_does_not_have_is_an_error_at_load_unless_it_may_be_missing() {
    let plugins = Plugins::with(Fixture::new(Mechanism::Process, "misbehave").limit("cpu_rate", "\"50%\""));
    let hopeful = Fixture::new(Mechanism::Process, "misbehave").named("hopeful").limit("cpu_rate", "\"50%\"");
    plugins.add(hopeful.manifest("best_effort = [\"cpu_rate\"]"));
    // A directory that is no cgroup, whatever this machine has.
    let host = in_time(plugins.builder().cgroup(plugins.path()).build()).await.expect("a host");
    says(&refused(&host, "misbehave"), &["`cpu_rate` cannot be enforced: no cgroup: "]);
    let enforced = host.plugin("hopeful").expect("a plugin").info().enforced;
    let text = enforced.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    says(&text, &["cpu_rate 500 not in force: no cgroup: "]);
}

#[tokio::test]
async fn a_limit_of_the_process_is_refused_for_a_library_in_the_hosts_process() {
    let plugins = Plugins::with(Fixture::new(Mechanism::Native, "misbehave").limit("memory", "\"10MiB\""));
    let host = plugins.host().await;
    let why = refused(&host, "misbehave");
    says(&why, &["`memory` is set, and a native plugin allocates in the memory of its host"]);
}

#[tokio::test]
async fn a_program_without_limits_and_sandbox_needs_no_runner_and_has_nothing_in_force() {
    let plugins = Plugins::with(Fixture::new(Mechanism::Process, "misbehave"));
    let host = in_time(plugins.builder().runner("/no/such/runner").build()).await.expect("a host");
    assert_eq!(host.plugin("misbehave").expect("a plugin").info().enforced, []);
}
