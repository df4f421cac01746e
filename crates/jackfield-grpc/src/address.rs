//! Where the other side is to be found, as the handshake and the broker write it.
//!
//! Not here: connecting (`net.rs`).

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Where a connection is to be had.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A unix socket, by its file.
    Unix(PathBuf),
    /// An IP address and a port.
    Tcp(SocketAddr),
}

/// Why two texts are no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The network is neither `unix` nor `tcp`.
    #[error("unknown kind of address {network:?}, which is neither `unix` nor `tcp`")]
    Network {
        /// What was there instead.
        network: String,
    },
    /// There is no path, or no IP address with a port.
    #[error("{address:?} is no {network} address")]
    Address {
        /// `unix` or `tcp`.
        network: &'static str,
        /// What was there instead.
        address: String,
    },
}

impl Address {
    /// Reads an address as it is written in a handshake and by the broker.
    ///
    /// A host name other than `localhost` is no TCP address here: plugins are on this machine.
    pub fn parse(network: &str, address: &str) -> Result<Self, AddressError> {
        match network {
            "unix" if address.is_empty() => Err(AddressError::Address { network: "unix", address: address.to_owned() }),
            "unix" => Ok(Address::Unix(address.into())),
            "tcp" => {
                let local = |(host, port): (&str, &str)| {
                    let port = port.parse().ok()?;
                    matches!(host, "" | "localhost").then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
                };
                let parsed = address.parse().ok().or_else(|| address.rsplit_once(':').and_then(local));
                let no_address = || AddressError::Address { network: "tcp", address: address.to_owned() };
                parsed.map(Address::Tcp).ok_or_else(no_address)
            }
            _ => Err(AddressError::Network { network: network.to_owned() }),
        }
    }

    /// `unix` or `tcp`.
    pub fn network(&self) -> &'static str {
        match self {
            Address::Unix(_) => "unix",
            Address::Tcp(_) => "tcp",
        }
    }

    /// The path, or the IP address with its port. No listener makes a path that is not UTF-8.
    pub fn location(&self) -> String {
        match self {
            Address::Unix(path) => path.to_string_lossy().into_owned(),
            Address::Tcp(address) => address.to_string(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.network(), self.location())
    }
}
