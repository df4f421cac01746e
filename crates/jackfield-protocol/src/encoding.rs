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
    #[inline]
    pub fn encode<T: Type>(self, value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Encoding::Binary if value.write_binary(out) => Ok(()),
            Encoding::Binary => write_postcard(value, out),
            Encoding::Json => write_json(value, out),
        }
    }

    /// Reads a value that fills `bytes` exactly.
    #[inline]
    pub fn decode<T: Type>(self, bytes: &[u8]) -> Result<T, DecodeError> {
        match self {
            Encoding::Binary => match T::read_binary(bytes) {
                Some(value) => Ok(value),
                None => read_postcard(bytes),
            },
            Encoding::Json => read_json(bytes),
        }
    }
}

// What serde does is on its own, and so out of the way of what [`Type::read_binary`] reads.

#[inline(never)]
fn write_json<T: Type>(value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    serde_json::to_writer(out, &Encode(value)).map_err(|error| EncodeError { what: error.to_string() })
}

#[inline(never)]
fn write_postcard<T: Type>(value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    postcard::serialize_with_flavor(&Encode(value), Appending(out))
        .map_err(|error| EncodeError { what: error.to_string() })
}

#[inline(never)]
fn read_json<T: Type>(bytes: &[u8]) -> Result<T, DecodeError> {
    match serde_json::from_slice(bytes) {
        Ok(Decoded(value)) => Ok(value),
        Err(error) => Err(DecodeError { encoding: Encoding::Json, what: error.to_string() }),
    }
}

#[inline(never)]
fn read_postcard<T: Type>(bytes: &[u8]) -> Result<T, DecodeError> {
    let what = match postcard::take_from_bytes(bytes) {
        Ok((Decoded(value), [])) => return Ok(value),
        Ok((_, rest)) => format!("{} bytes follow the value", rest.len()),
        Err(error) => error.to_string(),
    };
    Err(DecodeError { encoding: Encoding::Binary, what })
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Appends to a vector that is not postcard's. Strings and bytes are copied as a whole: what comes with
/// postcard takes them one by one, which a compiler that saves space does not make good.
struct Appending<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Appending<'_> {
    type Output = ();

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
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
