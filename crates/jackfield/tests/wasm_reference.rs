//! Our Extism plugins answer the same in the reference runtime of Extism as in our host.
//!
//! `JACKFIELD_LIBEXTISM` names the runtime's library; `cargo xtask test` fetches it.

#![cfg(all(feature = "wasm", unix))]

mod suite;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use jackfield::{CallError, Encoding, Host};
use serde_json::{Value, json};

use suite::{fixtures, in_time, root};

/// The reference runtime, in a process of its own.
struct Reference {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Reference {
    fn start(library: &Path) -> Self {
        let script = root().join("crates/jackfield/tests/suite/reference.py");
        let mut child = Command::new("python3")
            .arg(script)
            .arg(library)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let (input, output) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Self { child, input, output: BufReader::new(output) }
    }

    /// The answer as our host gives it: a value, or the plugin's own error.
    fn call(&mut self, wasm: &Path, function: &str, arguments: &Value) -> Result<Value, Value> {
        let line = json!([wasm, function, arguments.to_string()]);
        writeln!(self.input, "{line}").expect("the runtime reads");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("the runtime answers");
        let (status, text): (String, String) = serde_json::from_str(&answer).expect("an answer");
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        match &*status {
            "ok" => Ok(read(&text)),
            _ => Err(read(&text)["err"].clone()),
        }
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn library() -> Option<PathBuf> {
    let library = std::env::var_os("JACKFIELD_LIBEXTISM").map(PathBuf::from);
    if library.is_none() {
        fixtures::skip("the reference runtime of Extism is not at hand: JACKFIELD_LIBEXTISM names no library");
    }
    library
}

/// The `.wasm` file of a built plugin.
fn wasm(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files = files.map(|file| file.expect("a file").path());
    files.find(|file| file.extension().is_some_and(|end| end == "wasm")).expect("a .wasm file")
}

async fn compare(reference: &mut Reference, dir: &Path, calls: &[(&str, Value)]) {
    let name = dir.file_name().expect("a name").to_string_lossy().into_owned();
    let builder = Host::builder().plugin(dir).cache_dir(fixtures::cache_dir()).encoding(Encoding::Json);
    let host = in_time(builder.build()).await.expect("a host");
    let plugin = host.plugin(&name).unwrap_or_else(|error| panic!("{error}"));
    for (function, arguments) in calls {
        let ours = match in_time(plugin.call(function, arguments.clone())).await {
            Ok(value) => Ok(value),
            Err(CallError::Plugin(error)) => Err(error),
            Err(CallError::Failed(failure)) => panic!("{name}: {failure}"),
        };
        let theirs = reference.call(&wasm(dir), function, arguments);
        assert_eq!(ours, theirs, "{name} {function} {arguments}");
    }
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn greeters_answer_the_same_in_both_hosts() {
    let Some(library) = library() else { return };
    let mut reference = Reference::start(&library);
    let names = ["Ada", "", "ö🦀\"\\\n", &"x".repeat(100), &"я".repeat(101), "\u{0}\u{7f}", "a/b\t\u{2028}"];
    let calls: Vec<_> = names.iter().map(|name| ("greet", json!({ "name": name }))).collect();
    let plugins = fixtures::built(suite::Mechanism::Extism, "zoo").join("../../plugins");
    for plugin in ["english-wasm", "uzbek-wasm", "greeter-c-wasm", "greeter-assemblyscript"] {
        compare(&mut reference, &plugins.join(plugin), &calls).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_plugins_of_the_sdk_answer_the_same_in_both_hosts() {
    let Some(library) = library() else { return };
    let mut reference = Reference::start(&library);
    let zoo = fixtures::built(suite::Mechanism::Extism, "zoo");
    let calls = [
        ("join", json!({"left": "a", "count": 3, "right": "ü"})),
        ("join", json!({"left": "a", "count": 3, "right": null})),
        ("bytes", json!({"data": "AQID/w=="})),
        ("decide", json!({"verdict": {"ok": 7}})),
        ("decide", json!({"verdict": {"err": {"tag": "box", "val": [1, 2]}}})),
        ("nothing", json!({})),
        ("sum", json!({})),
    ];
    compare(&mut reference, &zoo, &calls).await;
    let misbehave = fixtures::built(suite::Mechanism::Extism, "misbehave");
    compare(&mut reference, &misbehave, &[("echo", json!({"text": "x".repeat(100_000)}))]).await;
    let skewed = fixtures::built(suite::Mechanism::Extism, "skewed");
    let people =
        json!([{"name": "Ada", "home": {"street": "Deichstraße", "zip": "20459"}}, {"name": "Bo", "home": null}]);
    compare(&mut reference, &skewed, &[("count", json!({"people": people}))]).await;
    let book = |title: &str, genre: &str, year: Option<u16>| {
        let authors = ["Ada Lovelace"];
        json!({"title": title, "authors": authors, "year": year, "genre": genre})
    };
    let books = json!([book("Notes", "science", Some(1843)), book("Poems of Ada", "poetry", None)]);
    let query = |words: &str| json!({"words": words, "genre": null, "since": null});
    let calls = ["ada", "poems", "", "nothing like it"]
        .map(|words| ("search", json!({"books": books.clone(), "query": query(words)})));
    compare(&mut reference, &zoo.join("../../plugins/library-rust-wasm"), &calls).await;
}
