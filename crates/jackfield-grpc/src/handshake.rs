//! What host and plugin say before there is a connection: variables in the plugin's environment, and the
//! first line of its stdout.
//!
//! Pure: nothing here reads a variable or prints.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::address::{Address, AddressError};

/// The only version of the line that there is.
pub const CORE_VERSION: u32 = 1;

/// Names of the variables by which a host tells a plugin how to start. No others begin with [`PREFIX`].
///
/// [`PREFIX`]: variable::PREFIX
pub mod variable {
    /// How all of them begin. A host removes what it inherited under such a name and does not set itself.
    pub const PREFIX: &str = "PLUGIN_";
    /// The application's versions that the host speaks: numbers with commas between them, in any order.
    pub const PROTOCOL_VERSIONS: &str = "PLUGIN_PROTOCOL_VERSIONS";
    /// Lowest TCP port; of use where there are no unix sockets.
    pub const MIN_PORT: &str = "PLUGIN_MIN_PORT";
    /// Highest TCP port.
    pub const MAX_PORT: &str = "PLUGIN_MAX_PORT";
    /// The host's certificate, as PEM. Set: the plugin makes one, too, and both insist on the other's.
    pub const CLIENT_CERT: &str = "PLUGIN_CLIENT_CERT";
    /// Not empty: the plugin says whether it multiplexes. `true`: it is to do so.
    pub const MULTIPLEX_GRPC: &str = "PLUGIN_MULTIPLEX_GRPC";
    /// Directory of the plugin's sockets.
    pub const UNIX_SOCKET_DIR: &str = "PLUGIN_UNIX_SOCKET_DIR";
    /// Group that the plugin's sockets belong to, as a name or a number.
    pub const UNIX_SOCKET_GROUP: &str = "PLUGIN_UNIX_SOCKET_GROUP";
    /// Jackfield's own: `stdin`, if the plugin's stdin is a pipe that the host keeps open and writes nothing to,
    /// so that its end is the host's. Without it stdin is left alone: hosts in Go hand on their own.
    pub const LIFELINE: &str = "JACKFIELD_LIFELINE";
    /// All that begin with [`PREFIX`].
    pub const ALL: [&str; 7] =
        [PROTOCOL_VERSIONS, MIN_PORT, MAX_PORT, CLIENT_CERT, MULTIPLEX_GRPC, UNIX_SOCKET_DIR, UNIX_SOCKET_GROUP];
}

/// A variable that tells a plugin that a host started it. No secret, and no protection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Name of the variable.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl Cookie {
    /// A cookie.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self { key: key.into(), value: value.into() }
    }

    /// The cookie of plugins that serve Jackfield's interfaces.
    pub fn jackfield() -> Self {
        Self::new(JACKFIELD_COOKIE_KEY, JACKFIELD_COOKIE_VALUE)
    }
}

/// Name of the variable in [`Cookie::jackfield`].
pub const JACKFIELD_COOKIE_KEY: &str = "JACKFIELD_PLUGIN";

/// Value of the variable in [`Cookie::jackfield`].
pub const JACKFIELD_COOKIE_VALUE: &str = "e1175a800c4fa0d925279cd55e158c6e16f7c3354a0ac53c8695f42cc953781f";

/// The application's version of plugins that serve Jackfield's interfaces.
pub const JACKFIELD_APP_VERSION: u32 = 1;

/// How the plugin is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// Go's net/rpc, which plugins speak that do not say otherwise.
    NetRpc,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Grpc => "grpc",
            Protocol::NetRpc => "netrpc",
        })
    }
}

/// The first line of a plugin's stdout. `Display` writes it as a plugin prints it, without the line's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The application's version that the plugin chose.
    pub app_version: u32,
    /// Where the plugin listens, as it sees it.
    pub address: Address,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// The plugin's certificate, as DER. Whether it is one is not checked here.
    pub certificate: Option<Vec<u8>>,
    /// Whether it multiplexes; `None` if it does not say.
    pub multiplex: Option<bool>,
}

