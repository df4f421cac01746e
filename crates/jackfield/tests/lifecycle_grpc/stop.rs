//! Plugins are stopped, and nothing is left of them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use jackfield::Host;
use matrix::pb::{Blob, Empty};

use crate::suite::grpc::{client, fixture, languages, program, tool};
use crate::suite::processes::{Mark, Signal, signal, without_guard};
use crate::suite::{self, Fixture, Plugins, eventually, fixtures, in_time};

/// How long a plugin takes that does what it is told.
const PROMPTLY: Duration = Duration::from_millis(50);

/// Measurements of a stop.
const TRIES: usize = 15;

/// Starts and stops after which nothing may be left.
const CYCLES: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_well_behaved_plugin_is_gone_promptly() {
    for language in languages() {
        for (tls, multiplex) in [("off", false), ("auto", false), ("auto", true)] {
            let mark = Mark::new();
            let polite = fixture(language).grpc(&format!("tls = \"{tls}\"\nmultiplex = {multiplex}"));
            let plugins = Plugins::with(polite.named("polite").env(Mark::VARIABLE, mark.value()));
            let mut took = Vec::new();
            for _ in 0..TRIES {
                let host = in_time(plugins.host()).await;
                in_time(client(&host, "polite").echo(Blob::default())).await.expect("an answer");
                let began = Instant::now();
                in_time(host.stop()).await;
                took.push(began.elapsed());
                assert_eq!(mark.running(), [0; 0]);
            }
            took.sort_unstable();
            let (median, longest) = (took[TRIES / 2], took[TRIES - 1]);
            println!(
                "{language}, tls {tls}, multiplex {multiplex}: stopped in {median:?} (median), {longest:?} (most)"
            );
            assert!(median < PROMPTLY, "{language}, tls {tls}: {took:?}");
        }
    }
}

/// The other direction: a host in Go stops a plugin of ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_in_go_stops_a_plugin_promptly() {
    let Some(host) = tool("matrix-host") else { return };
    for language in languages() {
        let plugin = program(language).expect("it is there");
        let runs = TRIES.to_string();
        let mut command = tokio::process::Command::new(&host);
        command.args(["-scenario", "kill", "-tls", "-runs", &runs, "-plugin"]).arg(plugin).kill_on_drop(true);
        let output = in_time(command.output()).await.expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        println!("go host, {language} plugin: {}", text.trim());
    }
}

