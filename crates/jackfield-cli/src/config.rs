//! What a service is told: by its configuration, `jackfield.toml`, by what is typed, and by default; and
//! `jackfield config check`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jackfield::{Address, Lifecycle, Limits, LogFormat, LogLevel, MechanismKind, ServiceConfig, Signatures, TrustSpec};
use serde_json::{Map, Value, json};

use crate::Outcome;
use crate::args;
use crate::fault::Kind;
use crate::inspect::{lifecycle, limits, reload, section};
use crate::output::{Out, Paint};
use crate::report::Told;
use crate::session::dirs_of_environment;
use crate::token::Token;

/// The configuration that is read when none is named.
const DEFAULT: &str = "jackfield.toml";

/// What is in force.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) plugins: Vec<PathBuf>,
    pub(crate) listen: Vec<Address>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) cache_dir: Option<PathBuf>,
    pub(crate) watch: bool,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: LogLevel,
    pub(crate) native_histograms: bool,
    pub(crate) trust: TrustSpec,
    pub(crate) limits: Limits,
    pub(crate) lifecycle: Lifecycle,
}

/// What is typed, which goes before the configuration.
#[derive(Debug, Default)]
pub(crate) struct Typed {
    pub(crate) plugins: Vec<PathBuf>,
    pub(crate) listen: Vec<Address>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) trust: TrustSpec,
    pub(crate) watch: bool,
    pub(crate) log_level: Option<LogLevel>,
}

impl Settings {
    /// Reads the configuration `file`, or the one that is here, if any, and joins it with what is typed.
    pub(crate) fn read(file: Option<&Path>, typed: Typed) -> Result<Self> {
        let here = Path::new(DEFAULT);
        let config = match file.or_else(|| here.exists().then_some(here)) {
            Some(file) => ServiceConfig::read(file)?,
            None => ServiceConfig::default(),
        };
        Ok(Self::joined(config, typed))
    }

    fn joined(config: ServiceConfig, typed: Typed) -> Self {
        fn first<T>(typed: Vec<T>, configured: Vec<T>) -> Vec<T> {
            if typed.is_empty() { configured } else { typed }
        }
        let plugins = first(typed.plugins, config.plugins);
        let mut trust = config.trust;
        trust.locked = typed.trust.locked.or(trust.locked);
        trust.signatures = typed.trust.signatures.or(trust.signatures);
        trust.trusted_keys = typed.trust.trusted_keys.or(trust.trusted_keys);
        trust.allow = first(typed.trust.allow, trust.allow);
        Self {
            plugins: if plugins.is_empty() { dirs_of_environment() } else { plugins },
            listen: first(typed.listen, config.listen),
            token_file: typed.token_file.or(config.token_file),
            state_dir: typed.state_dir.or(config.state_dir),
            cache_dir: config.cache_dir,
            watch: typed.watch || config.watch.unwrap_or_default(),
            log_format: config.log_format.unwrap_or_default(),
            log_level: typed.log_level.or(config.log_level).unwrap_or(LogLevel::Info),
            native_histograms: config.native_histograms.unwrap_or_default(),
            trust,
            limits: config.limits.apply(&Limits::default()),
            lifecycle: config.lifecycle.apply(&Lifecycle::default()),
        }
    }

    /// What keeps a service from running like this; otherwise the token, if one is needed.
    pub(crate) fn check(&self) -> Result<Option<Token>> {
        if self.plugins.is_empty() {
            return Err(Told::new(Kind::Internal, "no plugin directory was given")
                .hint("give one with `--plugins DIR`, or in the configuration: `plugins = [\"plugins\"]`")
                .into());
        }
        if self.listen.is_empty() {
            return Err(Told::new(Kind::Internal, "nothing says where to listen")
                .hint("give an address with `--listen unix:PATH`, or in the configuration: `listen = [\"unix:host.sock\"]`")
                .into());
        }
        if self.trust.signatures == Some(Signatures::Require) && self.trust.trusted_keys.is_none() {
            return Err(Told::new(Kind::Internal, "signatures are required, and no file says whose")
                .hint("name one with `--trusted-keys FILE`, or in the configuration: `trusted_keys` in `[trust]`")
                .into());
        }
        let tcp = self.listen.iter().find(|address| matches!(address, Address::Tcp(_)));
        match (tcp, &self.token_file) {
            (Some(address), None) => Err(Told::new(Kind::Internal, format!("`{address}` needs a token"))
                .hint("everybody on the machine, or more, can reach it: name a file with a token with `--token-file`")
                .into()),
            (Some(_), Some(file)) => Token::read(file).map(Some),
            (None, _) => Ok(None),
        }
    }

