//! Nothing is left behind by a thousand crashes and two hundred reloads: descriptors, threads and memory are what they
//! were. The figures are printed; `cargo test … --test soak -- --nocapture` shows them.
//!
//! Each host is a process of its own, so that nothing else is counted.

#![cfg(all(feature = "process", target_os = "linux"))]

mod suite;

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use fixtures_api::versioned::{Mode, Versioned};
use jackfield::{Client, Host, Lifecycle, Restart};

use suite::processes::kill;
use suite::{Fixture, Mechanism, Plugins, eventually, in_time, versions};

/// Tells this program that it is to be the host.
const IS_HOST: &str = "JACKFIELD_TEST_SOAK";

/// Crashes of each mechanism. `JACKFIELD_SOAK_CRASHES` asks for another number.
const CRASHES: u64 = 1000;

/// Reloads of each mechanism. `JACKFIELD_SOAK_RELOADS` asks for another number.
const RELOADS: u64 = 200;

/// Of a number of cycles, one in so many comes before anything is counted: pools fill, allocators settle.
const WARM_UP: u64 = 10;

/// Memory that may stay for one cycle. Allocators do not give back what they got in the order in which they got it; a leaked
/// plugin would be some hundred KiB.
const RESIDENT_BYTES_MAX: u64 = 16 << 10;

/// What a process has, as Linux counts it.
#[derive(Clone, Copy, Debug)]
struct Holdings {
    descriptors: u64,
    threads: u64,
    resident_bytes: u64,
}

impl Holdings {
    fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").expect("our status");
        let of = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
            line.trim_start_matches(':')
                .split_whitespace()
                .next()
                .and_then(|number| number.parse().ok())
                .expect("a number")
        };
        let descriptors = fs::read_dir("/proc/self/fd").expect("our descriptors").count() as u64;
        Self { descriptors, threads: of("Threads"), resident_bytes: of("VmRSS") << 10 }
    }
}

impl fmt::Display for Holdings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { descriptors, threads, resident_bytes } = self;
        write!(f, "{descriptors} descriptors, {threads} threads, {} KiB", resident_bytes >> 10)
    }
}

/// What a mechanism keeps of each cycle, as `docs/guarantees.md` says.
struct Kept {
    resident_bytes_max: u64,
}

/// Runs `cycles` and compares what the host holds before and after.
async fn soak(what: &str, cycles: u64, kept: Kept, mut cycle: impl AsyncFnMut(u64)) {
    let warm_up = cycles.div_ceil(WARM_UP);
    for number in 0..warm_up {
        in_time(cycle(number)).await;
    }
    // The last of the warm-up is still being cleaned away.
    let mut before = Holdings::now();
    eventually("it comes to rest", || {
        let last = std::mem::replace(&mut before, Holdings::now());
        std::thread::sleep(Duration::from_millis(100));
        (last.descriptors, last.threads) == (before.descriptors, before.threads)
    });
    let began = Instant::now();
    for number in warm_up..warm_up + cycles {
        in_time(cycle(number)).await;
    }
    let took = began.elapsed();
    let mut after = Holdings::now();
    eventually("descriptors and threads are what they were", || {
        after = Holdings::now();
        after.descriptors <= before.descriptors && after.threads <= before.threads
    });
    let grown = after.resident_bytes.saturating_sub(before.resident_bytes) / cycles;
    println!("{what}: {cycles} in {took:.1?}: {before}, then {after}: {grown} bytes for each");
    assert!(grown <= kept.resident_bytes_max, "{what}: {grown} bytes for each of {cycles}: {before}, then {after}");
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |number| number.parse().expect("a number"))
}

