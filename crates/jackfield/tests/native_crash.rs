//! What a native plugin can do to its host, which `docs/guarantees.md` admits: it shares its memory and
//! its fate. Each host here is a process of its own, and dies.

#![cfg(all(feature = "native", unix))]

mod suite;

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use fixtures_api::misbehave::{Misbehave, MisbehaveBlocking};
use jackfield::Host;
use suite::{Fixture, Mechanism, Plugins, fixtures};

/// Names the plugin directory to the host that is to die.
const PLUGINS: &str = "JACKFIELD_TEST_PLUGINS";

/// Runs this test again, as a host whose plugin does `this` to it. Gives how that host ended.
fn host_after(test: &str, this: impl FnOnce(MisbehaveBlocking)) -> ExitStatus {
    if let Some(dir) = std::env::var_os(PLUGINS) {
        let builder = Host::builder().plugin_dir(dir).cache_dir(fixtures::cache_dir());
        let host = builder.build_blocking().expect("a host");
        let rascal = host.get::<dyn Misbehave>("misbehave").expect("a plugin").blocking();
        assert_eq!(rascal.echo("alive".into()), Ok("alive".into()));
        this(rascal);
        std::process::exit(42);
    }
    let plugins = Plugins::with(Fixture::new(Mechanism::Native, "misbehave"));
    let output = suite::again(test).env(PLUGINS, plugins.path()).output().expect("a host");
    output.status
}

#[test]
fn an_abort_ends_the_host() {
    let status = host_after("an_abort_ends_the_host", |rascal| drop(rascal.abort()));
    assert_eq!(status.signal(), Some(6), "{status:?}");
}

#[test]
fn a_segmentation_fault_ends_the_host() {
    let status = host_after("a_segmentation_fault_ends_the_host", |rascal| drop(rascal.segfault()));
    assert!(matches!(status.signal(), Some(11 | 10)), "{status:?}");
}

#[test]
fn a_stack_overflow_ends_the_host() {
    let status = host_after("a_stack_overflow_ends_the_host", |rascal| drop(rascal.overflow_stack()));
    assert!(matches!(status.signal(), Some(6 | 11 | 10)), "{status:?}");
}

#[test]
fn an_exit_ends_the_host() {
    let status = host_after("an_exit_ends_the_host", |rascal| drop(rascal.exit(3)));
    assert_eq!(status.code(), Some(3), "{status:?}");
}

#[test]
fn a_panic_does_not_end_the_host() {
    let status = host_after("a_panic_does_not_end_the_host", |rascal| {
        assert!(rascal.panic("no".into()).is_err());
        assert_eq!(rascal.echo("alive".into()), Ok("alive".into()));
    });
    assert_eq!(status.code(), Some(42), "{status:?}");
}