    fn json(&self) -> Value {
        let path = |path: &PathBuf| path.display().to_string();
        let limits: Map<_, _> = limits(&self.limits, MechanismKind::Wasm)
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect();
        json!({
            "plugins": self.plugins.iter().map(path).collect::<Vec<_>>(),
            "listen": self.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "token_file": self.token_file.as_ref().map(path),
            "state_dir": self.state_dir.as_ref().map(path),
            "cache_dir": self.cache_dir.as_ref().map(path),
            "watch": self.watch,
            "trust": {
                "locked": self.trust.locked.unwrap_or_default(),
                "signatures": self.trust.signatures.unwrap_or_default().as_str(),
                "trusted_keys": self.trust.trusted_keys.as_ref().map(path),
                "allow": self.trust.allow.iter().map(|exposure| exposure.as_str()).collect::<Vec<_>>(),
            },
            "log": { "format": self.log_format.as_str(), "level": self.log_level.as_str() },
            "metrics": { "native_histograms": self.native_histograms },
            "limits": limits,
            "lifecycle": lifecycle(&self.lifecycle),
            "reload": reload(&self.lifecycle.reload),
        })
    }

    fn text(&self, paint: Paint) -> String {
        let mut text = String::new();
        for (table, value) in split(self.json()) {
            let lines = value.iter().map(|(name, value)| (&**name, shown(value)));
            match &*table {
                "" => {}
                table => text += &format!("\n{}\n", paint.bold(table)),
            }
            section(&mut text, lines);
        }
        text
    }
}

/// The tables of a configuration, with that of the keys that stand in none first.
fn split(whole: Value) -> Vec<(String, Map<String, Value>)> {
    let Value::Object(whole) = whole else { return Vec::new() };
    let mut tables = vec![(String::new(), Map::new())];
    for (name, value) in whole {
        match value {
            Value::Object(table) => tables.push((name, table)),
            value => drop(tables[0].1.insert(name, value)),
        }
    }
    tables
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Checks a configuration, and shows what it means.
pub(crate) fn check(check: &args::Check, out: &Out) -> Result<Outcome> {
    let settings = Settings::read(Some(&check.file), Typed::default())?;
    settings
        .check()
        .with_context(|| format!("`{}` is well written, and nothing runs with it", check.file.display()))?;
    match out.json {
        true => out.value(&settings.json())?,
        false => out.text(&settings.text(out.paint))?,
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_goes_before_what_is_configured() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("jackfield.toml");
        std::fs::write(
            &file,
            "plugins = ['a']\nlisten = ['unix:a']\nstate_dir = 'a'\nwatch = true\n[log]\nlevel = 'warn'",
        )
        .expect("written");
        let typed = || Typed { plugins: vec!["b".into()], state_dir: Some("b".into()), ..Typed::default() };
        let settings = Settings::read(Some(&file), typed()).expect("a configuration");
        assert_eq!(settings.plugins, [PathBuf::from("b")]);
        assert_eq!(settings.listen, [Address::Unix(directory.path().join("a"))]);
        assert_eq!(settings.state_dir, Some("b".into()));
        assert!(settings.watch && settings.log_level == LogLevel::Warn);
        let settings = Settings::joined(ServiceConfig::default(), typed());
        assert!(!settings.watch && settings.log_level == LogLevel::Info);
        let words = settings.check().map(drop).map_err(|error| error.to_string());
        assert_eq!(words, Err("nothing says where to listen".to_owned()));
    }

    #[test]
    fn what_is_typed_of_trust_goes_before_what_is_configured() {
        let mut config = ServiceConfig::default();
        (config.trust.locked, config.trust.signatures) = (Some(true), Some(Signatures::Off));
        let mut typed = Typed {
            plugins: vec!["b".into()],
            listen: vec!["unix:b".parse().expect("an address")],
            ..Typed::default()
        };
        typed.trust.signatures = Some(Signatures::Require);
        let settings = Settings::joined(config, typed);
        assert_eq!((settings.trust.locked, settings.trust.signatures), (Some(true), Some(Signatures::Require)));
        let words = settings.check().map(drop).map_err(|error| error.to_string());
        assert_eq!(words, Err("signatures are required, and no file says whose".to_owned()));
    }

    #[test]
    fn tcp_wants_a_token() {
        let listen = vec!["tcp:127.0.0.1:0".parse().expect("an address")];
        let typed = Typed { plugins: vec!["b".into()], listen, ..Typed::default() };
        let settings = Settings::joined(ServiceConfig::default(), typed);
        let words = settings.check().map(drop).map_err(|error| error.to_string());
        assert_eq!(words, Err("`tcp:127.0.0.1:0` needs a token".to_owned()));
    }
}
