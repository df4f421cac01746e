//! Files that want to be native plugins and are none: each is refused by name, with what is wrong with
//! it, and what else lies in the directory is loaded.

#![cfg(all(feature = "native", unix))]

mod suite;

use std::fs;
use std::path::Path;

use fixtures_api::zoo::Zoo;
use jackfield::{Client, Host, Manifest};
use suite::{Fixture, Mechanism, Plugins, ended, fixtures, refused, says};

/// Loads a directory with a good plugin and one more file. Whatever the file is, it must not keep the
/// good one from working. Gives the reason why the file was refused.
async fn refusal(file: &str, content: &[u8]) -> String {
    let plugins = Plugins::with(Fixture::new(Mechanism::Native, "zoo"));
    plugins.add_file(file, content);
    refusal_in(&plugins, file).await
}

async fn refusal_in(plugins: &Plugins, file: &str) -> String {
    let host = plugins.host().await;
    let zoo: Client<dyn Zoo> = host.get("zoo").expect("a zoo");
    assert_eq!(zoo.nothing().await, Ok(()));
    let all = host.refused();
    let [refused] = &*all else { panic!("one is refused: {:?}", host.refused()) };
    assert_eq!(refused.path, plugins.path().join(file));
    suite::chain(&refused.reason)
}

/// Compiles a fixture in C beside a good plugin. Gives the reason why it was refused.
async fn refusal_of_c(name: &str) -> String {
    let plugins = Plugins::with(Fixture::new(Mechanism::Native, "zoo"));
    let file = format!("lib{name}.so");
    fixtures::compile_c(name, &plugins.path().join(&file));
    refusal_in(&plugins, &file).await
}

/// The bytes of a good library.
fn library() -> Vec<u8> {
    let built = fixtures::built(Mechanism::Native, "zoo");
    let manifest = Manifest::read(&built.join("plugin.toml")).expect("a manifest");
    fs::read(manifest.entry).expect("a library")
}

#[tokio::test]
async fn an_empty_file() {
    assert_eq!(refusal("libempty.so", b"").await, "the file is empty");
}