/// Runs this test again, as a host that soaks. It is not run beside others, which would make it wait.
fn in_a_host(test: &str, soaks: impl AsyncFnOnce()) {
    if std::env::var_os(IS_HOST).is_some() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        return runtime.block_on(soaks());
    }
    let output = suite::again(test).env(IS_HOST, "1").output().expect("a host");
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().filter(|line| line.contains(" for each")).for_each(|line| println!("{line}"));
    assert!(output.status.success(), "{}\n{said}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// Restarts at once, and as often as it takes.
fn tireless() -> Lifecycle {
    let mut lifecycle = Lifecycle::default();
    lifecycle.restart = Restart::Always;
    lifecycle.backoff = Duration::from_millis(1);
    lifecycle.backoff_max = Duration::from_millis(1);
    lifecycle.restarts_max = u32::MAX;
    lifecycle
}

async fn host(mechanism: Mechanism, mode: Mode) -> (Plugins, Host) {
    let plugins = Plugins::new();
    versions::add_as(&plugins, Fixture::new(mechanism, "versioned").named("p"), "0", mode);
    // With a cache of its own, which goes with it: two hundred libraries are some hundred MiB.
    let host = plugins.builder().cache_dir(plugins.path().join(".cache")).lifecycle(tireless()).build();
    let host = in_time(host).await.expect("a host");
    assert!(host.refused().is_empty(), "{:?}", host.refused());
    (plugins, host)
}

async fn crashes(mechanism: Mechanism) {
    let is_program = matches!(mechanism, Mechanism::Process | Mechanism::Grpc | Mechanism::GrpcUnary);
    let mode = match mechanism {
        _ if is_program => Mode::Ok,
        // A library that crashes takes its host along; one that panics loses its instance.
        Mechanism::Native => Mode::Panics,
        _ => Mode::Crashes,
    };
    let (_plugins, host) = host(mechanism, mode).await;
    let plugin: Client<dyn Versioned> = host.get("p").expect("a client");
    let handle = host.plugin("p").expect("the plugin");
    let what = format!("crashes of {mechanism:?}");
    soak(
        &what,
        number("JACKFIELD_SOAK_CRASHES", CRASHES),
        Kept { resident_bytes_max: RESIDENT_BYTES_MAX },
        async |_| {
            if is_program {
                let old = handle.info();
                kill(old.process.expect("a process"));
                eventually("it runs again", || {
                    let info = handle.info();
                    info.generation > old.generation && info.state.as_str() == "ready"
                });
                assert_eq!(plugin.version().await, Ok("0".into()));
            } else {
                plugin.version().await.expect_err("a crash");
            }
        },
    )
    .await;
    host.stop().await;
}

async fn reloads(mechanism: Mechanism) {
    let (plugins, host) = host(mechanism, Mode::Ok).await;
    let plugin: Client<dyn Versioned> = host.get("p").expect("a client");
    let handle = host.plugin("p").expect("the plugin");
    // A library is never unloaded, and each build is another one. Compiled code of the same build is used again.
    let is_native = mechanism == Mechanism::Native;
    let resident_bytes_max = if is_native { 2 << 20 } else { RESIDENT_BYTES_MAX };
    let what = format!("reloads of {mechanism:?}");
    soak(&what, number("JACKFIELD_SOAK_RELOADS", RELOADS), Kept { resident_bytes_max }, async |number| {
        let label = if is_native { number + 1 } else { (number + 1) % 2 }.to_string();
        versions::replace(&plugins, "p", &versions::build(mechanism, &label, Mode::Ok));
        host.reload("p").await.expect("reloaded");
        assert_eq!(plugin.version().await, Ok(label));
        eventually("the old one is gone", || handle.info().generations_live == 1);
    })
    .await;
    host.stop().await;
}

macro_rules! each_mechanism {
    ($($test:ident $feature:literal $mechanism:ident)*) => {
        mod a_thousand_crashes_leave_nothing {
            use super::*;
            $(
                #[cfg(feature = $feature)]
                #[test]
                fn $test() {
                    let test = concat!("a_thousand_crashes_leave_nothing::", stringify!($test));
                    in_a_host(test, async || crashes(Mechanism::$mechanism).await);
                }
            )*
        }

        mod two_hundred_reloads_leave_nothing_but_libraries {
            use super::*;
            $(
                #[cfg(feature = $feature)]
                #[test]
                fn $test() {
                    let test = concat!("two_hundred_reloads_leave_nothing_but_libraries::", stringify!($test));
                    in_a_host(test, async || reloads(Mechanism::$mechanism).await);
                }
            )*
        }
    };
}

each_mechanism! {
    native "native" Native
    process "process" Process
    grpc "grpc" Grpc
    extism "wasm" Extism
    component "wasm" Component
    command "wasm" Command
}
