//! Values of enums and flags as our encodings have them, by name or by position, read for `write.rs`.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, EnumAccess, Error as _, SeqAccess, VariantAccess, Visitor};

use super::layout::Enum;
use super::trail::Trail;

/// The position of a name of an enum.
pub(super) struct Name<'a> {
    pub(super) trail: &'a Trail,
    pub(super) of: &'a Enum,
}

impl Name<'_> {
    fn position<E: serde::de::Error>(&self, name: &str) -> Result<usize, E> {
        let found = self.of.values.iter().position(|value| value.name == name);
        found.ok_or_else(|| E::custom(self.trail.note(format!("`{}` has no `{name}`", self.of.of))))
    }
}

impl<'de> DeserializeSeed<'de> for &Name<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<usize, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for &Name<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a name of `{}`", self.of.of)
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<usize, E> {
        self.position(name)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<usize, A::Error> {
        let (position, bare) = data.variant::<u32>()?;
        bare.unit_variant()?;
        match self.of.values.len() > position as usize {
            true => Ok(position as usize),
            false => Err(A::Error::custom(self.trail.note(format!("`{}` has no value {position}", self.of.of)))),
        }
    }
}

/// The bits of a set of flags, by name.
pub(super) struct Names<'a>(pub(super) Name<'a>);

impl<'de> Visitor<'de> for Names<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of names of `{}`", self.0.of.of)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<u64, A::Error> {
        let mut bits = 0;
        while let Some(bit) = seq.next_element_seed(&self.0)? {
            bits |= 1 << bit;
        }
        Ok(bits)
    }
}
