//! Limits of plugins that have a process of their own, and what becomes of those that reach them.

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

/// A host with `misbehave` as `fixture` says, and with a plugin that is well.
async fn host_of(fixture: Fixture) -> (Plugins, Host, Client<dyn Misbehave>) {
    let plugins = Plugins::with(fixture);
    plugins.add(Fixture::new(Mechanism::Process, "zoo"));
    let host = plugins.host().await;
    let rascal = misbehave(&host, "misbehave");
    (plugins, host, rascal)
}

/// How `limit` is kept, as `inspect` shows it.
fn kept(host: &Host, limit: &str) -> String {
    let enforced = host.plugin("misbehave").expect("a plugin").info().enforced;
    let found = enforced.iter().find(|enforced| enforced.limit == limit);
    found.unwrap_or_else(|| panic!("no `{limit}` in {enforced:?}")).to_string()
}

/// The host serves others meanwhile.
async fn serves(host: &Host) {
    let zoo: Client<dyn Zoo> = host.get("zoo").expect("a zoo");
    assert_eq!(in_time(zoo.join("a".into(), 1, Some("b".into()))).await, Ok("ab".into()));
}

/// Its death is reported with the limit, and it is started again.
async fn comes_back(host: &Host, rascal: &Client<dyn Misbehave>, limit: &str) {
    let back = async {
        while rascal.echo("back".into()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    in_time(back).await;
    let crashes = host.crashes();
    let report = crashes.last().expect("a report").to_string();
    says(&report, &["misbehave", limit]);
}

#[tokio::test]
async fn who_allocates_more_than_it_may_ends_with_the_limit_and_the_evidence_and_comes_back() {
    for (mechanism, memory) in ways() {
        let fixture = Fixture::new(mechanism, "misbehave").limit("memory", &format!("{memory:?}"));
        let (_plugins, host, rascal) = host_of(fixture).await;
        says(&kept(&host, "memory"), &["memory", " by "]);
        assert_eq!(rascal.echo("alive".into()).await, Ok("alive".into()));
        let died = ended(in_time(rascal.allocate(64 << 20)).await);
        // Which allocation fails last is not said: with RUST_BACKTRACE set, the runtime wants memory to tell of the first.
        says(&died, &["limit: ", "`memory`", "memory allocation of ", " bytes failed", "SIGABRT"]);
        serves(&host).await;
        comes_back(&host, &rascal, "memory").await;
    }
}

#[tokio::test]
async fn who_computes_for_longer_than_it_may_ends_with_the_limit_and_the_signal_and_comes_back() {
    for (mechanism, _) in ways() {
        let fixture = Fixture::new(mechanism, "misbehave").limit("cpu_time", "\"1s\"");
        let (_plugins, host, rascal) = host_of(fixture).await;
        says(&kept(&host, "cpu_time"), &["cpu_time 1 by rlimit_cpu"]);
        let (spun, ()) = tokio::join!(in_time(rascal.spin()), serves(&host));
        says(&ended(spun), &["limit: ", "`cpu_time`", "it used its 1 s of processor time (SIGXCPU)"]);
        comes_back(&host, &rascal, "cpu_time").await;
    }
}

#[tokio::test]
async fn who_hangs_is_timed_out_and_killed_where_the_manifest_says_so_and_comes_back() {
    for (mechanism, _) in ways() {
        let fixture = Fixture::new(mechanism, "misbehave");
        let fixture = fixture.limit("call_timeout", "\"500ms\"").limit("on_timeout", "\"kill\"");
        let (_plugins, host, rascal) = host_of(fixture).await;
        let process = host.plugin("misbehave").expect("a plugin").info().process.expect("a process");
        let begun = Instant::now();
        let late = ended(in_time(rascal.hang(3_600_000)).await);
        says(&late, &["timeout: "]);
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        suite::eventually("it is gone", || !suite::processes::runs(process));
        serves(&host).await;
        comes_back(&host, &rascal, "call_timeout").await;
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
