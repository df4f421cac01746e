//! The old generation: what it has begun it ends, and then it is gone.

use std::collections::BTreeSet;
use std::fs;
use std::future::{Future as _, poll_fn};
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::Duration;

use fixtures_api::versioned::{Mode, Versioned};
use jackfield::{Client, Host, Lifecycle};
use tokio::task::JoinHandle;

use crate::suite::processes::Mark;
use crate::suite::{Mechanism, ended, eventually, in_time, says};
use crate::{client, each_mechanism, host, is_program, plugin, put};

/// Makes a call that takes so long. It is under way when this returns.
async fn begin(plugin: Client<dyn Versioned>, mechanism: Mechanism, ms: u64) -> JoinHandle<String> {
    if mechanism == Mechanism::Native {
        return begin_native(plugin, ms);
    }
    let mut call = Box::pin(async move { ended(plugin.slow(ms).await) });
    // The first poll takes the lease. The answer is not there yet.
    let polled = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
    assert!(polled.is_pending(), "{polled:?}");
    tokio::spawn(call)
}

/// A library is called on the caller's own thread, which then sleeps, and did not before.
fn begin_native(plugin: Client<dyn Versioned>, ms: u64) -> JoinHandle<String> {
    let (tell, told) = std::sync::mpsc::channel();
    let call = tokio::task::spawn_blocking(move || {
        let plugin = plugin.blocking();
        tell.send(fs::read_link("/proc/thread-self").expect("this thread")).expect("the test waits");
        ended(plugin.slow(ms))
    });
    let stat = PathBuf::from("/proc").join(told.recv().expect("it runs")).join("stat");
    let sleeps = || {
        fs::read_to_string(&stat).is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" S")))
    };
    tokio::task::block_in_place(|| eventually("the call is made", sleeps));
    call
}

/// What a program holds of its host, and its host of it.
struct Ties {
    process: u32,
    /// Pipes between the two.
    pipes: BTreeSet<PathBuf>,
    /// Where its sockets are, for gRPC.
    sockets: Option<PathBuf>,
}

impl Ties {
    fn of(host: &Host) -> Self {
        let process = host.plugin("p").expect("the plugin").info().process.expect("a process");
        let ours = open_pipes(Path::new("/proc/self/fd"));
        let theirs = open_pipes(&PathBuf::from(format!("/proc/{process}/fd")));
        let variables = fs::read(format!("/proc/{process}/environ")).expect("its variables");
        let mut variables = variables.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let sockets =
            variables.find_map(|variable| variable.strip_prefix("PLUGIN_UNIX_SOCKET_DIR=").map(PathBuf::from));
        // What the tests were started with may be handed on to everybody.
        let inherited = open_pipes(&PathBuf::from(format!("/proc/{}/fd", std::os::unix::process::parent_id())));
        let pipes = ours.intersection(&theirs).filter(|pipe| !inherited.contains(*pipe)).cloned().collect();
        let ties = Self { process, pipes, sockets };
        assert!(!ties.pipes.is_empty() && ties.sockets.iter().all(|sockets| sockets.is_dir()));
        ties
    }

    /// Waits until nothing of it is left: it is reaped, no pipe to it is open, its directory is removed.
    fn are_cut(&self) {
        tokio::task::block_in_place(|| {
            eventually("it is reaped", || !Path::new(&format!("/proc/{}", self.process)).exists());
            eventually("its pipes are closed", || open_pipes(Path::new("/proc/self/fd")).is_disjoint(&self.pipes));
            eventually("its sockets are removed", || !self.sockets.iter().any(|sockets| sockets.exists()));
        });
    }
}

fn open_pipes(fds: &Path) -> BTreeSet<PathBuf> {
    let open = fs::read_dir(fds).expect("descriptors").filter_map(Result::ok);
    let open = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    open.filter(|what| what.to_string_lossy().starts_with("pipe:")).collect()
}

