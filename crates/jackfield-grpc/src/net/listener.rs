//! Where a side listens for the other.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;

use super::{Address, Stream};
use crate::handshake::variable;

/// A group of users: sockets are open to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// By its name, looked up in `/etc/group`.
    Name(String),
    /// By its number.
    Number(u32),
}

impl From<&str> for Group {
    /// Digits are a number, all else is a name.
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_| Group::Name(text.to_owned()), Group::Number)
    }
}

impl Group {
    /// Opens a directory to the group, for what a host and its plugin make in it.
    #[cfg(unix)]
    pub fn open_directory(&self, directory: &std::path::Path) -> Result<(), BindError> {
        use std::os::unix::fs::PermissionsExt as _;

        let gid = unix::number(self)?;
        let given = std::os::unix::fs::chown(directory, None, Some(gid))
            .and_then(|()| std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o770)));
        given.map_err(|source| BindError::Group { path: directory.to_owned(), group: self.clone(), source })
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Group::Name(name) => f.write_str(name),
            Group::Number(number) => number.fmt(f),
        }
    }
}

/// Where sockets are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Unix sockets in this directory, open to its owner, and to this group if there is one.
    Directory(PathBuf, Option<Group>),
    /// The first free TCP port on 127.0.0.1, from and up to these; 0 and 0 for any.
    Ports(u16, u16),
}

/// Why the host's variables say no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// Not a port.
    #[error("`{variable}` is no port, but {seen:?}")]
    NotAPort {
        /// The variable.
        variable: &'static str,
        /// Its value.
        seen: String,
    },
    /// The lowest is higher than the highest.
    #[error("`PLUGIN_MIN_PORT` is {min}, which is more than `PLUGIN_MAX_PORT`, {max}")]
    NoPorts {
        /// The lowest.
        min: u16,
        /// The highest.
        max: u16,
    },
}

impl Default for Place {
    /// The temporary directory, or any port where there are no unix sockets.
    fn default() -> Self {
        if cfg!(unix) { Place::Directory(std::env::temp_dir(), None) } else { Place::Ports(0, 0) }
    }
}

impl Place {
    /// Where a host wants a plugin's sockets, by the variables that it set.
    pub fn of_plugin(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, PlaceError> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        if cfg!(unix) {
            let directory = given(variable::UNIX_SOCKET_DIR).map_or_else(std::env::temp_dir, PathBuf::from);
            let group = given(variable::UNIX_SOCKET_GROUP).map(|group| Group::from(&*group.to_string_lossy()));
            return Ok(Place::Directory(directory, group));
        }
        let port = |name: &'static str| match given(name) {
            None => Ok(0),
            Some(text) => {
                let text = text.to_string_lossy();
                text.parse().map_err(|_| PlaceError::NotAPort { variable: name, seen: text.into_owned() })
            }
        };
        let (min, max): (u16, u16) = (port(variable::MIN_PORT)?, port(variable::MAX_PORT)?);
        if min > max { Err(PlaceError::NoPorts { min, max }) } else { Ok(Place::Ports(min, max)) }
    }
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The directory's name leaves no room: the name of a socket is short.
    #[error("cannot listen at `{}`: its {bytes} bytes are too many for the name of a socket", path.display())]
    TooLong {
        /// The socket's file.
        path: PathBuf,
        /// How long it is.
        bytes: usize,
    },
    /// The directory is not UTF-8, as the handshake is.
    #[error("cannot tell the other side where the socket is: `{}` is not UTF-8", path.display())]
    NotUtf8 {
        /// The socket's file.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("cannot listen at `{}`", path.display())]
    Unix {
        /// The socket's file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The group is unknown.
    #[error("no group `{group}` in `/etc/group`; its number would do, too")]
    NoGroup {
        /// The group.
        group: String,
    },
    /// The socket cannot be given to the group.
    #[error("cannot give the socket `{}` to the group `{group}`", path.display())]
    Group {
        /// The socket's file.
        path: PathBuf,
        /// The group.
        group: Group,
        /// Why.
        source: io::Error,
    },
    /// Every port is taken.
    #[error("no free port on 127.0.0.1 from {min} to {max}")]
    Ports {
        /// The lowest.
        min: u16,
        /// The highest.
        max: u16,
        /// Why the last one could not be had.
        source: io::Error,
    },
    /// There are no unix sockets here.
    #[error("no unix sockets on this platform")]
    Unsupported,
}

/// A socket that takes connections. Its file, if it has one, goes with it.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Address,
}

