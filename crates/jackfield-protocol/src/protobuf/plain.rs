//! Scalars as protobuf carries them: narrower ones are checked for their range.

use std::cmp::Ordering;

use serde::{Serialize, Serializer};

use super::layout::Scalar;
use super::wire::Wire;
use crate::value::Type;

/// A scalar, borrowed from the bytes that it was read from.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Plain<'a> {
    Bool(bool),
    Signed(Scalar, i64),
    Unsigned(Scalar, u64),
    F32(f32),
    F64(f64),
    Char(char),
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl Eq for Plain<'_> {}

impl PartialOrd for Plain<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Plain<'_> {
    /// The order of keys. Those of one map are of one kind, and none is a float.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Plain::Bool(a), Plain::Bool(b)) => a.cmp(b),
            (Plain::Signed(_, a), Plain::Signed(_, b)) => a.cmp(b),
            (Plain::Unsigned(_, a), Plain::Unsigned(_, b)) => a.cmp(b),
            (Plain::Char(a), Plain::Char(b)) => a.cmp(b),
            (Plain::Text(a), Plain::Text(b)) => a.cmp(b),
            _ => Ordering::Equal,
        }
    }
}

impl<'a> Plain<'a> {
    /// What the absence of one means.
    pub(super) fn zero(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Bool => Plain::Bool(false),
            Scalar::S8 | Scalar::S16 | Scalar::S32 | Scalar::S64 => Plain::Signed(scalar, 0),
            Scalar::U8 | Scalar::U16 | Scalar::U32 | Scalar::U64 => Plain::Unsigned(scalar, 0),
            Scalar::F32 => Plain::F32(0.0),
            Scalar::F64 => Plain::F64(0.0),
            Scalar::Char => Plain::Char('\0'),
            Scalar::String => Plain::Text(""),
            Scalar::Bytes => Plain::Bytes(&[]),
        }
    }

    /// The scalar that a value on the wire is. The error says why it is none.
    #[allow(clippy::cast_possible_wrap, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(super) fn of(scalar: Scalar, wire: Wire<'a>) -> Result<Self, String> {
        let signed = |number: i64, min: i64, max: i64| match (min..=max).contains(&number) {
            true => Ok(Plain::Signed(scalar, number)),
            false => Err(format!("{number} is out of range for `{}` ({min} to {max})", scalar.word())),
        };
        let unsigned = |number: u64, max: u64| match number <= max {
            true => Ok(Plain::Unsigned(scalar, number)),
            false => Err(format!("{number} is out of range for `{}` (0 to {max})", scalar.word())),
        };
        match (scalar, wire) {
            (Scalar::Bool, Wire::Varint(number)) => Ok(Plain::Bool(number != 0)),
            (Scalar::S64, Wire::Varint(number)) => signed(number as i64, i64::MIN, i64::MAX),
            (Scalar::U64, Wire::Varint(number)) => unsigned(number, u64::MAX),
            // Of a number that protobuf carries in 32 bits, every reader takes the lower 32.
            (Scalar::S8, Wire::Varint(number)) => signed((number as i32).into(), i8::MIN.into(), i8::MAX.into()),
            (Scalar::S16, Wire::Varint(number)) => signed((number as i32).into(), i16::MIN.into(), i16::MAX.into()),
            (Scalar::S32, Wire::Varint(number)) => signed((number as i32).into(), i32::MIN.into(), i32::MAX.into()),
            (Scalar::U8, Wire::Varint(number)) => unsigned((number as u32).into(), u8::MAX.into()),
            (Scalar::U16, Wire::Varint(number)) => unsigned((number as u32).into(), u16::MAX.into()),
            (Scalar::U32, Wire::Varint(number)) => unsigned((number as u32).into(), u32::MAX.into()),
            (Scalar::Char, Wire::Varint(number)) => {
                let number = number as u32;
                let letter = char::from_u32(number).map(Plain::Char);
                letter.ok_or_else(|| format!("is a `char`, got {number}, which is no Unicode scalar value"))
            }
            (Scalar::F32, Wire::Fixed32(bits)) => Ok(Plain::F32(f32::from_bits(bits))),
            (Scalar::F64, Wire::Fixed64(bits)) => Ok(Plain::F64(f64::from_bits(bits))),
            (Scalar::String, Wire::Len(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Plain::Text(text)),
                Err(error) => Err(format!("is a `string`, got bytes that are no UTF-8 from {}", error.valid_up_to())),
            },
            (Scalar::Bytes, Wire::Len(bytes)) => Ok(Plain::Bytes(bytes)),
            (scalar, wire) => Err(format!("is a `{}`, got {}", scalar.word(), wire.kind())),
        }
    }

    /// As the key of a map, for an error.
    pub(super) fn shown(&self) -> String {
        match self {
            Plain::Bool(value) => value.to_string(),
            Plain::Signed(_, number) => number.to_string(),
            Plain::Unsigned(_, number) => number.to_string(),
            Plain::Char(letter) => format!("{letter:?}"),
            Plain::Text(text) => format!("{text:?}"),
            Plain::F32(_) | Plain::F64(_) | Plain::Bytes(_) => String::new(),
        }
    }
}

impl Serialize for Plain<'_> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`of` checked the range")]
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match *self {
            Plain::Bool(value) => value.encode(to),
            Plain::Signed(Scalar::S8, number) => (number as i8).encode(to),
            Plain::Signed(Scalar::S16, number) => (number as i16).encode(to),
            Plain::Signed(Scalar::S32, number) => (number as i32).encode(to),
            Plain::Signed(_, number) => number.encode(to),
            Plain::Unsigned(Scalar::U8, number) => (number as u8).encode(to),
            Plain::Unsigned(Scalar::U16, number) => (number as u16).encode(to),
            Plain::Unsigned(Scalar::U32, number) => (number as u32).encode(to),
            Plain::Unsigned(_, number) => number.encode(to),
            Plain::F32(value) => value.encode(to),
            Plain::F64(value) => value.encode(to),
            Plain::Char(letter) => letter.encode(to),
            Plain::Text(text) => to.serialize_str(text),
            Plain::Bytes(bytes) => u8::encode_list(bytes, to),
        }
    }
}
