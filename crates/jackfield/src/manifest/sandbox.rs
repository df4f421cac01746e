//! `[sandbox]`: what of the host's files and network a plugin may reach. What is not here, it may not.
//!
//! Paths and hosts are only read and matched here; who opens and connects asks.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::document::{Keys, Located, Named};
use super::error::{Fault, ManifestProblem};

/// The `[sandbox]` of a manifest.
///
/// ```toml
/// [sandbox]
/// fs.read = { "/data" = "data" }
/// fs.write = { "/out" = "/var/lib/out" }
/// net.hosts = ["api.example.org", "*.example.org", "localhost:8080"]
/// host_functions = ["kv_read"]
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grants {
    /// `fs.read`: from paths of the guest, which begin with `/`, to directories of the host, in which
    /// the guest may read. Default: none.
    ///
    /// In the manifest, a directory is absolute or relative to the manifest's; it must exist. Here
    /// symbolic links are followed: a link that is changed later changes no grant.
    pub read: BTreeMap<String, PathBuf>,
    /// `fs.write`: the same for directories in which the guest may read and write. Default: none.
    pub write: BTreeMap<String, PathBuf>,
    /// `net.hosts`: hosts that the guest may reach by HTTP; sockets stay closed. Default: none.
    ///
    /// A name, an address, `*.` and a name for all below it, or `*` for all; each with `:` and a port,
    /// or for every port. In lower case here.
    pub hosts: Vec<String>,
    /// `host_functions`: functions of the application's that an Extism plugin may import, by name; where the
    /// application offers one in another module than `extism:host/user`, `module.name`. Default: none.
    ///
    /// One that this host does not offer grants nothing, and is no mistake until the plugin imports it.
    pub host_functions: Vec<String>,
}

impl Grants {
    /// Whether the guest may reach a port of a host, which is a name or an address, as it asks for it.
    #[cfg_attr(not(feature = "wasm-http"), allow(dead_code, reason = "only HTTP asks"))]
    pub(crate) fn reaches(&self, host: &str, port: u16) -> bool {
        let bracketless = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        // A name with a dot at its end is the same name.
        let host = bracketless.strip_suffix('.').unwrap_or(bracketless).to_ascii_lowercase();
        let granted = self.hosts.iter().filter_map(|granted| HostPattern::of(granted));
        granted.into_iter().any(|pattern| pattern.matches(&host, port))
    }

    /// Reads the table of a manifest that lies in `directory`.
    pub(super) fn read(written: Named, directory: &Path) -> Result<Self, Fault> {
        let mut keys = Keys::new("sandbox.", written.table()?, &["fs", "net", "host_functions"])?;
        let mut grants = Self::default();
        if let Some(fs) = keys.take("fs") {
            let mut fs = Keys::new("sandbox.fs.", fs.table()?, &["read", "write"])?;
            let (read, write) = (fs.take("read"), fs.take("write"));
            grants.read = read.map(|read| directories(read, directory, &grants.write)).transpose()?.unwrap_or_default();
            grants.write =
                write.map(|write| directories(write, directory, &grants.read)).transpose()?.unwrap_or_default();
        }
        if let Some(net) = keys.take("net") {
            let mut net = Keys::new("sandbox.net.", net.table()?, &["hosts"])?;
            let hosts = net.take("hosts").map(Named::list).transpose()?.unwrap_or_default();
            grants.hosts = hosts.iter().map(host).collect::<Result<_, _>>()?;
        }
        if let Some(functions) = keys.take("host_functions") {
            let functions = functions.list()?;
            let names = functions.iter().map(|function| function.text().map(str::to_owned));
            grants.host_functions = names.collect::<Result<_, _>>()?;
        }
        Ok(grants)
    }
}

/// A table from paths of the guest to directories of the host; none of the former is in `other`.
fn directories(
    written: Named,
    directory: &Path,
    other: &BTreeMap<String, PathBuf>,
) -> Result<BTreeMap<String, PathBuf>, Fault> {
    let mut granted = BTreeMap::new();
    let table = written.key.clone();
    for (guest, value) in written.table()? {
        let value = Named { key: format!("{table}.{:?}", guest.value), value };
        let path = guest_path(&table, &guest)?;
        if granted.contains_key(&path) || other.contains_key(&path) {
            let why = format!("{path:?} is granted twice");
            return Err(Fault::at(guest.at, ManifestProblem::BadValue { key: table, why }));
        }
        granted.insert(path, host_directory(directory, &value)?);
    }
    Ok(granted)
}

/// A path of the guest, which is from its root and leads up nowhere.
fn guest_path(table: &str, written: &Located<String>) -> Result<String, Fault> {
    let path = &written.value;
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\0', '\\']);
    match path.strip_prefix('/').map(|path| path.strip_suffix('/').unwrap_or(path)) {
        _ if path == "/" => Ok("/".to_owned()),
        Some(parts) if parts.split('/').all(plain) => Ok(format!("/{parts}")),
        _ => {
            let why = format!("{path:?} is not a path of the guest: it begins with `/` and is without `.` and `..`");
            Err(Fault::at(written.at, ManifestProblem::BadValue { key: table.to_owned(), why }))
        }
    }
}

