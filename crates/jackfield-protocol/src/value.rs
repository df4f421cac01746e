//! Values: how a Rust type becomes a value of the interface and comes back.
//!
//! [`Type`] is to Jackfield what `Serialize` and `Deserialize` are to serde, and rides on them: one
//! implementation serves canonical JSON (a self-describing serializer) and the binary encoding
//! (postcard). serde's own derives are not used, since their JSON loses what ours must keep: NaN,
//! 64-bit integers in other languages, bytes, `option<option<T>>`.
//!
//! | type | canonical JSON | also accepted |
//! |---|---|---|
//! | integers | number; a string beyond ±(2^53 − 1) | 64-bit ones as a string |
//! | `f32`, `f64` | number, or `"NaN"`, `"Infinity"`, `"-Infinity"` | an integer it can hold exactly |
//! | `list<u8>` | base64, padded | array of numbers |
//! | `option<T>` | value or `null`; inside an option `{"some": value}` | absent field |
//! | `result<T, E>` | `{"ok": value}`, `{"err": value}` | |
//! | record | object with kebab-case names | snake_case, camelCase |
//! | variant | `{"tag": "x", "val": value}` | `{"x": value}`, `"x"` |
//! | enum, flags | string, array of strings | |

pub(crate) mod binary;
mod generated;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{EnumAccess, Error as _, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _, SerializeTuple as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::call::Whole;
use crate::types::{TypeRef, Types};

#[doc(hidden)]
pub use generated::*;

/// A Rust type that can cross the border. Derive it: `#[derive(jackfield_plugin::Type)]`.
///
/// ```
/// use jackfield_protocol::{Encoding, Type};
/// let mut json = Vec::new();
/// Encoding::Json.encode(&vec![1u64, u64::MAX], &mut json)?;
/// assert_eq!(json, br#"[1,"18446744073709551615"]"#);
/// # Ok::<(), jackfield_protocol::EncodeError>(())
/// ```
pub trait Type: Sized {
    /// Whether JSON writes some value of it as `null`.
    const NULLABLE: bool = false;

    /// The type in WIT's terms; defines named types in `types` on the way.
    fn describe(types: &mut Types) -> TypeRef;

    /// Writes the value.
    fn encode<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error>;

    /// Reads a value.
    fn decode<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;

    /// The value of an absent field, where absence means something.
    fn absent() -> Option<Self> {
        None
    }

    /// `list<Self>`; overridden by `u8` alone, whose lists are bytes.
    #[doc(hidden)]
    fn describe_list(types: &mut Types) -> TypeRef {
        TypeRef::List(Box::new(Self::describe(types)))
    }

    #[doc(hidden)]
    fn encode_list<S: Serializer>(items: &[Self], to: S) -> Result<S::Ok, S::Error> {
        let mut list = to.serialize_seq(Some(items.len()))?;
        items.iter().try_for_each(|item| list.serialize_element(&Encode(item)))?;
        list.end()
    }

    #[doc(hidden)]
    fn decode_list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Self>, D::Error> {
        from.deserialize_seq(ListVisitor(PhantomData))
    }

    /// Takes the value to pass it as it is, if it is a string or bytes. What is left is empty.
    #[doc(hidden)]
    fn take_whole(&mut self) -> Option<Whole> {
        None
    }

    /// The value that was passed as it is, given back if the type is not the one of such values.
    #[doc(hidden)]
    fn from_whole(whole: Whole) -> Result<Self, Whole> {
        Err(whole)
    }

    /// Writes the value in [`Encoding::Binary`](crate::Encoding::Binary) without serde, where that is simple;
    /// false, with nothing written, where it is not.
    ///
    /// For strings and bytes, alone or as the only field. Most calls have nothing else, and in a guest that
    /// was compiled to be small serde takes ten times as long as the copy.
    #[doc(hidden)]
    fn write_binary(&self, _: &mut Vec<u8>) -> bool {
        false
    }

    /// Reads what [`Type::write_binary`] writes, of `bytes` exactly. None where serde is to read it, or to say
    /// what is wrong with it.
    #[doc(hidden)]
    fn read_binary(_: &[u8]) -> Option<Self> {
        None
    }

    #[doc(hidden)]
    fn write_binary_list(_: &[Self], _: &mut Vec<u8>) -> bool {
        false
    }

    #[doc(hidden)]
    fn read_binary_list(_: &[u8]) -> Option<Vec<Self>> {
        None
    }

    #[doc(hidden)]
    fn take_whole_list(_: &mut Vec<Self>) -> Option<Whole> {
        None
    }

    #[doc(hidden)]
    fn list_from_whole(whole: Whole) -> Result<Vec<Self>, Whole> {
        Err(whole)
    }
}

/// A value to be written, as serde wants it.
#[derive(Debug)]
pub struct Encode<'a, T>(pub &'a T);

