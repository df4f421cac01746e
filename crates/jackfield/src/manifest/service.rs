//! `jackfield.toml`: what a host that runs as a service is told, for `jackfield run`.
//!
//! Checked like a manifest: a key that nobody knows is refused with its line and column, since one that is
//! passed over looks like one that works.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::MechanismKind;
use super::document::{Keys, Named, Table};
use super::error::{Fault, ManifestError};
use super::lifecycle::LifecycleSpec;
use super::limits::LimitsSpec;
use super::trust::TrustSpec;
use crate::log::LogLevel;

/// The configuration of a host as a service, `jackfield.toml`. Nothing in it is required.
///
/// ```toml
/// plugins = ["plugins"]
/// listen = ["unix:/run/jackfield/host.sock", "tcp:127.0.0.1:7000"]
/// token_file = "/etc/jackfield/token"
/// state_dir = "/var/lib/jackfield"
/// watch = true
///
/// [log]
/// format = "json"
///
/// [limits]
/// call_timeout = "5s"
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceConfig {
    /// `plugins`: directories with plugins. Of two plugins with one name, the earlier directory's is loaded.
    /// As every path here, from the directory of the file, with which it is joined here.
    pub plugins: Vec<PathBuf>,
    /// `listen`: where the service takes requests.
    pub listen: Vec<Address>,
    /// `token_file`: the file with the token that every request over TCP must carry.
    pub token_file: Option<PathBuf>,
    /// `state_dir`: where quarantine, crash reports and what is disabled outlive the host. Default: nowhere.
    pub state_dir: Option<PathBuf>,
    /// `cache_dir`: private copies of libraries, and compiled code. Default: `jackfield` in the user's cache
    /// directory.
    pub cache_dir: Option<PathBuf>,
    /// `watch`: whether a plugin is loaded anew when its file changes. Default: no.
    pub watch: Option<bool>,
    /// `log.format`: `"text"` or `"json"`. Default: text.
    pub log_format: Option<LogFormat>,
    /// `log.level`: `"error"`, `"warn"`, `"info"`, `"debug"` or `"trace"`. Default: info.
    pub log_level: Option<LogLevel>,
    /// `metrics.native_histograms`: whether times are counted in narrow buckets, too, for quantiles that are exact to
    /// half a percent. Default: no.
    pub native_histograms: Option<bool>,
    /// `[limits]`: for plugins whose manifests say nothing else, as far as their mechanisms have a use for them.
    pub limits: LimitsSpec,
    /// `[trust]`: what of a plugin is checked before it is loaded.
    pub trust: TrustSpec,
    /// `[lifecycle]` and `[reload]`: the same for what happens when a plugin dies, idles, or is replaced.
    pub lifecycle: LifecycleSpec,
}

impl ServiceConfig {
    /// Reads a configuration. Only the file itself is looked at: whether directories are there is seen when
    /// they are used.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let directory = tempfile::tempdir()?;
    /// let file = directory.path().join("jackfield.toml");
    /// std::fs::write(&file, "plugins = ['plugins']\n\n[limits]\ncall_timeot = '5s'")?;
    /// let error = jackfield::ServiceConfig::read(&file).unwrap_err().to_string();
    /// assert!(error.ends_with(
    ///     "jackfield.toml:4:1: unknown key `limits.call_timeot`; did you mean `limits.call_timeout`?"
    /// ));
    /// # Ok(())
    /// # }
    /// ```
    pub fn read(file: &Path) -> Result<Self, ManifestError> {
        super::read_located(file, Self::from_table).map(|(config, _)| config)
    }

