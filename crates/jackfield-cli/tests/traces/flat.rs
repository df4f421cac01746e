//! A collector that is gone or hangs costs spans and nothing else: the host's memory and its calls' time stay flat.

use std::net::{SocketAddr, TcpListener};

use super::service::{Place, Service, until};
use super::{page, variables};

/// Calls of a batch. Each has two spans: the plugin sends its own home.
const BATCH: usize = 3_000;

/// Most by which a host may grow over [`BATCHES`]: what an allocator keeps. Were the spans kept, it would be more than
/// twice that, as `a_host_that_keeps_its_spans_grows` has it.
const GROWTH_BYTES_MAX: u64 = 2 << 20;

const BATCHES: usize = 6;

#[test]
fn memory_and_time_stay_flat_with_a_collector_that_is_gone_or_hangs() {
    let [gone, hanging] = deaf();
    let quiet_place = Place::new();
    quiet_place.link("english");
    // The same without spans, for comparison.
    let quiet = Service::start(&quiet_place);
    storm(&quiet, BATCH);
    for (address, wire) in [(gone, "grpc"), (gone, "http/protobuf"), (hanging, "grpc"), (hanging, "http/protobuf")] {
        let place = Place::new();
        let mut service = unheard(&place, address, wire, "64");
        // Until everything that is made once is made, and the queue is full.
        storm(&service, BATCH);
        let before = resident(&service);
        let (mut with, mut without) = ([f64::INFINITY; 2], [f64::INFINITY; 2]);
        for _ in 0..BATCHES {
            // In turn, and the quickest of each: what else the machine does is in neither.
            with = least(with, storm(&service, BATCH));
            without = least(without, storm(&quiet, BATCH));
        }
        let grown = resident(&service).saturating_sub(before);
        eprintln!("{wire} at {address}: {grown} bytes more, {with:?} (seconds, median) and without spans {without:?}");
        assert!(grown < GROWTH_BYTES_MAX, "{wire} at {address}: {grown} bytes more");
        // Waiting for an export would make it three seconds of one.
        for (with, without) in with.into_iter().zip(without) {
            assert!(with < 4.0 * without, "{wire} at {address}: {with}, and without spans {without}");
        }
        // Whatever does not wait, in the queue or in the batch that is under way, was dropped and counted.
        let spans = (2 * BATCH * (BATCHES + 1)) as f64;
        until("all spans are counted", || dropped(&place).0 + dropped(&place).1 >= spans - 80.0);
        let (queue, export) = dropped(&place);
        // With those of its start.
        assert!(queue + export <= spans + 10.0, "{queue} and {export} of {spans}");
        until("what was not taken is counted as that", || dropped(&place).1 > 0.0);
        service.signal("TERM");
        assert_eq!(service.wait(), 0);
    }
}

/// The test of the test above: it would see spans that pile up.
#[test]
fn a_host_that_keeps_its_spans_grows() {
    let [_, hanging] = deaf();
    let place = Place::new();
    let service = unheard(&place, hanging, "http/protobuf", "1000000");
    storm(&service, BATCH);
    let before = resident(&service);
    storm(&service, BATCH * BATCHES);
    let grown = resident(&service).saturating_sub(before);
    eprintln!("{grown} bytes more");
    assert!(grown > 2 * GROWTH_BYTES_MAX, "{grown} bytes more");
}

/// Spans of `english` that were not exported: since too many waited, and since nobody took them.
fn dropped(place: &Place) -> (f64, f64) {
    let page = page(place);
    let of = |reason: &str| {
        let series = format!("plugin_telemetry_dropped_total{{plugin=\"english\",reason=\"{reason}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&series)).unwrap_or_else(|| panic!("{page}"));
        line.parse::<f64>().expect("a number")
    };
    (of("queue"), of("export"))
}

/// A host whose queue of spans has this room, and whose collector takes none.
fn unheard<'a>(place: &'a Place, address: SocketAddr, wire: &str, queue: &str) -> Service<'a> {
    place.link("english");
    let more = [
        ("OTEL_BSP_MAX_QUEUE_SIZE", queue.to_owned()),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16".to_owned()),
        ("OTEL_BSP_EXPORT_TIMEOUT", "3000".to_owned()),
    ];
    Service::start_in(place, &[variables(&format!("http://{address}"), wire), more.to_vec()].concat())
}

/// Calls `english` so often, and gives the seconds that it took and the median of a call. All are answered.
fn storm(service: &Service<'_>, calls: usize) -> [f64; 2] {
    let run = service.run(&["call", "english", "greet", r#"{"name":"Ada"}"#, "--repeat", &calls.to_string(), "--json"]);
    let figures = run.json();
    assert_eq!(figures["calls"], calls);
    ["seconds", "p50_us"].map(|name| figures[name].as_f64().expect("a number"))
}

/// Memory that a host has in use, in bytes.
fn resident(service: &Service<'_>) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.process())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// An address at which nobody listens, and one at which somebody takes connections and never answers.
fn deaf() -> [SocketAddr; 2] {
    let bind = || TcpListener::bind("127.0.0.1:0").expect("a port");
    let gone = bind().local_addr().expect("it has one");
    let hanging = bind();
    let hanging_at = hanging.local_addr().expect("it has one");
    std::thread::spawn(move || hanging.incoming().flatten().collect::<Vec<_>>());
    [gone, hanging_at]
}

fn least(one: [f64; 2], other: [f64; 2]) -> [f64; 2] {
    [one[0].min(other[0]), one[1].min(other[1])]
}
