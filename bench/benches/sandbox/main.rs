//! `cargo xtask bench sandbox`: what limits and sandbox cost, at the start of a plugin and in each call.
//!
//! A start is from the spawn to the answer to `hello`; the peer is the same program spawned as it is. Then the same
//! in a host that has 1 GiB of memory, where whoever forks pays for each page of it.

use std::error::Error;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use greeter_api::Greeter;
use jackfield::protocol::runner::{ORDERS_VERSION, Orders};
use jackfield::{Host, Profile};
use jackfield_bench::{ROUNDS, Row, shown, take_turns};

fn main() -> ExitCode {
    match sandbox(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn sandbox(target: &Path) -> Result<(), Box<dyn Error>> {
    let target = target.canonicalize()?;
    let (runner, plugin) = (target.join("release/jackfield-runner"), target.join("plugins/english-process/english"));
    println!("{:<58} {:>10} {:>10} {:>10}", "start, until `hello` is answered", "p50", "more", "ratio");
    show(&mut starts(&runner, &plugin, ""));
    // Written, so that there really is a page behind each address.
    let ballast = vec![1_u8; 1 << 30];
    show(&mut starts(&runner, &plugin, " in a host of 1 GiB"));
    drop(std::hint::black_box(ballast));

    println!("\n{:<58} {:>10} {:>10} {:>10}", "greet(\"Ada\")", "p50", "more", "ratio");
    let mut rows = Vec::new();
    for (name, entry, lines) in [
        ("process", "english", ""),
        ("process, profile `none`, 64 MiB", "english", "[limits]\nmemory = '64MiB'"),
        ("process, profile `default`", "english", "[sandbox]\nprofile = 'default'"),
        ("process, profile `strict`", "english", "[sandbox]\nprofile = 'strict'"),
        ("native, isolated", "libenglish.so", "isolation = 'process'"),
        (
            "native, isolated, profile `default`",
            "libenglish.so",
            "isolation = 'process'\n[sandbox]\nprofile = 'default'",
        ),
    ] {
        rows.push(call_row(name, &target, entry, lines)?);
    }
    show(&mut rows);
    println!("\nmore, ratio: than the first row of its table. {ROUNDS} rounds in turn.");
    Ok(())
}

/// Rows that take turns, beside the first of them.
fn show(rows: &mut [Row]) {
    take_turns(rows);
    let mut first = None;
    for row in rows {
        let time = row.median();
        let base = *first.get_or_insert(time);
        let more = shown(time.saturating_sub(base));
        println!("{:<58} {:>10} {more:>10} {:>9.2}×", row.name, shown(time), ratio(time, base));
    }
    println!();
}

fn ratio(time: Duration, base: Duration) -> f64 {
    time.as_secs_f64() / base.as_secs_f64()
}

fn starts(runner: &Path, plugin: &Path, of: &str) -> Vec<Row> {
    let through = |orders: Orders| {
        let (runner, plugin) = (runner.to_owned(), plugin.to_owned());
        let orders = serde_json::to_string(&orders).expect("JSON");
        move || {
            let mut command = Command::new(&runner);
            command.args(["exec", &orders, "--"]).arg(&plugin);
            command
        }
    };
    let orders = Orders { version: ORDERS_VERSION, ..Orders::default() };
    let home = plugin.parent().map(PathBuf::from).into_iter().collect::<Vec<_>>();
    let shut_in = |profile| Orders { profile, read: home.clone(), ..orders.clone() };
    let bare = plugin.to_owned();
    let forked = plugin.to_owned();
    vec![
        start_row(format!("spawned as it is{of}"), move || Command::new(&bare)),
        start_row(format!("by the runner, without orders{of}"), through(orders.clone())),
        start_row(format!("by the runner, profile `default`{of}"), through(shut_in(Profile::Default))),
        start_row(format!("by the runner, profile `strict`{of}"), through(shut_in(Profile::Strict))),
        start_row(format!("forked, as whoever prepares a child himself must{of}"), move || {
            let mut command = Command::new(&forked);
            // A user, even the same one, is nothing that `posix_spawn` can set: std forks.
            std::os::unix::process::CommandExt::uid(&mut command, own_user());
            command
        }),
    ]
}

fn own_user() -> u32 {
    std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").expect("on Linux"))
}

fn start_row(name: String, command: impl Fn() -> Command + 'static) -> Row {
    Row::new(name, 10, move || {
        let mut command = command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it is spawned");
        let hello = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"jackfield/hello\",\"params\":{\"protocol\":\"1.0\",\"host\":\"bench\"}}\n";
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(hello.as_bytes()).expect("written");
        let mut answer = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut answer).expect("read");
        assert!(answer.contains("english"), "{answer}");
        drop(stdin);
        child.wait().expect("it ends");
    })
}

fn call_row(name: &'static str, target: &Path, entry: &str, lines: &str) -> Result<Row, Box<dyn Error>> {
    let directory = Box::leak(Box::new(tempfile::tempdir()?));
    let home = directory.path().join("english");
    fs::create_dir(&home)?;
    let built = if entry.ends_with(".so") { "plugins/english" } else { "plugins/english-process" };
    fs::copy(target.join(built).join(entry), home.join(entry))?;
    fs::write(home.join("plugin.toml"), format!("name = 'english'\nentry = {entry:?}\n{lines}\n"))?;
    let builder = Host::builder().plugin_dir(directory.path()).runner(target.join("release/jackfield-runner"));
    let host: &'static Host = Box::leak(Box::new(builder.build_blocking()?));
    if let Some(refused) = host.refused().first() {
        return Err(refused.to_string().into());
    }
    let greeter = host.get::<dyn Greeter>("english")?.blocking();
    Ok(Row::new(name, 1_000, move || {
        let greeting = greeter.greet("Ada".to_owned());
        assert!(std::hint::black_box(greeting).is_ok());
    }))
}
