//! Measurements as a collector gets them: those of the page.

use std::collections::{BTreeMap, BTreeSet};

use super::collector::Collector;
use super::service::{Place, Service, until};
use super::{page, variables};

/// Labels of a series, and its number.
type Points = Vec<(BTreeMap<String, String>, f64)>;

#[test]
fn what_a_collector_is_told_is_what_the_page_says() {
    for (collector, wire) in [(Collector::grpc(), "grpc"), (Collector::http(), "http/protobuf")] {
        let place = Place::new();
        ["english", "english-process"].into_iter().for_each(|name| place.link(name));
        let more = [
            ("OTEL_METRICS_EXPORTER", "otlp".to_owned()),
            ("OTEL_TRACES_EXPORTER", "none".to_owned()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "100".to_owned()),
        ];
        let mut service = Service::start_in(&place, &[variables(&collector.endpoint(), wire), more.to_vec()].concat());
        for (plugin, name, calls) in [("english", "Ada", 7), ("english-process", "Ada", 5), ("english", "", 1)] {
            let arguments = format!(r#"{{"name":"{name}"}}"#);
            for _ in 0..calls {
                service.run(&["call", plugin, "greet", &arguments]);
            }
        }
        let ended = |labels: &[(&str, &str)]| {
            let measured = collector.measured();
            let points = measured.get("plugin_calls").map_or(&[][..], |calls| &calls.points);
            points.iter().find(|(own, _)| same(own, labels)).map(|(_, number)| *number)
        };
        let of = |plugin, status| ended(&[("plugin", plugin), ("method", "greeter.greet"), ("status", status)]);
        until("the calls have come", || {
            (of("english", "ok"), of("english-process", "ok"), of("english", "error"))
                == (Some(7.0), Some(5.0), Some(1.0))
        });
        let page = series(&page(&place));
        let measured = collector.measured();
        let names = page.keys();
        // Buckets are what OpenTelemetry has no instrument for.
        let wanted: BTreeSet<&str> = names.map(|name| &**name).filter(|name| !name.ends_with("_bucket")).collect();
        let told = measured.iter().filter(|(_, one)| !one.points.is_empty()).map(|(name, _)| name);
        assert_eq!(told.map(|name| &**name).collect::<BTreeSet<_>>(), wanted.iter().map(|name| short(name)).collect());
        for name in wanted {
            let one = &measured[short(name)];
            assert_eq!(one.service, "jackfield");
            let grows = ["_total", "_count", "_sum"].iter().any(|end| name.ends_with(end));
            assert_eq!(one.kind, if grows { "sum" } else { "gauge" }, "{name}");
            let unit = [("_seconds", "s"), ("_seconds_sum", "s"), ("_bytes", "By")];
            let unit = unit.iter().find(|(end, _)| short(name).ends_with(end)).map_or("", |(_, unit)| unit);
            assert_eq!(one.unit, unit, "{name}");
            assert_eq!(sorted(&one.points, moves(name)), sorted(&page[name], moves(name)), "{name}");
        }
        service.signal("TERM");
        assert_eq!(service.wait(), 0);
        // The last that it says: there is no plugin that takes calls, and its counts are whole.
        assert!(collector.measured()["plugin_up"].points.iter().all(|(_, up)| *up == 0.0));
        assert_eq!(of("english", "ok"), Some(7.0));
    }
}

#[test]
fn measurements_that_nobody_takes_are_said_once_and_cost_no_call() {
    let place = Place::new();
    place.link("english");
    let more = [
        ("OTEL_METRICS_EXPORTER", "otlp".to_owned()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "50".to_owned()),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "200".to_owned()),
    ];
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it has one");
    let mut service =
        Service::start_in(&place, &[variables(&format!("http://{gone}"), "http/protobuf"), more.to_vec()].concat());
    service.line_with("measurements cannot be exported");
    let run = service.run(&["call", "english", "greet", r#"{"name":"Ada"}"#, "--repeat", "500", "--json"]);
    assert_eq!(run.json()["calls"], 500);
    service.signal("TERM");
    assert_eq!(service.wait(), 0);
}

/// What may have moved between the export and the page: only that there is one is compared.
fn moves(name: &str) -> bool {
    name.starts_with("plugin_process_")
}

fn sorted(points: &Points, moving: bool) -> Vec<String> {
    let text = |(labels, number): &(BTreeMap<String, String>, f64)| match moving {
        true => format!("{labels:?}"),
        false => format!("{labels:?} {number}"),
    };
    let mut sorted: Vec<_> = points.iter().map(text).collect();
    sorted.sort();
    sorted
}

/// The name of an instrument.
fn short(series: &str) -> &str {
    series.strip_suffix("_total").unwrap_or(series)
}

fn same(own: &BTreeMap<String, String>, labels: &[(&str, &str)]) -> bool {
    own.len() == labels.len() && labels.iter().all(|(name, value)| own.get(*name).is_some_and(|own| own == value))
}

/// The series of a page, by name.
fn series(page: &str) -> BTreeMap<String, Points> {
    let mut found: BTreeMap<_, Points> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        // No value of this test has a brace or a quotation mark in it.
        let (name, rest) = line.split_once('{').expect("labels");
        let (labels, number) = rest.split_once("} ").expect("a number");
        let labels = labels.split("\",").map(|label| {
            let (name, value) = label.split_once("=\"").expect("a label");
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        });
        let number = number.split(' ').next().expect("a number").parse().expect("a number");
        found.entry(name.to_owned()).or_default().push((labels.collect(), number));
    }
    found
}
