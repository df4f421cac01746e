//! `cargo xtask bench call`: what a call costs, by mechanism, beside the physical limit.
//!
//! How it is measured is in `src/lib.rs`.

mod pipe;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use greeter_api::{GreetError, Greeter, check_name};
use jackfield::{CallOptions, Client, Encoding, Host};
use jackfield_bench::{ROUNDS, Row, shown, take_turns};
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    // Cargo adds arguments of its own.
    let done = match std::env::args().any(|argument| argument == "echo") {
        true => pipe::echo(),
        false => call(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

struct English;

impl Greeter for English {
    fn greet(&self, name: String) -> Result<String, GreetError> {
        check_name(&name)?;
        Ok(format!("Hello, {name}!"))
    }
}

fn call(plugins: &Path) -> Result<(), Box<dyn Error>> {
    // Hosts live as long as the process: leaked, so that rows can borrow them.
    let blocking = |encoding| -> Result<&'static Host, Box<dyn Error>> {
        let builder = Host::builder().plugin_dir(plugins).encoding(encoding);
        Ok(Box::leak(Box::new(builder.build_blocking()?)))
    };
    let (binary, json) = (blocking(Encoding::Binary)?, blocking(Encoding::Json)?);
    let direct: Box<dyn Greeter> = Box::new(English);
    let ada = || "Ada".to_owned();

    let mut rows = vec![
        Row::new("direct call through `dyn Greeter`", 100_000, move || {
            let greeting = std::hint::black_box(&direct).greet(ada());
            assert!(std::hint::black_box(greeting).is_ok());
        }),
        native_row("native, binary", binary, "english")?,
        native_row("native, JSON", json, "english")?,
        native_row("native in C, JSON", json, "greeter-c")?,
        dynamic_row("native, by name with JSON values", binary, "english")?,
        pipe::row("a line through two pipes and back, nothing else", "{\"id\":7,\"name\":\"Ada\"}\n"),
        native_row("process, binary, blocking client", binary, "english-process")?,
        native_row("process, JSON, blocking client", json, "english-process")?,
        async_row("process, binary, one-thread runtime", plugins, &mut Builder::new_current_thread())?,
        async_row("process, binary, two-thread runtime", plugins, Builder::new_multi_thread().worker_threads(2))?,
        native_row("process in Python, JSON", json, "greeter-python")?,
        native_row("process in Go, JSON", json, "greeter-go")?,
    ];
    take_turns(&mut rows);
    println!("{:<50} {:>10} {:>10}", "greet(\"Ada\")", "p50", "ratio");
    let mut base = Duration::ZERO;
    for row in &mut rows {
        let time = row.median();
        if row.name.starts_with("direct") || row.name.starts_with("a line") {
            base = time;
        }
        let ratio = time.as_secs_f64() / base.as_secs_f64();
        println!("{:<50} {:>10} {ratio:>9.2}×", row.name, shown(time));
    }
    println!("\nratio: to the row above that is not a plugin's. {ROUNDS} rounds in turn.");
    throughput(plugins)
}

fn native_row(name: &'static str, host: &'static Host, plugin: &str) -> Result<Row, Box<dyn Error>> {
    let greeter = host.get::<dyn Greeter>(plugin)?.blocking();
    let calls = if name.starts_with("native") { 100_000 } else { 1_000 };
    Ok(Row::new(name, calls, move || {
        let greeting = greeter.greet("Ada".to_owned());
        assert!(std::hint::black_box(greeting).is_ok());
    }))
}

fn dynamic_row(name: &'static str, host: &'static Host, plugin: &str) -> Result<Row, Box<dyn Error>> {
    let plugin = host.plugin(plugin)?;
    let runtime = Builder::new_current_thread().build()?;
    Ok(Row::new(name, 100_000, move || {
        let greeting = runtime.block_on(plugin.call("greet", serde_json::json!({"name": "Ada"})));
        assert!(std::hint::black_box(greeting).is_ok());
    }))
}

fn async_row(name: &'static str, plugins: &Path, builder: &mut Builder) -> Result<Row, Box<dyn Error>> {
    let (runtime, greeter) = async_greeter(plugins, builder)?;
    Ok(Row::new(name, 1_000, move || {
        let greeting = runtime.block_on(greeter.greet("Ada".to_owned()));
        assert!(std::hint::black_box(greeting).is_ok());
    }))
}

fn async_greeter(plugins: &Path, builder: &mut Builder) -> Result<(Runtime, Client<dyn Greeter>), Box<dyn Error>> {
    let runtime = builder.enable_all().build()?;
    let host = runtime.block_on(Host::builder().plugin(plugins.join("english-process")).build())?;
    let greeter = host.select().options(CallOptions::default()).get("english-process")?;
    std::mem::forget(host);
    Ok((runtime, greeter))
}

/// Calls a second with many in flight.
fn throughput(plugins: &Path) -> Result<(), Box<dyn Error>> {
    const CALLS: usize = 200_000;
    println!("\n{:<50} {:>14}", "64 in flight", "calls/s");
    for (name, threads) in [("process, binary, one-thread runtime", 0), ("process, binary, two-thread runtime", 2)] {
        let mut builder = if threads == 0 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
        if threads > 0 {
            builder.worker_threads(threads);
        }
        let (runtime, greeter) = async_greeter(plugins, &mut builder)?;
        let greeter = std::sync::Arc::new(greeter);
        let elapsed = runtime.block_on(async {
            let begun = Instant::now();
            let tasks: Vec<_> = (0..64)
                .map(|_| {
                    let greeter = std::sync::Arc::clone(&greeter);
                    tokio::spawn(async move {
                        for _ in 0..CALLS / 64 {
                            assert!(greeter.greet("Ada".to_owned()).await.is_ok());
                        }
                    })
                })
                .collect();
            for task in tasks {
                assert!(task.await.is_ok());
            }
            begun.elapsed()
        });
        println!("{name:<50} {:>14.0}", CALLS as f64 / elapsed.as_secs_f64());
    }
    Ok(())
}