impl<T: Type> Serialize for Encode<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.encode(to)
    }
}

/// A value that was read, as serde wants it.
#[derive(Debug)]
pub struct Decoded<T>(pub T);

impl<'de, T: Type> Deserialize<'de> for Decoded<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::decode(from).map(Decoded)
    }
}

/// Most elements reserved for on a sender's word alone; more are made room for as they arrive.
const RESERVE_MAX: usize = 1024;

/// Largest integer that every JSON reader holds exactly: 2^53 − 1.
pub const EXACT_MAX: u64 = (1 << 53) - 1;

macro_rules! small_integer {
    ($($ty:ident $variant:ident $encode:ident;)*) => {$(
        impl Type for $ty {
            fn describe(_: &mut Types) -> TypeRef {
                TypeRef::$variant
            }

            fn encode<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.$encode(*self)
            }

            fn decode<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $ty::deserialize(from)
            }
        }
    )*};
}
small_integer! {
    bool Bool serialize_bool;
    i8 S8 serialize_i8;
    i16 S16 serialize_i16;
    i32 S32 serialize_i32;
    u16 U16 serialize_u16;
    u32 U32 serialize_u32;
    char Char serialize_char;
}

macro_rules! large_integer {
    ($ty:ident $variant:ident $encode:ident) => {
        impl Type for $ty {
            fn describe(_: &mut Types) -> TypeRef {
                TypeRef::$variant
            }

            fn encode<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                // JavaScript and others read numbers as f64: beyond 2^53 a number would change.
                #[allow(unused_comparisons, clippy::absurd_extreme_comparisons)]
                let exact = i128::from(*self).unsigned_abs() <= u128::from(EXACT_MAX);
                if exact || !to.is_human_readable() { to.$encode(*self) } else { to.collect_str(self) }
            }

            fn decode<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                if !from.is_human_readable() {
                    return $ty::deserialize(from);
                }
                struct Wide;
                impl Visitor<'_> for Wide {
                    type Value = $ty;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, "`{}`", TypeRef::$variant)
                    }

                    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<$ty, E> {
                        $ty::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
                    }

                    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<$ty, E> {
                        $ty::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
                    }

                    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<$ty, E> {
                        value.parse().map_err(|_| E::invalid_value(Unexpected::Str(value), &self))
                    }
                }
                from.deserialize_any(Wide)
            }
        }
    };
}
large_integer!(i64 S64 serialize_i64);
large_integer!(u64 U64 serialize_u64);

impl Type for u8 {
    fn describe(_: &mut Types) -> TypeRef {
        TypeRef::U8
    }

    fn encode<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u8(*self)
    }

    fn decode<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        u8::deserialize(from)
    }

    fn describe_list(_: &mut Types) -> TypeRef {
        TypeRef::Bytes
    }

    fn encode_list<S: Serializer>(items: &[Self], to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.serialize_str(&BASE64.encode(items)) } else { to.serialize_bytes(items) }
    }

    fn decode_list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Self>, D::Error> {
        if from.is_human_readable() {
            from.deserialize_any(BytesVisitor)
        } else {
            from.deserialize_byte_buf(BytesVisitor)
        }
    }

    #[inline]
    fn write_binary_list(items: &[Self], out: &mut Vec<u8>) -> bool {
        binary::write(items, out);
        true
    }

    #[inline]
    fn read_binary_list(bytes: &[u8]) -> Option<Vec<Self>> {
        Some(binary::owned(binary::content(bytes)?))
    }

    #[inline]
    fn take_whole_list(bytes: &mut Vec<Self>) -> Option<Whole> {
        Some(Whole::Bytes(std::mem::take(bytes)))
    }

    #[inline]
    fn list_from_whole(whole: Whole) -> Result<Vec<Self>, Whole> {
        match whole {
            Whole::Bytes(bytes) => Ok(bytes),
            Whole::Text(_) => Err(whole),
        }
    }
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes as base64 or as an array of numbers")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
        BASE64.decode(text).map_err(|error| E::custom(format_args!("bytes are not base64: {error}")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Vec<u8>, A::Error> {
        ListVisitor::<u8>(PhantomData).visit_seq(seq)
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: Type> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(RESERVE_MAX));
        while let Some(Decoded(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(items)
    }
}

macro_rules! float {
    ($ty:ident $variant:ident $encode:ident) => {
        impl Type for $ty {
            fn describe(_: &mut Types) -> TypeRef {
                TypeRef::$variant
            }

            fn encode<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                match not_finite(f64::from(*self)) {
                    Some(name) if to.is_human_readable() => to.serialize_str(name),
                    _ => to.$encode(*self),
                }
            }

            #[allow(clippy::cast_possible_truncation, reason = "rounding to f32 is what f32 means")]
            fn decode<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                if !from.is_human_readable() {
                    return $ty::deserialize(from);
                }
                let wide = from.deserialize_any(FloatVisitor)?;
                let narrow = wide as $ty;
                if narrow.is_infinite() && wide.is_finite() {
                    return Err(D::Error::custom(format_args!("{wide} is out of range for `{}`", TypeRef::$variant)));
                }
                Ok(narrow)
            }
        }
    };
}
float!(f32 F32 serialize_f32);
float!(f64 F64 serialize_f64);

