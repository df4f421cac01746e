//! Values on their way out of protobuf: read by their layout, and written in our encodings as serde asks.
//!
//! Fields come in any order; those that nobody knows are passed over. A scalar that comes twice is the last
//! one, a message that comes twice is the two merged, and one that does not come is missing. What is read is
//! borrowed from the bytes; beside them there is one entry for each field that they have.
//!
//! Not here: values on their way in (`write.rs`), bytes (`wire.rs`).

use std::collections::BTreeMap;

use serde::ser::{SerializeMap as _, SerializeSeq as _, SerializeTuple as _};
use serde::{Serialize, Serializer};

use super::layout::{Form, Item, Layout, Message, Scalar, Slot};
use super::plain::Plain;
use super::trail::Trail;
use super::wire::{self, Wire, kind};

/// A field that the bytes have: its position in the message, and its value.
type Found<'a> = (usize, Wire<'a>);

/// What every part of a value that is read needs.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) layout: &'a Layout,
    pub(super) trail: &'a Trail,
}

/// A message, in one piece or in several that are one.
#[derive(Clone, Copy)]
pub(super) enum Pieces<'p, 'a> {
    One(&'a [u8]),
    Many(&'p [Found<'a>]),
}

impl<'a> Reader<'a> {
    /// The fields of a message, by their positions; those of one field in the order in which they came.
    fn fields(self, message: &Message, pieces: Pieces<'_, 'a>) -> Result<Vec<Found<'a>>, String> {
        let mut found = Vec::new();
        each(pieces, |number, wire| {
            found.extend(message.position(number).map(|position| (position, wire)));
        })?;
        if !found.is_sorted_by_key(|(position, _)| *position) {
            found.sort_by_key(|(position, _)| *position);
        }
        Ok(found)
    }

    /// The one field that a `oneof` has, which is the last to come, with what came of it since another did.
    pub(super) fn last(
        self,
        message: &'a Message,
        pieces: Pieces<'_, 'a>,
    ) -> Result<Option<(usize, Vec<Found<'a>>)>, String> {
        let mut last: Option<(usize, Vec<Found<'a>>)> = None;
        each(pieces, |number, wire| {
            let Some(position) = message.position(number) else { return };
            match &mut last {
                Some((same, found)) if *same == position => found.push((position, wire)),
                last => *last = Some((position, vec![(position, wire)])),
            }
        })?;
        Ok(last)
    }

    /// The value of a message that wraps another, or of nothing.
    pub(super) fn value<'p>(self, message: &'a Message, pieces: Pieces<'p, 'a>) -> Value<'p, 'a> {
        Value { from: self, message, pieces }
    }

    /// The value of one case, of what came of it.
    pub(super) fn case<'p>(self, message: &'a Message, position: usize, found: &'p [Found<'a>]) -> SlotValue<'p, 'a> {
        SlotValue { from: self, slot: &message.fields[position].slot, found }
    }

    fn fail<E: serde::ser::Error>(self, what: impl Into<String>) -> E {
        E::custom(self.trail.note(what.into()))
    }
}

fn each<'a>(pieces: Pieces<'_, 'a>, mut field: impl FnMut(u32, Wire<'a>)) -> Result<(), String> {
    let mut whole = |mut rest: &'a [u8]| -> Result<(), String> {
        while let Some((number, wire)) = wire::next(&mut rest)? {
            field(number, wire);
        }
        Ok(())
    };
    match pieces {
        Pieces::One(bytes) => whole(bytes),
        Pieces::Many(found) => found.iter().try_for_each(|(_, wire)| match wire {
            Wire::Len(bytes) => whole(bytes),
            other => Err(format!("a message is bytes with a length, got {}", other.kind())),
        }),
    }
}

/// The value of a message.
pub(super) struct Value<'p, 'a> {
    from: Reader<'a>,
    message: &'a Message,
    pieces: Pieces<'p, 'a>,
}

