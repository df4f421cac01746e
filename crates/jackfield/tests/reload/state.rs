//! State that is handed from one generation to the next.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use fixtures_api::versioned::Mode;
use jackfield::Lifecycle;

use crate::suite::{Plugins, chain, eventually, in_time, says, versions};
use crate::{client, each_mechanism, host, plugin, put};

fn with_state() -> Lifecycle {
    let mut lifecycle = Lifecycle::default();
    lifecycle.reload.state = true;
    lifecycle
}

each_mechanism! {
    async fn a_counter_goes_on_in_the_next_generation(mechanism) {
        let (plugins, host) = host(plugin(mechanism), with_state()).await;
        let plugin = client(&host);
        for count in 1..=3 {
            assert_eq!(plugin.count().await, Ok(count));
        }
        put(&plugins, mechanism, "1", Mode::Ok);
        in_time(host.reload("p")).await.expect("reloaded");
        assert_eq!(plugin.count().await, Ok(4));
        assert_eq!(plugin.version().await, Ok("1".into()));
    }

    async fn a_state_that_the_new_one_does_not_take_leaves_the_old_one_in_its_place(mechanism) {
        let (plugins, host) = host(plugin(mechanism), with_state()).await;
        let plugin = client(&host);
        assert_eq!(plugin.count().await, Ok(1));
        put(&plugins, mechanism, "1", Mode::OtherSchema);
        let error = in_time(host.reload("p")).await.expect_err("another schema");
        says(&chain(&error), &["`p`", "the state was not handed over", "`1` takes schema 2, not 1"]);
        assert_eq!(plugin.count().await, Ok(2));
        assert_eq!(plugin.version().await, Ok("0".into()));
    }

    async fn a_state_that_the_old_one_does_not_give_leaves_it_in_its_place(mechanism) {
        let plugins = Plugins::new();
        versions::add(&plugins, "p", mechanism, "0", Mode::KeepsState);
        let host = in_time(plugins.builder().lifecycle(with_state()).build()).await.expect("a host");
        let plugin = client(&host);
        assert_eq!(plugin.count().await, Ok(1));
        put(&plugins, mechanism, "1", Mode::Ok);
        let error = in_time(host.reload("p")).await.expect_err("no state");
        says(&chain(&error), &["`p`", "the state was not handed over", "`0` cannot export its state"]);
        assert_eq!(plugin.count().await, Ok(2));
    }

    // Calls wait while the state is on its way: one that came between would be counted by the old one alone.
    async fn no_count_is_lost_or_given_twice_while_the_state_moves(mechanism) {
        const RELOADS: u64 = 6;
        const CALLS: u64 = 500;
        let (plugins, host) = host(plugin(mechanism), with_state()).await;
        let counted = Arc::new((AtomicU64::new(0), AtomicBool::new(false)));
        let callers: Vec<_> = (0..8).map(|_| {
            let (plugin, counted) = (client(&host).blocking(), Arc::clone(&counted));
            thread::spawn(move || {
                let mut counts = Vec::new();
                while counts.len() < 100 || !counted.1.load(Ordering::Acquire) {
                    counts.push(plugin.count().unwrap_or_else(|error| panic!("a call was lost: {error}")));
                    counted.0.fetch_add(1, Ordering::Relaxed);
                }
                counts
            })
        }).collect();
        for reload in 1..=RELOADS {
            tokio::task::block_in_place(|| eventually("calls are made", || {
                assert!(!callers.iter().any(thread::JoinHandle::is_finished), "a caller gave up");
                counted.0.load(Ordering::Relaxed) >= reload * CALLS
            }));
            put(&plugins, mechanism, &(reload % 2).to_string(), Mode::Ok);
            in_time(host.reload("p")).await.unwrap_or_else(|error| panic!("reload {reload}: {error}"));
        }
        counted.1.store(true, Ordering::Release);
        let counts: Vec<u64> = callers.into_iter().flat_map(|caller| caller.join().expect("no call was lost")).collect();
        let different: BTreeSet<u64> = counts.iter().copied().collect();
        assert_eq!(different.len(), counts.len(), "no number twice");
        assert_eq!(different.last(), Some(&(counts.len() as u64)), "none is missing");
    }
}