/// The JSON string for what JSON has no number for, as in protobuf's JSON.
pub(crate) fn not_finite(value: f64) -> Option<&'static str> {
    match value {
        value if value.is_nan() => Some("NaN"),
        f64::INFINITY => Some("Infinity"),
        f64::NEG_INFINITY => Some("-Infinity"),
        _ => None,
    }
}

struct FloatVisitor;

impl Visitor<'_> for FloatVisitor {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, \"NaN\", \"Infinity\" or \"-Infinity\"")
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<f64, E> {
        let float = value as f64;
        // The largest u64 rounds up to 2^64, which comes back saturated: look at the width, too.
        match float as u64 == value && float < 18_446_744_073_709_551_616.0 {
            true => Ok(float),
            false => Err(E::invalid_value(Unexpected::Unsigned(value), &"an integer that a float holds exactly")),
        }
    }

    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<f64, E> {
        let float = value as f64;
        match float as i64 == value {
            true => Ok(float),
            false => Err(E::invalid_value(Unexpected::Signed(value), &"an integer that a float holds exactly")),
        }
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<f64, E> {
        match value {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            _ => Err(E::invalid_value(Unexpected::Str(value), &self)),
        }
    }
}

impl Type for String {
    fn describe(_: &mut Types) -> TypeRef {
        TypeRef::String
    }

    fn encode<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self)
    }

    fn decode<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)
    }

    #[inline]
    fn write_binary(&self, out: &mut Vec<u8>) -> bool {
        binary::write(self.as_bytes(), out);
        true
    }

    #[inline]
    fn read_binary(bytes: &[u8]) -> Option<Self> {
        String::from_utf8(binary::owned(binary::content(bytes)?)).ok()
    }

    #[inline]
    fn take_whole(&mut self) -> Option<Whole> {
        Some(Whole::Text(std::mem::take(self)))
    }

    #[inline]
    fn from_whole(whole: Whole) -> Result<Self, Whole> {
        match whole {
            Whole::Text(text) => Ok(text),
            Whole::Bytes(_) => Err(whole),
        }
    }
}

impl<T: Type> Type for Vec<T> {
    fn describe(types: &mut Types) -> TypeRef {
        T::describe_list(types)
    }

    fn encode<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        T::encode_list(self, to)
    }

    fn decode<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::decode_list(from)
    }

    fn write_binary(&self, out: &mut Vec<u8>) -> bool {
        T::write_binary_list(self, out)
    }

    fn read_binary(bytes: &[u8]) -> Option<Self> {
        T::read_binary_list(bytes)
    }

    fn take_whole(&mut self) -> Option<Whole> {
        T::take_whole_list(self)
    }

    fn from_whole(whole: Whole) -> Result<Self, Whole> {
        T::list_from_whole(whole)
    }
}

impl<T: Type> Type for Option<T> {
    const NULLABLE: bool = true;

    fn describe(types: &mut Types) -> TypeRef {
        TypeRef::Option(Box::new(T::describe(types)))
    }

    fn encode<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            None => to.serialize_none(),
            Some(value) if T::NULLABLE && to.is_human_readable() => {
                let mut some = to.serialize_map(Some(1))?;
                some.serialize_entry("some", &Encode(value))?;
                some.end()
            }
            Some(value) => to.serialize_some(&Encode(value)),
        }
    }

    fn decode<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if T::NULLABLE && from.is_human_readable() {
            let wrapped = Option::<OneOf<T>>::deserialize(from)?;
            return Ok(wrapped.map(|OneOf(value)| value));
        }
        Ok(Option::<Decoded<T>>::deserialize(from)?.map(|Decoded(value)| value))
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

/// `{"some": value}`.
struct OneOf<T>(T);

impl<'de, T: Type> Deserialize<'de> for OneOf<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Some_<T>(PhantomData<T>);
        impl<'de, T: Type> Visitor<'de> for Some_<T> {
            type Value = OneOf<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`{\"some\": value}`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OneOf<T>, A::Error> {
                let Some(Member(_)) = map.next_key_seed(MemberSeed { of: "option", members: &["some"] })? else {
                    return Err(A::Error::missing_field("some"));
                };
                let Decoded(value) = map.next_value()?;
                nothing_more(&mut map)?;
                Ok(OneOf(value))
            }
        }
        from.deserialize_map(Some_(PhantomData))
    }
}

