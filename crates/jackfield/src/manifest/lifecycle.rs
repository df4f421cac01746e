//! The `[lifecycle]` and `[reload]` of a manifest: what was written, before it is joined with the host's.

use std::time::Duration;

use super::MechanismKind;
use super::document::{Keys, Located, Named, Table, Value};
use super::error::{Fault, ManifestProblem};
use crate::lifecycle::{BreakerSpec, Canary, Lifecycle, Restart, Retry};

/// What a manifest says of a plugin's life. What is `None` keeps the host's value; [`Lifecycle`] has the
/// meaning and the default of each.
///
/// ```toml
/// [lifecycle]
/// restart = "always"
/// idle_stop = "5m"
/// breaker = { failures = 5, pause = "5s" }
///
/// [reload]
/// canary = { function = "greet", arguments = { name = "Ada" } }
/// observe = "30s"
/// ```
///
/// What a host has switched on is switched off by `false`: `idle_stop`, `breaker`, `canary`, `observe`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LifecycleSpec {
    /// `lifecycle.restart`: `"never"`, `"on-failure"` or `"always"`. For `process` and `grpc`, as are the
    /// next five.
    pub restart: Option<Restart>,
    /// `lifecycle.backoff`; at least 1 ms.
    pub backoff: Option<Duration>,
    /// `lifecycle.backoff_max`; at least `backoff`.
    pub backoff_max: Option<Duration>,
    /// `lifecycle.restarts`; 0 for none.
    pub restarts: Option<u32>,
    /// `lifecycle.window`; at least 1 ms.
    pub window: Option<Duration>,
    /// `lifecycle.healthy_after`.
    pub healthy_after: Option<Duration>,
    /// `lifecycle.idle_stop`; at least 1 ms, or `false`. Not for `native`.
    pub idle_stop: Option<Option<Duration>>,
    /// `lifecycle.retry`: `"never"` or `"idempotent"`. Not for `native`.
    pub retry: Option<Retry>,
    /// `lifecycle.breaker`: `{ failures = 5, pause = "5s" }`, each at least 1 and with a default, or `false`.
    pub breaker: Option<Option<BreakerSpec>>,
    /// `reload.health_timeout`; at least 1 ms.
    pub health_timeout: Option<Duration>,
    /// `reload.canary`: `{ function = "greet", arguments = { name = "Ada" } }`, or `false`. Default of the
    /// arguments: none.
    pub canary: Option<Option<Canary>>,
    /// `reload.observe`; at least 1 ms, or `false`.
    pub observe: Option<Option<Duration>>,
    /// `reload.observe_failures`; at least 1.
    pub observe_failures: Option<u32>,
    /// `reload.drain_timeout`. Not for `native`.
    pub drain_timeout: Option<Duration>,
    /// `reload.generations`; at least 2.
    pub generations: Option<usize>,
    /// `reload.state`: `true` or `false`.
    pub state: Option<bool>,
}

/// The keys of `[lifecycle]`.
const LIFECYCLE: [&str; 9] =
    ["restart", "backoff", "backoff_max", "restarts", "window", "healthy_after", "idle_stop", "retry", "breaker"];

/// The keys of `[reload]`.
const RELOAD: [&str; 7] =
    ["health_timeout", "canary", "observe", "observe_failures", "drain_timeout", "generations", "state"];

/// The keys of `[lifecycle]` that only what is restarted has a use for.
const OF_RESTARTS: [&str; 5] = ["backoff", "backoff_max", "restarts", "window", "healthy_after"];

impl LifecycleSpec {
    /// `lifecycle` with what is set here in place of what is there.
    pub fn apply(&self, lifecycle: &Lifecycle) -> Lifecycle {
        let mut applied = lifecycle.clone();
        set(&mut applied.restart, self.restart.as_ref());
        set(&mut applied.backoff, self.backoff.as_ref());
        set(&mut applied.backoff_max, self.backoff_max.as_ref());
        set(&mut applied.restarts_max, self.restarts.as_ref());
        set(&mut applied.window, self.window.as_ref());
        set(&mut applied.healthy_after, self.healthy_after.as_ref());
        set(&mut applied.idle_stop, self.idle_stop.as_ref());
        set(&mut applied.retry, self.retry.as_ref());
        set(&mut applied.breaker, self.breaker.as_ref());
        set(&mut applied.reload.health_timeout, self.health_timeout.as_ref());
        set(&mut applied.reload.canary, self.canary.as_ref());
        set(&mut applied.reload.observe, self.observe.as_ref());
        set(&mut applied.reload.observe_failures_max, self.observe_failures.as_ref());
        set(&mut applied.reload.drain_timeout, self.drain_timeout.as_ref());
        set(&mut applied.reload.generations_max, self.generations.as_ref());
        set(&mut applied.reload.state, self.state.as_ref());
        applied
    }

