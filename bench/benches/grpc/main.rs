//! `cargo xtask bench grpc`: what a call over gRPC costs, beside plain tonic and beside go-plugin itself.
//!
//! The work is an echo of 16 bytes. Rows take turns; the hosts of go-plugin measure themselves, in turns with
//! the others. Client and server are two processes.

mod go;
mod plain;
mod plugins;

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use jackfield::{Client, Host};
use jackfield_bench::shown;
use tokio::task::JoinSet;

use fixtures_api::zoo::Zoo;
use go::GoHost;
use matrix::pb::Blob;
use matrix::pb::matrix_client::MatrixClient;
use plugins::Plugins;

/// Rounds of each row; one more, before them, warms up.
const ROUNDS: usize = 9;
/// Calls of a round, one after the other.
const ALONE: usize = 1_000;
/// Calls of a round that overlap, and how many at once.
const TOGETHER: usize = 6_400;
const IN_FLIGHT: usize = 64;
/// Starts of each kind.
const STARTS: usize = 21;

fn main() -> ExitCode {
    // This program again, as the server that the first row calls.
    if let Some(socket) = std::env::var_os(plain::SOCKET) {
        return plain::serve(socket.as_ref());
    }
    match measure_both() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// On a runtime of one thread and of two: which is quicker depends on what else there is to do.
fn measure_both() -> Result<(), Box<dyn Error>> {
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    one.block_on(measure("a runtime of one thread", plain::ONE_THREAD))?;
    let two = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let task = two.spawn(async {
        let measured = measure("a runtime of two threads, the caller is a task of it", plain::TWO_THREADS).await;
        measured.map_err(|error| error.to_string())
    });
    two.block_on(task)??;
    two.block_on(async {
        measure("a runtime of two threads, the caller is a third", plain::TWO_THREADS).await?;
        starts(&Plugins::new()?).await
    })
}

type Call = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A way to make the call.
struct Row {
    name: &'static str,
    call: Call,
    alone: Vec<Duration>,
    /// Medians of the rounds.
    medians: Vec<Duration>,
    /// Calls in a second, of the rounds.
    rates: Vec<f64>,
}

impl Row {
    fn new<F: Future<Output = ()> + Send + 'static>(
        name: &'static str,
        call: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        let call: Call = Box::new(move || Box::pin(call()));
        Self { name, call, alone: Vec::new(), medians: Vec::new(), rates: Vec::new() }
    }

    async fn round(&mut self) {
        let mut times = Vec::with_capacity(ALONE);
        for _ in 0..ALONE {
            let begun = Instant::now();
            (self.call)().await;
            times.push(begun.elapsed());
        }
        self.alone.extend(&times);
        self.medians.push(jackfield_bench::median(&mut times));
        let begun = Instant::now();
        let mut under_way = JoinSet::new();
        for _ in 0..TOGETHER {
            if under_way.len() == IN_FLIGHT {
                under_way.join_next().await;
            }
            under_way.spawn((self.call)());
        }
        under_way.join_all().await;
        self.rates.push(TOGETHER as f64 / begun.elapsed().as_secs_f64());
    }

    fn forget(&mut self) {
        self.alone.clear();
        self.medians.clear();
        self.rates.clear();
    }
}

