//! What `#[derive(Type)]` generates code for: records by member, cases by tag, flags by bit.
//!
//! Not here: the types of Rust itself (`value.rs`).

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, EnumAccess, Error as _, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor};
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serializer};

use super::{Decoded, Encode, Type, nothing_more};
use crate::hint::did_you_mean;
use crate::name::spells;
use crate::types::{TypeRef, Types};

/// A borrowed value among owned ones: a field of a case that is written as a tuple. It is never read.
#[doc(hidden)]
#[derive(Debug)]
pub struct Borrowed<'a, T>(pub &'a T);

impl<T: Type> Type for Borrowed<'_, T> {
    const NULLABLE: bool = T::NULLABLE;

    fn describe(types: &mut Types) -> TypeRef {
        T::describe(types)
    }

    fn encode<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.encode(to)
    }

    fn decode<'de, D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("a borrowed value is only written"))
    }
}

/// Position of a member among the members of a record, variant, enum or set of flags.
#[doc(hidden)]
#[derive(Debug)]
pub struct Member(pub usize);

/// Reads a member's name in any accepted spelling.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct MemberSeed {
    pub of: &'static str,
    pub members: &'static [&'static str],
}

impl<'de> DeserializeSeed<'de> for MemberSeed {
    type Value = Member;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Member, D::Error> {
        from.deserialize_identifier(self)
    }
}

impl Visitor<'_> for MemberSeed {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a member of `{}`", self.of)
    }

    fn visit_str<E: serde::de::Error>(self, written: &str) -> Result<Member, E> {
        let position = self.members.iter().position(|member| spells(written, member));
        position.map(Member).ok_or_else(|| {
            let hint = did_you_mean(written, self.members.iter().copied());
            E::custom(format_args!("`{}` has no `{written}`{hint}", self.of))
        })
    }

    fn visit_u64<E: serde::de::Error>(self, index: u64) -> Result<Member, E> {
        match usize::try_from(index) {
            Ok(index) if index < self.members.len() => Ok(Member(index)),
            _ => Err(E::invalid_value(Unexpected::Unsigned(index), &self)),
        }
    }
}

/// Takes a field that was read, or what its absence means.
#[doc(hidden)]
pub fn field<T: Type, E: serde::de::Error>(read: Option<T>, name: &'static str) -> Result<T, E> {
    read.or_else(T::absent).ok_or_else(|| E::missing_field(name))
}

/// Reads the next field of a record by position.
#[doc(hidden)]
pub fn next_field<'de, T: Type, A: SeqAccess<'de>>(seq: &mut A, name: &'static str) -> Result<T, A::Error> {
    seq.next_element::<Decoded<T>>()?.map(|Decoded(value)| value).ok_or_else(|| A::Error::missing_field(name))
}

/// Reads one field of a record by name.
#[doc(hidden)]
pub fn read_field<'de, T: Type, A: MapAccess<'de>>(
    map: &mut A,
    into: &mut Option<T>,
    name: &'static str,
) -> Result<(), A::Error> {
    if into.is_some() {
        return Err(A::Error::duplicate_field(name));
    }
    *into = Some(map.next_value::<Decoded<T>>()?.0);
    Ok(())
}

/// A Rust enum as a variant or an enum of the interface.
#[doc(hidden)]
pub trait Cases: Sized {
    const NAME: &'static str;
    const CASES: &'static [&'static str];

    /// The case at `index` if it carries nothing.
    fn bare(index: usize) -> Option<Self>;

    /// The case at `index`, with its value read from `from`.
    fn carrying<'de, D: Deserializer<'de>>(index: usize, from: D) -> Result<Self, D::Error>;
}

/// Writes the case of a variant that carries `value`.
#[doc(hidden)]
pub fn encode_case<C: Cases, T: Type, S: Serializer>(index: u32, value: &T, to: S) -> Result<S::Ok, S::Error> {
    let tag = C::CASES[index as usize];
    if !to.is_human_readable() {
        return to.serialize_newtype_variant(C::NAME, index, tag, &Encode(value));
    }
    let mut case = to.serialize_struct(C::NAME, 2)?;
    case.serialize_field("tag", tag)?;
    case.serialize_field("val", &Encode(value))?;
    case.end()
}

/// Writes the case of a variant that carries nothing.
#[doc(hidden)]
pub fn encode_bare_case<C: Cases, S: Serializer>(index: u32, to: S) -> Result<S::Ok, S::Error> {
    let tag = C::CASES[index as usize];
    if !to.is_human_readable() {
        return to.serialize_unit_variant(C::NAME, index, tag);
    }
    let mut case = to.serialize_struct(C::NAME, 1)?;
    case.serialize_field("tag", tag)?;
    case.end()
}

