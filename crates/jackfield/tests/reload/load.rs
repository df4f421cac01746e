//! Under load.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use fixtures_api::versioned::{Mode, VersionedBlocking};
use jackfield::{Lifecycle, Status};

use crate::suite::processes::Mark;
use crate::suite::{Mechanism, eventually, in_time};
use crate::{client, each_mechanism, host, is_program, plugin, put};

const CALLERS: u64 = 8;
const RELOADS: u64 = 50;

/// Calls of all callers. `JACKFIELD_RELOAD_CALLS` asks for more.
const CALLS: u64 = 100_000;

/// How far things have come. The build with which a plugin begins is 0, and the n-th reload brings build n.
#[derive(Default)]
struct Course {
    /// The reload that has begun last: no later build can answer.
    begun: AtomicU64,
    /// The one that was over last: no earlier build may answer a call that is made from now on.
    over: AtomicU64,
    calls: AtomicU64,
    is_over: AtomicBool,
}

/// What one caller saw.
#[derive(Default)]
struct Seen {
    calls: u64,
    /// Builds that answered, each with its instance.
    answered: BTreeSet<(u64, String)>,
}

impl Course {
    /// Calls until the reloads are over, and at least so often. Builds `cycle` apart have the same label.
    fn call(&self, plugin: &VersionedBlocking, calls: u64, cycle: u64) -> Seen {
        let mut seen = Seen::default();
        let mut last = 0;
        while seen.calls < calls || !self.is_over.load(Ordering::Acquire) {
            let first = self.over.load(Ordering::Acquire).max(last);
            let who = plugin.whoami().unwrap_or_else(|error| panic!("call {} was lost: {error}", seen.calls));
            let latest = self.begun.load(Ordering::Acquire);
            let label: u64 = who.label.parse().expect("a number");
            let possible = (first..=latest).find(|build| build % cycle == label);
            last = possible.unwrap_or_else(|| panic!("`{label}` answered a call made to one of {first} to {latest}"));
            seen.answered.insert((last, who.instance));
            seen.calls += 1;
            self.calls.fetch_add(1, Ordering::Relaxed);
        }
        seen
    }
}

each_mechanism! {
    async fn no_call_is_lost_and_none_answered_by_another_generation(mechanism) {
        let wanted = std::env::var("JACKFIELD_RELOAD_CALLS").map_or(CALLS, |calls| calls.parse().expect("a number"));
        // What WebAssembly compiles it keeps: few builds, which come again, save minutes. The same library twice would
        // be one library.
        let is_wasm = matches!(mechanism, Mechanism::Extism | Mechanism::Component | Mechanism::Command);
        let cycle = if is_wasm { 4 } else { RELOADS + 1 };
        let mark = Mark::new();
        let marked = match mechanism {
            Mechanism::Native => plugin(mechanism),
            _ => plugin(mechanism).env(Mark::VARIABLE, mark.value()),
        };
        let (plugins, host) = host(marked, Lifecycle::default()).await;
        let course = Arc::new(Course::default());
        let callers: Vec<_> = (0..CALLERS).map(|_| {
            let (course, plugin) = (Arc::clone(&course), client(&host).blocking());
            thread::spawn(move || course.call(&plugin, wanted / CALLERS, cycle))
        }).collect();

        let progress = |reload: u64| tokio::task::block_in_place(|| {
            eventually("calls are made between reloads", || {
                assert!(!callers.iter().any(thread::JoinHandle::is_finished), "a caller gave up");
                course.calls.load(Ordering::Relaxed) >= reload * wanted / (RELOADS + 1)
            });
        });
        for reload in 1..=RELOADS {
            progress(reload);
            put(&plugins, mechanism, &(reload % cycle).to_string(), Mode::Ok);
            course.begun.store(reload, Ordering::Release);
            let reloaded = in_time(host.reload("p")).await.unwrap_or_else(|error| panic!("reload {reload}: {error}"));
            course.over.store(reload, Ordering::Release);
            assert_eq!((reloaded.from, reloaded.to), (reload, reload + 1));
        }
        course.is_over.store(true, Ordering::Release);
        let seen = tokio::task::spawn_blocking(|| {
            callers.into_iter().map(|caller| caller.join().expect("no call was lost")).collect::<Vec<_>>()
        }).await.expect("joined");

        let calls: u64 = seen.iter().map(|seen| seen.calls).sum();
        assert!(calls >= wanted, "{calls}");
        let ended = host.plugin("p").expect("the plugin").info().calls;
        assert_eq!(ended.ended(Status::Ok), calls, "each call was answered once: {ended:?}");
        // A generation is one instance, and an instance one generation.
        let answered: BTreeSet<_> = seen.into_iter().flat_map(|seen| seen.answered).collect();
        let builds: BTreeSet<_> = answered.iter().map(|(build, _)| build).collect();
        assert_eq!(builds.len(), answered.len(), "{answered:?}");
        assert!(builds.len() as u64 > RELOADS / 2, "most generations were called: {builds:?}");
        let info = host.plugin("p").expect("the plugin").info();
        assert_eq!(info.generation, RELOADS + 1);
        eventually("the old generations are gone", || {
            let left = if is_program(mechanism) { 1 } else { 0 };
            mark.running().len() == left && host.plugin("p").expect("the plugin").info().generations_live == 1
        });
        in_time(host.stop()).await;
        assert!(mark.running().is_empty(), "a program is left");
    }
}
