//! What a component gave, written as an answer: by its shape, in the encoding of the call, and no longer
//! than an answer may be. A string or bytes that the host takes as they are is not written at all.
//!
//! A map is written as the host's own maps are: sorted, and each key once. Where a component gives a key
//! twice, the last one counts, as the component model has it.
//!
//! Not here: how it came out of the component's memory, which wasmtime has checked by then.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use jackfield_protocol::call::{Answer, Buffer, Cause, Whole};
use jackfield_protocol::value::Encode;
use jackfield_protocol::{Encoding, Type};
use postcard::ser_flavors::Flavor;
use serde::ser::{Error as _, SerializeMap as _, SerializeSeq as _, SerializeTuple as _};
use serde::{Serialize, Serializer};
use wasmtime::component::Val;

use super::shape::{Cases, MapShape, Returned, Shape};

/// Writes an answer of at most `bytes_max` bytes.
pub(in crate::wasm) fn answer(
    encoding: Encoding,
    bytes_max: usize,
    ok: bool,
    value: &impl Serialize,
) -> Result<Answer, Cause> {
    let mut bytes = Bounded { bytes: Buffer::new(), bytes_max, full: false };
    let written = match encoding {
        Encoding::Json => serde_json::to_writer(&mut bytes, value).map_err(|error| error.to_string()),
        Encoding::Binary => postcard::serialize_with_flavor(value, &mut bytes).map_err(|error| error.to_string()),
    };
    match written {
        Ok(()) => Ok(Answer::encoded(ok, encoding, bytes.bytes)),
        Err(_) if bytes.full => Err(too_long(bytes_max)),
        Err(what) => Err(Cause::Protocol { what: format!("its answer cannot be written: {what}") }),
    }
}

/// Passes a value on as it is.
pub(super) fn whole_answer(bytes_max: usize, ok: bool, whole: Whole) -> Result<Answer, Cause> {
    match whole.content().len() > bytes_max {
        true => Err(too_long(bytes_max)),
        false => Ok(Answer::whole(ok, whole)),
    }
}

/// Writes what an untyped call gave.
pub(super) fn value_answer(
    encoding: Encoding,
    bytes_max: usize,
    returned: &Returned,
    given: &[Val],
) -> Result<Answer, Cause> {
    let side = |ok: bool, shape: &Option<Shape>, value: &Option<Box<Val>>| match (shape, value) {
        (Some(shape), Some(value)) => answer(encoding, bytes_max, ok, &Lifted { shape, value }),
        _ => answer(encoding, bytes_max, ok, &Encode(&())),
    };
    match (returned, given) {
        (Returned::Nothing, _) => answer(encoding, bytes_max, true, &Encode(&())),
        (Returned::Plain(shape), [value]) => answer(encoding, bytes_max, true, &Lifted { shape, value }),
        (Returned::Either(ok, _), [Val::Result(Ok(value))]) => side(true, ok, value),
        (Returned::Either(_, err), [Val::Result(Err(value))]) => side(false, err, value),
        _ => Err(Cause::Protocol { what: format!("it gave {} results, or none of its type", given.len()) }),
    }
}

fn too_long(bytes_max: usize) -> Cause {
    Cause::Limit { limit: "answer_bytes", what: format!("the answer is longer than {bytes_max} bytes") }
}

/// Room for an answer.
struct Bounded {
    bytes: Buffer,
    bytes_max: usize,
    /// Whether there was no room for all of it.
    full: bool,
}

impl Bounded {
    fn take(&mut self, more: &[u8]) -> bool {
        if more.len() > self.bytes_max - self.bytes.len() {
            self.full = true;
            return false;
        }
        self.bytes.extend_from_slice(more);
        true
    }
}

