//! What the host says in the environment.

use std::ffi::OsString;
use std::path::PathBuf;

use jackfield_grpc::handshake::{Cookie, negotiate, parse_bool, variable};
use jackfield_grpc::net::{BindError, Listener, Place, PlaceError};
use jackfield_grpc::tls::{Identity, Tls, TlsError, certificate_from_pem};

/// Why a plugin does not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// Its author gave an empty cookie, or no version.
    Misconfigured(&'static str),
    /// No host started it.
    NotAHost {
        /// The program.
        program: PathBuf,
    },
    /// The host's variables name no place for a socket.
    Place(PlaceError),
    /// There is no socket.
    Bind(BindError),
    /// There is no TLS.
    Tls(TlsError),
    /// What reflection is to tell cannot be read.
    Descriptors(String),
    /// stdin, stdout or stderr cannot be taken, or there is no runtime.
    Io(std::io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Misconfigured(what) => write!(f, "this plugin was built wrongly: {what}"),
            StartError::NotAHost { program } => write!(
                f,
                "`{}` is a plugin: a host starts it and speaks to it. It does nothing by itself.",
                program.display()
            ),
            StartError::Place(error) => error.fmt(f),
            StartError::Bind(error) => error.fmt(f),
            StartError::Tls(error) => error.fmt(f),
            StartError::Descriptors(why) => write!(f, "the descriptors of the services cannot be read: {why}"),
            StartError::Io(error) => write!(f, "cannot take stdin, stdout and stderr: {error}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Place(error) => error.source(),
            StartError::Bind(error) => error.source(),
            StartError::Tls(error) => error.source(),
            _ => None,
        }
    }
}

/// What the host wants.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) version: u32,
    pub(super) place: Place,
    /// The host's certificate, as PEM.
    pub(super) certificate: Option<String>,
    pub(super) multiplex: Multiplex,
    /// Whether stdin is a pipe that ends with the host.
    pub(super) lifeline: bool,
}

/// Whether connections are part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Multiplex {
    /// The host does not know of it.
    Unknown,
    /// It knows, and does not want it.
    No,
    Yes,
}

impl Asked {
    /// Reads the variables, after the cookie.
    pub(super) fn read(
        cookie: &Cookie,
        versions: &[u32],
        get: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, StartError> {
        if cookie.key.is_empty() || cookie.value.is_empty() {
            return Err(StartError::Misconfigured("its cookie is empty"));
        }
        if get(&cookie.key).is_none_or(|value| value != *cookie.value) {
            let program = std::env::current_exe().unwrap_or_else(|_| "this program".into());
            return Err(StartError::NotAHost { program });
        }
        Self::read_without_cookie(versions, get)
    }

    pub(super) fn read_without_cookie(
        versions: &[u32],
        get: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, StartError> {
        if versions.is_empty() {
            return Err(StartError::Misconfigured("it has no version"));
        }
        let text = |name: &str| {
            let value = get(name).filter(|value| !value.is_empty());
            value.map(|value| value.to_string_lossy().into_owned())
        };
        let multiplex = match text(variable::MULTIPLEX_GRPC) {
            None => Multiplex::Unknown,
            Some(wanted) if parse_bool(&wanted) == Some(true) => Multiplex::Yes,
            Some(_) => Multiplex::No,
        };
        Ok(Self {
            version: negotiate(versions, text(variable::PROTOCOL_VERSIONS).as_deref()),
            place: Place::of_plugin(&get).map_err(StartError::Place)?,
            certificate: text(variable::CLIENT_CERT),
            multiplex,
            lifeline: text(variable::LIFELINE).is_some_and(|lifeline| lifeline == "stdin"),
        })
    }

    /// Makes the socket. Within a tokio runtime.
    pub(super) fn listen(&self) -> Result<Listener, StartError> {
        Listener::bind(&self.place).map_err(StartError::Bind)
    }

    /// TLS with this host, if it asked for it, and the plugin's own certificate.
    pub(super) fn tls(&self) -> Result<Option<(Tls, Vec<u8>)>, StartError> {
        let Some(pem) = &self.certificate else { return Ok(None) };
        let host = certificate_from_pem(pem).map_err(StartError::Tls)?;
        let own = Identity::generate().map_err(StartError::Tls)?;
        let tls = Tls::new(&own, &host).map_err(StartError::Tls)?;
        Ok(Some((tls, own.der().to_vec())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Asked, StartError> {
        let get = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        Asked::read(&Cookie::new("COOKIE", "yes"), &[2, 3], get)
    }

    #[test]
    fn without_the_cookie_nothing_starts() {
        for variables in [&[][..], &[("COOKIE", "no")], &[("COOKIE", "")]] {
            let error = read(variables).expect_err("no host").to_string();
            assert!(error.ends_with("is a plugin: a host starts it and speaks to it. It does nothing by itself."));
        }
    }

    #[test]
    fn an_empty_cookie_is_the_authors_mistake() {
        for cookie in [Cookie::new("", "yes"), Cookie::new("COOKIE", "")] {
            let error = Asked::read(&cookie, &[1], |_| Some("".into())).expect_err("a mistake");
            assert_eq!(error.to_string(), "this plugin was built wrongly: its cookie is empty");
        }
    }

    #[test]
    fn the_version_is_negotiated() {
        assert_eq!(read(&[("COOKIE", "yes")]).expect("started").version, 2);
        let offered = [("COOKIE", "yes"), ("PLUGIN_PROTOCOL_VERSIONS", "9,3,2")];
        assert_eq!(read(&offered).expect("started").version, 3);
    }

    #[test]
    fn multiplexing_is_what_go_takes_for_true() {
        let multiplex =
            |value| read(&[("COOKIE", "yes"), ("PLUGIN_MULTIPLEX_GRPC", value)]).expect("started").multiplex;
        assert_eq!(read(&[("COOKIE", "yes")]).expect("started").multiplex, Multiplex::Unknown);
        assert_eq!(multiplex(""), Multiplex::Unknown);
        assert_eq!(multiplex("true"), Multiplex::Yes);
        assert_eq!(multiplex("1"), Multiplex::Yes);
        assert_eq!(multiplex("false"), Multiplex::No);
        assert_eq!(multiplex("yes"), Multiplex::No);
    }

    #[test]
    fn a_certificate_that_is_none_is_refused() {
        let asked = read(&[("COOKIE", "yes"), ("PLUGIN_CLIENT_CERT", "junk")]).expect("started");
        assert!(matches!(asked.tls(), Err(StartError::Tls(TlsError::Pem { .. }))));
    }
}
