use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Names of the series of a family, as Prometheus has them.
fn exported() -> BTreeMap<String, &'static Family> {
    let names = |family: &'static Family| {
        let ends: &[&str] = match family.kind {
            Kind::Counter => &["_total"],
            Kind::Gauge => &[""],
            Kind::Histogram => &["_bucket", "_sum", "_count"],
        };
        ends.iter().map(move |end| (format!("{}{end}", family.name), family))
    };
    FAMILIES.iter().flat_map(|family| names(family)).collect()
}

/// What in a text looks like the name of a series.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("plugin_")).map(str::to_owned).collect()
}

/// Every query of the dashboard.
fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("expr", Value::String(query)) => found.push(query.clone()),
                    ("query", Value::String(query)) if query.contains("plugin_") => {
                        let series = query.trim_start_matches("label_values(").split(", ").next().unwrap_or_default();
                        found.push(series.to_owned());
                    }
                    (_, other) => queries(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| queries(item, found)),
        _ => {}
    }
}

fn dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("deploy/dashboard.json")).expect("JSON");
    let mut found = Vec::new();
    queries(&dashboard, &mut found);
    found
}

#[test]
fn names_follow_the_conventions_of_prometheus() {
    let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(names.len(), FAMILIES.len());
    for Family { name, help, unit, .. } in FAMILIES {
        assert!(name.starts_with("plugin_") && !name.ends_with("_total"), "{name}");
        assert!(help.ends_with('.') && !help.contains('\n'), "{name}");
        assert!(unit.is_none_or(|unit| name.ends_with(unit)), "{name}");
    }
}

#[test]
fn what_alerts_and_the_dashboard_name_is_exported() {
    let exported = exported();
    for (what, text) in [("alerts.yml", read("deploy/alerts.yml")), ("dashboard.json", dashboard().join("\n"))] {
        let unknown: Vec<_> = named(&text).into_iter().filter(|name| !exported.contains_key(name)).collect();
        assert!(unknown.is_empty(), "{what} names what is not exported: {unknown:?}");
    }
    // And the dashboard shows all that there is.
    let shown = named(&dashboard().join("\n"));
    let hidden: Vec<_> =
        FAMILIES.iter().filter(|family| !shown.iter().any(|name| name.starts_with(family.name))).collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

#[test]
fn every_series_is_explained() {
    let page = read("docs/observability.md");
    let explained: BTreeSet<_> = named(&page);
    let exported = exported();
    let known = |name: &String| exported.contains_key(name) || FAMILIES.iter().any(|family| family.name == *name);
    let wrong: Vec<_> = explained.iter().filter(|name| !known(name)).collect();
    assert!(wrong.is_empty(), "docs/observability.md names what is not exported: {wrong:?}");
    for Family { name, kind, .. } in FAMILIES {
        let end = if *kind == Kind::Counter { "_total" } else { "" };
        assert!(page.contains(&format!("| `{name}{end}` |")), "docs/observability.md does not explain `{name}{end}`");
    }
}

/// Runs promtool, if the machine has one.
fn promtool(arguments: &[&str], file: &Path) {
    let programs = std::env::var_os("JACKFIELD_PROMETHEUS").map(PathBuf::from);
    let program = programs.map_or_else(|| "promtool".into(), |programs| programs.join("promtool"));
    let output = match Command::new(&program).args(arguments).arg(file).output() {
        Ok(output) => output,
        Err(error) => {
            // `cargo xtask test` fetches one, and fails where it must not be missing.
            assert!(std::env::var_os("JACKFIELD_PROMETHEUS").is_none(), "{}: {error}", program.display());
            return;
        }
    };
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success(), "{said}");
}

#[test]
fn prometheus_takes_the_configuration_the_alerts_and_the_queries_of_the_dashboard() {
    // With the alerts that it names.
    promtool(&["check", "config"], &root().join("deploy/prometheus.yml"));
    let mut rules = "groups:\n- name: dashboard\n  rules:\n".to_owned();
    for (number, query) in dashboard().iter().enumerate() {
        let query = query.replace("$__rate_interval", "5m");
        rules += &format!("  - {{ record: \"query:{number}\", expr: {} }}\n", Value::from(query));
    }
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("rules.yml");
    std::fs::write(&file, rules).expect("a file");
    promtool(&["check", "rules"], &file);
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_has_memory_and_has_used_time() {
    let usage = usage(std::process::id()).expect("ours");
    assert!(usage.memory_bytes > 1 << 20 && usage.cpu_seconds < 3600.0);
    assert!(super::usage(u32::MAX).is_none());
}
