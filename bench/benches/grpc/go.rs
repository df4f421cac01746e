//! go-plugin's own host, which measures itself: the program `matrix-host` of the fixtures.

use std::error::Error;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::plugins::fixtures;
use crate::{ALONE, IN_FLIGHT};

/// A way in which it calls the plugin in Go.
pub(super) struct GoHost {
    pub(super) name: &'static str,
    tls: bool,
    medians: Vec<Duration>,
    p99s: Vec<Duration>,
    rates: Vec<f64>,
}

impl GoHost {
    pub(super) fn new(name: &'static str, tls: bool) -> Self {
        Self { name, tls, medians: Vec::new(), p99s: Vec::new(), rates: Vec::new() }
    }

    pub(super) fn round(&mut self) -> Result<(), Box<dyn Error>> {
        // It makes a quarter of them one after the other.
        let calls = (4 * ALONE).to_string();
        let told = run("bench", self.tls, &["-calls", &calls, "-runs", "1"])?;
        for unary in told["unary"].as_array().into_iter().flatten() {
            match unary["in_flight"].as_u64() {
                Some(1) => {
                    self.medians.push(time(&unary["p50_us"])?);
                    self.p99s.push(time(&unary["p99_us"])?);
                }
                Some(at_once) if at_once == IN_FLIGHT as u64 => {
                    self.rates.push(unary["calls_per_s"].as_f64().ok_or("no rate")?);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// p50 and p99 of a call alone, and calls in a second.
    pub(super) fn figures(&mut self) -> (Duration, Duration, f64) {
        self.rates.sort_by(f64::total_cmp);
        let median = jackfield_bench::median(&mut self.medians);
        (median, jackfield_bench::median(&mut self.p99s), self.rates[self.rates.len() / 2])
    }
}

/// Median of the time from nothing to the first answer.
pub(super) fn start(tls: bool, times: usize) -> Result<Duration, Box<dyn Error>> {
    let told = run("launch", tls, &["-runs", &times.to_string()])?;
    time(&told["ready"]["p50_us"])
}

fn run(scenario: &str, tls: bool, more: &[&str]) -> Result<Value, Box<dyn Error>> {
    let mut host = Command::new(fixtures().join("grpc/matrix-host"));
    host.arg("-plugin").arg(fixtures().join("matrix-go/matrix-go")).args(["-scenario", scenario]).args(more);
    if tls {
        host.arg("-tls");
    }
    let output = host.output()?;
    if !output.status.success() {
        return Err(format!("matrix-host: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().find(|line| line.starts_with('{')).ok_or("matrix-host printed no figures")?;
    Ok(serde_json::from_str(line)?)
}

fn time(micros: &Value) -> Result<Duration, Box<dyn Error>> {
    Ok(Duration::from_secs_f64(micros.as_f64().ok_or("no time")? / 1e6))
}
