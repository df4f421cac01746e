//! The rules of the repository.

#![cfg(unix)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fixtures_api::zoo::Zoo;
use jackfield::protocol::message::{code, feature, method};

// ---- What may name what -------------------------------------------------------------------------

/// `lib.rs` lists the modules in the order in which they may name each other.
#[test]
fn no_module_names_one_below_itself() {
    let order = modules();
    assert_eq!(order.first().map(String::as_str), Some("limits"));
    assert_eq!(order.last().map(String::as_str), Some("host"));
    let mut wrong = Vec::new();
    for (position, module) in order.iter().enumerate() {
        for (file, text) in sources_of(module) {
            for named in named_modules(&text) {
                match order.iter().position(|other| *other == named) {
                    Some(other) if other > position => wrong.push(format!("{}: `{named}`", short(&file))),
                    Some(_) => {}
                    None => wrong.push(format!("{}: `crate::{named}`, which is no module", short(&file))),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "a module names one below itself:\n{}", wrong.join("\n"));
}

/// Mechanisms are siblings, and nothing but the start of a plugin and its errors knows which there are.
#[test]
fn mechanisms_do_not_know_each_other_and_are_known_to_few() {
    let mechanisms = ["native", "process", "grpc", "wasm"];
    let knowing: BTreeSet<String> = modules()
        .into_iter()
        .filter(|module| {
            let named = sources_of(module).into_iter().flat_map(|(_, text)| named_modules(&text));
            named.filter(|named| named != module).any(|named| mechanisms.contains(&&*named))
        })
        .collect();
    assert_eq!(knowing, ["error", "host"].map(str::to_owned).into());
}

#[test]
fn crates_depend_on_those_before_them_alone() {
    let ours = |manifest: &str| -> Vec<String> {
        let all = dependencies(manifest).into_iter();
        all.filter(|name| name.starts_with("jackfield") || root().join("examples").join(name).exists()).collect()
    };
    for (manifest, expected) in [
        ("crates/jackfield-macros", &[][..]),
        ("crates/jackfield-protocol", &["jackfield-macros"]),
        ("crates/jackfield-serve", &["jackfield-protocol"]),
        ("crates/jackfield-grpc", &[]),
        ("crates/jackfield-plugin", &["jackfield-grpc", "jackfield-macros", "jackfield-protocol", "jackfield-serve"]),
        ("crates/jackfield-native", &["jackfield-protocol"]),
        ("crates/jackfield", &["jackfield-grpc", "jackfield-macros", "jackfield-native", "jackfield-protocol"]),
        ("crates/jackfield-runner", &["jackfield-native", "jackfield-protocol", "jackfield-serve"]),
        ("crates/jackfield-cli", &["jackfield"]),
        ("examples/greeter-api", &["jackfield-plugin"]),
        ("examples/english", &["greeter-api", "jackfield-plugin"]),
    ] {
        assert_eq!(ours(manifest), expected, "{manifest}");
    }
}

#[test]
fn the_sdk_costs_its_users_few_crates() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "-p", "jackfield-plugin", "-e", "normal,no-proc-macro", "--prefix", "none"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8_lossy(&tree.stdout);
    let crates: BTreeSet<_> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    let foreign: Vec<_> = crates.into_iter().filter(|name| !name.starts_with("jackfield")).collect();
    assert!(foreign.len() <= 15, "{} crates: {}", foreign.len(), foreign.join(" "));
    assert!(foreign.contains(&"serde"), "the tree was read: {text}");
}

#[test]
fn the_host_of_the_example_depends_on_the_runtime_and_its_interface_alone() {
    assert_eq!(dependencies("examples/host"), ["greeter-api", "jackfield"]);
}

// ---- What stands where --------------------------------------------------------------------------

#[test]
fn unsafe_code_is_fenced() {
    let fenced = [
        "crates/jackfield-plugin/src/native.rs",
        "crates/jackfield-plugin/src/wasm/abi.rs",
        "crates/jackfield-protocol/src/native.rs",
        "crates/jackfield-native/src/lib.rs",
        "crates/jackfield-runner/src/system.rs",
        "crates/jackfield/src/journal/map.rs",
        "crates/jackfield/src/wasm/cache.rs",
        "crates/jackfield/src/wasm/slot.rs",
        // Writes the entries of a shared library into the crates of plugins.
        "crates/jackfield-macros/src/export.rs",
        // Calls the reference runtime by its C interface, as a peer and as an oracle.
        "bench/benches/wasm/reference.rs",
        // Dies on demand.
        "fixtures/misbehave/src/crash.rs",
    ];
    let found = tracked().into_iter().filter(|file| file.extension().is_some_and(|end| end == "rs"));
    let found = found.filter(|file| {
        let text = fs::read_to_string(file).expect("UTF-8");
        // The attributes name the lint, `unsafe_code`, which is another word.
        text.lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .any(|line| has_word(line, concat!("un", "safe")))
    });
    let found: BTreeSet<String> = found.map(|file| short(&file)).collect();
    assert_eq!(found, fenced.map(str::to_owned).into());
}

#[test]
fn the_protocol_is_documented_in_its_present_versions() {
    let text = read("docs/protocol.md");
    let versions = text.split_once("\n## Versions\n").expect("a section").1;
    let (protocol, abi) = versions.split_once("| ABI |").expect("two tables");
    let protocol_version = jackfield::protocol::PROTOCOL;
    let abi_version = format!("{}.{}", jackfield::protocol::native::ABI_MAJOR, jackfield::protocol::native::ABI_MINOR);
    assert!(protocol.contains(&format!("\n| {protocol_version} | ")), "protocol {protocol_version}");
    assert!(abi.contains(&format!("\n| {abi_version} | ")), "ABI {abi_version}");
    let methods = [method::HELLO, method::PING, method::CANCEL, method::SHUTDOWN, method::LOG, method::SPAN];
    for word in methods.into_iter().chain([feature::FRAMES, feature::SPANS]) {
        assert!(text.contains(word), "`{word}` is not documented");
    }
    for code in [
        code::PARSE,
        code::INVALID_REQUEST,
        code::METHOD_NOT_FOUND,
        code::INVALID_PARAMS,
        code::INTERNAL,
        code::PANICKED,
        code::CANCELLED,
        code::TIMEOUT,
        code::LIMIT,
        code::UNAVAILABLE,
        code::UNSUPPORTED_PROTOCOL,
    ] {
        // With a hyphen or a minus sign, which is easier to read.
        let written = [code.to_string(), code.to_string().replace('-', "\u{2212}")];
        assert!(written.iter().any(|code| text.contains(code)), "code {code} is not documented");
    }
}

#[test]
fn links_lead_to_files_of_the_repository() {
    let mut broken = Vec::new();
    for file in tracked().into_iter().filter(|file| file.extension().is_some_and(|end| end == "md")) {
        for link in links(&fs::read_to_string(&file).expect("UTF-8")) {
            let (path, _) = link.split_once('#').unwrap_or((&link, ""));
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            let target = file.parent().expect("a directory").join(path).canonicalize();
            if !target.is_ok_and(|target| target.starts_with(root())) {
                broken.push(format!("{}: {link}", short(&file)));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// A clone elsewhere has no neighbours of ours, and nobody's home.
#[test]
fn no_text_leads_out_of_the_repository() {
    // A clone in the temporary directory has neighbours that our examples speak of, too.
    let temporary = format!("{}/", std::env::temp_dir().display());
    let around = root().parent().map(|around| format!("{}/", around.display()));
    let around = around.filter(|around| around.len() > 1 && *around != temporary);
    let homes = ["ro", "home", "Users"].map(|home| match home {
        "ro" => format!("/{home}ot/"),
        home => format!("/{home}/"),
    });
    let mut wrong = Vec::new();
    for file in tracked() {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for (number, line) in text.lines().enumerate() {
            let is_wrong = |path: &String| line.contains(path.as_str()) && !line.contains("://");
            if around.iter().chain(&homes).any(is_wrong) {
                wrong.push(format!("{}:{}: {line}", short(&file), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A file of thousands of lines is several. What is generated is read by nobody.
#[test]
fn no_source_is_longer_than_a_thousand_lines() {
    let rust = tracked().into_iter().filter(|file| file.extension().is_some_and(|end| end == "rs"));
    for file in rust.filter(|file| !short(file).contains("/generated/")) {
        let lines = fs::read_to_string(&file).expect("UTF-8").lines().count();
        assert!(lines <= 1000, "{} has {lines} lines", short(&file));
    }
}

// ---- What may cross threads ---------------------------------------------------------------------

#[test]
fn public_types_may_go_to_other_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<jackfield::Host>();
    check::<jackfield::HostBuilder>();
    check::<jackfield::Plugin>();
    check::<jackfield::PluginInfo>();
    check::<jackfield::State>();
    check::<jackfield::Client<dyn Zoo>>();
    check::<fixtures_api::zoo::ZooClient>();
    check::<fixtures_api::zoo::ZooBlocking>();
    check::<jackfield::CallOptions>();
    check::<jackfield::CallError>();
    check::<jackfield::Failure>();
    check::<jackfield::GetError>();
    check::<jackfield::LoadError>();
    check::<jackfield::Refused>();
    check::<jackfield::Shadowed>();
    check::<jackfield::Limits>();
    check::<jackfield::Enforced>();
    check::<jackfield::SandboxError>();
    check::<jackfield::Manifest>();
    check::<jackfield::ManifestError>();
    check::<jackfield::Interface>();
    check::<jackfield::Comparison>();
    check::<jackfield::Capability>();
    check::<jackfield::Calls>();
    check::<jackfield::CrashReport>();
    check::<jackfield::Lifecycle>();
    check::<jackfield::LifecycleSpec>();
    check::<jackfield::Quarantined>();
    check::<jackfield::Trusted>();
    check::<jackfield::TrustError>();
    check::<jackfield::PluginsLock>();
}

/// An application awaits calls in tasks of its own.
#[test]
fn calls_may_go_to_other_threads() {
    fn check<T: Send>(_: impl FnOnce(&'static jackfield::Client<dyn Zoo>, &'static jackfield::Plugin) -> T) {}
    check(|zoo, _| zoo.sum());
    check(|_, plugin| plugin.call("sum", serde_json::Value::Null));
    fn built<T: Send>(_: impl FnOnce(jackfield::HostBuilder) -> T) {}
    built(jackfield::HostBuilder::build);
}

// ---- Looking ------------------------------------------------------------------------------------

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn short(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

/// The modules of the host library, in the order of its `lib.rs`.
fn modules() -> Vec<String> {
    let text = read("crates/jackfield/src/lib.rs");
    let lines = text.lines().map(|line| line.trim_start_matches("pub "));
    lines.filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).map(str::to_owned).collect()
}

/// The Rust files of a module, and their code without tests.
fn sources_of(module: &str) -> Vec<(PathBuf, String)> {
    let src = root().join("crates/jackfield/src");
    let in_module = |file: &PathBuf| *file == src.join(format!("{module}.rs")) || file.starts_with(src.join(module));
    let is_code = |file: &PathBuf| file.extension().is_some_and(|it| it == "rs") && !file.ends_with("tests.rs");
    let files = tracked().into_iter().filter(in_module).filter(is_code);
    let code = files.map(|file| {
        let text = fs::read_to_string(&file).expect("UTF-8");
        let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        (file.clone(), lines.collect::<Vec<_>>().join("\n"))
    });
    let code: Vec<_> = code.collect();
    assert!(!code.is_empty(), "no file of module `{module}`");
    code
}

/// The modules that code names as `crate::x`.
fn named_modules(code: &str) -> Vec<String> {
    assert!(!code.contains("crate::{"), "one `use` for each module, so that a test can read them");
    let named = code.split("crate::").skip(1).map(|after| {
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        after[..end].to_owned()
    });
    // What `lib.rs` itself defines is above all modules.
    named.filter(|name| name != "HOST").collect()
}

/// What a package needs to be built and run; not what its tests need.
fn dependencies(package: &str) -> Vec<String> {
    let text = read(&format!("{package}/Cargo.toml"));
    let manifest: toml::Table = toml::from_str(&text).expect("a manifest");
    let mut tables = vec![&manifest];
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    tables.extend(targets.into_iter().flat_map(|targets| targets.values().filter_map(toml::Value::as_table)));
    let kinds = ["dependencies", "build-dependencies"];
    let tables = tables.into_iter().flat_map(|table| kinds.iter().filter_map(|kind| table.get(*kind)?.as_table()));
    let names: BTreeSet<String> = tables.flat_map(|table| table.keys().cloned()).collect();
    names.into_iter().collect()
}

/// The files of the repository: all but what is built or hidden. Git would know better, but a source
/// archive has none.
fn tracked() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![root()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).expect("a directory").map(|entry| entry.expect("an entry")) {
            let name = entry.file_name();
            let is_ours = ![".git", "target", "corpus", "artifacts", "__pycache__"].iter().any(|other| name == *other);
            match entry.file_type().expect("a type") {
                kind if kind.is_dir() && is_ours => left.push(entry.path()),
                kind if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(part_of_word) && !line[at + word.len()..].starts_with(part_of_word))
}

/// The targets of `[text](target)`, code blocks apart.
fn links(markdown: &str) -> Vec<String> {
    let prose = markdown.split("```").step_by(2);
    let targets = prose.flat_map(|prose| prose.split("](").skip(1));
    targets.filter_map(|after| after.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}