/// `threads`: of tonic's own server. Plugins have as many as their SDK gives them.
async fn measure(host_has: &str, threads: &str) -> Result<(), Box<dyn Error>> {
    let plugins = Plugins::new()?;
    let (_server, plain) = plain::start(plugins.path(), threads).await?;
    let host = plugins.host().await?;
    let mut rows = vec![Row::new("plain tonic, unary", move || {
        let mut plain = plain.clone();
        async move { echo(&mut plain).await }
    })];
    for (name, plugin) in [
        ("Rust host, Rust plugin, unary", "matrix-rust"),
        ("Rust host, Rust plugin, unary, mutual TLS", "matrix-rust-tls"),
        ("Rust host, Go plugin, unary", "matrix-go"),
        ("Rust host, Go plugin, unary, mutual TLS", "matrix-go-tls"),
    ] {
        let connection = host.plugin(plugin)?.connection().ok_or("no connection")?;
        let client = MatrixClient::new(connection.channel);
        rows.push(Row::new(name, move || {
            let mut client = client.clone();
            async move { echo(&mut client).await }
        }));
    }
    for (name, plugin) in [
        ("typed client, Rust plugin, unary", "zoo-unary"),
        ("typed client, Rust plugin, one stream", "zoo"),
        ("typed client, Rust plugin, one stream, mutual TLS", "zoo-tls"),
    ] {
        let zoo: &'static Client<dyn Zoo> = Box::leak(Box::new(host.get(plugin)?));
        rows.push(Row::new(name, move || async {
            assert_eq!(zoo.bytes(data()).await.map(|data| data.len()), Ok(16));
        }));
    }
    let mut go =
        [GoHost::new("Go host, Go plugin, unary", false), GoHost::new("Go host, Go plugin, unary, mutual TLS", true)];
    for round in 0..=ROUNDS {
        for row in &mut rows {
            row.round().await;
            if round == 0 {
                row.forget();
            }
        }
        // They start a plugin each time, so fewer of their rounds do.
        if round % 3 == 1 {
            go.iter_mut().try_for_each(GoHost::round)?;
        }
    }
    println!("The host has {host_has}, and so has tonic's own server.");
    show(rows, &mut go);
    host.stop().await;
    Ok(())
}

fn show(mut rows: Vec<Row>, go: &mut [GoHost]) {
    let (at_once, rate) = ("1 in flight: p50", format!("{IN_FLIGHT} in flight"));
    println!("{:<52} {at_once:>16} {:>8} {:>10} {rate:>18}", "echo of 16 B", "ratio", "p99");
    let base = jackfield_bench::median(&mut rows[0].medians);
    let line = |name: &str, median: Duration, p99: Duration, rate: f64| {
        let ratio = median.as_secs_f64() / base.as_secs_f64();
        let (median, p99) = (shown(median), shown(p99));
        println!("{name:<52} {median:>16} {ratio:>7.2}× {p99:>10} {rate:>12.0} calls/s");
    };
    for row in &mut rows {
        let median = jackfield_bench::median(&mut row.medians);
        row.alone.sort_unstable();
        let p99 = row.alone[row.alone.len() * 99 / 100];
        row.rates.sort_by(f64::total_cmp);
        line(row.name, median, p99, row.rates[row.rates.len() / 2]);
    }
    for host in go {
        let (median, p99, rate) = host.figures();
        line(host.name, median, p99, rate);
    }
    println!();
}

/// From nothing to the first answer: the program started, its handshake read, a certificate made where there is
/// one, the connection made, who it is asked. go-plugin's host asks for its health instead.
async fn starts(plugins: &Plugins) -> Result<(), Box<dyn Error>> {
    let kinds = [
        ("Rust host, Rust plugin", "matrix-rust"),
        ("Rust host, Rust plugin, mutual TLS", "matrix-rust-tls"),
        ("Rust host, Go plugin", "matrix-go"),
        ("Rust host, Go plugin, mutual TLS", "matrix-go-tls"),
    ];
    let mut times = kinds.map(|_| Vec::new());
    for _ in 0..STARTS {
        for ((_, plugin), times) in kinds.iter().zip(&mut times) {
            let begun = Instant::now();
            let host = Host::builder().plugin(plugins.path().join(plugin)).build().await?;
            times.push(begun.elapsed());
            host.plugin(plugin)?;
            host.stop().await;
        }
    }
    println!("{:<52} {:>16}", "start, until it has answered", "p50");
    for ((name, _), mut times) in kinds.into_iter().zip(times) {
        println!("{name:<52} {:>16}", shown(jackfield_bench::median(&mut times)));
    }
    for (name, tls) in [("Go host, Go plugin", false), ("Go host, Go plugin, mutual TLS", true)] {
        println!("{name:<52} {:>16}", shown(go::start(tls, STARTS)?));
    }
    Ok(())
}

fn data() -> Vec<u8> {
    vec![7; 16]
}

async fn echo<C>(client: &mut MatrixClient<C>)
where
    C: tonic::client::GrpcService<tonic::body::Body>,
    C::Error: Into<tonic::codegen::StdError>,
    C::ResponseBody: tonic::codegen::Body<Data = tonic::codegen::Bytes> + Send + 'static,
    <C::ResponseBody as tonic::codegen::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    let answer = client.echo(Blob { data: data() }).await.expect("an echo");
    assert_eq!(answer.get_ref().data.len(), 16);
}
