//! `[grpc]`: what a host says to a plugin of hashicorp/go-plugin, and accepts from it.
//!
//! go-plugin leaves all of this to the application, so it is data here. The defaults are those of a plugin
//! made with Jackfield's own SDK.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::document::{Keys, Named};
use super::entry;
use super::error::{Fault, ManifestProblem, did_you_mean};

/// The `[grpc]` of a manifest.
///
/// ```toml
/// [grpc]
/// cookie = { key = "BASIC_PLUGIN", value = "hello" }
/// versions = [2, 3]
/// tls = "off"
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GrpcSpec {
    /// `cookie`: the variable, and its value, by which the program sees that a host of its kind starts it.
    /// Default: Jackfield's own.
    pub cookie: Cookie,
    /// `versions`: of the application's protocol, those that this host takes; which one it is, the plugin
    /// decides. Default: 1.
    pub versions: Vec<u32>,
    /// `plugin`: the name in go-plugin's map of plugins. Nothing crosses the border with it; it is shown.
    /// Default: none.
    pub plugin: Option<String>,
    /// `tls`: `"auto"`, a certificate of either side for this one start, each of which takes no other; or
    /// `"off"`. Default: `"auto"`.
    pub tls: bool,
    /// `calls`: `"stream"`, so that functions of interfaces are called over one stream where the plugin takes
    /// that; or `"unary"`, each by a call of its own. Default: `"stream"`.
    pub stream: bool,
    /// `multiplex`: whether what plugin and host serve for each other goes through the one connection. A
    /// plugin that cannot is refused. Default: no.
    pub multiplex: bool,
    /// `descriptor_set`: a file with the compiled `.proto` files of the plugin's services
    /// (`google.protobuf.FileDescriptorSet`), under the rules of `entry`. Default: the plugin is asked by
    /// reflection.
    pub descriptor_set: Option<PathBuf>,
    /// `lock`: a file with the numbers of the fields of its interfaces, as `jackfield interface export`
    /// writes it, under the rules of `entry`. Default: numbers by position.
    pub lock: Option<PathBuf>,
    /// `ports`: first and last of those that a plugin may listen on where there are no Unix sockets.
    /// Default: 10000 to 25000.
    pub ports: (u16, u16),
    /// `socket_group`: name or number of a group that may use the plugin's sockets, too. Default: none.
    pub socket_group: Option<String>,
    /// `reattach`: a plugin that runs already, instead of starting one. `entry` is not run then.
    pub reattach: Option<Reattach>,
}

/// Variable and value that say: a host of your kind starts you.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// The variable's name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// `{ address = "/run/p.sock", pid = 4711, version = 1 }`: a plugin that runs already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reattach {
    /// Where it listens: the path of a Unix socket, or an address and a port.
    pub address: ReattachAddress,
    /// Number of its process.
    pub pid: u32,
    /// The version of the application's protocol that it speaks. Default: the highest of `versions`.
    pub version: Option<u32>,
    /// `test`: it is under test elsewhere, and is not ended with the host. Default: no.
    pub test: bool,
}

/// Where a plugin that runs already listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReattachAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// An address and a port.
    Tcp(SocketAddr),
}

impl Default for GrpcSpec {
    fn default() -> Self {
        Self {
            cookie: Cookie::default(),
            versions: vec![1],
            plugin: None,
            tls: true,
            stream: true,
            multiplex: false,
            descriptor_set: None,
            lock: None,
            ports: (10_000, 25_000),
            socket_group: None,
            reattach: None,
        }
    }
}

/// What the SDK expects. A random number, so that no other kind of host has it by chance.
impl Default for Cookie {
    fn default() -> Self {
        Self {
            key: "JACKFIELD_PLUGIN".to_owned(),
            value: "e1175a800c4fa0d925279cd55e158c6e16f7c3354a0ac53c8695f42cc953781f".to_owned(),
        }
    }
}

