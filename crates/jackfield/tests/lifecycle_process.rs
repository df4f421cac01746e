//! What only a program can promise: the host lives on whatever it does, a call ends in time, and nothing
//! of it is left when it ends.

#![cfg(all(feature = "process", target_os = "linux"))]

mod suite;

use std::future::Future as _;
use std::task::Poll;
use std::time::{Duration, Instant};

use fixtures_api::misbehave::{Level, Misbehave};
use fixtures_api::zoo::Zoo;
use jackfield::{CallOptions, Client, Encoding, Host, Status};
use suite::processes::{Mark, Signal, kill, signal, without_guard};
use suite::{Fixture, Mechanism, Plugins, ended, eventually, in_time, misbehave, says, watch};
use tokio::task::JoinSet;

const BOTH: [Encoding; 2] = [Encoding::Json, Encoding::Binary];

/// Not started again, so that what a death leaves can be looked at.
fn rascal() -> Fixture {
    Fixture::new(Mechanism::Process, "misbehave").manifest("lifecycle = { restart = \"never\" }")
}

/// Waits until so many calls of `wait` have arrived.
async fn waiting(rascal: &Client<dyn Misbehave>, count: u32) {
    in_time(async { while rascal.waiting().await != Ok(count) {} }).await;
}

// ---- Death --------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_killed_in_the_middle_of_64_calls_ends_them_all_and_nothing_else() {
    for encoding in BOTH {
        let plugins = Plugins::with(rascal());
        plugins.add(Fixture::new(Mechanism::Process, "zoo"));
        let host = plugins.builder().encoding(encoding).build().await.expect("a host");
        let rascal = misbehave(&host, "misbehave");
        let mut calls = JoinSet::new();
        for number in 0..64 {
            let rascal = misbehave(&host, "misbehave");
            calls.spawn(async move { ended(rascal.wait(number.to_string(), vec![]).await) });
        }
        waiting(&rascal, 64).await;
        let plugin = Client::plugin(&rascal);
        kill(plugin.info().process.expect("a process"));

        for ended in in_time(calls.join_all()).await {
            assert_eq!(
                ended,
                "crashed: call of `misbehave.wait` of plugin `misbehave`: the plugin crashed: signal 9 (SIGKILL)",
            );
        }
        assert_eq!(plugin.info().calls.ended(Status::Crashed), 64);
        assert_eq!(plugin.info().state.to_string(), "failed: the plugin crashed: signal 9 (SIGKILL)");
        says(&ended(rascal.echo("x".into()).await), &["unavailable: ", "signal 9 (SIGKILL)"]);
        let zoo: Client<dyn Zoo> = host.get("zoo").expect("a zoo");
        assert_eq!(zoo.nothing().await, Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_is_told_with_its_cause_and_the_last_words() {
    async fn check(expected: &[&str], die: impl AsyncFnOnce(&Client<dyn Misbehave>) -> String) {
        let plugins = Plugins::with(rascal());
        let host = plugins.host().await;
        let rascal = misbehave(&host, "misbehave");
        rascal.complain("my last words".into()).await.expect("an answer");
        says(&in_time(die(&rascal)).await, &[&["crashed: ", "my last words"], expected].concat());
    }
    check(&["signal 6 (SIGABRT)"], async |rascal| ended(rascal.abort().await)).await;
    check(&["signal 11 (SIGSEGV)"], async |rascal| ended(rascal.segfault().await)).await;
    check(&["signal 6 (SIGABRT)", "has overflowed its stack"], async |rascal| ended(rascal.overflow_stack().await))
        .await;
    check(&["exit status 3"], async |rascal| ended(rascal.exit(3).await)).await;
    check(&["exit status 0"], async |rascal| ended(rascal.exit(0).await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_between_calls_is_seen() {
    let plugins = Plugins::with(rascal());
    let host = plugins.host().await;
    let plugin = host.plugin("misbehave").expect("a plugin");
    kill(plugin.info().process.expect("a process"));
    eventually("it has failed", || plugin.info().state.as_str() == "failed");
    says(&ended(plugin.call("echo", serde_json::json!(["x"])).await), &["unavailable: ", "SIGKILL"]);
    let error = host.get::<dyn Misbehave>("misbehave").expect_err("not running").to_string();
    says(&error, &["plugin `misbehave` is not running: ", "SIGKILL"]);
}

// ---- Calls --------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_come_in_any_order() {
    for encoding in BOTH {
        let plugins = Plugins::with(rascal());
        let host = plugins.builder().encoding(encoding).build().await.expect("a host");
        let rascal = misbehave(&host, "misbehave");
        let mut calls = JoinSet::new();
        for number in 0..64 {
            let rascal = misbehave(&host, "misbehave");
            calls.spawn(async move { rascal.wait(number.to_string(), vec![]).await });
        }
        waiting(&rascal, 64).await;
        for number in (0..64).rev() {
            rascal.release(number.to_string()).await.expect("an answer");
            let next = in_time(calls.join_next()).await.expect("a call").expect("it ran");
            assert_eq!(next, Ok(number.to_string()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_ends_at_its_time_and_the_plugin_keeps_running() {
    for encoding in BOTH {
        let plugins = Plugins::with(rascal().limit("call_timeout", "\"150ms\""));
        let host = plugins.builder().encoding(encoding).build().await.expect("a host");
        let rascal = misbehave(&host, "misbehave");
        let began = Instant::now();
        assert_eq!(
            ended(rascal.wait("late".into(), vec![]).await),
            "timeout: call of `misbehave.wait` of plugin `misbehave`: no answer after 150ms",
        );
        assert!(began.elapsed() >= Duration::from_millis(150));
        // The answer that comes too late is nobody's.
        rascal.release("late".into()).await.expect("an answer");
        waiting(&rascal, 0).await;
        assert_eq!(rascal.echo("x".into()).await, Ok("x".into()));
        let info = Client::plugin(&rascal).info();
        assert_eq!((info.state.as_str(), info.calls.ended(Status::Timeout)), ("ready", 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_can_have_a_time_of_its_own() {
    let plugins = Plugins::with(rascal());
    let host = plugins.host().await;
    let options = CallOptions { timeout: Some(Duration::from_millis(50)) };
    let hasty: Client<dyn Misbehave> = host.select().options(options.clone()).get("misbehave").expect("a client");
    says(&ended(hasty.wait("x".into(), vec![]).await), &["timeout: ", "no answer after 50ms"]);
    let dynamic = host.plugin("misbehave").expect("a plugin");
    let call = dynamic.call_with(&options, "wait", serde_json::json!({"key": "x", "ballast": ""}));
    says(&ended(call.await), &["timeout: ", "no answer after 50ms"]);
    let blocking = hasty.blocking();
    let call = tokio::task::spawn_blocking(move || ended(blocking.wait("x".into(), vec![])));
    says(&in_time(call).await.expect("the call"), &["timeout: ", "no answer after 50ms"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_dropped_is_cancelled() {
    let plugins = Plugins::with(rascal());
    let host = plugins.host().await;
    let patient = misbehave(&host, "misbehave");
    let rascal = misbehave(&host, "misbehave");
    tokio::select! {
        answer = patient.wait("never".into(), vec![]) => panic!("{answer:?}"),
        () = waiting(&rascal, 1) => {}
    }
    let info = || Client::plugin(&rascal).info();
    assert_eq!(info().calls.ended(Status::Cancelled), 1);
    rascal.release("never".into()).await.expect("an answer");
    waiting(&rascal, 0).await;
    assert_eq!(rascal.echo("x".into()).await, Ok("x".into()));
    assert_eq!(info().state.as_str(), "ready");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_above_the_number_in_flight_waits_its_turn() {
    let plugins = Plugins::with(rascal().limit("calls_in_flight", "1"));
    let host = plugins.host().await;
    let rascal = misbehave(&host, "misbehave");
    let mut first = Box::pin(rascal.wait("first".into(), vec![]));
    // A call begins when it is first polled.
    let begun = std::future::poll_fn(|context| Poll::Ready(first.as_mut().poll(context))).await;
    assert!(begun.is_pending());
    let options = CallOptions { timeout: Some(Duration::from_millis(100)) };
    let hasty: Client<dyn Misbehave> = host.select().options(options).get("misbehave").expect("a client");
    // It would end the first call, did it reach the plugin.
    says(&ended(hasty.release("first".into()).await), &["timeout: "]);
    let still = std::future::poll_fn(|context| Poll::Ready(first.as_mut().poll(context))).await;
    assert!(still.is_pending());
    drop(first);
    assert_eq!(rascal.release("first".into()).await, Ok(()), "its room is free again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_above_the_bytes_in_flight_wait_and_one_alone_is_refused() {
    let plugins = Plugins::with(rascal().limit("call_bytes_in_flight", "\"1MiB\""));
    let host = plugins.builder().encoding(Encoding::Binary).build().await.expect("a host");
    let rascal = misbehave(&host, "misbehave");
    let heavy = misbehave(&host, "misbehave");
    let heavy = tokio::spawn(async move { heavy.wait("heavy".into(), vec![0; 700 << 10]).await });
    waiting(&rascal, 1).await;

    let options = CallOptions { timeout: Some(Duration::from_millis(100)) };
    let hasty: Client<dyn Misbehave> = host.select().options(options).get("misbehave").expect("a client");
    says(&ended(hasty.echo("x".repeat(600 << 10)).await), &["timeout: "]);
    assert_eq!(rascal.echo("small".into()).await, Ok("small".into()));
    says(
        &ended(rascal.echo("x".repeat(2 << 20)).await),
        &["limit: ", "limit `call_bytes_in_flight`: the arguments are 20971", "bytes of 1048576 allowed"],
    );

    let second = misbehave(&host, "misbehave");
    let second = tokio::spawn(async move { second.echo("x".repeat(600 << 10)).await.map(|text| text.len()) });
    rascal.release("heavy".into()).await.expect("an answer");
    assert_eq!(in_time(heavy).await.expect("it ran"), Ok("heavy".into()));
    assert_eq!(in_time(second).await.expect("it ran"), Ok(600 << 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_more_calls_than_fit_are_all_answered() {
    for encoding in BOTH {
        let limited = rascal().limit("calls_in_flight", "7").limit("call_bytes_in_flight", "\"64KiB\"");
        let plugins = Plugins::with(limited);
        let host = plugins.builder().encoding(encoding).build().await.expect("a host");
        let mut calls = JoinSet::new();
        for number in 0..500 {
            let rascal = misbehave(&host, "misbehave");
            calls.spawn(async move {
                let text = number.to_string().repeat(1 + number * 37 % 3000);
                assert_eq!(rascal.echo(text.clone()).await, Ok(text));
            });
        }
        in_time(calls.join_all()).await;
    }
}

/// It reads nothing any more, and the calls to it time out: what waits in memory to be written to it still
/// counts as in flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_reads_nothing_does_not_fill_the_hosts_memory() {
    let plugins = Plugins::with(rascal().limit("call_bytes_in_flight", "\"1MiB\""));
    let host = plugins.builder().encoding(Encoding::Binary).build().await.expect("a host");
    let rascal = misbehave(&host, "misbehave");
    assert_eq!(rascal.waiting().await, Ok(0));
    let process = Client::plugin(&rascal).info().process.expect("a process");
    signal(process, Signal::STOP);
    let options = CallOptions { timeout: Some(Duration::from_millis(20)) };
    let hasty: Client<dyn Misbehave> = host.select().options(options).get("misbehave").expect("a client");
    for number in 0..20 {
        says(&ended(hasty.wait(number.to_string(), vec![0; 700 << 10]).await), &["timeout: "]);
    }
    signal(process, Signal::CONT);
    // What was sent while it slept arrives before this: the one that there was room for.
    assert_eq!(in_time(rascal.echo("x".into())).await, Ok("x".into()));
    waiting(&rascal, 1).await;
    assert_eq!(in_time(rascal.echo("x".into())).await, Ok("x".into()));
    assert_eq!(rascal.waiting().await, Ok(1));
}

// ---- The end ------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_polite_plugin_ends_by_itself() {
    let mark = Mark::new();
    // So long a grace that it ends by itself, or the test takes half a minute and fails.
    let polite = rascal().env(Mark::VARIABLE, mark.value()).limit("stop_grace", "\"30s\"");
    let plugins = Plugins::with(polite);
    let host = plugins.host().await;
    misbehave(&host, "misbehave").echo("x".into()).await.expect("an answer");
    assert_eq!(mark.running().len(), 1);
    let began = Instant::now();
    host.stop().await;
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(mark.running(), [0; 0]);
    assert_eq!(host.plugin("misbehave").expect("known").info().state.as_str(), "stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_polite_plugin_does_not_wait_for_itself_after_a_slow_call() {
    // After a slow call, the thread that reads the goodbye is relieved at once: it took itself for a call under way,
    // and for two seconds nothing happened.
    const ROUNDS: u32 = 8;
    for mechanism in [Mechanism::Process, Mechanism::Isolated] {
        let fixture = || Fixture::new(mechanism, "misbehave").limit("stop_grace", "\"30s\"");
        let plugins = Plugins::with(fixture());
        let mut stopping = Duration::ZERO;
        for _ in 0..ROUNDS {
            let host = plugins.host().await;
            misbehave(&host, "misbehave").hang(20).await.expect("an answer");
            let began = Instant::now();
            host.stop().await;
            stopping += began.elapsed();
            let said: Vec<_> = host.plugin("misbehave").expect("known").log_lines(usize::MAX);
            assert!(said.is_empty(), "{said:?}");
        }
        assert!(stopping < Duration::from_secs(2) * ROUNDS, "{stopping:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stubborn_plugin_is_killed_after_two_graces() {
    let mark = Mark::new();
    let stubborn = Fixture::misbehaving("stubborn").env(Mark::VARIABLE, mark.value());
    let plugins = Plugins::with(stubborn.limit("stop_grace", "\"150ms\""));
    let host = plugins.host().await;
    host.plugin("stubborn").expect("a plugin").call("x", serde_json::json!({})).await.expect("an answer");
    let began = Instant::now();
    in_time(host.stop()).await;
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!(mark.running(), [0; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_under_way_may_end_before_the_plugin_does() {
    let plugins = Plugins::with(rascal().limit("stop_grace", "\"30s\""));
    let host = plugins.host().await;
    let rascal = misbehave(&host, "misbehave");
    let busy = misbehave(&host, "misbehave");
    let call = tokio::spawn(async move { busy.hang(300).await });
    // `hang` has been sent when a later message is answered.
    tokio::task::yield_now().await;
    rascal.echo("x".into()).await.expect("an answer");
    let began = Instant::now();
    host.stop().await;
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(call.await.expect("it ran"), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_does_not_end_is_ended_with_the_plugin() {
    let mark = Mark::new();
    let plugins = Plugins::with(rascal().env(Mark::VARIABLE, mark.value()).limit("stop_grace", "\"100ms\""));
    let host = plugins.host().await;
    let stuck = misbehave(&host, "misbehave");
    let stuck = tokio::spawn(async move { ended(stuck.wait("for ever".into(), vec![]).await) });
    waiting(&misbehave(&host, "misbehave"), 1).await;
    in_time(host.stop()).await;
    assert_eq!(mark.running(), [0; 0]);
    says(&in_time(stuck).await.expect("it ran"), &["crashed: "]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_plugin_started_ends_with_it() {
    let mark = Mark::new();
    let plugins = Plugins::with(rascal().env(Mark::VARIABLE, mark.value()));
    let host = plugins.host().await;
    let rascal = misbehave(&host, "misbehave");
    let grandchild = rascal.spawn_grandchild().await.expect("a grandchild");
    eventually("both run", || mark.running().len() == 2);
    assert!(mark.running().contains(&grandchild));
    in_time(host.stop()).await;
    eventually("both are gone", || mark.running().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipes_that_a_grandchild_holds_hang_neither_a_death_nor_a_stop() {
    for dies in [true, false] {
        let mark = Mark::new();
        let holder = Fixture::misbehaving("grandchild-then-serve").env(Mark::VARIABLE, mark.value());
        let plugins = Plugins::with(holder);
        let host = plugins.host().await;
        let rascal = misbehave(&host, "grandchild-then-serve");
        eventually("both run", || mark.running().len() == 2);
        if dies {
            says(&ended(in_time(rascal.abort()).await), &["crashed: ", "signal 6 (SIGABRT)"]);
        }
        in_time(host.stop()).await;
        assert_eq!(mark.running().len(), 1, "the one that escaped");
        mark.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_dropped_leaves_nothing() {
    let mark = Mark::new();
    let plugins = Plugins::with(rascal().env(Mark::VARIABLE, mark.value()));
    plugins.add(Fixture::misbehaving("stubborn").env(Mark::VARIABLE, mark.value()));
    let host = plugins.host().await;
    assert_eq!(mark.running().len(), 2);
    drop(host);
    eventually("both are gone", || mark.running().is_empty());
}

#[test]
fn a_host_without_a_runtime_around_it_leaves_nothing() {
    let mark = Mark::new();
    let plugins = Plugins::with(rascal().env(Mark::VARIABLE, mark.value()));
    let host: Host = plugins.builder().build_blocking().expect("a host");
    assert_eq!(misbehave(&host, "misbehave").blocking().echo("x".into()), Ok("x".into()));
    drop(host);
    eventually("it is gone", || mark.running().is_empty());
}

/// The host has no time to tell anybody, and no guard: what ends the plugin is the end of its stdin.
#[test]
fn a_plugin_does_not_outlive_a_host_that_is_killed() {
    if let Some(dir) = std::env::var_os("JACKFIELD_TEST_PLUGINS") {
        let host = Host::builder().plugin_dir(dir).build_blocking().expect("a host");
        assert_eq!(host.plugins().len(), 1);
        without_guard(std::process::id());
        std::process::abort();
    }
    let mark = Mark::new();
    let plugins = Plugins::with(rascal().env(Mark::VARIABLE, mark.value()));
    let mut child = suite::again("a_plugin_does_not_outlive_a_host_that_is_killed");
    let output = child.env("JACKFIELD_TEST_PLUGINS", plugins.path()).output().expect("a host");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(6), "{output:?}");
    eventually("it is gone", || mark.running().is_empty());
}

/// Also when all its threads are busy, and the one that would see the end of stdin is among them.
#[test]
fn a_plugin_with_its_hands_full_does_not_outlive_a_host_that_is_killed() {
    if let Some(dir) = std::env::var_os("JACKFIELD_TEST_PLUGINS") {
        let host = Host::builder().plugin_dir(dir).build_blocking().expect("a host");
        let rascal = misbehave(&host, "misbehave");
        for number in 0..80 {
            let rascal = rascal.blocking();
            std::thread::spawn(move || rascal.wait(number.to_string(), vec![]));
        }
        // While a thread is left, it answers.
        let options = CallOptions { timeout: Some(Duration::from_millis(300)) };
        let hasty: Client<dyn Misbehave> = host.select().options(options).get("misbehave").expect("a client");
        while hasty.blocking().echo("x".into()).is_ok() {}
        without_guard(std::process::id());
        std::process::abort();
    }
    let mark = Mark::new();
    let plugins = Plugins::with(rascal().env(Mark::VARIABLE, mark.value()));
    let mut child = suite::again("a_plugin_with_its_hands_full_does_not_outlive_a_host_that_is_killed");
    let output = child.env("JACKFIELD_TEST_PLUGINS", plugins.path()).output().expect("a host");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(6), "{output:?}");
    eventually("it is gone", || mark.running().is_empty());
}

// ---- What it writes -----------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_plugin_writes_is_logged_under_its_name_with_its_level() {
    watch::start();
    let plugins = Plugins::with(rascal().named("writer"));
    let host = plugins.host().await;
    let writer = misbehave(&host, "writer");
    writer.print("printed".into()).await.expect("an answer");
    assert_eq!(watch::line("writer", "printed"), "INFO printed");
    writer.complain("[WARN] the disk is nearly full".into()).await.expect("an answer");
    assert_eq!(watch::line("writer", "nearly full"), "WARN the disk is nearly full");
    writer.complain("Traceback (most recent call last):".into()).await.expect("an answer");
    assert_eq!(watch::line("writer", "Traceback"), "ERROR Traceback (most recent call last):");
    let _ = writer.panic("out of milk".into()).await;
    says(&watch::line("writer", "panicked at"), &["ERROR thread "]);
    for (level, name) in [
        (Level::Error, "ERROR"),
        (Level::Warn, "WARN"),
        (Level::Info, "INFO"),
        (Level::Debug, "DEBUG"),
        (Level::Trace, "TRACE"),
    ] {
        writer.log(level, format!("this is {name}")).await.expect("an answer");
        assert_eq!(watch::line("writer", &format!("this is {name}")), format!("{name} this is {name}"));
    }
    assert!(Client::plugin(&writer).log_tail(100).iter().any(|line| line.contains("nearly full")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_prints_before_it_serves_is_logged() {
    watch::start();
    let plugins = Plugins::with(Fixture::misbehaving("banner-then-serve"));
    let host = plugins.host().await;
    assert_eq!(misbehave(&host, "banner-then-serve").echo("x".into()).await, Ok("x".into()));
    assert_eq!(watch::line("banner-then-serve", "Welcome"), "INFO Welcome to the fine plugin 2.0!");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_on_stderr_drowns_nobody() {
    let plugins = Plugins::with(Fixture::misbehaving("floods-stderr-then-serves"));
    let host = plugins.host().await;
    let rascal = misbehave(&host, "floods-stderr-then-serves");
    assert_eq!(rascal.echo("x".into()).await, Ok("x".into()));
    let kept: usize = Client::plugin(&rascal).log_tail(usize::MAX).iter().map(String::len).sum();
    assert!((1..=64 << 10).contains(&kept), "{kept}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_printed_during_calls_cannot_corrupt_their_answers() {
    for encoding in BOTH {
        let plugins = Plugins::with(rascal());
        let host = plugins.builder().encoding(encoding).build().await.expect("a host");
        let mut calls = JoinSet::new();
        for number in 0..200 {
            let rascal = misbehave(&host, "misbehave");
            calls.spawn(async move {
                match number % 2 {
                    0 => assert_eq!(rascal.print("{\"id\":3,\"result\":\"forged\"}\n\u{F5}".repeat(20)).await, Ok(())),
                    _ => assert_eq!(rascal.echo(number.to_string()).await, Ok(number.to_string())),
                }
            });
        }
        in_time(calls.join_all()).await;
    }
}

/// A thread has 2 MiB of stack, and futures lie within futures: what waits for a start keeps that elsewhere.
#[tokio::test]
async fn what_a_host_is_asked_takes_little_of_the_stack_of_whoever_asks() {
    let host = Plugins::new().host().await;
    let asked = [
        ("build", size_of_val(&Host::builder().build())),
        ("reload", size_of_val(&host.reload("nobody"))),
        ("rescan", size_of_val(&host.rescan())),
        ("enable", size_of_val(&host.enable("nobody"))),
        ("stop", size_of_val(&host.stop())),
    ];
    let large: Vec<_> = asked.into_iter().filter(|(_, bytes)| *bytes > 8 << 10).collect();
    assert_eq!(large, [], "of {asked:?}");
}