    /// Reads the tables, and refuses where it stands what `mechanism` has no use for.
    pub(super) fn read(
        lifecycle: Option<Table>,
        reload: Option<Table>,
        mechanism: MechanismKind,
    ) -> Result<Self, Fault> {
        let mut spec = Self::default();
        if let Some(table) = lifecycle {
            spec.read_lifecycle(fitting("lifecycle.", table, &LIFECYCLE, mechanism)?)?;
        }
        if let Some(table) = reload {
            spec.read_reload(fitting("reload.", table, &RELOAD, mechanism)?)?;
        }
        Ok(spec)
    }

    fn read_lifecycle(&mut self, mut keys: Keys) -> Result<(), Fault> {
        self.restart = keys.take("restart").map(|written| written.parsed()).transpose()?;
        if self.restart == Some(Restart::Never)
            && let Some(written) = OF_RESTARTS.iter().find_map(|key| keys.take(key))
        {
            return Err(written.bad("nothing is restarted, since `lifecycle.restart` is \"never\""));
        }
        self.backoff = keys.take("backoff").map(|time| time.duration_above_zero()).transpose()?;
        if let Some(written) = keys.take("backoff_max") {
            let most = written.duration_above_zero()?;
            if let Some(backoff) = self.backoff.filter(|backoff| *backoff > most) {
                return Err(written.bad(format_args!("{most:?} is less than `lifecycle.backoff`, {backoff:?}")));
            }
            self.backoff_max = Some(most);
        }
        self.restarts = keys.take("restarts").map(|written| restarts(&written)).transpose()?;
        self.window = keys.take("window").map(|time| time.duration_above_zero()).transpose()?;
        self.healthy_after = keys.take("healthy_after").map(|time| time.duration()).transpose()?;
        self.idle_stop = keys.take("idle_stop").map(|time| unless_off(time, duration)).transpose()?;
        self.retry = keys.take("retry").map(|written| written.parsed()).transpose()?;
        self.breaker = keys.take("breaker").map(|written| unless_off(written, breaker)).transpose()?;
        Ok(())
    }

    fn read_reload(&mut self, mut keys: Keys) -> Result<(), Fault> {
        self.health_timeout = keys.take("health_timeout").map(|time| time.duration_above_zero()).transpose()?;
        self.canary = keys.take("canary").map(|written| unless_off(written, canary)).transpose()?;
        self.observe = keys.take("observe").map(|time| unless_off(time, duration)).transpose()?;
        self.observe_failures = keys.take("observe_failures").map(|calls| calls.count("calls")).transpose()?;
        self.drain_timeout = keys.take("drain_timeout").map(|time| time.duration()).transpose()?;
        self.generations = keys.take("generations").map(|written| generations(&written)).transpose()?;
        self.state = keys.take("state").map(|written| written.boolean()).transpose()?;
        Ok(())
    }
}

fn set<T: Clone>(setting: &mut T, written: Option<&T>) {
    if let Some(written) = written {
        setting.clone_from(written);
    }
}

impl MechanismKind {
    /// The keys of `[lifecycle]` and `[reload]` that mean nothing for this mechanism, each with the reason.
    const fn no_use_in_life(self) -> &'static [(&'static str, &'static str)] {
        const WITH_HOST: &str = "a native plugin ends with its host, which then is not there to restart it";
        const REPLACED: &str = "an instance that failed is replaced by the next call, so that nothing is restarted";
        match self {
            MechanismKind::Process | MechanismKind::Grpc => &[],
            MechanismKind::Wasm => &[
                ("lifecycle.restart", REPLACED),
                ("lifecycle.backoff", REPLACED),
                ("lifecycle.backoff_max", REPLACED),
                ("lifecycle.restarts", REPLACED),
                ("lifecycle.window", REPLACED),
                ("lifecycle.healthy_after", REPLACED),
            ],
            MechanismKind::Native => &[
                ("lifecycle.restart", WITH_HOST),
                ("lifecycle.backoff", WITH_HOST),
                ("lifecycle.backoff_max", WITH_HOST),
                ("lifecycle.restarts", WITH_HOST),
                ("lifecycle.window", WITH_HOST),
                ("lifecycle.healthy_after", WITH_HOST),
                ("lifecycle.idle_stop", "a library is never unloaded"),
                ("lifecycle.retry", "a native plugin that dies takes the caller with it"),
                ("reload.drain_timeout", "a native plugin cannot be stopped in the middle of a call"),
            ],
        }
    }
}

