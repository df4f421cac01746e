//! Values on their way into protobuf: read in our encodings, by their layout, and written as they come.
//!
//! Both encodings go the same way: serde asks the layout what comes next. JSON was checked and made canonical
//! before, so that there is one spelling of each thing here. Nothing is reserved on a sender's word alone.
//!
//! Not here: values on their way back (`read.rs`).

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, EnumAccess, Error as _, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor};

use super::enums::{Name, Names};
use super::layout::{Enum, Field, Form, Item, Layout, Message, Scalar, Slot};
use super::trail::Trail;
use super::wire::{close, kind, open, put_bytes, put_tag, put_varint};
use crate::value::Type;

/// Protobuf that is being written.
pub(super) struct Writer<'a> {
    layout: &'a Layout,
    trail: &'a Trail,
    out: Vec<u8>,
}

/// What stands before a scalar.
#[derive(Clone, Copy)]
enum Head {
    /// Its tag; and zero is not written, for its absence means it.
    Implicit(u32),
    /// Its tag.
    Explicit(u32),
    /// Nothing: it is one of several behind one tag.
    Packed,
}

impl<'a> Writer<'a> {
    pub(super) fn new(layout: &'a Layout, trail: &'a Trail) -> Self {
        Self { layout, trail, out: Vec::new() }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }

    /// Writes the fields of a message, without what stands around it.
    pub(super) fn message<'de, D: Deserializer<'de>>(&mut self, message: &'a Message, from: D) -> Result<(), D::Error> {
        let human = from.is_human_readable();
        let fields = Fields { to: self, message };
        match message.form {
            Form::Wrapper => match message.fields.first() {
                Some(field) => fields.to.slot(field.number, &field.slot, from),
                None => <()>::decode(from),
            },
            Form::Record if human => from.deserialize_map(fields),
            Form::Record | Form::Tuple => from.deserialize_tuple(message.fields.len(), fields),
            Form::Variant | Form::Result if human => from.deserialize_map(fields),
            Form::Variant | Form::Result => from.deserialize_enum("", &[], fields),
        }
    }

    /// Writes the value of one side of a result, without what stands around it.
    pub(super) fn side<'de, D: Deserializer<'de>>(&mut self, field: &'a Field, from: D) -> Result<(), D::Error> {
        match &field.slot {
            Slot::Single(item) => self.item(Head::Explicit(field.number), item, from),
            slot => self.slot(field.number, slot, from),
        }
    }

    /// Writes a value into the field of this number.
    fn slot<'de, D: Deserializer<'de>>(&mut self, number: u32, slot: &'a Slot, from: D) -> Result<(), D::Error> {
        match slot {
            Slot::Single(item) => self.item(Head::Implicit(number), item, from),
            Slot::Optional { some, wrapped } => {
                let wrapped = *wrapped && from.is_human_readable();
                from.deserialize_option(Perhaps { to: self, number, some, wrapped })
            }
            Slot::List(item) => from.deserialize_seq(Items { to: self, number, item }),
            Slot::Map { key, value } => from.deserialize_map(Entries { to: self, number, key: *key, value }),
            Slot::Flags(at) => {
                let of = &self.layout.enums[*at];
                let set = match from.is_human_readable() {
                    true => from.deserialize_seq(Names(Name { trail: self.trail, of }))?,
                    false => u64::decode(from)?,
                };
                if of.values.len() < 64 && set >> of.values.len() != 0 {
                    let what = format!("`{}` has only {} flags", of.of, of.values.len());
                    return Err(D::Error::custom(self.trail.note(what)));
                }
                self.flags(number, of, set);
                Ok(())
            }
        }
    }