impl io::Write for &mut Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        match self.take(more) {
            true => Ok(more.len()),
            false => Err(io::ErrorKind::FileTooLarge.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Flavor for &mut Bounded {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, more: &[u8]) -> postcard::Result<()> {
        match self.take(more) {
            true => Ok(()),
            false => Err(postcard::Error::SerializeBufferFull),
        }
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// A value with its shape, as serde wants it.
struct Lifted<'a> {
    shape: &'a Shape,
    value: &'a Val,
}

impl Serialize for Lifted<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let human = to.is_human_readable();
        match (self.shape, self.value) {
            (Shape::Bool, Val::Bool(value)) => value.encode(to),
            (Shape::S8, Val::S8(value)) => value.encode(to),
            (Shape::S16, Val::S16(value)) => value.encode(to),
            (Shape::S32, Val::S32(value)) => value.encode(to),
            (Shape::S64, Val::S64(value)) => value.encode(to),
            (Shape::U8, Val::U8(value)) => value.encode(to),
            (Shape::U16, Val::U16(value)) => value.encode(to),
            (Shape::U32, Val::U32(value)) => value.encode(to),
            (Shape::U64, Val::U64(value)) => value.encode(to),
            (Shape::F32, Val::Float32(value)) => value.encode(to),
            (Shape::F64, Val::Float64(value)) => value.encode(to),
            (Shape::Char, Val::Char(value)) => value.encode(to),
            (Shape::String, Val::String(value)) => to.serialize_str(value),
            (Shape::Bytes, Val::List(items)) => {
                let byte = |item: &Val| match item {
                    Val::U8(byte) => Ok(*byte),
                    _ => Err(S::Error::custom("a byte is no byte")),
                };
                items.iter().map(byte).collect::<Result<Vec<u8>, _>>()?.encode(to)
            }
            (Shape::List(shape), Val::List(items)) => {
                let mut list = to.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|value| list.serialize_element(&Lifted { shape, value }))?;
                list.end()
            }
            (Shape::Map(map), Val::Map(entries)) => write_map(map, entries.iter().map(|(k, v)| Some((k, v))), to),
            (Shape::Map(map), Val::List(entries)) => write_map(map, entries.iter().map(pair), to),
            (Shape::Option(_), Val::Option(None)) => to.serialize_none(),
            (Shape::Option(option), Val::Option(Some(value))) => {
                let value = Lifted { shape: &option.some, value };
                match option.wrapped && human {
                    true => one("some", &value, to),
                    false => to.serialize_some(&value),
                }
            }
            (Shape::Result(sides), Val::Result(given)) => {
                let (side, name, value) = match given {
                    Ok(value) => (0_u32, "ok", value),
                    Err(value) => (1, "err", value),
                };
                match (&sides[side as usize], value) {
                    (Some(shape), Some(value)) => write_side(side, name, &Lifted { shape, value }, to),
                    _ => write_side(side, name, &Encode(&()), to),
                }
            }
            (Shape::Tuple(shapes), Val::Tuple(items)) => {
                let mut tuple = to.serialize_tuple(items.len())?;
                let items = shapes.iter().zip(items);
                items
                    .map(|(shape, value)| Lifted { shape, value })
                    .try_for_each(|item| tuple.serialize_element(&item))?;
                tuple.end()
            }
            (Shape::Record(fields), Val::Record(given)) => {
                let given = fields.iter().zip(given);
                let given = given.map(|(field, (_, value))| (&field.name, Lifted { shape: &field.shape, value }));
                match human {
                    true => to.collect_map(given),
                    false => {
                        let mut record = to.serialize_tuple(fields.len())?;
                        given.map(|(_, value)| value).try_for_each(|value| record.serialize_element(&value))?;
                        record.end()
                    }
                }
            }
            (Shape::Variant(variant), Val::Variant(name, value)) => {
                let (index, case) = position::<_, S>(variant, name)?;
                match (&variant.cases[case].shape, value) {
                    (Some(shape), Some(value)) => {
                        let value = Lifted { shape, value };
                        if !human {
                            return to.serialize_newtype_variant("", index, "", &value);
                        }
                        let mut case = to.serialize_map(Some(2))?;
                        case.serialize_entry("tag", name)?;
                        case.serialize_entry("val", &value)?;
                        case.end()
                    }
                    _ if human => one("tag", name, to),
                    _ => to.serialize_unit_variant("", index, ""),
                }
            }
            (Shape::Enum(names), Val::Enum(name)) => match human {
                true => to.serialize_str(name),
                false => to.serialize_unit_variant("", position::<_, S>(names, name)?.0, ""),
            },
            (Shape::Flags(names), Val::Flags(set)) => {
                let mut bits = 0_u64;
                for name in set {
                    bits |= 1 << position::<_, S>(names, name)?.0;
                }
                if !human {
                    return to.serialize_u64(bits);
                }
                let set = names.cases.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
                to.collect_seq(set.map(|(_, flag)| &flag.name))
            }
            (shape, _) => Err(S::Error::custom(Unlike(shape))),
        }
    }
}