fn host_directory(directory: &Path, written: &Named) -> Result<PathBuf, Fault> {
    let text = written.text()?;
    let fault = |why: String| {
        let (key, path) = (written.key.clone(), text.to_owned());
        written.fault(ManifestProblem::Path { key, path, why })
    };
    if text.is_empty() {
        return Err(fault("is not a directory".to_owned()));
    }
    let target = directory.join(text).canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => fault("does not exist".to_owned()),
        _ => fault(format!("cannot be found: {error}")),
    })?;
    match target.is_dir() {
        true => Ok(target),
        false => Err(fault("is not a directory".to_owned())),
    }
}

fn host(written: &Named) -> Result<String, Fault> {
    let text = written.text()?.to_ascii_lowercase();
    let wrong = || {
        let hint = match text.contains('/') {
            true => "a host is without scheme and path",
            false => "a host is a name, `*.` and a name, an address or `*`, and may end in `:` and a port",
        };
        written.bad(format_args!("{text:?} is not a host: {hint}"))
    };
    match HostPattern::of(&text) {
        Some(_) => Ok(text),
        None => Err(wrong()),
    }
}

/// An item of `net.hosts`, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct HostPattern<'a> {
    host: HostName<'a>,
    /// None stands for all.
    port: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
enum HostName<'a> {
    Any,
    /// All below a name, which begins with its dot: `.example.org`.
    Below(&'a str),
    Name(&'a str),
    Address(IpAddr),
}

impl<'a> HostPattern<'a> {
    fn of(text: &'a str) -> Option<Self> {
        // An address of version 6 has colons of its own, and brackets where a port follows.
        if let Ok(address) = text.parse() {
            return Some(Self { host: HostName::Address(address), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        let port =
            port.map(|port| port.parse().ok().filter(|port| *port > 0)).map_or(Some(None), |port| port.map(Some))?;
        let host = match (host.strip_prefix('['), host.strip_prefix('*')) {
            (Some(address), _) => HostName::Address(IpAddr::V6(address.strip_suffix(']')?.parse().ok()?)),
            (None, Some("")) => HostName::Any,
            (None, Some(below)) => is_name(below.strip_prefix('.')?).then_some(HostName::Below(below))?,
            (None, None) => match host.parse() {
                Ok(address) => HostName::Address(address),
                Err(_) => is_name(host).then_some(HostName::Name(host))?,
            },
        };
        Some(Self { host, port })
    }

    /// Whether it stands for `host`, which is in lower case.
    fn matches(&self, host: &str, port: u16) -> bool {
        let same_host = match self.host {
            HostName::Any => true,
            HostName::Below(below) => host.len() > below.len() && host.ends_with(below),
            HostName::Name(name) => host == name,
            HostName::Address(address) => host.parse() == Ok(address),
        };
        same_host && self.port.is_none_or(|allowed| allowed == port)
    }
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    text.len() <= 253 && text.split('.').all(|label| !label.is_empty() && label.len() <= 63 && label.chars().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_reached_when_it_is_granted_with_its_port() {
        let hosts = ["api.example.org", "*.example.net", "localhost:8080", "127.0.0.1:80", "[::1]:80", "fe80::1"];
        let grants = Grants { hosts: hosts.map(str::to_owned).to_vec(), ..Grants::default() };
        for (host, port) in [
            ("api.example.org", 1),
            ("API.example.org.", 443),
            ("a.example.net", 80),
            ("a.b.example.net", 80),
            ("localhost", 8080),
            ("127.0.0.1", 80),
            ("::1", 80),
            ("[::1]", 80),
            ("0:0:0:0:0:0:0:1", 80),
            ("[FE80::1]", 7),
        ] {
            assert!(grants.reaches(host, port), "{host}:{port}");
        }
        for (host, port) in [
            ("example.org", 80),
            ("a.api.example.org", 80),
            ("api.example.org.evil.com", 80),
            ("example.net", 80),
            (".example.net", 80),
            ("evilexample.net", 80),
            ("localhost", 80),
            ("127.0.0.1", 81),
            ("127.0.0.2", 80),
            ("::1", 81),
            ("", 80),
        ] {
            assert!(!grants.reaches(host, port), "{host}:{port}");
        }
        let all = Grants { hosts: vec!["*:443".to_owned()], ..Grants::default() };
        assert!(all.reaches("anything.at.all", 443) && all.reaches("::1", 443) && !all.reaches("localhost", 80));
        assert!(!Grants::default().reaches("localhost", 80));
    }

    #[test]
    fn what_is_no_host_grants_nothing() {
        for text in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:b",
            "a:1:2",
            "*a",
            "*.",
            "**",
            "a.*.b",
            "a..b",
            "a b",
            "[::1",
            "[a]",
            "[127.0.0.1]",
            "http://a",
            "a/b",
            "*:",
            "ä",
        ] {
            assert_eq!(HostPattern::of(text), None, "{text:?}");
        }
    }
}
