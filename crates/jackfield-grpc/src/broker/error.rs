//! Why there is no further connection.

use std::io;
use std::time::Duration;

use crate::net::{AddressError, BindError};

/// Why a connection cannot be dialled or accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The other side did not say where the connection is.
    #[error("the other side did not say within {waited:?} where connection {id} is")]
    NoAddress {
        /// The number.
        id: u32,
        /// How long was waited.
        waited: Duration,
    },
    /// The other side did not answer the knock.
    #[error("the other side did not say within {waited:?} that it takes connection {id}")]
    NoAnswer {
        /// The number.
        id: u32,
        /// How long was waited.
        waited: Duration,
    },
    /// The other side does not take the connection.
    #[error("the other side does not take connection {id}: {why}")]
    Refused {
        /// The number.
        id: u32,
        /// What it said.
        why: String,
    },
    /// The other side said it would take the connection, and did not.
    #[error("the other side did not take connection {id} within {waited:?}")]
    NotTaken {
        /// The number.
        id: u32,
        /// How long was waited.
        waited: Duration,
    },
    /// What the other side said is no address.
    #[error("cannot connect to {id}")]
    Address {
        /// The number.
        id: u32,
        /// What is wrong with it.
        source: AddressError,
    },
    /// There is no connection to be had at that address.
    #[error("cannot connect to {id}")]
    Connect {
        /// The number.
        id: u32,
        /// Why.
        source: io::Error,
    },
    /// No socket could be made.
    #[error("cannot accept connection {id}")]
    Bind {
        /// The number.
        id: u32,
        /// Why.
        source: BindError,
    },
    /// Somebody on this side is dialling or accepting the number already.
    #[error("connection {id} is in use")]
    InUse {
        /// The number.
        id: u32,
    },
    /// There is no connection yet that this one could be a part of.
    #[error("cannot connect to {id} before the host has connected")]
    NotConnected {
        /// The number.
        id: u32,
    },
    /// The broker is closed.
    #[error("no connection {id}: the broker is closed")]
    Closed {
        /// The number.
        id: u32,
    },
}