#[derive(Debug)]
enum Socket {
    #[cfg(unix)]
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// Makes a socket.
    pub fn bind(place: &Place) -> Result<Self, BindError> {
        match place {
            #[cfg(unix)]
            Place::Directory(directory, group) => unix::bind(directory, group.as_ref()),
            #[cfg(not(unix))]
            Place::Directory(..) => Err(BindError::Unsupported),
            Place::Ports(min, max) => Self::bind_port(*min, *max),
        }
    }

    fn bind_port(min: u16, max: u16) -> Result<Self, BindError> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for port in min..=max {
            let bound = std::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            match bound.and_then(|socket| {
                socket.set_nonblocking(true)?;
                let address = Address::Tcp(socket.local_addr()?);
                Ok(Self { socket: Socket::Tcp(TcpListener::from_std(socket)?), address })
            }) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
        Err(BindError::Ports { min, max, source: last })
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            #[cfg(unix)]
            Socket::Unix(socket) => Ok(socket.accept().await?.0.into()),
            Socket::Tcp(socket) => Ok(socket.accept().await?.0.into()),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Address::Unix(path) = &self.address {
            // It may be gone already, with its directory.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(unix)]
mod unix {
    use std::hash::{BuildHasher as _, RandomState};
    use std::io;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use tokio::net::UnixListener;

    use super::{Address, BindError, Group, Listener, Socket};

    /// Names that are tried. That one is taken is unlikely; that all are means something else is wrong.
    const ATTEMPTS: usize = 16;

    pub(super) fn bind(directory: &Path, group: Option<&Group>) -> Result<Listener, BindError> {
        let group = group.map(|group| Ok((group, number(group)?))).transpose()?;
        let mut attempt = 0;
        let listener = loop {
            attempt += 1;
            let path = directory.join(format!("plugin{}", name()));
            if path.to_str().is_none() {
                return Err(BindError::NotUtf8 { path });
            }
            if std::os::unix::net::SocketAddr::from_pathname(&path).is_err() {
                let bytes = path.as_os_str().len();
                return Err(BindError::TooLong { path, bytes });
            }
            match UnixListener::bind(&path) {
                Ok(socket) => break Listener { socket: Socket::Unix(socket), address: Address::Unix(path) },
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempt < ATTEMPTS => {}
                Err(source) => return Err(BindError::Unix { path, source }),
            }
        };
        if let (Some((group, gid)), Address::Unix(path)) = (group, &listener.address) {
            let given = std::os::unix::fs::chown(path, None, Some(gid))
                .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)));
            given.map_err(|source| BindError::Group { path: path.clone(), group: group.clone(), source })?;
        }
        Ok(listener)
    }

    /// Eight letters and digits, other ones each time.
    fn name() -> String {
        let mut left = RandomState::new().hash_one(std::process::id());
        let digit = |left: &mut u64| {
            let digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(*left % 36) as usize];
            *left /= 36;
            char::from(digit)
        };
        (0..8).map(|_| digit(&mut left)).collect()
    }

    pub(super) fn number(group: &Group) -> Result<u32, BindError> {
        let name = match group {
            Group::Number(number) => return Ok(*number),
            Group::Name(name) => name,
        };
        let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
        let number = groups.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
        });
        number.ok_or_else(|| BindError::NoGroup { group: name.clone() })
    }
}
