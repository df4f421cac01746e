//! Addresses, listeners and connections: unix sockets, and TCP where there are none.
//!
//! A socket's file lives as long as its [`Listener`]. Its name is new each time, so that no file of another
//! process is ever removed.
//!
//! Not here: TLS (`tls.rs`), many connections over one (`mux.rs`).

mod listener;
mod stream;

use std::io;

use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

pub use crate::address::{Address, AddressError};
pub use listener::{BindError, Group, Listener, Place, PlaceError};
pub use stream::Stream;

/// Connects to an address.
pub async fn connect(address: &Address) -> io::Result<Stream> {
    match address {
        #[cfg(unix)]
        Address::Unix(path) => Ok(UnixStream::connect(path).await?.into()),
        #[cfg(not(unix))]
        Address::Unix(_) => Err(io::Error::new(io::ErrorKind::Unsupported, "no unix sockets on this platform")),
        Address::Tcp(address) => Ok(TcpStream::connect(address).await?.into()),
    }
}