impl Serialize for Value<'_, '_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Value { from, message, pieces } = *self;
        if matches!(message.form, Form::Variant | Form::Result) {
            let last = from.last(message, pieces).map_err(|what| from.fail(what))?;
            let Some((position, found)) = last else {
                return Err(from.fail(format!("{} has no case that is known", message.of)));
            };
            return self.one_of(position, &found, to);
        }
        let found = from.fields(message, pieces).map_err(|what| from.fail(what))?;
        let mut rest = &*found;
        let values = message.fields.iter().enumerate().map(|(at, field)| {
            let here = rest.partition_point(|(position, _)| *position <= at);
            let (here, after) = rest.split_at(here);
            rest = after;
            (
                field,
                At {
                    from,
                    segment: || format!(".{}", field.name),
                    value: SlotValue { from, slot: &field.slot, found: here },
                },
            )
        });
        match message.form {
            Form::Wrapper => match { values }.next() {
                Some((_, value)) => value.value.serialize(to),
                None => to.serialize_unit(),
            },
            Form::Record if to.is_human_readable() => to.collect_map(values.map(|(field, value)| (&field.name, value))),
            _ => {
                let mut tuple = to.serialize_tuple(message.fields.len())?;
                { values }.try_for_each(|(_, value)| tuple.serialize_element(&value))?;
                tuple.end()
            }
        }
    }
}

impl<'a> Value<'_, 'a> {
    fn one_of<S: Serializer>(&self, position: usize, found: &[Found<'a>], to: S) -> Result<S::Ok, S::Error> {
        let Value { from, message, .. } = *self;
        let field = &message.fields[position];
        let Some(item) = field.slot.item() else { return Err(from.fail("a case has no value")) };
        let value = At { from, segment: || format!(".{}", field.name), value: ItemValue { from, item, found } };
        // Positions are few: a message has at most as many fields as its description has lines.
        let index = position as u32;
        match (message.form, to.is_human_readable()) {
            (Form::Result, true) => one(&field.name, &value, to),
            (Form::Result, false) => to.serialize_newtype_variant("", index, "", &value),
            (_, true) if item == Item::Empty => one("tag", &field.name, to),
            (_, true) => {
                let mut case = to.serialize_map(Some(2))?;
                case.serialize_entry("tag", &field.name)?;
                case.serialize_entry("val", &value)?;
                case.end()
            }
            (_, false) if item == Item::Empty => to.serialize_unit_variant("", index, ""),
            (_, false) => to.serialize_newtype_variant("", index, "", &value),
        }
    }
}

/// A value at a place, which is named when it is wrong.
struct At<'a, F, V> {
    from: Reader<'a>,
    segment: F,
    value: V,
}

impl<F: Fn() -> String, V: Serialize> Serialize for At<'_, F, V> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.from.trail.at(&self.segment, self.value.serialize(to))
    }
}

/// The value of a field, of all that came of it.
pub(super) struct SlotValue<'p, 'a> {
    from: Reader<'a>,
    slot: &'a Slot,
    found: &'p [Found<'a>],
}

impl Serialize for SlotValue<'_, '_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let SlotValue { from, slot, found } = *self;
        match *slot {
            Slot::Single(item @ Item::Scalar(_)) => ItemValue { from, item, found }.serialize(to),
            Slot::Single(item) => match found.is_empty() {
                true => Err(from.fail("is missing")),
                false => ItemValue { from, item, found }.serialize(to),
            },
            Slot::Optional { .. } if found.is_empty() => to.serialize_none(),
            Slot::Optional { some, wrapped } => {
                let value = ItemValue { from, item: some, found };
                match wrapped && to.is_human_readable() {
                    true => one("some", &value, to),
                    false => to.serialize_some(&value),
                }
            }
            Slot::List(item) => {
                let count = elements(item, found, |_| Ok(())).map_err(|what| from.fail(what))?;
                let mut list = to.serialize_seq(Some(count))?;
                let mut failed = None;
                let mut at = 0_usize;
                let walked = elements(item, found, |wire| {
                    let value = ItemValue { from, item, found: &[(0, wire)] };
                    let here = at;
                    at += 1;
                    let value = At { from, segment: || format!("[{here}]"), value };
                    list.serialize_element(&value).map_err(|error| {
                        failed = Some(error);
                        String::new()
                    })
                });
                match (walked, failed) {
                    (_, Some(error)) => Err(error),
                    (Err(what), None) => Err(from.fail(what)),
                    (Ok(_), None) => list.end(),
                }
            }
            Slot::Map { key, value } => self.map(key, value, to),
            Slot::Flags(at) => {
                let of = &from.layout.enums[at];
                let mut bits = 0_u64;
                let read = elements(Item::Enum(at), found, |wire| {
                    bits |= 1 << value_of(from.layout, at, wire)?;
                    Ok(())
                });
                read.map_err(|what| from.fail(what))?;
                if !to.is_human_readable() {
                    return to.serialize_u64(bits);
                }
                let set = of.values.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
                to.collect_seq(set.map(|(_, value)| &value.name))
            }
        }
    }
}

