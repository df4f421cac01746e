//! The same native plugin, in the host's process and in one of its own: what kills it there kills no host.
//!
//! That it works as any other plugin is `isolated_conformance.rs`.

#![cfg(all(feature = "native", feature = "process", unix))]

mod suite;

use fixtures_api::misbehave::Misbehave;
use jackfield::{Client, Host, Isolation, MechanismKind, Status};
use suite::{Fixture, Mechanism, Plugins, ended, fixtures, in_time, misbehave, refused, says};

/// A host with `misbehave` in a process of its own, and with `zoo`, which is well.
async fn isolated() -> (Plugins, Host, Client<dyn Misbehave>) {
    let plugins = Plugins::with(Fixture::new(Mechanism::Isolated, "misbehave"));
    let host = plugins.host().await;
    let rascal = misbehave(&host, "misbehave");
    (plugins, host, rascal)
}

#[tokio::test]
async fn a_segmentation_fault_ends_the_call_with_its_signal_and_not_the_host_and_it_comes_back() {
    let (_plugins, host, rascal) = isolated().await;
    assert_eq!(rascal.echo("alive".into()).await, Ok("alive".into()));
    let info = host.plugin("misbehave").expect("a plugin").info();
    assert_eq!(info.mechanism, MechanismKind::Native);
    assert!(info.process.is_some_and(|process| process != std::process::id()), "{:?}", info.process);
    let crashed = ended(in_time(rascal.segfault()).await);
    says(&crashed, &["crashed", "signal 11 (SIGSEGV)"]);
    // And it is started again.
    let back = async {
        while rascal.echo("back".into()).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    in_time(back).await;
    says(&host.crashes().last().expect("a report").to_string(), &["misbehave", "SIGSEGV"]);
}

#[tokio::test]
async fn an_abort_an_exit_and_a_full_stack_end_no_host() {
    for (how, says_it) in [("abort", "SIGABRT"), ("exit", "exit status 3"), ("overflow_stack", "signal")] {
        let (_plugins, _host, rascal) = isolated().await;
        let died = match how {
            "abort" => ended(in_time(rascal.abort()).await),
            "exit" => ended(in_time(rascal.exit(3)).await),
            _ => ended(in_time(rascal.overflow_stack()).await),
        };
        says(&died, &["crashed", says_it]);
    }
}

#[tokio::test]
async fn a_panic_ends_its_call_alone() {
    let (_plugins, _host, rascal) = isolated().await;
    let panicked = in_time(rascal.panic("on purpose".into())).await;
    says(&ended(panicked), &["panicked", "on purpose"]);
    assert_eq!(rascal.echo("alive".into()).await, Ok("alive".into()));
}

#[tokio::test]
async fn what_a_library_prints_is_a_line_of_the_log_and_no_message() {
    let (_plugins, host, rascal) = isolated().await;
    rascal.print("printed".into()).await.expect("an answer");
    rascal.log(fixtures_api::misbehave::Level::Warn, "logged".into()).await.expect("an answer");
    let plugin = host.plugin("misbehave").expect("a plugin");
    suite::eventually("the lines are in the log", || {
        let lines = plugin.log_tail(10).join("\n");
        lines.contains("printed") && lines.contains("logged")
    });
}

#[tokio::test]
async fn the_host_may_isolate_what_does_not_ask_for_it() {
    let plugins = Plugins::with(Fixture::new(Mechanism::Native, "misbehave"));
    plugins.add(Fixture::new(Mechanism::Native, "misbehave").named("asks-not-to").manifest("isolation = \"none\""));
    plugins.add(Fixture::new(Mechanism::Native, "misbehave").named("ours"));
    let builder = plugins.builder().third_party(Isolation::Process).first_party("ours").runner(fixtures::runner());
    let host = in_time(builder.build()).await.expect("a host");
    for (name, isolated) in [("misbehave", true), ("asks-not-to", true), ("ours", false)] {
        let info = host.plugin(name).expect("a plugin").info();
        assert_eq!(info.process.is_some(), isolated, "{name}");
    }
}

#[tokio::test]
async fn without_a_runner_it_is_refused_and_the_error_says_so() {
    let plugins = Plugins::with(Fixture::new(Mechanism::Isolated, "misbehave"));
    let builder = plugins.builder().runner("/no/such/runner");
    let host = in_time(builder.build()).await.expect("a host");
    let why = refused(&host, "misbehave");
    says(&why, &["`isolation = \"process\"` needs `jackfield-runner`", "names `/no/such/runner`, which is no file"]);
}

#[tokio::test]
async fn stopping_it_ends_its_process() {
    let (_plugins, host, rascal) = isolated().await;
    let process = host.plugin("misbehave").expect("a plugin").info().process.expect("a process");
    in_time(host.stop()).await;
    assert_eq!(rascal.echo("late".into()).await.expect_err("stopped").status(), Status::Unavailable);
    #[cfg(target_os = "linux")]
    assert!(!suite::processes::runs(process), "process {process} is still there");
    let _ = process;
}