impl GrpcSpec {
    pub(super) fn read(written: Named, directory: &Path) -> Result<Self, Fault> {
        const KEYS: [&str; 11] = [
            "cookie",
            "versions",
            "plugin",
            "tls",
            "calls",
            "multiplex",
            "descriptor_set",
            "lock",
            "ports",
            "socket_group",
            "reattach",
        ];
        let mut keys = Keys::new("grpc.", written.table()?, &KEYS)?;
        let mut spec = Self::default();
        if let Some(cookie) = keys.take("cookie") {
            spec.cookie = Cookie::read(cookie)?;
        }
        if let Some(versions) = keys.take("versions") {
            spec.versions = self::versions(versions)?;
        }
        spec.plugin = keys.take("plugin").map(|plugin| plugin.text().map(str::to_owned)).transpose()?;
        if let Some(tls) = keys.take("tls") {
            spec.tls = either(&tls, "auto", "off")?;
        }
        if let Some(calls) = keys.take("calls") {
            spec.stream = either(&calls, "stream", "unary")?;
        }
        if let Some(multiplex) = keys.take("multiplex") {
            spec.multiplex = multiplex.boolean()?;
        }
        spec.descriptor_set = keys.take("descriptor_set").map(|file| entry::inside(directory, &file)).transpose()?;
        spec.lock = keys.take("lock").map(|file| entry::inside(directory, &file)).transpose()?;
        if let Some(ports) = keys.take("ports") {
            spec.ports = self::ports(ports)?;
        }
        spec.socket_group = keys.take("socket_group").map(|group| group.text().map(str::to_owned)).transpose()?;
        spec.reattach = keys.take("reattach").map(Reattach::read).transpose()?;
        Ok(spec)
    }
}

/// One of two words; whether it is the first.
fn either(written: &Named, yes: &str, no: &str) -> Result<bool, Fault> {
    match written.text()? {
        text if text == yes => Ok(true),
        text if text == no => Ok(false),
        other => {
            let hint = did_you_mean("", other, [yes, no]);
            Err(written.bad(format_args!("{other:?} is neither `{yes}` nor `{no}`{hint}")))
        }
    }
}

impl Cookie {
    fn read(written: Named) -> Result<Self, Fault> {
        let at = written.value.at;
        let mut keys = Keys::new("grpc.cookie.", written.table()?, &["key", "value"])?;
        let mut taken = |key: &str, whole: &'static str| {
            let named = keys.take(key).ok_or_else(|| Fault::at(at, ManifestProblem::Missing { key: whole }))?;
            match named.text()? {
                "" => Err(named.bad("is empty, and an empty cookie is none")),
                text if text.contains('\0') || (key == "key" && text.contains('=')) => {
                    Err(named.bad(format_args!("{text:?} cannot stand in an environment")))
                }
                text => Ok(text.to_owned()),
            }
        };
        Ok(Self { key: taken("key", "grpc.cookie.key")?, value: taken("value", "grpc.cookie.value")? })
    }
}

impl Reattach {
    fn read(written: Named) -> Result<Self, Fault> {
        let at = written.value.at;
        let missing = |key| Fault::at(at, ManifestProblem::Missing { key });
        let mut keys = Keys::new("grpc.reattach.", written.table()?, &["address", "pid", "version", "test"])?;
        let address = keys.take("address").ok_or_else(|| missing("grpc.reattach.address"))?;
        let text = address.text()?;
        let address = match text.parse() {
            Ok(address) => ReattachAddress::Tcp(address),
            Err(_) if Path::new(text).is_absolute() => ReattachAddress::Unix(text.into()),
            Err(_) => {
                return Err(
                    address.bad(format_args!("{text:?} is neither an absolute path nor an address with a port"))
                );
            }
        };
        let pid = keys.take("pid").ok_or_else(|| missing("grpc.reattach.pid"))?.count("processes")?;
        let version = keys.take("version").map(|version| number(&version)).transpose()?;
        let test = keys.take("test").map(|test| test.boolean()).transpose()?.unwrap_or_default();
        Ok(Self { address, pid, version, test })
    }
}

fn versions(written: Named) -> Result<Vec<u32>, Fault> {
    let at = written.value.at;
    let key = written.key.clone();
    let versions: Vec<_> = written.list()?.iter().map(number).collect::<Result<_, _>>()?;
    match versions.is_empty() {
        true => {
            let why = "no plugin speaks none of all versions".to_owned();
            Err(Fault::at(at, ManifestProblem::BadValue { key, why }))
        }
        false => Ok(versions),
    }
}

fn number(written: &Named) -> Result<u32, Fault> {
    let number = written.integer()?;
    u32::try_from(number).map_err(|_| written.bad(format_args!("{number} is no version: 0 to {}", u32::MAX)))
}

fn ports(written: Named) -> Result<(u16, u16), Fault> {
    let at = written.value.at;
    let key = written.key.clone();
    let ports = written.list()?;
    let port = |named: &Named| {
        let number = named.integer()?;
        u16::try_from(number).map_err(|_| named.bad(format_args!("{number} is no port")))
    };
    match &ports[..] {
        [first, last] if port(first)? <= port(last)? => Ok((port(first)?, port(last)?)),
        _ => {
            let why = "is two ports, the first not above the second".to_owned();
            Err(Fault::at(at, ManifestProblem::BadValue { key, why }))
        }
    }
}
