//! The host in `examples/host` knows a trait and nothing else: what its plugins are is no matter of its.

#![cfg(all(feature = "native", feature = "process", unix))]

mod suite;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use suite::fixtures::{Built, scratch_dir};

#[test]
fn the_mechanism_of_both_greeters_is_swapped_without_a_change_to_the_host() {
    let built = Built::of(&["greeter-host", "english", "uzbek"]);
    let host = built.program("greeter-host");
    let native = |package: &str| built.library(package);
    let process = |package: &str| built.program(package);
    let greetings = [
        greet(&host, &[native("english"), native("uzbek")]),
        greet(&host, &[process("english"), process("uzbek")]),
        greet(&host, &[native("english"), process("uzbek")]),
    ];
    for greeting in greetings {
        assert_eq!(greeting, "english: Hello, Grace!\nuzbek: Salom, Grace!\n");
    }
}

/// Puts the plugins, as bare files, into a directory, and runs the host on it.
fn greet(host: &Path, plugins: &[PathBuf]) -> String {
    let dir = scratch_dir();
    for plugin in plugins {
        // A link: see `Plugins::add`.
        fs::hard_link(plugin, dir.path().join(plugin.file_name().expect("a name"))).expect("a link");
    }
    let cache = scratch_dir();
    let mut host = Command::new(host);
    let output = host.arg(dir.path()).arg("Grace").env("XDG_CACHE_HOME", cache.path()).output().expect("the host runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}