    fn from_table(table: Table, directory: &Path) -> Result<Self, Fault> {
        const KEYS: [&str; 12] = [
            "plugins",
            "listen",
            "token_file",
            "state_dir",
            "cache_dir",
            "watch",
            "log",
            "metrics",
            "trust",
            "limits",
            "lifecycle",
            "reload",
        ];
        let mut keys = Keys::new("", table, &KEYS)?;
        let path = |written: &Named| path(directory, written);
        let plugins = super::list(keys.take("plugins"), path)?;
        let listen = super::list(keys.take("listen"), |written| address(directory, written))?;
        let mut one_path = |key| keys.take(key).as_ref().map(path).transpose();
        let (token_file, state_dir, cache_dir) =
            (one_path("token_file")?, one_path("state_dir")?, one_path("cache_dir")?);
        let watch = keys.take("watch").map(|watch| watch.boolean()).transpose()?;
        let (mut log_format, mut log_level) = (None, None);
        if let Some(log) = keys.take("log") {
            let mut keys = Keys::new("log.", log.table()?, &["format", "level"])?;
            log_format = keys.take("format").map(|format| format.parsed()).transpose()?;
            log_level = keys.take("level").map(|level| level.parsed()).transpose()?;
        }
        let native_histograms = match keys.take("metrics") {
            Some(metrics) => {
                let mut keys = Keys::new("metrics.", metrics.table()?, &["native_histograms"])?;
                keys.take("native_histograms").map(|native| native.boolean()).transpose()?
            }
            None => None,
        };
        let trust = keys.take("trust").map(|trust| TrustSpec::read(trust.table()?, directory));
        let trust = trust.transpose()?.unwrap_or_default();
        let limits = keys.take("limits").map(|limits| LimitsSpec::read_for_all(limits.table()?));
        let limits = limits.transpose()?.unwrap_or_default();
        let mut table = |key| keys.take(key).map(Named::table).transpose();
        let (lifecycle, reload) = (table("lifecycle")?, table("reload")?);
        // A program has a use for all of them; whoever has none passes over it.
        let lifecycle = LifecycleSpec::read(lifecycle, reload, MechanismKind::Process)?;
        Ok(Self {
            plugins,
            listen,
            token_file,
            state_dir,
            cache_dir,
            watch,
            log_format,
            log_level,
            native_histograms,
            trust,
            limits,
            lifecycle,
        })
    }
}

pub(super) fn path(directory: &Path, written: &Named) -> Result<PathBuf, Fault> {
    match written.text()? {
        "" => Err(written.bad("an empty path")),
        text => Ok(directory.join(text)),
    }
}

fn address(directory: &Path, written: &Named) -> Result<Address, Fault> {
    Ok(match written.parsed()? {
        Address::Unix(path) => Address::Unix(directory.join(path)),
        tcp => tcp,
    })
}

/// Where a service takes requests: `unix:PATH` or `tcp:HOST:PORT`.
///
/// ```
/// use jackfield::Address;
/// assert_eq!("unix:/run/x.sock".parse(), Ok(Address::Unix("/run/x.sock".into())));
/// assert_eq!("tcp:[::1]:80".parse(), Ok(Address::Tcp("[::1]:80".to_owned())));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A socket in the file system.
    Unix(PathBuf),
    /// Host and port. The host may be a name.
    Tcp(String),
}

/// A text that is no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address: `unix:PATH` or `tcp:HOST:PORT`")]
pub struct AddressError {
    text: String,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError { text: text.to_owned() };
        match text.split_once(':').ok_or_else(error)? {
            ("unix", path) if !path.is_empty() => Ok(Address::Unix(path.into())),
            ("tcp", address) => {
                let (host, port) = address.rsplit_once(':').ok_or_else(error)?;
                let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
                let port = port.parse::<u16>().ok().filter(|_| is_port && !host.is_empty());
                port.map(|_| Address::Tcp(address.to_owned())).ok_or_else(error)
            }
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// In which form a service writes its log to stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `"text"`: a line for people.
    #[default]
    Text,
    /// `"json"`: an object on a line.
    Json,
}

impl LogFormat {
    /// `text`, `json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

/// A [`LogFormat`] that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is neither `text` nor `json`")]
pub struct UnknownLogFormat {
    text: String,
}

impl FromStr for LogFormat {
    type Err = UnknownLogFormat;