    fn flags(&mut self, number: u32, of: &Enum, set: u64) {
        if set == 0 {
            return;
        }
        let content = open(&mut self.out, number);
        for (_, value) in of.values.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1) {
            put_varint(&mut self.out, value.number.into());
        }
        close(&mut self.out, content);
    }

    fn item<'de, D: Deserializer<'de>>(&mut self, head: Head, item: &'a Item, from: D) -> Result<(), D::Error> {
        match item {
            Item::Scalar(scalar) => self.scalar(head, *scalar, from),
            Item::Enum(at) => {
                let of = &self.layout.enums[*at];
                let name = Name { trail: self.trail, of };
                let position = match from.is_human_readable() {
                    true => from.deserialize_str(&name)?,
                    false => from.deserialize_enum("", &[], &name)?,
                };
                self.varint(head, of.values[position].number.into());
                Ok(())
            }
            Item::Message(at) => {
                let (Head::Implicit(number) | Head::Explicit(number)) = head else {
                    return Err(D::Error::custom("a message is never packed"));
                };
                let message = &self.layout.messages[*at];
                let content = open(&mut self.out, number);
                self.message(message, from)?;
                close(&mut self.out, content);
                Ok(())
            }
            Item::Empty => {
                <()>::decode(from)?;
                if let Head::Implicit(number) | Head::Explicit(number) = head {
                    put_bytes(&mut self.out, number, &[]);
                }
                Ok(())
            }
        }
    }

    #[allow(clippy::cast_sign_loss, reason = "a negative number is written as the 64 bits it is")]
    fn scalar<'de, D: Deserializer<'de>>(&mut self, head: Head, scalar: Scalar, from: D) -> Result<(), D::Error> {
        match scalar {
            Scalar::Bool => self.varint(head, bool::decode(from)?.into()),
            Scalar::S8 => self.varint(head, i64::from(i8::decode(from)?) as u64),
            Scalar::S16 => self.varint(head, i64::from(i16::decode(from)?) as u64),
            Scalar::S32 => self.varint(head, i64::from(i32::decode(from)?) as u64),
            Scalar::S64 => self.varint(head, i64::decode(from)? as u64),
            Scalar::U8 => self.varint(head, u8::decode(from)?.into()),
            Scalar::U16 => self.varint(head, u16::decode(from)?.into()),
            Scalar::U32 => self.varint(head, u32::decode(from)?.into()),
            Scalar::U64 => self.varint(head, u64::decode(from)?),
            Scalar::Char => self.varint(head, u32::from(char::decode(from)?).into()),
            // Minus zero is not the zero that absence means.
            Scalar::F32 => self.fixed(head, kind::FIXED32, &f32::decode(from)?.to_bits().to_le_bytes()),
            Scalar::F64 => self.fixed(head, kind::FIXED64, &f64::decode(from)?.to_bits().to_le_bytes()),
            Scalar::String => from.deserialize_str(Content { to: self, head, text: true })?,
            Scalar::Bytes if from.is_human_readable() => {
                let bytes = Vec::<u8>::decode(from)?;
                self.content(head, &bytes);
            }
            Scalar::Bytes => from.deserialize_bytes(Content { to: self, head, text: false })?,
        }
        Ok(())
    }

    fn varint(&mut self, head: Head, value: u64) {
        match head {
            Head::Implicit(_) if value == 0 => return,
            Head::Implicit(number) | Head::Explicit(number) => put_tag(&mut self.out, number, kind::VARINT),
            Head::Packed => {}
        }
        put_varint(&mut self.out, value);
    }

    fn fixed(&mut self, head: Head, kind: u8, bytes: &[u8]) {
        match head {
            Head::Implicit(_) if bytes.iter().all(|byte| *byte == 0) => return,
            Head::Implicit(number) | Head::Explicit(number) => put_tag(&mut self.out, number, kind),
            Head::Packed => {}
        }
        self.out.extend_from_slice(bytes);
    }

    fn content(&mut self, head: Head, bytes: &[u8]) {
        match head {
            Head::Implicit(_) if bytes.is_empty() => {}
            Head::Implicit(number) | Head::Explicit(number) => put_bytes(&mut self.out, number, bytes),
            // Strings and bytes are never packed: they have a length of their own.
            Head::Packed => {}
        }
    }
}

/// A value for a field, as serde wants to be asked for it.
struct SlotSeed<'w, 'a>(&'w mut Writer<'a>, u32, &'a Slot);

impl<'de> DeserializeSeed<'de> for SlotSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.0.slot(self.1, self.2, from)
    }
}

/// The same for what one field carries.
struct ItemSeed<'w, 'a>(&'w mut Writer<'a>, Head, &'a Item);

impl<'de> DeserializeSeed<'de> for ItemSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.0.item(self.1, self.2, from)
    }
}

struct ScalarSeed<'w, 'a>(&'w mut Writer<'a>, Head, Scalar);

impl<'de> DeserializeSeed<'de> for ScalarSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.0.scalar(self.1, self.2, from)
    }
}

/// A string or bytes.
struct Content<'w, 'a> {
    to: &'w mut Writer<'a>,
    head: Head,
    text: bool,
}

impl Visitor<'_> for Content<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.text { "a string" } else { "bytes" })
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.to.content(self.head, text.as_bytes());
        Ok(())
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<(), E> {
        self.to.content(self.head, bytes);
        Ok(())
    }
}

struct Perhaps<'w, 'a> {
    to: &'w mut Writer<'a>,
    number: u32,
    some: &'a Item,
    wrapped: bool,
}

impl<'de> Visitor<'de> for Perhaps<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an option")
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        match self.wrapped {
            true => from.deserialize_map(self),
            false => self.to.item(Head::Explicit(self.number), self.some, from),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        match map.next_key::<String>()?.as_deref() {
            Some("some") => map.next_value_seed(ItemSeed(self.to, Head::Explicit(self.number), self.some)),
            _ => Err(A::Error::missing_field("some")),
        }
    }
}

