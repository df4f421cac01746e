//! `cargo xtask bench reload`: what calls pay for reloads that happen meanwhile, by mechanism.
//!
//! Eight callers call all the time. Quiet times and times with reloads take turns, with as many calls in each, so that a
//! machine whose speed drifts slows both alike; what counts is the ratio of their 99th percentiles. The first number on the
//! command line is how many calls each caller makes with reloads, 100,000 if nothing is said.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fixtures_api::versioned::{MARKER, Mode, Versioned, VersionedBlocking, marker};
use jackfield::{Host, Manifest};
use jackfield_bench::shown;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const CALLERS: u64 = 8;
const RELOADS: u64 = 50;

/// Quiet times, and as many with reloads.
const TURNS: u64 = 10;

/// The fixture `versioned` in each mechanism: its directory, and how many different builds are made of it. What
/// WebAssembly compiles it keeps; the same library twice would be one library.
const FIXTURES: [(&str, u64); 6] = [
    ("versioned", u64::MAX),
    ("versioned-process", 2),
    ("versioned-grpc", 2),
    ("versioned-wasm", 2),
    ("versioned-component", 2),
    ("versioned-wasi", 2),
];

fn main() -> ExitCode {
    // Cargo adds arguments of its own.
    let calls = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(100_000);
    match reload(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/fixtures"), calls) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn reload(fixtures: &Path, calls: u64) -> Result<(), Box<dyn Error>> {
    println!(
        "{:<20} {:>10} {:>10} {:>7} {:>10} {:>10} {:>7} {:>10} {:>10} {:>10}",
        "", "p50 quiet", "p50", "ratio", "p99 quiet", "p99", "ratio", "max quiet", "max", "a reload"
    );
    for (fixture, builds) in FIXTURES {
        let mut plugin = Versions::new(fixtures, fixture, builds)?;
        let (mut quiet, mut busy) = (Vec::new(), Vec::new());
        for turn in 0..=TURNS {
            let of_turn = calls / TURNS;
            let (quiet_times, busy_times) = (plugin.call(of_turn, 0)?, plugin.call(of_turn, RELOADS / TURNS)?);
            // The first turn warms up.
            if turn > 0 {
                quiet.extend(quiet_times);
                busy.extend(busy_times);
            }
        }
        let [quiet, busy] = [quiet, busy].map(Percentiles::of);
        let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
        plugin.reloads.sort_unstable();
        println!(
            "{fixture:<20} {:>10} {:>10} {:>6.2}× {:>10} {:>10} {:>6.2}× {:>10} {:>10} {:>10}",
            shown(quiet.p50),
            shown(busy.p50),
            ratio(busy.p50, quiet.p50),
            shown(quiet.p99),
            shown(busy.p99),
            ratio(busy.p99, quiet.p99),
            shown(quiet.max),
            shown(busy.max),
            shown(plugin.reloads[plugin.reloads.len() / 2]),
        );
    }
    println!(
        "\n{CALLERS} callers, {calls} calls each, {RELOADS} reloads; as many calls without. Every call was answered."
    );
    Ok(())
}

struct Percentiles {
    p50: Duration,
    p99: Duration,
    max: Duration,
}

impl Percentiles {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { p50: times[times.len() / 2], p99: times[times.len() * 99 / 100], max: times[times.len() - 1] }
    }
}

/// A plugin in its directory, of which new versions are made.
struct Versions {
    runtime: Runtime,
    host: Host,
    bytes: Vec<u8>,
    markers: Vec<usize>,
    builds: u64,
    built: u64,
    reloads: Vec<Duration>,
    entry: PathBuf,
    _dir: TempDir,
}

impl Versions {
    fn new(fixtures: &Path, fixture: &str, builds: u64) -> Result<Self, Box<dyn Error>> {
        let built = Manifest::read(&fixtures.join(fixture).join("plugin.toml"))?.entry;
        let dir = tempfile::tempdir()?;
        let inner = dir.path().join("p");
        fs::create_dir(&inner)?;
        fs::copy(fixtures.join(fixture).join("plugin.toml"), inner.join("plugin.toml"))?;
        let entry = inner.join(built.file_name().ok_or("no file")?);
        fs::copy(&built, &entry)?;
        let bytes = fs::read(built)?;
        let markers = (0..bytes.len() - MARKER.len()).filter(|&at| bytes[at..].starts_with(&MARKER)).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let host = Host::builder().plugin_dir(dir.path()).cache_dir(dir.path().join(".cache"));
        let host = runtime.block_on(host.build())?;
        let (built, reloads) = (0, Vec::new());
        Ok(Self { runtime, host, bytes, markers, builds, built, reloads, entry, _dir: dir })
    }

    /// Makes so many calls in each caller, and so many reloads meanwhile, evenly spread. Gives how long each call took.
    fn call(&mut self, calls: u64, reloads: u64) -> Result<Vec<Duration>, Box<dyn Error>> {
        let plugins = self.host.plugins();
        let name = plugins.first().ok_or("the fixture was refused")?.name().to_owned();
        let made = AtomicU64::new(0);
        let clients: Vec<VersionedBlocking> = (0..CALLERS)
            .map(|_| Ok(self.host.get::<dyn Versioned>(&name)?.blocking()))
            .collect::<Result<_, Box<dyn Error>>>()?;
        thread::scope(|scope| {
            let made = &made;
            let callers: Vec<_> =
                clients.into_iter().map(|client| scope.spawn(move || caller(&client, calls, made))).collect();
            for reload in 1..=reloads {
                while made.load(Ordering::Relaxed) < calls * CALLERS * reload / (reloads + 1) {
                    if callers.iter().any(|caller| caller.is_finished()) {
                        break;
                    }
                    thread::sleep(Duration::from_micros(100));
                }
                self.reload(&name)?;
            }
            let mut times = Vec::new();
            for caller in callers {
                times.extend(caller.join().map_err(|_| "a caller panicked")??);
            }
            Ok(times)
        })
    }

    fn reload(&mut self, name: &str) -> Result<(), Box<dyn Error>> {
        self.built += 1;
        let mut bytes = self.bytes.clone();
        let marker = marker(&(self.built % self.builds).to_string(), Mode::Ok);
        self.markers.iter().for_each(|&at| bytes[at..at + marker.len()].copy_from_slice(&marker));
        let beside = self.entry.with_added_extension("new");
        fs::write(&beside, bytes)?;
        fs::set_permissions(&beside, fs::metadata(&self.entry)?.permissions())?;
        fs::rename(&beside, &self.entry)?;
        let began = Instant::now();
        self.runtime.block_on(self.host.reload(name))?;
        self.reloads.push(began.elapsed());
        Ok(())
    }
}

type Times = Result<Vec<Duration>, String>;

fn caller(client: &VersionedBlocking, calls: u64, made: &AtomicU64) -> Times {
    let mut times = Vec::with_capacity(calls as usize);
    for _ in 0..calls {
        let began = Instant::now();
        let answer = client.version();
        times.push(began.elapsed());
        answer.map_err(|error| error.to_string())?;
        made.fetch_add(1, Ordering::Relaxed);
    }
    Ok(times)
}
