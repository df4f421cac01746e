//! The greeter in six languages: size, cold start, call.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use greeter_api::Greeter;
use jackfield::Host;
use jackfield_bench::{Row, median, shown, take_turns};

/// Starts of which the cold one is the median.
const COLD_STARTS: usize = 101;

/// Plugin, language and kind.
const GREETERS: [(&str, &str, &str); 8] = [
    ("english-wasm", "Rust", "Extism, our SDK"),
    ("english-component", "Rust", "component"),
    ("english-wasi", "Rust", "WASI command"),
    ("greeter-c-wasm", "C", "Extism"),
    ("greeter-assemblyscript", "AssemblyScript", "Extism"),
    ("greeter-go-wasm", "Go", "WASI command"),
    ("greeter-js", "JavaScript", "component"),
    ("greeter-py-wasm", "Python", "component"),
];

/// Prints the table.
pub(crate) fn table(plugins: &Path) -> Result<(), Box<dyn Error>> {
    println!(
        "\n{:<24} {:<15} {:<16} {:>10} {:>10} {:>11} {:>10}",
        "greeter", "language", "kind", "size", "compile", "cold start", "call"
    );
    let cache = tempfile::tempdir()?;
    // An application has a runtime already.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut rows = Vec::new();
    let mut figures = Vec::new();
    for (name, language, kind) in GREETERS {
        let dir = plugins.join(name);
        let Some(bytes) = size(&dir) else {
            println!("{name:<24} is not built");
            continue;
        };
        let start = || -> Result<(Duration, Host), Box<dyn Error>> {
            let begun = Instant::now();
            let host = runtime.block_on(Host::builder().plugin(&dir).cache_dir(cache.path()).build())?;
            host.get::<dyn Greeter>(name)?;
            Ok((begun.elapsed(), host))
        };
        // Without compiled code at hand, then with it.
        let (compile, _) = start()?;
        let mut cold = Vec::new();
        for _ in 0..15 {
            let (time, host) = start()?;
            runtime.block_on(host.stop());
            cold.push(time);
        }
        let (_, host) = start()?;
        let host: &'static Host = Box::leak(Box::new(host));
        let greeter = host.get::<dyn Greeter>(name)?.blocking();
        rows.push(Row::new(name, 2_000, move || assert!(greeter.greet("Ada".to_owned()).is_ok())));
        figures.push((name, language, kind, bytes, compile, median(&mut cold)));
    }
    take_turns(&mut rows);
    for ((name, language, kind, bytes, compile, cold), row) in figures.into_iter().zip(&mut rows) {
        println!(
            "{name:<24} {language:<15} {kind:<16} {:>10} {:>10} {:>11} {:>10}",
            kib(bytes),
            shown(compile),
            shown(cold),
            shown(row.median())
        );
    }
    println!(
        "compile: loaded for the first time. Cold start: loaded with compiled code in the cache, to the first client."
    );
    // Rows have clients of hosts that are served by it.
    std::mem::forget(runtime);
    Ok(())
}

/// Prints how long a module of about 100 KiB, which is nothing but code, takes to be loaded from the cache.
pub(crate) fn cold() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut text = String::from("(module (memory 1)");
    for function in 0..500 {
        let export = if function == 0 { "(export \"run\")" } else { "" };
        write!(text, "(func {export} (param i32 i32) (result i32) (local i32)")?;
        for step in 0..16 {
            let factor = function * 31 + step * 7 + 1;
            let product = format!("(i32.mul (local.get 0) (i32.const {factor}))");
            write!(text, "(local.set 2 (i32.add {product} (local.get 2)))")?;
        }
        text.push_str("(local.get 2))");
    }
    text.push(')');
    let dir = tempfile::tempdir()?;
    let wasm = wat::parse_str(&text)?;
    std::fs::write(dir.path().join("code.wasm"), &wasm)?;
    std::fs::write(dir.path().join("plugin.toml"), "name = \"code\"\nentry = \"code.wasm\"\n")?;
    let mut cold = Vec::new();
    for round in 0..=COLD_STARTS {
        let begun = Instant::now();
        let builder = Host::builder().plugin(dir.path()).cache_dir(dir.path().join("cache"));
        let host = runtime.block_on(builder.build())?;
        host.plugin("code")?;
        // The first one has put it there.
        if round > 0 {
            cold.push(begun.elapsed());
        }
        runtime.block_on(host.stop());
    }
    let (bytes, half) = (kib(wasm.len() as u64), median(&mut cold));
    let (least, most) = (cold[cold.len() / 10], cold[cold.len() * 9 / 10]);
    println!(
        "cold start of a module of {bytes}, with its code in the cache: {} (p10 {}, p90 {}, of {COLD_STARTS})",
        shown(half),
        shown(least),
        shown(most)
    );
    Ok(())
}

fn size(dir: &Path) -> Option<u64> {
    let files = std::fs::read_dir(dir).ok()?.filter_map(Result::ok);
    let wasm = files.map(|file| file.path()).find(|file| file.extension().is_some_and(|end| end == "wasm"))?;
    Some(wasm.metadata().ok()?.len())
}

fn kib(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.0} KB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