/// A value that is not of its shape, which wasmtime does not let through.
struct Unlike<'a>(&'a Shape);

impl fmt::Display for Unlike<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value is not of its type, {:?}", self.0)
    }
}

fn pair(entry: &Val) -> Option<(&Val, &Val)> {
    match entry {
        Val::Tuple(pair) => Some((pair.first()?, pair.get(1)?)),
        _ => None,
    }
}

fn write_map<'a, S: Serializer>(
    map: &MapShape,
    entries: impl ExactSizeIterator<Item = Option<(&'a Val, &'a Val)>>,
    to: S,
) -> Result<S::Ok, S::Error> {
    let mut sorted = BTreeMap::new();
    for entry in entries {
        let (key, value) = entry.ok_or_else(|| S::Error::custom("an entry of a map is no pair"))?;
        let order = Key::of(key).ok_or_else(|| S::Error::custom("a key of a map is no key"))?;
        sorted.insert(order, (key, value));
    }
    let mut written = to.serialize_map(Some(sorted.len()))?;
    for (key, value) in sorted.into_values() {
        written.serialize_entry(&Lifted { shape: &map.key, value: key }, &Lifted { shape: &map.value, value })?;
    }
    written.end()
}

/// The order of keys. All of one map are of one kind.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Bool(bool),
    Char(char),
    Number(i128),
    Text(&'a str),
}

impl<'a> Key<'a> {
    fn of(value: &'a Val) -> Option<Self> {
        Some(match value {
            Val::Bool(value) => Key::Bool(*value),
            Val::Char(value) => Key::Char(*value),
            Val::S8(value) => Key::Number((*value).into()),
            Val::S16(value) => Key::Number((*value).into()),
            Val::S32(value) => Key::Number((*value).into()),
            Val::S64(value) => Key::Number((*value).into()),
            Val::U8(value) => Key::Number((*value).into()),
            Val::U16(value) => Key::Number((*value).into()),
            Val::U32(value) => Key::Number((*value).into()),
            Val::U64(value) => Key::Number((*value).into()),
            Val::String(value) => Key::Text(value),
            _ => return None,
        })
    }
}

fn write_side<S: Serializer>(side: u32, name: &'static str, value: &impl Serialize, to: S) -> Result<S::Ok, S::Error> {
    match to.is_human_readable() {
        true => one(name, value, to),
        false => to.serialize_newtype_variant("", side, "", value),
    }
}

/// An object with one member.
fn one<S: Serializer>(name: &str, value: &impl Serialize, to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(1))?;
    map.serialize_entry(name, value)?;
    map.end()
}

fn position<C, S: Serializer>(cases: &Cases<C>, name: &str) -> Result<(u32, usize), S::Error> {
    let found = cases.cases.iter().position(|case| case.name == name);
    let found = found.and_then(|at| Some((u32::try_from(at).ok()?, at)));
    found.ok_or_else(|| S::Error::custom(format_args!("`{}` has no `{name}`", cases.of)))
}
