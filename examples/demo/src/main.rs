//! One interface, every mechanism: what `cargo xtask demo` shows, in under a screen.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use greeter_api::{GreetError, Greeter};
use jackfield::{CallError, Client, Host};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let plugins = std::env::args().nth(1).map(PathBuf::from).ok_or("usage: jackfield-demo DIR")?;
    // Beside the good plugins, a directory of what a careless person may leave in one.
    let broken = Broken::make()?;

    let started = Instant::now();
    let host = Host::builder().plugin_dir(&plugins).plugin_dir(broken.path()).build().await?;
    let greeters = host.all::<dyn Greeter>();
    println!(
        "Jackfield: {} plugins loaded in {} ms, all through one `Client<dyn Greeter>`.\n",
        greeters.len(),
        started.elapsed().as_millis()
    );
    println!("  {:<22} {:<9} {:<16} {:>9}", "plugin", "mechanism", "greet(\"Ada\")", "a call");
    for greeter in &greeters {
        let info = Client::plugin(greeter).info();
        let greeting = greeter.greet("Ada".to_owned()).await?;
        println!(
            "  {:<22} {:<9} {:<16} {:>9}",
            info.name,
            info.mechanism.as_str(),
            greeting,
            shown(median(greeter).await?)
        );
    }

    println!("\nA plugin's own error is an error of the function, whatever the plugin is written in:");
    for greeter in &greeters {
        match greeter.greet(String::new()).await {
            Err(CallError::Plugin(GreetError::EmptyName)) => {}
            other => return Err(format!("{}: {other:?}", Client::plugin(greeter).name()).into()),
        }
    }
    println!("  greet(\"\") is `GreetError::EmptyName` from all {}.", greeters.len());

    println!("\nWhat cannot be a plugin is set aside, and says why:");
    for refused in host.refused() {
        let mut reason = refused.to_string();
        if reason.chars().count() > 110 {
            reason = reason.chars().take(109).chain(['…']).collect();
        }
        println!("  {reason}");
    }
    host.stop().await;
    Ok(())
}

/// Median of a number of calls, after some to warm up.
async fn median(greeter: &Client<dyn Greeter>) -> Result<Duration, Box<dyn Error>> {
    let mut times = Vec::with_capacity(200);
    for call in 0..250 {
        let begun = Instant::now();
        greeter.greet("Ada".to_owned()).await?;
        if call >= 50 {
            times.push(begun.elapsed());
        }
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn shown(time: Duration) -> String {
    match time.as_nanos() {
        nanos @ 0..1_000 => format!("{nanos} ns"),
        nanos => {
            format!("{:.1} µs", Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).as_secs_f64() * 1e6)
        }
    }
}

/// A directory of broken plugins, gone at the end.
struct Broken(PathBuf);

impl Broken {
    fn make() -> std::io::Result<Self> {
        let dir = std::env::temp_dir().join(format!("jackfield-demo-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("typo"))?;
        let broken = Self(dir);
        let library = |name: &str| format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
        std::fs::write(broken.path().join(library("notes")), "milk, bread, eggs\n")?;
        std::fs::write(broken.path().join(library("empty")), "")?;
        let manifest = "name = \"typo\"\nmechanism = \"process\"\nentry = \"run.sh\"\nmemroy = \"10MiB\"\n";
        std::fs::write(broken.path().join("typo/plugin.toml"), manifest)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let program = broken.path().join("dies");
            std::fs::write(&program, "#!/bin/sh\necho 'no database at db:5432' >&2\nexit 3\n")?;
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
        }
        Ok(broken)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