each_mechanism! {
    async fn a_call_begun_before_a_reload_ends_where_it_began_and_new_ones_go_to_the_new(mechanism) {
        // What is compiled for the first time takes longer than the call.
        drop(host_of(mechanism, "1").await);
        let (plugins, host) = host(plugin(mechanism), Lifecycle::default()).await;
        let plugin = client(&host);
        let old = plugin.whoami().await.expect("an answer");
        let ties = is_program(mechanism).then(|| Ties::of(&host));
        let slow = begin(client(&host), mechanism, 2000).await;

        put(&plugins, mechanism, "1", Mode::Ok);
        let (reloaded, ()) = in_time(async {
            tokio::join!(host.reload("p"), async {
                while plugin.version().await.expect("an answer") == "0" {
                    tokio::task::yield_now().await;
                }
                assert!(!slow.is_finished(), "the new one answers while the old one still works");
                for _ in 0..100 {
                    let new = plugin.whoami().await.expect("an answer");
                    assert_eq!(new.label, "1");
                    assert!(new.instance != old.instance || old.instance.is_empty());
                }
            })
        }).await;
        assert_eq!(reloaded.expect("reloaded").to, 2);
        assert_eq!(in_time(slow).await.expect("an end"), r#"ok: "0""#);
        if let Some(ties) = ties {
            ties.are_cut();
        }
        eventually("one generation is left", || host.plugin("p").expect("the plugin").info().generations_live == 1);
    }

    async fn a_call_that_outlasts_the_drain_ends_with_an_error_that_says_so(mechanism) {
        // Nobody takes a thread back from a library.
        if mechanism == Mechanism::Native {
            return;
        }
        let mut lifecycle = Lifecycle::default();
        lifecycle.reload.drain_timeout = Duration::from_millis(50);
        let (plugins, host) = host(plugin(mechanism), lifecycle).await;
        let ties = is_program(mechanism).then(|| Ties::of(&host));
        let slow = begin(client(&host), mechanism, 600_000).await;
        put(&plugins, mechanism, "1", Mode::Ok);
        in_time(host.reload("p")).await.expect("reloaded");
        says(&in_time(slow).await.expect("an end"), &["unavailable: "]);
        assert_eq!(client(&host).version().await, Ok("1".into()));
        if let Some(ties) = ties {
            ties.are_cut();
        }
    }

    async fn two_reloads_at_once_are_one_after_the_other(mechanism) {
        let (plugins, host) = host(plugin(mechanism), Lifecycle::default()).await;
        put(&plugins, mechanism, "1", Mode::Ok);
        let (one, other) = in_time(async { tokio::join!(host.reload("p"), host.reload("p")) }).await;
        let to = [one.expect("reloaded").to, other.expect("reloaded").to];
        assert_eq!(*to.iter().max().expect("two"), host.plugin("p").expect("the plugin").info().generation);
        assert_eq!(client(&host).version().await, Ok("1".into()));
        eventually("one generation is left", || host.plugin("p").expect("the plugin").info().generations_live == 1);
    }

    async fn a_host_that_stops_during_a_reload_leaves_nothing(mechanism) {
        let mark = Mark::new();
        let marked = match mechanism {
            Mechanism::Native => plugin(mechanism),
            _ => plugin(mechanism).env(Mark::VARIABLE, mark.value()),
        };
        let (plugins, host) = host(marked, Lifecycle::default()).await;
        let plugin = client(&host);
        put(&plugins, mechanism, "1", Mode::Ok);
        let (_, ()) = in_time(async { tokio::join!(host.reload("p"), host.stop()) }).await;
        eventually("nothing is left", || mark.running().is_empty());
        says(&ended(plugin.version().await), &["unavailable: "]);
    }
}

/// A host of its own with this build, whose compiled code is kept.
async fn host_of(mechanism: Mechanism, label: &str) -> Host {
    let plugins = crate::suite::Plugins::new();
    crate::suite::versions::add(&plugins, "p", mechanism, label, Mode::Ok);
    plugins.host().await
}