impl<'a> SlotValue<'_, 'a> {
    /// Writes a map as ours are: sorted, each key once. Where a key comes twice, the last one counts.
    fn map<S: Serializer>(&self, key: Scalar, item: Item, to: S) -> Result<S::Ok, S::Error> {
        let SlotValue { from, found, .. } = *self;
        let mut entries: BTreeMap<Plain<'a>, Vec<Found<'a>>> = BTreeMap::new();
        for (_, wire) in found {
            let mut name = Plain::zero(key);
            let mut values = Vec::new();
            let mut wrong = None;
            let read = each(Pieces::Many(&[(0, *wire)]), |number, wire| match number {
                1 => match Plain::of(key, wire) {
                    Ok(plain) => name = plain,
                    Err(what) => wrong = Some(what),
                },
                2 => values.push((0, wire)),
                _ => {}
            });
            let wrong = read.err().or(wrong);
            if let Some(what) = wrong {
                return from.trail.at(|| "{key}".to_owned(), Err(from.fail(what)));
            }
            entries.insert(name, values);
        }
        let mut map = to.serialize_map(Some(entries.len()))?;
        for (name, found) in &entries {
            let value = ItemValue { from, item, found };
            let value = At { from, segment: || format!("[{}]", name.shown()), value };
            map.serialize_entry(name, &value)?;
        }
        map.end()
    }
}

/// The value of what one field carries, of all that came of it.
struct ItemValue<'p, 'a> {
    from: Reader<'a>,
    item: Item,
    found: &'p [Found<'a>],
}

impl Serialize for ItemValue<'_, '_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let ItemValue { from, item, found } = *self;
        let last = found.last().map(|(_, wire)| *wire);
        match item {
            Item::Scalar(scalar) => match last {
                Some(wire) => Plain::of(scalar, wire).map_err(|what| from.fail(what))?.serialize(to),
                None => Plain::zero(scalar).serialize(to),
            },
            Item::Enum(at) => {
                let of = &from.layout.enums[at];
                let wire = last.unwrap_or(Wire::Varint(0));
                let position = value_of(from.layout, at, wire).map_err(|what| from.fail(what))?;
                match to.is_human_readable() {
                    true => to.serialize_str(&of.values[position].name),
                    false => to.serialize_unit_variant("", position as u32, ""),
                }
            }
            Item::Message(at) => from.value(&from.layout.messages[at], Pieces::Many(found)).serialize(to),
            Item::Empty => match each(Pieces::Many(found), |_, _| {}) {
                Ok(()) => to.serialize_unit(),
                Err(what) => Err(from.fail(what)),
            },
        }
    }
}

/// The position of an enum's value.
fn value_of(layout: &Layout, at: usize, wire: Wire<'_>) -> Result<usize, String> {
    let of = &layout.enums[at];
    let Wire::Varint(number) = wire else {
        return Err(format!("is a `{}`, got {}", of.of, wire.kind()));
    };
    match number {
        0 => Err(format!("is a `{}`, got `{}`", of.of, of.unspecified)),
        number => {
            let found = of.values.iter().position(|value| u64::from(value.number) == number);
            // A negative one is shown as its sender sees it.
            found.ok_or_else(|| format!("`{}` has no value {}", of.of, number as i64))
        }
    }
}

/// Goes through the elements of a list, packed or not; gives how many there are.
fn elements<'a>(
    item: Item,
    found: &[Found<'a>],
    mut element: impl FnMut(Wire<'a>) -> Result<(), String>,
) -> Result<usize, String> {
    let packed = match item {
        Item::Enum(_) => Some(kind::VARINT),
        Item::Scalar(Scalar::String | Scalar::Bytes) | Item::Message(_) | Item::Empty => None,
        Item::Scalar(Scalar::F32) => Some(kind::FIXED32),
        Item::Scalar(Scalar::F64) => Some(kind::FIXED64),
        Item::Scalar(_) => Some(kind::VARINT),
    };
    let mut count = 0;
    for (_, wire) in found {
        match (packed, *wire) {
            (Some(kind), Wire::Len(mut rest)) => {
                while !rest.is_empty() {
                    element(wire::value(&mut rest, kind)?)?;
                    count += 1;
                }
            }
            (_, wire) => {
                element(wire)?;
                count += 1;
            }
        }
    }
    Ok(count)
}

/// An object with one member.
fn one<S: Serializer>(name: &str, value: &impl Serialize, to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(1))?;
    map.serialize_entry(name, value)?;
    map.end()
}