#[tokio::test]
async fn a_text_file() {
    let text = refusal("libnotes.so", b"Buy milk and eggs.\n").await;
    assert_eq!(text, r#"not a shared library: it starts with "Buy milk and eggs.\n""#);
    let text = refusal("libscript.so", b"INPUT(libreal.so.1)\n").await;
    says(&text, &["not a shared library", "INPUT(libreal.so.1)"]);
}

#[tokio::test]
async fn noise() {
    says(&refusal("libnoise.so", &[0x80; 64]).await, &["not a shared library: it starts with 80 80 80 80"]);
    let head = [&b"\x7fELF\x02\x01\x01"[..], &[0xFF; 600]].concat();
    says(&refusal("libhead.so", &head).await, &["a damaged or truncated library (Elf64)"]);
}

/// `dlopen` maps such a file and dies of SIGBUS, and this test with it, where the check has a hole.
#[tokio::test]
async fn a_library_that_was_cut_short_anywhere() {
    let whole = library();
    let plugins = Plugins::new();
    let in_the_headers = (1..64).step_by(7).chain([64, 65, 120, 300, 1000]);
    let in_the_rest = (1..100).map(|part| whole.len() / 100 * part);
    let at_the_end = [1, 8, 63, 64, 65, 640, 4096].map(|short| whole.len() - short);
    let cuts: Vec<usize> = in_the_headers.chain(in_the_rest).chain(at_the_end).collect();
    for cut in &cuts {
        plugins.add_file(&format!("cut-{cut}.so"), &whole[..*cut]);
    }
    let host = plugins.host().await;
    for cut in cuts {
        // Debug information and section headers stand behind all that is ever mapped: a library without
        // them may be whole enough to run. Then it has to run.
        if let Ok(zoo) = host.get::<dyn Zoo>(&format!("cut-{cut}")) {
            assert_eq!(zoo.nothing().await, Ok(()));
            continue;
        }
        let why = refused(&host, &format!("cut-{cut}"));
        let known = ["truncated", "damaged", "not a shared library", "will not load"];
        assert!(known.iter().any(|known| why.contains(known)), "cut at {cut}: {why}");
    }
}

/// As above, for a library that was not cut but damaged.
#[tokio::test]
async fn a_library_whose_headers_were_overwritten() {
    let whole = library();
    let plugins = Plugins::new();
    let words: Vec<usize> = (16..64).step_by(2).collect();
    for at in &words {
        let mut bytes = whole.clone();
        bytes[*at] ^= 0xFF;
        bytes[*at + 1] ^= 0x7F;
        plugins.add_file(&format!("at-{at}.so"), &bytes);
    }
    let host = plugins.host().await;
    for at in words {
        // Most of the words of an ELF header matter; the others do no harm.
        match host.get::<dyn Zoo>(&format!("at-{at}")) {
            Ok(zoo) => assert_eq!(zoo.nothing().await, Ok(())),
            Err(_) => assert!(!refused(&host, &format!("at-{at}")).is_empty()),
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_library_of_another_architecture() {
    // `e_machine`, and what it stands for; the first is not this one's.
    let machines = [(0xB7_u16, "aarch64"), (0x3E, "x86_64"), (0xF3, "riscv64")];
    let others = machines.into_iter().filter(|(_, name)| *name != std::env::consts::ARCH);
    for (machine, name) in others {
        let mut bytes = library();
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        let why = refusal("libforeign.so", &bytes).await;
        says(&why, &["built for ", name, "this host runs on ", std::env::consts::ARCH]);
    }
}

#[tokio::test]
async fn a_library_of_another_system() {
    let other = if cfg!(target_os = "macos") { "libother.so" } else { "other.dylib" };
    let why = refusal(other, b"anything").await;
    says(&why, &["is a library of ", "this platform is ", std::env::consts::OS]);
}

#[tokio::test]
async fn a_program_that_is_called_like_a_library() {
    let program = fixtures::built(Mechanism::Process, "zoo");
    let program = Manifest::read(&program.join("plugin.toml")).expect("a manifest").entry;
    let why = refusal("libprogram.so", &fs::read(program).expect("a program")).await;
    // Position-independent programs look like libraries; they do not have the function.
    assert!(why.contains("without `jackfield_register`") || why.contains("a program"), "{why}");
}

#[tokio::test]
async fn a_library_that_is_no_plugin() {
    assert_eq!(refusal_of_c("no_register").await, "a library without `jackfield_register`, so no plugin");
}

/// Its constructor and its `jackfield_register` abort: this test would not live to tell.
#[tokio::test]
async fn a_library_for_the_abi_of_tomorrow_is_refused_before_its_code_runs() {
    assert_eq!(refusal_of_c("abi_of_tomorrow").await, "the plugin speaks ABI 2.3 (tomorrow/7.0), this host speaks 1.1");
}

#[tokio::test]
async fn a_register_that_adds_nothing() {
    assert_eq!(refusal_of_c("adds_nothing").await, "`jackfield_register` added no interface");
}

#[tokio::test]
async fn a_register_that_adds_a_null_table() {
    assert_eq!(refusal_of_c("adds_null").await, "`jackfield_register` added a null table");
}

#[tokio::test]
async fn a_register_that_refuses_is_quoted() {
    let why = refusal_of_c("refuses").await;
    assert_eq!(why, "`jackfield_register` failed with status 6: there is no scanner on this machine");
}

#[tokio::test]
async fn a_register_that_panics() {
    let plugins = Plugins::with(Fixture::new(Mechanism::Native, "zoo"));
    plugins.add(Fixture::new(Mechanism::Native, "panics"));
    let why = refusal_in(&plugins, "panics/plugin.toml").await;
    says(&why, &["`jackfield_register` panicked: ", "the licence has run out"]);
}

#[tokio::test]
async fn a_file_that_cannot_be_read() {
    let plugins = Plugins::new();
    std::os::unix::fs::symlink(plugins.path().join("nowhere"), plugins.path().join("libdangling.so")).expect("a link");
    let host = plugins.host().await;
    says(&refused(&host, "dangling"), &["cannot be read: No such file or directory"]);
}

/// Every other way in which a manifest can be wrong is tested where manifests are read.
#[tokio::test]
async fn a_manifest_with_an_unknown_key_is_refused_with_line_and_column() {
    let plugins = Plugins::with(Fixture::new(Mechanism::Native, "zoo"));
    plugins.add(Fixture::new(Mechanism::Native, "misbehave").named("typo").manifest("versoin = \"1.0.0\""));
    let file = plugins.path().join("typo/plugin.toml");
    let why = refusal_in(&plugins, "typo").await;
    assert_eq!(why, format!("{}:2:1: unknown key `versoin`; did you mean `version`?", file.display()));
}

#[tokio::test]
async fn a_plugin_that_is_not_what_its_manifest_says() {
    let check = async |lines: &str, expected: &str| {
        let plugins = Plugins::with(Fixture::new(Mechanism::Native, "zoo"));
        plugins.add(Fixture::new(Mechanism::Native, "misbehave").manifest(lines));
        assert_eq!(refusal_in(&plugins, "misbehave/plugin.toml").await, expected);
    };
    check("version = \"2.0.0\"", "the manifest says version 2.0.0, the plugin says 1.0.0").await;
    check(
        "interfaces = [\"test:zoo/zoo@1.0.0\"]",
        "the manifest says interface test:zoo/zoo@1.0.0, the plugin says test:misbehave/misbehave@1.0.0",
    )
    .await;
    check("capabilities = [\"batch@1\"]", "the manifest says capability batch@1, the plugin says ").await;
}

#[tokio::test]
async fn answers_that_are_none_break_the_protocol_and_hurt_nobody() {
    let plugins = Plugins::new();
    fixtures::compile_c("lies", &plugins.path().join("liblies.so"));
    let host: Host = plugins.host().await;
    let lies = host.plugin("lies").unwrap_or_else(|_| panic!("{}", refused(&host, "lies")));
    for (function, expected) in [
        ("not-json", &["protocol: ", "its answer is not JSON"][..]),
        ("not-utf8", &["protocol: ", "its answer is not JSON"]),
        ("wrong-type", &["protocol: ", "`answer`: is a `string`, got the number 7"]),
        ("nothing", &["protocol: ", "its answer is not JSON"]),
        ("odd-status", &["protocol: ", "it answered with status 99"]),
        ("no-own-error", &["protocol: ", "`no-own-error` has no error of its own, and it gave 7"]),
        ("claims-too-much", &["limit: ", "limit `answer_bytes`"]),
        ("missing", &["refused: ", "the plugin has no such function"]),
    ] {
        says(&ended(lies.call(function, serde_json::json!({})).await), expected);
    }
    assert_eq!(lies.info().state.as_str(), "ready");
}

#[tokio::test]
async fn a_library_is_loaded_from_a_private_copy_and_counted() {
    let plugins = Plugins::with(Fixture::new(Mechanism::Native, "zoo"));
    let cache = fixtures::scratch_dir();
    let host = plugins.builder().cache_dir(cache.path()).build().await.expect("a host");
    assert!(jackfield::native::libraries_loaded() > 0);
    // The file that a person edits can go while the plugin runs.
    let entry = host.plugin("zoo").expect("a zoo").info().entry;
    fs::remove_file(&entry).and_then(|()| fs::write(&entry, b"a new build, half written")).expect("replaced");
    let zoo: Client<dyn Zoo> = host.get("zoo").expect("a zoo");
    assert_eq!(zoo.nothing().await, Ok(()));
    let copies = |dir: &Path| fs::read_dir(dir).expect("a directory").count();
    assert_eq!(copies(&cache.path().join("native")), 1);
}
