//! `cargo xtask bench wasm`: what a call into WebAssembly costs, beside wasmtime called by hand and the
//! reference runtime of Extism; the greeter in six languages; how late a deadline is; whether memory is
//! given back. `cargo xtask bench wasm -- echo languages cold deadlines soak` runs some of the parts.

mod languages;
mod reference;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fixtures_api::misbehave::Misbehave;
use jackfield::{CallOptions, Encoding, Host, interface};
use jackfield_bench::{ROUNDS, Row, median, shown, take_turns};
use serde_json::{Value, json};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, Store};

/// What the component of [`ECHO`] exports.
#[interface("bench:echo/echo@1.0.0", crate = jackfield)]
trait Echo {
    /// Gives back the text.
    fn echo(&self, text: String) -> String;
}

/// The least that a component can do with a string: take it and give it back. What a call costs beyond the
/// two copies is its host's.
const ECHO: &str = r#"(component
    (core module $m
        (memory (export "memory") 64)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
        (func (export "echo") (param i32 i32) (result i32)
            (i32.store (i32.const 16) (local.get 0))
            (i32.store (i32.const 20) (local.get 1))
            (i32.const 16)))
    (core instance $i (instantiate $m))
    (func $echo (param "text" string) (result string)
        (canon lift (core func $i "echo") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
    (instance $exports (export "echo" (func $echo)))
    (export "bench:echo/echo@1.0.0" (instance $exports)))"#;

const SIZES: [(usize, &str); 4] = [(16, "16 B"), (1 << 10, "1 KiB"), (64 << 10, "64 KiB"), (1 << 20, "1 MiB")];

fn main() -> ExitCode {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    match bench(&target) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(target: &Path) -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let parts: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    if wanted("echo") {
        echo(target, scratch.path())?;
    }
    if wanted("languages") {
        languages::table(&target.join("plugins"))?;
    }
    if wanted("cold") {
        languages::cold()?;
    }
    if wanted("deadlines") {
        deadlines(scratch.path())?;
    }
    if wanted("soak") {
        soak(scratch.path())?;
    }
    Ok(())
}

// ---- Echo ---------------------------------------------------------------------------------------

fn echo(target: &Path, scratch: &Path) -> Result<(), Box<dyn Error>> {
    let component = wat::parse_str(ECHO)?;
    let echo = put(scratch, "echo", &component, "")?;
    let misbehave = target.join("fixtures/misbehave-wasm");
    let host = |plugin: &Path, encoding| -> Result<&'static Host, Box<dyn Error>> {
        Ok(Box::leak(Box::new(Host::builder().plugin(plugin).encoding(encoding).build_blocking()?)))
    };
    let (typed, direct, abi) =
        (host(&echo, Encoding::Binary)?, host(&misbehave, Encoding::Binary)?, host(&misbehave, Encoding::Json)?);
    let reference = reference::Plugin::load(&misbehave)?;
    if reference.is_none() {
        println!("(the reference runtime is left out: JACKFIELD_LIBEXTISM names no library)\n");
    }
    println!("{:<56} {:>10} {:>8} {:>12}", "echo(text)", "p50", "ratio", "calls/s");
    for (size, size_name) in SIZES {
        let text = "x".repeat(size);
        let calls = 20_000_000 / (size + 1_000) / 10 * 10;
        let mut rows = vec![raw_row(&component, &text, calls)?];
        let client = typed.get::<dyn Echo>("echo")?.blocking();
        rows.push(row("(b) Jackfield, the same component", &text, calls, move |text| client.echo(text).is_ok()));
        let client = direct.get::<dyn Misbehave>("misbehave-wasm")?.blocking();
        let by_sdk = "(c) Jackfield, Extism plugin by our SDK";
        rows.push(row(by_sdk, &text, calls, move |text| client.echo(text).is_ok()));
        let client = abi.get::<dyn Misbehave>("misbehave-wasm")?.blocking();
        let by_abi = "(c') the same by the Extism ABI, as any other plugin";
        rows.push(row(by_abi, &text, calls, move |text| client.echo(text).is_ok()));
        if let Some(reference) = &reference {
            let (reference, input) = (reference.clone(), json!({"text": text}).to_string());
            let name = "(d) reference Extism runtime, the same plugin";
            rows.push(Row::new(name, calls.min(5_000), move || {
                assert!(reference.call("echo", input.as_bytes()).is_some_and(|answer| answer > 0));
            }));
        }
        take_turns(&mut rows);
        let base = rows[0].median();
        for row in &mut rows {
            let time = row.median();
            println!(
                "{:<56} {:>10} {:>7.2}× {:>12.0}",
                format!("{size_name:>6}  {}", row.name),
                shown(time),
                time.as_secs_f64() / base.as_secs_f64(),
                1.0 / time.as_secs_f64()
            );
        }
    }
    println!("\nratio: to (a), wasmtime's typed call of the same component by hand. {ROUNDS} rounds in turn.");
    Ok(())
}

fn row(name: &str, text: &str, calls: usize, call: impl Fn(String) -> bool + 'static) -> Row {
    let text = text.to_owned();
    Row::new(name, calls, move || assert!(call(text.clone())))
}