fn nothing_more<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    match map.next_key::<String>()? {
        None => Ok(()),
        Some(extra) => Err(A::Error::custom(format_args!("unexpected member `{extra}`"))),
    }
}

impl<T: Type, E: Type> Type for Result<T, E> {
    fn describe(types: &mut Types) -> TypeRef {
        TypeRef::Result(Box::new(T::describe(types)), Box::new(E::describe(types)))
    }

    fn encode<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if !to.is_human_readable() {
            return match self {
                Ok(value) => to.serialize_newtype_variant("result", 0, "ok", &Encode(value)),
                Err(error) => to.serialize_newtype_variant("result", 1, "err", &Encode(error)),
            };
        }
        let mut map = to.serialize_map(Some(1))?;
        match self {
            Ok(value) => map.serialize_entry("ok", &Encode(value))?,
            Err(error) => map.serialize_entry("err", &Encode(error))?,
        }
        map.end()
    }

    fn decode<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either<T, E>(PhantomData<(T, E)>);
        impl<'de, T: Type, E: Type> Visitor<'de> for Either<T, E> {
            type Value = Result<T, E>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`{\"ok\": value}` or `{\"err\": value}`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let members = MemberSeed { of: "result", members: &["ok", "err"] };
                let value = match map.next_key_seed(members)? {
                    Some(Member(0)) => Ok(map.next_value::<Decoded<T>>()?.0),
                    Some(_) => Err(map.next_value::<Decoded<E>>()?.0),
                    None => return Err(A::Error::missing_field("ok")),
                };
                nothing_more(&mut map)?;
                Ok(value)
            }

            fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Self::Value, A::Error> {
                let (index, value) = data.variant::<u32>()?;
                match index {
                    0 => Ok(Ok(value.newtype_variant::<Decoded<T>>()?.0)),
                    1 => Ok(Err(value.newtype_variant::<Decoded<E>>()?.0)),
                    _ => Err(A::Error::invalid_value(Unexpected::Unsigned(index.into()), &self)),
                }
            }
        }
        match from.is_human_readable() {
            true => from.deserialize_map(Either(PhantomData)),
            false => from.deserialize_enum("result", &["ok", "err"], Either(PhantomData)),
        }
    }
}

impl<K: Type + Ord, V: Type> Type for BTreeMap<K, V> {
    fn describe(types: &mut Types) -> TypeRef {
        TypeRef::Map(Box::new(K::describe(types)), Box::new(V::describe(types)))
    }

    fn encode<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.len()))?;
        self.iter().try_for_each(|(key, value)| map.serialize_entry(&Encode(key), &Encode(value)))?;
        map.end()
    }

    fn decode<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries<K, V>(PhantomData<(K, V)>);
        impl<'de, K: Type + Ord, V: Type> Visitor<'de> for Entries<K, V> {
            type Value = BTreeMap<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((Decoded(key), Decoded(value))) = map.next_entry()? {
                    if entries.insert(key, value).is_some() {
                        return Err(A::Error::custom("a key is there twice"));
                    }
                }
                Ok(entries)
            }
        }
        from.deserialize_map(Entries(PhantomData))
    }
}

impl Type for () {
    const NULLABLE: bool = true;

    fn describe(_: &mut Types) -> TypeRef {
        TypeRef::UNIT
    }

    fn encode<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_unit()
    }

    fn decode<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <()>::deserialize(from)
    }

    fn absent() -> Option<Self> {
        Some(())
    }
}

macro_rules! tuple {
    ($len:literal: $($item:ident $at:tt),*) => {
        impl<$($item: Type),*> Type for ($($item,)*) {
            fn describe(types: &mut Types) -> TypeRef {
                TypeRef::Tuple(vec![$($item::describe(types)),*])
            }

            fn encode<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                let mut tuple = to.serialize_tuple($len)?;
                $(tuple.serialize_element(&Encode(&self.$at))?;)*
                tuple.end()
            }

            fn decode<'de, De: Deserializer<'de>>(from: De) -> Result<Self, De::Error> {
                let ($($item,)*): ($(Decoded<$item>,)*) = Deserialize::deserialize(from)?;
                Ok(($($item.0,)*))
            }
        }
    };
}
#[allow(non_snake_case, reason = "the type's letter names the value, too")]
mod tuples {
    use super::*;
    tuple!(1: A 0);
    tuple!(2: A 0, B 1);
    tuple!(3: A 0, B 1, C 2);
    tuple!(4: A 0, B 1, C 2, D 3);
    tuple!(5: A 0, B 1, C 2, D 3, E 4);
    tuple!(6: A 0, B 1, C 2, D 3, E 4, F 5);
    tuple!(7: A 0, B 1, C 2, D 3, E 4, F 5, G 6);
    tuple!(8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
}
