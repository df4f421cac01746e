//! New versions that are no good: the old one goes on, and the error says at which step the new one failed.

use std::fs;
use std::time::Duration;

use fixtures_api::versioned::Mode;
use jackfield::{Canary, Event, Lifecycle, ReloadError};
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;

use crate::suite::processes::Mark;
use crate::suite::{Mechanism, Plugins, chain, eventually, fixtures, in_time, says, versions};
use crate::{client, each_mechanism, host, is_program, plugin, put, starts_when_called};

/// What a new version is.
enum New {
    /// The fixture in this mode.
    Build(Mode),
    /// Something of another version of the border.
    OfAnotherAbi,
    /// The beginning of the good one.
    CutShort,
}

/// Each way to be no good, the step at which it is found, and what the error says of it.
fn ways(mechanism: Mechanism) -> Vec<(New, &'static str, &'static str)> {
    let start = if starts_when_called(mechanism) { "health" } else { "start" };
    let mut ways = vec![
        (New::CutShort, "start", ""),
        (New::OfAnotherAbi, "start", ""),
        (New::Build(Mode::PanicAtInit), start, "panics at its start"),
        (New::Build(Mode::WrongInterface), "check", "test:versioned/versioned@9.0.0"),
        (New::Build(Mode::Unhealthy), "health", "`bad` is not well, as its marker says"),
        (New::Build(Mode::Panics), "canary", "`bad` panics, as its marker says"),
    ];
    if mechanism != Mechanism::Native {
        // A library would take its host along, or a thread of it for ever.
        ways.push((New::Build(Mode::CrashAtInit), start, ""));
        ways.push((New::Build(Mode::NoHello), start, ""));
        ways.push((New::Build(Mode::HangsInHealth), "health", ""));
        ways.push((New::Build(Mode::Crashes), "canary", ""));
        ways.push((New::Build(Mode::Hangs), "canary", ""));
    }
    ways
}

/// At which step it failed, and which generation was kept.
fn step_of(error: &ReloadError) -> (&'static str, Option<u64>) {
    match error {
        ReloadError::Failed { step, kept, .. } => (step.as_str(), *kept),
        other => panic!("{other}"),
    }
}

/// Puts the new version in the place of the old one.
fn put_new(plugins: &Plugins, mechanism: Mechanism, new: &New) {
    match new {
        New::Build(mode) => put(plugins, mechanism, "bad", *mode),
        New::CutShort => {
            let mut cut = versions::build(mechanism, "cut", Mode::Ok);
            // Not half of it: of a debug build, that may be all that is loaded.
            cut.truncate(64 << 10);
            versions::replace(plugins, "p", &cut);
        }
        New::OfAnotherAbi => {
            let hello = r#"{"jsonrpc":"2.0","id":1,"result":{"protocol":"9.0","plugin":{"name":"p"},"interfaces":[]}}"#;
            let bytes = match mechanism {
                Mechanism::Native | Mechanism::Isolated => {
                    let library = plugins.path().join(".tomorrow");
                    fixtures::compile_c("abi_of_tomorrow", &library);
                    fs::read(library).expect("the library")
                }
                Mechanism::Process => format!("#!/bin/sh\nread line\necho '{hello}'\ncat > /dev/null\n").into_bytes(),
                Mechanism::Grpc | Mechanism::GrpcUnary => {
                    b"#!/bin/sh\necho '9|1|unix|/nowhere|grpc'\ncat > /dev/null\n".to_vec()
                }
                // A later version of the binary format.
                Mechanism::Extism | Mechanism::Component | Mechanism::Command => b"\0asm\x63\0\0\0".to_vec(),
            };
            versions::replace(plugins, "p", &bytes);
        }
    }
}

each_mechanism! {
    async fn a_broken_new_version_changes_nothing_and_is_told_with_the_step(mechanism) {
        let mut lifecycle = Lifecycle::default();
        lifecycle.reload.health_timeout = Duration::from_millis(500);
        lifecycle.reload.canary = Some(Canary { function: "version".to_owned(), arguments: Value::Null });
        let mark = Mark::new();
        let mut fixture = plugin(mechanism);
        if mechanism != Mechanism::Native {
            fixture = fixture.env(Mark::VARIABLE, mark.value());
        }
        if is_program(mechanism) {
            fixture = fixture.limit("start_timeout", "\"1s\"");
        }
        let (plugins, host) = host(fixture, lifecycle).await;
        let (plugin, handle) = (client(&host), host.plugin("p").expect("the plugin"));
        let old = plugin.whoami().await.expect("an answer");
        let process = handle.info().process;
        for (new, step, what) in ways(mechanism) {
            tokio::task::block_in_place(|| put_new(&plugins, mechanism, &new));
            let error = in_time(host.reload("p")).await.expect_err("it is no good");
            let text = chain(&error);
            assert_eq!(step_of(&error), (step, Some(1)), "{text}");
            says(&text, &["`p`", what]);
            assert_eq!(plugin.whoami().await, Ok(old.clone()), "{text}");
            let info = handle.info();
            let is_as_it_was = (info.state.as_str(), info.generation, info.process) == ("ready", 1, process);
            assert!(is_as_it_was, "{text}: {info:?}");
            let alive = usize::from(is_program(mechanism));
            eventually("the new one is gone", || mark.running().len() == alive && handle.info().generations_live == 1);
        }
        put(&plugins, mechanism, "good", Mode::Ok);
        in_time(host.reload("p")).await.expect("it is good again");
        assert_eq!(plugin.version().await, Ok("good".into()));
    }

    async fn one_that_turns_bad_soon_after_the_swap_is_swapped_back(mechanism) {
        let mut lifecycle = Lifecycle::default();
        lifecycle.reload.observe = Some(Duration::from_secs(60));
        lifecycle.reload.observe_failures_max = 3;
        let (plugins, host) = host(plugin(mechanism), lifecycle).await;
        let plugin = client(&host);
        let old = plugin.whoami().await.expect("an answer");
        let mut modes = vec![Mode::FailsAfter(5)];
        if is_program(mechanism) {
            modes.push(Mode::Crashes);
        }
        // A module begins to count anew after each panic: it gets no further than to panic each time.
        if matches!(mechanism, Mechanism::Extism | Mechanism::Component | Mechanism::Command) {
            modes = vec![Mode::FailsAfter(0)];
        }
        for mode in modes {
            let mut events = host.events();
            put(&plugins, mechanism, "bad", mode);
            in_time(host.reload("p")).await.expect("it looks well");
            let mut has_failed = false;
            in_time(async {
                loop {
                    match plugin.whoami().await {
                        Ok(who) if who == old => break,
                        Ok(who) => assert_eq!(who.label, "bad"),
                        Err(_) => has_failed = true,
                    }
                }
            }).await;
            assert!(has_failed);
            in_time(async {
                loop {
                    match events.recv().await {
                        Ok(Event::SwappedBack { .. }) => break,
                        Ok(_) | Err(RecvError::Lagged(_)) => {}
                        Err(RecvError::Closed) => panic!("it was not told of"),
                    }
                }
            }).await;
            eventually("one generation is left", || host.plugin("p").expect("the plugin").info().generations_live == 1);
        }
    }
}
