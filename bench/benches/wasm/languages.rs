//! The greeter in six languages: size, cold start, call.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use greeter_api::Greeter;
use jackfield::Host;
use jackfield_bench::{Row, median, shown, take_turns};

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
            let host = Host::builder().plugin(&dir).cache_dir(cache.path()).build_blocking()?;
            host.get::<dyn Greeter>(name)?;
            Ok((begun.elapsed(), host))
        };
        // Without compiled code at hand, then with it.
        let (compile, _) = start()?;
        let mut cold = Vec::new();
        for _ in 0..9 {
            let (time, host) = start()?;
            host.stop_blocking();
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
