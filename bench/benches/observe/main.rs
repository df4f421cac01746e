//! `cargo xtask bench observe`: what it costs that calls are measured and recorded, and how long a scrape takes.
//!
//! Hosts with and without metrics and spans take turns at short batches of calls of the same native plugin. What is compared is a
//! tenth of the batches, the quickest ones: the difference is that of two clocks and two additions, and anything else
//! that the machine does is larger.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use greeter_api::Greeter;
use jackfield::{Host, HostBuilder, Spans};
use jackfield_bench::{ROUNDS, median, shown};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

/// Batches of each host, and calls in each.
const BATCHES: usize = 4_000;
const CALLS: u32 = 500;

/// Plugins of the large host, and methods of each that were called.
const PLUGINS: usize = 1_000;
const METHODS: usize = 10;

fn main() -> ExitCode {
    match call().and_then(|()| scrape()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Time that this thread was given so far. None where nobody says.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

fn built(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(path)
}

fn call() -> Result<(), Box<dyn Error>> {
    let row = |name: &'static str, builder: HostBuilder| -> Result<_, Box<dyn Error>> {
        // Hosts live as long as the process: leaked, so that rows can borrow them.
        let host: &'static Host = Box::leak(Box::new(builder.build_blocking()?));
        let greeter = host.get::<dyn Greeter>("english")?.blocking();
        let batch = move || {
            let begun = Instant::now();
            for _ in 0..CALLS {
                let greeting = greeter.greet("Ada".to_owned());
                assert!(std::hint::black_box(greeting).is_ok());
            }
            begun.elapsed() / CALLS
        };
        Ok((name, batch, Vec::with_capacity(BATCHES)))
    };
    let english = || Host::builder().plugin(built("plugins/english"));
    let mut rows = vec![
        row("native, metrics off", english().metrics(false))?,
        row("native, metrics on", english())?,
        // Twice, so that the difference that is none is seen.
        row("native, metrics off, again", english().metrics(false))?,
        // One call in a billion: the number of each new trace is looked at.
        row("native, metrics on, spans sampled out", english().spans(spans("parentbased_traceidratio:0.000000001")?))?,
        // The host's and the plugin's, to an exporter that takes them and does nothing.
        row("native, metrics on, spans sampled", english().spans(spans("always_on")?))?,
    ];
    for _ in 0..BATCHES {
        for (_, batch, times) in &mut rows {
            times.push(batch());
        }
    }
    println!("{:<40} {:>10} {:>10} {:>10}", "greet(\"Ada\")", "p50", "p10", "more");
    let mut base = None;
    for (name, _, times) in &mut rows {
        let (half, quick) = (median(times), times[times.len() / 10]);
        let more = quick.as_nanos() as i128 - base.get_or_insert(quick).as_nanos() as i128;
        println!("{name:<40} {:>10} {:>10} {more:>7} ns", shown(half), shown(quick));
    }
    println!("\nmore: p10 than the first row's. {BATCHES} batches of {CALLS} calls in turn.\n");
    Ok(())
}

/// Takes spans, and does nothing with them.
#[derive(Debug)]
struct Nowhere;

impl SpanExporter for Nowhere {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        drop(std::hint::black_box(batch));
        Ok(())
    }
}

fn spans(sampler: &str) -> Result<Spans, Box<dyn Error>> {
    // Room for those of a batch of calls: a span that finds none costs less.
    let spans = Spans::builder().queue_spans_max(1 << 16).batch_delay(Duration::from_millis(5));
    Ok(spans.sampling(sampler.parse()?).export(|| Ok::<_, std::io::Error>(Nowhere))?)
}

fn scrape() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let built = built("fixtures/misbehave");
    let manifest = std::fs::read_to_string(built.join("plugin.toml"))?;
    let entry = manifest.split('"').find(|part| part.contains(".so") || part.contains(".dylib"));
    let entry = entry.ok_or("the fixture `misbehave` is no library")?;
    for number in 0..PLUGINS {
        let plugin = dir.path().join(format!("plugin-{number:04}"));
        std::fs::create_dir(&plugin)?;
        std::fs::hard_link(built.join(entry), plugin.join(entry))
            .or_else(|_| std::fs::copy(built.join(entry), plugin.join(entry)).map(drop))?;
        std::fs::write(plugin.join("plugin.toml"), format!("name = \"plugin-{number:04}\"\nentry = {entry:?}\n"))?;
    }
    let host = Host::builder().plugin_dir(dir.path()).build_blocking()?;
    let plugins = host.plugins();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for plugin in &plugins {
        let info = plugin.info();
        let described = info.interfaces.iter().find_map(|interface| interface.description.clone());
        let described = described.ok_or("the plugin describes nothing")?;
        // A call that is refused for its arguments has a series, too, and breaks nothing.
        for function in described.functions.iter().filter(|function| !function.params.is_empty()).take(METHODS) {
            let _ = runtime.block_on(plugin.call(&function.name, serde_json::json!([])));
        }
    }
    let metrics = host.metrics();
    let mut bytes = 0;
    let (mut times, mut worked) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (begun, before) = (Instant::now(), processor_time());
        bytes = std::hint::black_box(metrics.text()).len();
        times.push(begun.elapsed());
        worked.push(processor_time().saturating_sub(before));
    }
    let (time, worked) = (shown(median(&mut times)), shown(median(&mut worked)));
    println!(
        "scrape of {} plugins × {METHODS} methods: {time}, {worked} of them on the processor (p50 of {ROUNDS}),",
        plugins.len()
    );
    println!("{:.1} MB of text.", bytes as f64 / 1e6);
    Ok(())
}