    fn from_str(text: &str) -> Result<Self, UnknownLogFormat> {
        let all = [LogFormat::Text, LogFormat::Json];
        all.into_iter().find(|format| format.as_str() == text).ok_or(UnknownLogFormat { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, expected: Expect) {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("jackfield.toml");
        std::fs::write(&file, text).expect("written");
        let shown = match ServiceConfig::read(&file) {
            Ok(config) => {
                let listen: Vec<_> = config.listen.iter().map(ToString::to_string).collect();
                format!(
                    "{:?} {listen:?} {:?} {:?} {:?} {:?} {:?}",
                    config.plugins,
                    config.token_file,
                    config.state_dir,
                    config.watch,
                    config.log_level,
                    config.limits.call_timeout
                )
            }
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&shown.replace(&*directory.path().to_string_lossy(), "DIR"));
    }

    #[test]
    fn paths_are_those_of_the_file_and_nothing_is_required() {
        check("", expect!["[] [] None None None None None"]);
        check(
            "plugins = ['plugins', '/opt/p']\nlisten = ['unix:host.sock', 'tcp:localhost:7000']\ntoken_file = 'token'\n\
             state_dir = '/var/lib/j'\nwatch = true\n[log]\nformat = 'json'\nlevel = 'debug'\n[limits]\ncall_timeout = '5s'\n",
            expect![[
                r#"["DIR/plugins", "/opt/p"] ["unix:DIR/host.sock", "tcp:localhost:7000"] Some("DIR/token") Some("/var/lib/j") Some(true) Some(Debug) Some(5s)"#
            ]],
        );
    }

    #[test]
    fn whom_it_trusts_is_said_in_a_table() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("jackfield.toml");
        let text = "[trust]\nlocked = true\nsignatures = 'require'\ntrusted_keys = 'keys'\nallow = ['links']";
        std::fs::write(&file, text).expect("written");
        let trust = ServiceConfig::read(&file).expect("a configuration").trust;
        assert_eq!((trust.locked, trust.signatures), (Some(true), Some(crate::manifest::Signatures::Require)));
        assert_eq!(trust.trusted_keys, Some(directory.path().join("keys")));
        assert_eq!(trust.allow, [crate::manifest::Exposure::Links]);
        check(
            "[trust]\nlock = true",
            expect!["DIR/jackfield.toml:2:1: unknown key `trust.lock`; did you mean `trust.locked`?"],
        );
        check(
            "[trust]\nsignatures = 'must'",
            expect![[r#"DIR/jackfield.toml:2:14: `trust.signatures`: "must" is none of `off`, `warn`, `require`"#]],
        );
        check(
            "[trust]\nallow = ['all']",
            expect![[r#"DIR/jackfield.toml:2:10: `trust.allow[0]`: "all" is none of `writable`, `links`"#]],
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        check("plugin = ['a']", expect!["DIR/jackfield.toml:1:1: unknown key `plugin`; did you mean `plugins`?"]);
        check("plugins = 'a'", expect![[r#"DIR/jackfield.toml:1:11: `plugins` is a list, got the string "a""#]]);
        check("plugins = ['']", expect!["DIR/jackfield.toml:1:12: `plugins[0]`: an empty path"]);
        check(
            "listen = [\n  'unix:a',\n  '/run/x.sock',\n]",
            expect![[
                r#"DIR/jackfield.toml:3:3: `listen[1]`: "/run/x.sock" is no address: `unix:PATH` or `tcp:HOST:PORT`"#
            ]],
        );
        for wrong in ["tcp:7000", "tcp:a:", "tcp::80", "tcp:a:99999", "tcp:a:+80", "unix:", "udp:a:80", ""] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong}");
        }
        check(
            "[log]\nformat = 'xml'",
            expect![[r#"DIR/jackfield.toml:2:10: `log.format`: "xml" is neither `text` nor `json`"#]],
        );
        check(
            "[log]\nlevel = 'loud'",
            expect![[
                r#"DIR/jackfield.toml:2:9: `log.level`: "loud" is none of `error`, `warn`, `info`, `debug`, `trace`"#
            ]],
        );
        check(
            "[metrics]\nnative_histogram = true",
            expect![[
                r#"DIR/jackfield.toml:2:1: unknown key `metrics.native_histogram`; did you mean `metrics.native_histograms`?"#
            ]],
        );
        check("watch = 1", expect!["DIR/jackfield.toml:1:9: `watch` is true or false, got the integer 1"]);
        check(
            "[lifecycle]\nrestart = 'sometimes'",
            expect![[
                r#"DIR/jackfield.toml:2:11: `lifecycle.restart`: "sometimes" is none of `never`, `on-failure`, `always`"#
            ]],
        );
        check(
            "[limits]\nanswer_bytes = 0",
            expect!["DIR/jackfield.toml:2:16: `limits.answer_bytes`: 0 bytes; the least is 1"],
        );
    }
}
