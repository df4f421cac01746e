//! A real Prometheus scrapes a service under load, and says of it what the load counted itself.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::connection::Connection;
use crate::http;
use crate::service::{Ended, Place, Service};

const CALLERS: usize = 8;

/// Longest wait for the minute that the queries look back over, with what goes before.
const PATIENCE: Duration = Duration::from_secs(150);

/// What the plugin takes for most calls, and for one in twenty.
const QUICK_MS: u64 = 100;
const SLOW_MS: u64 = 1_000;

const CALLS: &str = r#"plugin_calls_total{plugin="misbehave-process",method="misbehave.hang",status="ok"}"#;
const TIMES: &str = r#"plugin_call_duration_seconds{plugin="misbehave-process",method="misbehave.hang"}"#;

/// A call that was answered.
struct Call {
    /// Seconds since 1970.
    at: f64,
    took: Duration,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs_f64()
}

/// A Prometheus that scrapes `target`, and a place for its data.
struct Prometheus {
    _ended: Ended,
    address: String,
}

impl Prometheus {
    fn start(place: &Place, programs: &std::path::Path, target: &str, token: &str) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        place.write("scrape-token", token);
        let configuration = format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: jackfield\n    \
             authorization: {{ credentials_file: scrape-token }}\n    static_configs: [{{ targets: ['{target}'] }}]\n"
        );
        place.write("prometheus.yml", &configuration);
        let mut command = Command::new(programs.join("prometheus"));
        command.arg("--config.file=prometheus.yml").arg("--storage.tsdb.path=data");
        command.arg("--enable-feature=native-histograms").arg(format!("--web.listen-address={address}"));
        command.current_dir(place.path("")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { _ended: Ended(command.spawn().expect("it starts")), address }
    }

    /// The result of a query, at a moment. None as long as it does not answer.
    fn query(&self, query: &str, at: f64) -> Option<Vec<Value>> {
        let query: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let mut stream = std::net::TcpStream::connect(&self.address).ok()?;
        write!(stream, "GET /api/v1/query?time={at}&query={query} HTTP/1.0\r\n\r\n").ok()?;
        let answer = http::answer(stream);
        let body: Value = serde_json::from_str(&answer.body).ok()?;
        assert_eq!(answer.status, 200, "{body}");
        body["data"]["result"].as_array().cloned()
    }

    /// The one number that a query gives.
    #[track_caller]
    fn number(&self, query: &str, at: f64) -> f64 {
        let result = self.query(query, at).expect("an answer");
        let number = match &*result {
            [one] => one["value"][1].as_str().and_then(|number| number.parse().ok()),
            _ => None,
        };
        number.unwrap_or_else(|| panic!("{query}: {result:?}"))
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// Calls until it is over.
fn load(place: &Place, number: usize, calls: &Mutex<Vec<Call>>, over: &AtomicBool) {
    let mut host = Connection::to(&place.path("host.sock"));
    for round in number.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let ms = if round % 20 == 0 { SLOW_MS } else { QUICK_MS };
        let begun = Instant::now();
        let (status, body) = host.call("misbehave-process", "hang", json!({ "ms": ms }), "30s");
        let call = Call { at: now(), took: begun.elapsed() };
        assert_eq!(status, 200, "{body}");
        calls.lock().expect("nobody panicked").push(call);
    }
}

#[track_caller]
fn within_a_percent(what: &str, prometheus: f64, load: f64) {
    assert!((prometheus / load - 1.0).abs() <= 0.01, "{what}: Prometheus says {prometheus}, the load {load}");
}

#[test]
fn prometheus_says_what_the_load_counted() {
    let Some(programs) = std::env::var_os("JACKFIELD_PROMETHEUS").map(std::path::PathBuf::from) else {
        return crate::service::skip("what Prometheus says of a service under load: prometheus is not at hand");
    };
    let place = Place::new();
    place.fixture("misbehave-process");
    let token = "a-token-for-the-test-alone-0123456789";
    place.write("token", token);
    place.only_ours("token");
    let target = format!("127.0.0.1:{}", free_port());
    let configuration = format!(
        "listen = ['unix:host.sock', 'tcp:{target}']\ntoken_file = 'token'\n[metrics]\nnative_histograms = true\n"
    );
    let service = Service::start_with(&place, &configuration, &[]);
    let prometheus = Prometheus::start(&place, &programs, &target, token);

    let (calls, over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for number in 0..CALLERS {
            let (place, calls, over) = (&place, &calls, &over);
            scope.spawn(move || load(place, number, calls, over));
        }
        // Whatever goes wrong, the load ends.
        let _over = SetAtEnd(&over);
        let reload = service.run(&["reload", "misbehave-process"]);
        assert_eq!(reload.code, 0, "{}", reload.stderr);
        assert_eq!(Connection::to(&place.path("host.sock")).get("/v1/health").0, 200);
        let begun = Instant::now();
        // A minute of scrapes, the first of them with every caller at work.
        let scraped = || {
            let result = prometheus.query(&format!("count_over_time({CALLS}[1m])"), now());
            result.and_then(|result| result.first()?["value"][1].as_str()?.parse().ok()).unwrap_or(0.0)
        };
        while scraped() < 60.0 {
            assert!(begun.elapsed() < PATIENCE, "no minute of scrapes: {} of them", scraped());
            std::thread::sleep(Duration::from_millis(500));
        }
        let at = now();
        let samples = prometheus.query(&format!("{CALLS}[1m]"), at).expect("an answer");
        let samples = samples[0]["values"].as_array().expect("samples");
        let [first, last] =
            [samples.first(), samples.last()].map(|sample| sample.expect("some")[0].as_f64().expect("a time"));

        let calls = calls.lock().expect("nobody panicked");
        let mut took: Vec<_> = calls
            .iter()
            .filter(|call| call.at > first && call.at <= last)
            .map(|call| call.took.as_secs_f64())
            .collect();
        took.sort_by(f64::total_cmp);
        let rate = took.len() as f64 / (last - first);
        within_a_percent("rate", prometheus.number(&format!("rate({CALLS}[1m])"), at), rate);
        let p99 = took[(took.len() * 99).div_ceil(100) - 1];
        let quantile = format!("histogram_quantile(0.99, rate({TIMES}[1m]))");
        within_a_percent("p99", prometheus.number(&quantile, at), p99);
        assert!(p99 > 0.9, "{p99} s: one call in twenty takes a second");
        // Over the reload nothing fell.
        let fallen = format!("resets({CALLS}[2m])");
        assert_eq!(prometheus.number(&fallen, at), 0.0);
        assert_eq!(prometheus.number("plugin_reloads_total{result=\"ok\"}", at), 1.0);
    });
}

struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