/// The keys of one table, which are known; one of no use for `mechanism` is refused where it stands.
fn fitting(prefix: &'static str, table: Table, known: &[&str], mechanism: MechanismKind) -> Result<Keys, Fault> {
    let no_use = |(key, value): &(Located<String>, Located<Value>)| {
        let refused = mechanism.no_use_in_life().iter();
        let mut refused = refused.filter(|(full, _)| full.strip_prefix(prefix) == Some(&*key.value));
        refused.next().map(|&(key, why)| Fault::at(value.at, ManifestProblem::NoUse { key, mechanism, why }))
    };
    // Looked at before the table is taken apart, and told after: a misspelt key comes first.
    let refused = table.iter().find_map(no_use);
    let keys = Keys::new(prefix, table, known)?;
    refused.map_or(Ok(keys), Err)
}

/// What is written, unless it is `false`.
fn unless_off<T>(written: Named, read: fn(Named) -> Result<T, Fault>) -> Result<Option<T>, Fault> {
    match written.value.value {
        Value::Boolean(false) => Ok(None),
        _ => read(written).map(Some),
    }
}

fn duration(written: Named) -> Result<Duration, Fault> {
    written.duration_above_zero()
}

fn restarts(written: &Named) -> Result<u32, Fault> {
    let number = written.integer()?;
    u32::try_from(number).map_err(|_| written.bad(format_args!("{number} restarts; it is 0 to {}", u32::MAX)))
}

fn generations(written: &Named) -> Result<usize, Fault> {
    match written.count("generations")? {
        // With one alone, there would be none between the old and the new.
        1 => Err(written.bad("1 generation; the least is 2, the old and the new")),
        generations => Ok(generations),
    }
}

fn breaker(written: Named) -> Result<BreakerSpec, Fault> {
    let mut keys = Keys::new("lifecycle.breaker.", written.table()?, &["failures", "pause"])?;
    let mut breaker = BreakerSpec::default();
    if let Some(failures) = keys.take("failures") {
        breaker.failures_max = failures.count("failures")?;
    }
    if let Some(pause) = keys.take("pause") {
        breaker.pause = pause.duration_above_zero()?;
    }
    Ok(breaker)
}