/// Writes a name of an enum.
#[doc(hidden)]
pub fn encode_enum<C: Cases, S: Serializer>(index: u32, to: S) -> Result<S::Ok, S::Error> {
    let name = C::CASES[index as usize];
    match to.is_human_readable() {
        true => to.serialize_str(name),
        false => to.serialize_unit_variant(C::NAME, index, name),
    }
}

/// Reads a variant or an enum.
#[doc(hidden)]
pub fn decode_cases<'de, C: Cases, D: Deserializer<'de>>(from: D) -> Result<C, D::Error> {
    match from.is_human_readable() {
        true => from.deserialize_any(CasesVisitor(PhantomData)),
        false => from.deserialize_enum(C::NAME, C::CASES, CasesVisitor(PhantomData)),
    }
}

struct CasesVisitor<C>(PhantomData<C>);

impl<C: Cases> CasesVisitor<C> {
    const MEMBERS: MemberSeed = MemberSeed { of: C::NAME, members: C::CASES };

    fn bare<E: serde::de::Error>(index: usize) -> Result<C, E> {
        let missing = || E::custom(format_args!("`{}` of `{}` wants a value", C::CASES[index], C::NAME));
        C::bare(index).ok_or_else(missing)
    }
}

impl<'de, C: Cases> Visitor<'de> for CasesVisitor<C> {
    type Value = C;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a case of `{}`", C::NAME)
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<C, E> {
        Self::bare(Self::MEMBERS.visit_str(name)?.0)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<C, A::Error> {
        let (index, value) = data.variant::<u32>()?;
        let Member(index) = Self::MEMBERS.visit_u64(index.into())?;
        match C::bare(index) {
            Some(bare) => value.unit_variant().map(|()| bare),
            None => value.newtype_variant_seed(Carrying::<C>(index, PhantomData)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<C, A::Error> {
        let Some(first) = map.next_key::<String>()? else {
            return Err(A::Error::missing_field("tag"));
        };
        let value = match &*first {
            "tag" => {
                let Member(index) = map.next_value_seed(Self::MEMBERS)?;
                match map.next_key::<String>()?.as_deref() {
                    None => return Self::bare(index),
                    Some("val") => match C::bare(index) {
                        Some(bare) => map.next_value::<()>().map(|()| bare)?,
                        None => map.next_value_seed(Carrying::<C>(index, PhantomData))?,
                    },
                    Some(extra) => {
                        return Err(A::Error::custom(format_args!("unexpected member `{extra}`")));
                    }
                }
            }
            // The value stands before its tag: keep it until the tag tells its type.
            "val" if !C::CASES.contains(&"val") => {
                let kept: serde_json::Value = map.next_value()?;
                match map.next_key::<String>()?.as_deref() {
                    Some("tag") => {}
                    _ => return Err(A::Error::missing_field("tag")),
                }
                let Member(index) = map.next_value_seed(Self::MEMBERS)?;
                match C::bare(index) {
                    Some(bare) if kept.is_null() => bare,
                    _ => C::carrying(index, kept).map_err(A::Error::custom)?,
                }
            }
            name => {
                let Member(index) = Self::MEMBERS.visit_str(name)?;
                match C::bare(index) {
                    Some(bare) => map.next_value::<()>().map(|()| bare)?,
                    None => map.next_value_seed(Carrying::<C>(index, PhantomData))?,
                }
            }
        };
        nothing_more(&mut map)?;
        Ok(value)
    }
}

struct Carrying<C>(usize, PhantomData<C>);

impl<'de, C: Cases> DeserializeSeed<'de> for Carrying<C> {
    type Value = C;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<C, D::Error> {
        C::carrying(self.0, from)
    }
}

/// Writes a set of flags; bit n is `names[n]`.
#[doc(hidden)]
pub fn encode_flags<S: Serializer>(bits: u64, names: &[&'static str], to: S) -> Result<S::Ok, S::Error> {
    if !to.is_human_readable() {
        return to.serialize_u64(bits);
    }
    to.collect_seq(names.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| name))
}

/// Reads a set of flags.
#[doc(hidden)]
pub fn decode_flags<'de, D: Deserializer<'de>>(
    of: &'static str,
    names: &'static [&'static str],
    from: D,
) -> Result<u64, D::Error> {
    struct Flags(MemberSeed);
    impl<'de> Visitor<'de> for Flags {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an array of names of `{}`", self.0.of)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<u64, A::Error> {
            let mut bits = 0;
            while let Some(Member(bit)) = seq.next_element_seed(self.0)? {
                bits |= 1 << bit;
            }
            Ok(bits)
        }
    }
    if from.is_human_readable() {
        return from.deserialize_seq(Flags(MemberSeed { of, members: names }));
    }
    let bits = u64::deserialize(from)?;
    match names.len() < 64 && bits >> names.len() != 0 {
        true => Err(D::Error::custom(format_args!("`{of}` has only {} flags", names.len()))),
        false => Ok(bits),
    }
}
