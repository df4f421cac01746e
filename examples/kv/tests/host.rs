//! The host of the example, with the plugins in Rust of this build and the one in Go that `cargo xtask plugins`
//! made.

#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use expect_test::expect;

#[test]
fn a_host_with_clients_of_its_own_calls_its_plugins_and_is_called_back() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, program) in
        [("kv-rust", env!("CARGO_BIN_EXE_kv-rust")), ("counter-rust", env!("CARGO_BIN_EXE_counter-rust"))]
    {
        let plugin = dir.path().join(name);
        fs::create_dir(&plugin).expect("a directory");
        // Not a link: what a manifest names must lie beside it.
        fs::copy(program, plugin.join(name)).expect("a copy");
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{name}.plugin.toml"));
        fs::copy(manifest, plugin.join("plugin.toml")).expect("a copy");
    }
    fs::create_dir(dir.path().join("kv-go")).expect("a directory");
    for file in fs::read_dir(built().join("kv-go")).expect("it is built").map(|file| file.expect("a file")) {
        fs::copy(file.path(), dir.path().join("kv-go").join(file.file_name())).expect("a copy");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_kv-rust-host")).arg(dir.path()).output().expect("the host runs");
    assert!(output.status.success(), "{output:?}");
    expect![[r#"
        kv-rust: hello is world
        kv-go: hello is world
        the plugin asks for 0 + 3
        the plugin asks for 3 + 4
        7 apples
    "#]]
    .assert_eq(&String::from_utf8(output.stdout).expect("UTF-8"));
}

fn built() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fixtures");
    std::env::var_os("JACKFIELD_FIXTURES").map_or(target, PathBuf::from).join("../plugins")
}