struct Items<'w, 'a> {
    to: &'w mut Writer<'a>,
    number: u32,
    item: &'a Item,
}

impl<'de> Visitor<'de> for Items<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Items { to, number, item } = self;
        let packed = matches!(item, Item::Enum(_))
            || matches!(item, Item::Scalar(scalar) if !matches!(scalar, Scalar::String | Scalar::Bytes));
        let begin = to.out.len();
        let (head, content) = match packed {
            true => (Head::Packed, open(&mut to.out, number)),
            false => (Head::Explicit(number), begin),
        };
        let mut at = 0_usize;
        let trail = to.trail;
        while trail.at(|| format!("[{at}]"), seq.next_element_seed(ItemSeed(to, head, item)))?.is_some() {
            at += 1;
        }
        match (packed, at) {
            (true, 0) => to.out.truncate(begin),
            (true, _) => close(&mut to.out, content),
            (false, _) => {}
        }
        Ok(())
    }
}

struct Entries<'w, 'a> {
    to: &'w mut Writer<'a>,
    number: u32,
    key: Scalar,
    value: &'a Item,
}

impl<'de> Visitor<'de> for Entries<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Entries { to, number, key, value } = self;
        let trail = to.trail;
        loop {
            let begin = to.out.len();
            let content = open(&mut to.out, number);
            let key = map.next_key_seed(ScalarSeed(to, Head::Explicit(1), key));
            if trail.at(|| "{key}".to_owned(), key)?.is_none() {
                to.out.truncate(begin);
                return Ok(());
            }
            trail.at(|| "{}".to_owned(), map.next_value_seed(ItemSeed(to, Head::Explicit(2), value)))?;
            close(&mut to.out, content);
        }
    }
}

/// The fields of a message: all of them, or one.
struct Fields<'w, 'a> {
    to: &'w mut Writer<'a>,
    message: &'a Message,
}

impl<'a> Fields<'_, 'a> {
    fn named<E: serde::de::Error>(&self, name: &str) -> Result<&'a Field, E> {
        let found = self.message.fields.iter().find(|field| field.name == name);
        found.ok_or_else(|| E::custom(self.to.trail.note(format!("there is no `{name}`"))))
    }
}

impl<'de> Visitor<'de> for Fields<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {}", self.message.of)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let trail = self.to.trail;
        for field in &self.message.fields {
            let read = seq.next_element_seed(SlotSeed(self.to, field.number, &field.slot));
            if trail.at(|| format!(".{}", field.name), read)?.is_none() {
                return Err(A::Error::custom(trail.note(format!("`{}` is missing", field.name))));
            }
        }
        Ok(())
    }

    /// JSON is canonical here: a record has all its fields, and a tag stands before its value.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let trail = self.to.trail;
        while let Some(name) = map.next_key::<String>()? {
            let (field, is_tag) = match self.message.form {
                Form::Variant if name == "tag" => (self.named(&map.next_value::<String>()?)?, true),
                _ => (self.named(&name)?, false),
            };
            let segment = || format!(".{}", field.name);
            match &field.slot {
                Slot::Single(Item::Empty) if is_tag => put_bytes(&mut self.to.out, field.number, &[]),
                Slot::Single(item) if is_tag => {
                    if map.next_key::<String>()?.as_deref() != Some("val") {
                        return Err(A::Error::missing_field("val"));
                    }
                    let seed = ItemSeed(self.to, Head::Explicit(field.number), item);
                    trail.at(segment, map.next_value_seed(seed))?;
                }
                Slot::Single(item) if self.message.form == Form::Result => {
                    let seed = ItemSeed(self.to, Head::Explicit(field.number), item);
                    trail.at(segment, map.next_value_seed(seed))?;
                }
                slot => trail.at(segment, map.next_value_seed(SlotSeed(self.to, field.number, slot)))?,
            }
        }
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<(), A::Error> {
        let (position, value) = data.variant::<u32>()?;
        let Some(Field { name, number, slot: Slot::Single(item), .. }) = self.message.fields.get(position as usize)
        else {
            return Err(A::Error::invalid_value(Unexpected::Unsigned(position.into()), &self));
        };
        let trail = self.to.trail;
        let read = match (self.message.form, item) {
            // A success that carries nothing is written as `()`, a case that carries nothing is not written.
            (Form::Variant, Item::Empty) => {
                put_bytes(&mut self.to.out, *number, &[]);
                value.unit_variant()
            }
            (_, item) => value.newtype_variant_seed(ItemSeed(self.to, Head::Explicit(*number), item)),
        };
        trail.at(|| format!(".{name}"), read)
    }
}