fn canary(written: Named) -> Result<Canary, Fault> {
    let at = written.value.at;
    let mut keys = Keys::new("reload.canary.", written.table()?, &["function", "arguments"])?;
    let function = keys.take("function");
    let function = function.ok_or_else(|| Fault::at(at, ManifestProblem::Missing { key: "reload.canary.function" }))?;
    let arguments = keys.take("arguments").map(|arguments| arguments.json()).transpose()?;
    Ok(Canary { function: function.text()?.to_owned(), arguments: arguments.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use expect_test::{Expect, expect};

    use super::*;
    use crate::manifest::Manifest;

    /// What a manifest sets with these lines below its name and entry, of what the host has, or what is
    /// wrong with it.
    fn read_for(entry: &str, toml: &str) -> String {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join(entry), "").expect("a file");
        let file = directory.path().join("plugin.toml");
        fs::write(&file, format!("name = 'x'\nentry = '{entry}'\n{toml}")).expect("a file");
        match Manifest::read(&file) {
            Ok(manifest) => {
                let (spec, nothing) =
                    (format!("{:#?}", manifest.lifecycle), format!("{:#?}", LifecycleSpec::default()));
                let set = spec.lines().filter(|line| !nothing.lines().any(|other| other == *line));
                set.map(|line| line.trim()).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string().replace(&format!("{}/", directory.path().display()), ""),
        }
    }

    fn check(toml: &str, expected: Expect) {
        expected.assert_eq(&read_for("run.py", toml));
    }

    #[test]
    fn a_life_is_said_as_a_whole_or_in_part() {
        check(
            r#"
            [lifecycle]
            restart = "always"
            backoff = "50ms"
            backoff_max = "10s"
            restarts = 0
            window = "2m"
            healthy_after = "0s"
            idle_stop = "5m"
            retry = "idempotent"
            breaker = { failures = 3, pause = "1s" }
            [reload]
            health_timeout = "2s"
            canary = { function = "scale", arguments = { by = 1.5, name = "Ada", tags = ["a", 2, true] } }
            observe = "30s"
            observe_failures = 2
            drain_timeout = "0s"
            generations = 3
            state = true
            "#,
            expect![[
                r#"restart: Some( Always, ), backoff: Some( 50ms, ), backoff_max: Some( 10s, ), restarts: Some( 0, ), window: Some( 120s, ), healthy_after: Some( 0ns, ), idle_stop: Some( Some( 300s, ), ), retry: Some( Idempotent, ), breaker: Some( Some( BreakerSpec { failures_max: 3, pause: 1s, }, ), ), health_timeout: Some( 2s, ), canary: Some( Some( Canary { function: "scale", arguments: Object { "by": Number(1.5), "name": String("Ada"), "tags": Array [ String("a"), Number(2), Bool(true), ], }, }, ), ), observe: Some( Some( 30s, ), ), observe_failures: Some( 2, ), drain_timeout: Some( 0ns, ), generations: Some( 3, ), state: Some( true, ),"#
            ]],
        );
        check(
            "[lifecycle]\nbreaker = {}\n[reload]\ncanary = { function = 'ping' }",
            expect![[
                r#"breaker: Some( Some( BreakerSpec { failures_max: 5, pause: 5s, }, ), ), canary: Some( Some( Canary { function: "ping", arguments: Null, }, ), ),"#
            ]],
        );
        check("[lifecycle]", expect![[r#""#]]);
    }

    #[test]
    fn what_is_on_is_switched_off_by_false() {
        check(
            "[lifecycle]\nidle_stop = false\nbreaker = false\n[reload]\ncanary = false\nobserve = false",
            expect!["idle_stop: Some( None, ), breaker: Some( None, ), canary: Some( None, ), observe: Some( None, ),"],
        );
        check(
            "[lifecycle]\nidle_stop = true",
            expect![[r#"plugin.toml:4:13: `lifecycle.idle_stop` is a duration, as in "5s", got a boolean"#]],
        );
        check(
            "[lifecycle]\nbackoff = false",
            expect![[r#"plugin.toml:4:11: `lifecycle.backoff` is a duration, as in "5s", got a boolean"#]],
        );
    }

    #[test]
    fn what_means_nothing_is_refused_with_its_place() {
        check(
            "[lifecycle]\nrestrat = 'always'",
            expect!["plugin.toml:4:1: unknown key `lifecycle.restrat`; did you mean `lifecycle.restart`?"],
        );
        check(
            "[lifecycle]\nrestart = 'on_failure'",
            expect![[
                r#"plugin.toml:4:11: `lifecycle.restart`: "on_failure" is none of `never`, `on-failure`, `always`"#
            ]],
        );
        check(
            "[lifecycle]\nretry = 'always'",
            expect![[r#"plugin.toml:4:9: `lifecycle.retry`: "always" is none of `never`, `idempotent`"#]],
        );
        check(
            "[lifecycle]\nbackoff = '0s'",
            expect![[r#"plugin.toml:4:11: `lifecycle.backoff`: no time at all; the least is "1ms""#]],
        );
        check(
            "[lifecycle]\nbackoff = '2s'\nbackoff_max = '1s'",
            expect!["plugin.toml:5:15: `lifecycle.backoff_max`: 1s is less than `lifecycle.backoff`, 2s"],
        );
        check(
            "[lifecycle]\nrestart = 'never'\nwindow = '1s'",
            expect![[
                r#"plugin.toml:5:10: `lifecycle.window`: nothing is restarted, since `lifecycle.restart` is "never""#
            ]],
        );
        check(
            "[lifecycle]\nrestarts = -1",
            expect!["plugin.toml:4:12: `lifecycle.restarts`: -1 restarts; it is 0 to 4294967295"],
        );
        check(
            "[lifecycle]\nbreaker = { failures = 0 }",
            expect!["plugin.toml:4:24: `lifecycle.breaker.failures`: 0 failures; the least is 1"],
        );
        check(
            "[lifecycle]\nbreaker = { after = 1 }",
            expect!["plugin.toml:4:13: unknown key `lifecycle.breaker.after`"],
        );
        check(
            "[reload]\ngenerations = 1",
            expect!["plugin.toml:4:15: `reload.generations`: 1 generation; the least is 2, the old and the new"],
        );
        check("[reload]\ncanary = {}", expect!["plugin.toml:4:10: `reload.canary.function` is missing"]);
        check(
            "[reload]\ncanary = 'ping'",
            expect![[r#"plugin.toml:4:10: `reload.canary` is a table, got the string "ping""#]],
        );
        check(
            "[reload]\ncanary = { function = 'f', arguments = { at = 2026-01-01 } }",
            expect!["plugin.toml:4:47: `reload.canary.arguments.at` is a value that JSON has, got a date"],
        );
        check("reload = 'always'", expect![[r#"plugin.toml:3:10: `reload` is a table, got the string "always""#]]);
    }

    #[test]
    fn what_a_mechanism_has_no_use_for_is_refused() {
        let check = |entry, toml, expected: Expect| expected.assert_eq(&read_for(entry, toml));
        check(
            "libx.so",
            "[lifecycle]\nidle_stop = '5m'",
            expect!["plugin.toml:4:13: `lifecycle.idle_stop` is set, and a library is never unloaded"],
        );
        check(
            "libx.so",
            "[lifecycle]\nretry = 'idempotent'",
            expect![
                "plugin.toml:4:9: `lifecycle.retry` is set, and a native plugin that dies takes the caller with it"
            ],
        );
        check(
            "libx.so",
            "[lifecycle]\nrestart = 'always'",
            expect![
                "plugin.toml:4:11: `lifecycle.restart` is set, and a native plugin ends with its host, which then is not there to restart it"
            ],
        );
        check(
            "libx.so",
            "[reload]\nhealth_timeout = '1s'\ndrain_timeout = '5s'",
            expect![
                "plugin.toml:5:17: `reload.drain_timeout` is set, and a native plugin cannot be stopped in the middle of a call"
            ],
        );
        check(
            "x.wasm",
            "[lifecycle]\nbackoff = '1s'",
            expect![
                "plugin.toml:4:11: `lifecycle.backoff` is set, and an instance that failed is replaced by the next call, so that nothing is restarted"
            ],
        );
        // A misspelt key comes first.
        check(
            "libx.so",
            "[lifecycle]\nidle_stop = '5m'\nretyr = 'idempotent'",
            expect!["plugin.toml:5:1: unknown key `lifecycle.retyr`; did you mean `lifecycle.retry`?"],
        );
        check(
            "x.wasm",
            "[lifecycle]\nidle_stop = '5m'\nbreaker = {}",
            expect![
                "idle_stop: Some( Some( 300s, ), ), breaker: Some( Some( BreakerSpec { failures_max: 5, pause: 5s, }, ), ),"
            ],
        );
        check(
            "libx.so",
            "[lifecycle]\nbreaker = {}\n[reload]\nobserve = '9s'",
            expect![
                "breaker: Some( Some( BreakerSpec { failures_max: 5, pause: 5s, }, ), ), observe: Some( Some( 9s, ), ),"
            ],
        );
    }

    #[test]
    fn json_says_the_same() {
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("run.py"), "").expect("a file");
        let file = directory.path().join("plugin.json");
        let canary = r#"{"function": "f", "arguments": {"a": 1.5, "b": null, "c": 18446744073709551615}}"#;
        let text = format!(r#"{{"name": "x", "entry": "run.py", "reload": {{"canary": {canary}}}}}"#);
        fs::write(&file, text).expect("a file");
        let spec = Manifest::read(&file).expect("a manifest").lifecycle;
        let canary = spec.canary.flatten().expect("a canary");
        assert_eq!(canary.arguments, serde_json::json!({"a": 1.5, "b": null, "c": u64::MAX}));
    }

    #[test]
    fn what_a_manifest_does_not_set_the_host_does() {
        let host = Lifecycle {
            idle_stop: Some(Duration::from_secs(1)),
            breaker: Some(BreakerSpec::default()),
            ..Lifecycle::default()
        };
        assert_eq!(LifecycleSpec::default().apply(&host), host);
        let spec = LifecycleSpec {
            idle_stop: Some(None),
            restarts: Some(7),
            generations: Some(4),
            ..LifecycleSpec::default()
        };
        let applied = spec.apply(&host);
        assert_eq!((applied.idle_stop, applied.restarts_max, applied.reload.generations_max), (None, 7, 4));
        assert_eq!(applied.breaker, host.breaker);
    }
}