/// wasmtime by hand, set up as we set it up: the typed call, which copies the text in and the answer out.
fn raw_row(component: &[u8], text: &str, calls: usize) -> Result<Row, Box<dyn Error>> {
    let engine = Engine::new(Config::new().concurrency_support(false).epoch_interruption(true))?;
    let component = Component::new(&engine, component)?;
    let mut store = Store::new(&engine, ());
    store.set_epoch_deadline(u64::MAX / 2);
    let instance = Linker::new(&engine).instantiate(&mut store, &component)?;
    let interface = instance.get_export_index(&mut store, None, "bench:echo/echo@1.0.0").ok_or("no interface")?;
    let function = instance.get_export_index(&mut store, Some(&interface), "echo").ok_or("no function")?;
    let echo = instance.get_typed_func::<(&str,), (String,)>(&mut store, function)?;
    Ok(row_mut("(a) wasmtime by hand, a component", text, calls, move |text| {
        echo.call(&mut store, (&text,)).is_ok_and(|(answer,)| answer.len() == text.len())
    }))
}

fn row_mut(name: &str, text: &str, calls: usize, mut call: impl FnMut(String) -> bool + 'static) -> Row {
    let text = text.to_owned();
    Row::new(name, calls, move || assert!(call(text.clone())))
}

// ---- Deadlines and memory -----------------------------------------------------------------------

/// One function that never ends, one that traps, one that does nothing.
const UNRULY: &str = r#"(module
    (memory 16)
    (data (i32.const 0) "some data to begin with")
    (func (export "spin") (loop (br 0)))
    (func (export "trap") unreachable)
    (func (export "nothing")))"#;

fn deadlines(scratch: &Path) -> Result<(), Box<dyn Error>> {
    let unruly = put(scratch, "unruly", &wat::parse_str(UNRULY)?, "")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let host = runtime.block_on(Host::builder().plugin(unruly).build())?;
    let plugin = host.plugin("unruly")?;
    let timeout = Duration::from_millis(50);
    let options = CallOptions { timeout: Some(timeout) };
    let mut late = Vec::new();
    for _ in 0..40 {
        let begun = Instant::now();
        assert!(runtime.block_on(plugin.call_with(&options, "spin", Value::Null)).is_err());
        late.push(begun.elapsed().saturating_sub(timeout));
    }
    let p50 = median(&mut late);
    let worst = late.last().copied().unwrap_or_default();
    println!(
        "\na loop without end and a deadline of 50 ms: ended {} late (p50), {} at worst",
        shown(p50),
        shown(worst)
    );
    runtime.block_on(host.stop());
    Ok(())
}

fn soak(scratch: &Path) -> Result<(), Box<dyn Error>> {
    const CYCLES: usize = 10_000;
    let module = wat::parse_str(UNRULY)?;
    let trapping = put(scratch, "trapping", &module, "")?;
    let fresh = put(scratch, "fresh", &module, "instances = \"fresh\"")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let host = runtime.block_on(Host::builder().plugin(trapping).plugin(fresh).build())?;
    for (plugin, function, what) in
        [("trapping", "trap", "trap and recover"), ("fresh", "nothing", "create, call and drop")]
    {
        let plugin = host.plugin(plugin)?;
        let cycles = |count: usize| {
            runtime.block_on(async {
                let mut times = Vec::with_capacity(count);
                for _ in 0..count {
                    let begun = Instant::now();
                    let _ = plugin.call(function, Value::Null).await;
                    times.push(begun.elapsed());
                }
                median(&mut times)
            })
        };
        cycles(1_000);
        let before = resident_kib();
        let p50 = cycles(CYCLES);
        let after = resident_kib();
        println!(
            "{CYCLES} times {what}: {} each (p50), resident memory {before} KiB before, {after} KiB after",
            shown(p50)
        );
    }
    // And with hosts: loaded, called once, stopped.
    let cycles = |count: usize| -> Result<(), Box<dyn Error>> {
        for _ in 0..count {
            let host = runtime.block_on(Host::builder().plugin(scratch.join("fresh")).build())?;
            runtime.block_on(host.plugin("fresh")?.call("nothing", Value::Null)).map_err(|error| error.to_string())?;
            runtime.block_on(host.stop());
        }
        Ok(())
    };
    // As many as there are in a second: for so long a start leaves a timer, after which the file is hashed.
    cycles(4_000)?;
    let before = resident_kib();
    cycles(4_000)?;
    println!("4000 times load, call and stop: resident memory {before} KiB before, {} KiB after", resident_kib());
    Ok(())
}

/// Resident memory of this process, where the system tells.
fn resident_kib() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4
}

/// Puts a plugin into a directory of its name.
fn put(dir: &Path, name: &str, bytes: &[u8], manifest: &str) -> Result<PathBuf, Box<dyn Error>> {
    let dir = dir.join(name);
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("plugin.wasm"), bytes)?;
    std::fs::write(dir.join("plugin.toml"), format!("name = {name:?}\nentry = \"plugin.wasm\"\n{manifest}\n"))?;
    Ok(dir)
}
