//! The encodings of values: canonical JSON for everybody, a compact binary one between equals.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::value::{Decoded, Encode, Type};

/// How the values of a call are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Encoding {
    /// Canonical JSON ([`crate::value`] has the table). Every plugin understands it.
    Json = 0,
    /// [postcard](https://postcard.jamesmunns.com/wire-format), the types in the order of the
    /// description. Only when both sides have the same fingerprint, since it carries no names.
    Binary = 1,
}

impl Encoding {
    /// `json`, `binary`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Encoding::Json => "json",
            Encoding::Binary => "binary",
        }
    }

    /// Appends `value` to `out`.
    pub fn encode<T: Type>(self, value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Encoding::Json => {
                serde_json::to_writer(out, &Encode(value)).map_err(|error| EncodeError { what: error.to_string() })
            }
            Encoding::Binary => postcard::to_extend(&Encode(value), Appending(out))
                .map(|_| ())
                .map_err(|error| EncodeError { what: error.to_string() }),
        }
    }

    /// Reads a value that fills `bytes` exactly.
    pub fn decode<T: Type>(self, bytes: &[u8]) -> Result<T, DecodeError> {
        match self {
            Encoding::Json => match serde_json::from_slice(bytes) {
                Ok(Decoded(value)) => Ok(value),
                Err(error) => Err(DecodeError { encoding: self, what: error.to_string() }),
            },
            Encoding::Binary => match postcard::take_from_bytes(bytes) {
                Ok((Decoded(value), [])) => Ok(value),
                Ok((_, rest)) => {
                    let what = format!("{} bytes follow the value", rest.len());
                    Err(DecodeError { encoding: self, what })
                }
                Err(error) => Err(DecodeError { encoding: self, what: error.to_string() }),
            },
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// postcard wants to own what it appends to.
struct Appending<'a>(&'a mut Vec<u8>);

impl Extend<u8> for Appending<'_> {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        self.0.extend(bytes);
    }
}

/// A value that the encoding cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot write the value: {what}")]
pub struct EncodeError {
    pub(crate) what: String,
}

/// Bytes that are not the value they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct DecodeError {
    /// The encoding the bytes were read in.
    pub encoding: Encoding,
    pub(crate) what: String,
}