/// Stops a plugin that does not want to. Gives how long that took.
async fn ends(fixture: Fixture, grace: Duration) -> Duration {
    let mark = Mark::new();
    let grace = format!("\"{}ms\"", grace.as_millis());
    let plugins =
        Plugins::with(fixture.named("stubborn").env(Mark::VARIABLE, mark.value()).limit("stop_grace", &grace));
    let host = in_time(plugins.host()).await;
    in_time(client(&host, "stubborn").version(Empty {})).await.expect("an answer");
    let began = Instant::now();
    in_time(host.stop()).await;
    let took = began.elapsed();
    assert_eq!(mark.running(), [0; 0]);
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_does_not_want_to_end_is_gone_after_its_grace() {
    let grace = Duration::from_millis(250);
    for language in languages() {
        // Not answered at all is a fault of Go's alone.
        let all = ["ignore", "linger", "stuck"];
        for how in all.into_iter().filter(|how| language == "go" || *how != "stuck") {
            let took = ends(fixture(language).env("MATRIX_SHUTDOWN", how), grace).await;
            println!("{language}, {how}: gone after {took:?}, of a grace of {grace:?}");
            assert!(took >= grace, "{language}, {how}: {took:?}");
            // Asked, told, killed: a grace each.
            assert!(took < 3 * grace + Duration::from_secs(1), "{language}, {how}: {took:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_plugin_started_ends_with_it() {
    for language in languages() {
        for shutdown in ["", "ignore"] {
            let mark = Mark::new();
            let parent = fixture(language).env("MATRIX_GRANDCHILD", "1").env("MATRIX_SHUTDOWN", shutdown);
            let parent = parent.env(Mark::VARIABLE, mark.value()).limit("stop_grace", "\"250ms\"");
            let plugins = Plugins::with(parent.named("parent"));
            let host = in_time(plugins.host()).await;
            assert!(host.refused().is_empty(), "{:?}", host.refused());
            eventually("both run", || mark.running().len() == 2);
            let began = Instant::now();
            in_time(host.stop()).await;
            println!("{language} with a grandchild, shutdown {shutdown:?}: stopped in {:?}", began.elapsed());
            eventually("both are gone", || mark.running().is_empty());
        }
    }
}

/// Ctrl-C in a terminal reaches every process there, and whether the plugin ends is its host's decision.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_ends_no_plugin() {
    for language in languages() {
        let plugins = Plugins::with(fixture(language).named("steady"));
        let host = in_time(plugins.host()).await;
        let process = host.plugin("steady").expect("a plugin").info().process.expect("it runs");
        for _ in 0..3 {
            signal(process, Signal::INT);
            in_time(client(&host, "steady").version(Empty {})).await.expect("an answer");
        }
        in_time(host.stop()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_dropped_leaves_nothing() {
    let mark = Mark::new();
    let plugins = Plugins::new();
    for language in languages() {
        plugins.add(fixture(language).env(Mark::VARIABLE, mark.value()));
    }
    let host = in_time(plugins.host()).await;
    assert_eq!(mark.running().len(), languages().len(), "{:?}", host.refused());
    drop(host);
    eventually("all are gone", || mark.running().is_empty());
}

/// The host has no time to tell anybody, and no guard. A plugin of go-plugin's would stay, which we cannot change;
/// one with our SDK sees the end of its stdin.
#[test]
fn a_plugin_with_the_sdk_does_not_outlive_a_host_that_is_killed() {
    if let Some(dir) = std::env::var_os("JACKFIELD_TEST_PLUGINS") {
        let host = Host::builder().plugin_dir(dir).build_blocking().expect("a host");
        assert_eq!(host.plugins().len(), 1, "{:?}", host.refused());
        without_guard(std::process::id());
        std::process::abort();
    }
    let mark = Mark::new();
    let plugins = Plugins::with(fixture("rust").env(Mark::VARIABLE, mark.value()));
    let mut child = suite::again("stop::a_plugin_with_the_sdk_does_not_outlive_a_host_that_is_killed");
    // A host that is killed and has no guard leaves its directory for sockets.
    let sockets = tempfile::tempdir().expect("a directory");
    child.env("JACKFIELD_TEST_PLUGINS", plugins.path()).env("TMPDIR", sockets.path());
    let output = child.output().expect("a host");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(6), "{output:?}");
    eventually("it is gone", || mark.running().is_empty());
}

// ---- Nothing is left ------------------------------------------------------------------------------

/// In a process of its own, which is looked at from inside: other tests open files, too.
#[test]
fn two_hundred_starts_and_stops_leave_nothing() {
    if let Some(dir) = std::env::var_os("JACKFIELD_TEST_PLUGINS") {
        return cycles(Path::new(&dir));
    }
    let mark = Mark::new();
    let plugins = Plugins::new();
    let setups = [("off", false), ("off", true), ("auto", false), ("auto", true)];
    for language in languages() {
        for (tls, multiplex) in setups {
            let name = format!("{language}-{tls}-{multiplex}");
            let grpc = format!("tls = \"{tls}\"\nmultiplex = {multiplex}");
            plugins.add(fixture(language).named(&name).grpc(&grpc).env(Mark::VARIABLE, mark.value()));
        }
    }
    let sockets = tempfile::Builder::new().prefix("cycles").tempdir().expect("a directory");
    let mut child: Command = suite::again("stop::two_hundred_starts_and_stops_leave_nothing");
    child.env("TMPDIR", sockets.path()).env("JACKFIELD_TEST_PLUGINS", plugins.path());
    let output = child.output().expect("a host");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said.lines().filter(|line| line.contains("cycles")).for_each(|line| println!("{line}"));
    assert_eq!(mark.running(), [0; 0], "processes are left");
    let left: Vec<_> = fs::read_dir(sockets.path()).expect("it is there").collect();
    assert!(left.is_empty(), "{left:?}");
}

fn cycles(dir: &Path) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut names: Vec<_> = fs::read_dir(dir).expect("plugins").map(|entry| entry.expect("one").path()).collect();
    names.sort();
    let cycle = |number: usize| {
        runtime.block_on(async {
            let path = &names[number % names.len()];
            let name = path.file_name().expect("a name").to_string_lossy();
            let host = in_time(Host::builder().plugin(path).cache_dir(fixtures::cache_dir()).build()).await;
            let host = host.expect("a host");
            let mut client = client(&host, &name);
            in_time(client.echo(Blob::default())).await.expect("an answer");
            let broker = host.plugin(&name).expect("it is there").connection().expect("it runs").broker;
            let offered = in_time(client.offer(Empty {})).await.expect("an offer").into_inner();
            let sum = in_time(matrix::add_through(&broker, offered.broker_id, 1, 2)).await;
            assert_eq!(sum.unwrap_or_else(|error| panic!("{name}: {error}")), 3);
            in_time(host.stop()).await;
        });
    };
    // What is made once, as pools of threads, is there after this.
    (0..2 * names.len()).for_each(cycle);
    let settled = || (count("/proc/self/fd"), count("/proc/self/task"));
    // Threads that wait for a child end a moment after it.
    let mut before = settled();
    eventually("threads have ended", || count("/proc/self/task") <= before.1);
    before = settled();
    let began = Instant::now();
    (0..CYCLES).for_each(cycle);
    let took = began.elapsed();
    eventually("descriptors and threads are as before", || {
        let now = settled();
        now.0 <= before.0 && now.1 <= before.1
    });
    println!("{CYCLES} cycles in {took:?}; before: {before:?} descriptors and threads, after: {:?}", settled());
}

fn count(directory: &str) -> usize {
    fs::read_dir(directory).expect("/proc").count()
}