/// Why a line is no handshake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// It has fewer than four fields.
    #[error("the first line of stdout is no handshake, but {}", shown(line))]
    NotAHandshake {
        /// What was printed.
        line: String,
    },
    /// The first field is no number.
    #[error("the version of the handshake is no number, but {seen:?}")]
    CoreNotANumber {
        /// The field.
        seen: String,
    },
    /// The first field is a number, but not 1.
    #[error("the plugin's handshake has version {seen}, this host understands version {CORE_VERSION}")]
    Core {
        /// The field.
        seen: i64,
    },
    /// The second field is no number that a version could have.
    #[error("the application's version is no number, but {seen:?}")]
    AppVersion {
        /// The field.
        seen: String,
    },
    /// The third and fourth field are no address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The fifth field is neither `grpc` nor `netrpc`.
    #[error("the plugin speaks {seen:?}, which is neither `grpc` nor `netrpc`")]
    Protocol {
        /// The field.
        seen: String,
    },
    /// The sixth field is long enough for a certificate, and not base64 without padding.
    #[error("the plugin's certificate is not base64: {why}")]
    Certificate {
        /// What is wrong, and where.
        why: String,
    },
    /// The seventh field is no truth value.
    #[error("whether the plugin multiplexes is neither true nor false, but {seen:?}")]
    Multiplex {
        /// The field.
        seen: String,
    },
}

/// Beginning of a line that an error shows, in characters.
const LINE_SHOWN: usize = 100;

fn shown(line: &str) -> String {
    match line.char_indices().nth(LINE_SHOWN) {
        None => format!("{line:?}"),
        Some((end, _)) => format!("{:?}… ({} bytes)", &line[..end], line.len()),
    }
}

/// Longest sixth field that is no certificate: old plugins put other things there.
const NO_CERTIFICATE_LEN_MAX: usize = 50;

impl Line {
    /// Reads a line, with or without its end.
    ///
    /// Four fields are enough: what is absent is `netrpc`, no certificate and no word about multiplexing.
    /// Fields after the seventh are ignored.
    pub fn parse(line: &str) -> Result<Self, HandshakeError> {
        let line = line.trim();
        let fields: Vec<&str> = line.split('|').collect();
        let [core, app, network, address, rest @ ..] = &*fields else {
            return Err(HandshakeError::NotAHandshake { line: line.to_owned() });
        };
        let core_number =
            core.parse::<i64>().map_err(|_| HandshakeError::CoreNotANumber { seen: (*core).to_owned() })?;
        if core_number != i64::from(CORE_VERSION) {
            return Err(HandshakeError::Core { seen: core_number });
        }
        let app_version = app.parse().map_err(|_| HandshakeError::AppVersion { seen: (*app).to_owned() })?;
        let address = Address::parse(network, address)?;
        let protocol = match rest.first() {
            None | Some(&"netrpc") => Protocol::NetRpc,
            Some(&"grpc") => Protocol::Grpc,
            Some(&seen) => return Err(HandshakeError::Protocol { seen: seen.to_owned() }),
        };
        let certificate = match rest.get(1) {
            Some(field) if field.len() > NO_CERTIFICATE_LEN_MAX => {
                let decoded = STANDARD_NO_PAD.decode(field);
                Some(decoded.map_err(|error| HandshakeError::Certificate { why: error.to_string() })?)
            }
            _ => None,
        };
        let multiplex = match rest.get(2) {
            None => None,
            Some(field) => {
                Some(parse_bool(field).ok_or_else(|| HandshakeError::Multiplex { seen: (*field).to_owned() })?)
            }
        };
        Ok(Self { app_version, address, protocol, certificate, multiplex })
    }
}

impl fmt::Display for Line {
    /// Six fields, the last of them empty without a certificate; a seventh only if the host asked for it, for
    /// old hosts would take it for a part of the certificate.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app_version, address, protocol, certificate, multiplex } = self;
        let certificate = certificate.as_deref().map(|der| STANDARD_NO_PAD.encode(der)).unwrap_or_default();
        write!(
            f,
            "{CORE_VERSION}|{app_version}|{}|{}|{protocol}|{certificate}",
            address.network(),
            address.location()
        )?;
        match multiplex {
            Some(multiplex) => write!(f, "|{multiplex}"),
            None => Ok(()),
        }
    }
}

/// The version that a plugin of the versions `own` chooses, by the host's [`variable::PROTOCOL_VERSIONS`].
///
/// The highest that both speak. If there is none, or the host did not say, the lowest of its own: a host that
/// does not say is an old one, and any other reports the mismatch better than a plugin could.
///
/// 0 if `own` is empty.
pub fn negotiate(own: &[u32], offered: Option<&str>) -> u32 {
    let offered: Vec<u32> = offered.unwrap_or_default().split(',').filter_map(|version| version.parse().ok()).collect();
    let common = own.iter().filter(|version| offered.contains(version)).max();
    common.or_else(|| own.iter().min()).copied().unwrap_or(0)
}

/// A truth value, spelled in one of the ways that Go takes for one.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
