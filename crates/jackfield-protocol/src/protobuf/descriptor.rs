//! The file as an encoded `google.protobuf.FileDescriptorProto`, which is what reflection gives and what
//! other languages load. Numbers and types are those of protobuf's own `descriptor.proto`.

use super::layout::{Enum, Field, Item, Layout, Message, Method, Scalar, Slot};
use super::name;
use super::wire::{close, kind, open, put_bytes, put_tag, put_varint};

/// How often a field is there.
mod label {
    pub(super) const OPTIONAL: u32 = 1;
    pub(super) const REPEATED: u32 = 3;
}

/// What a field carries, as a number.
mod ty {
    pub(super) const MESSAGE: u32 = 11;
    pub(super) const ENUM: u32 = 14;
}

const IDEMPOTENT: u32 = 2;

pub(super) fn file(layout: &Layout) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, 1, &layout.file);
    text(&mut out, 2, &layout.package);
    if layout.uses_empty() {
        text(&mut out, 3, "google/protobuf/empty.proto");
    }
    for message in &layout.messages {
        within(&mut out, 4, |out| write_message(out, layout, message));
    }
    for of in &layout.enums {
        within(&mut out, 5, |out| write_enum(out, of));
    }
    within(&mut out, 6, |out| {
        text(out, 1, &layout.service);
        for method in &layout.methods {
            within(out, 2, |out| write_method(out, layout, method));
        }
    });
    text(&mut out, 12, "proto3");
    out
}

fn write_method(out: &mut Vec<u8>, layout: &Layout, method: &Method) {
    text(out, 1, &method.rpc);
    for (number, at) in [(2, method.request), (3, method.response)] {
        text(out, number, &full_name(layout, &layout.messages[at].name));
    }
    if method.idempotent {
        within(out, 4, |out| number(out, 34, IDEMPOTENT));
    }
}

fn write_message(out: &mut Vec<u8>, layout: &Layout, message: &Message) {
    text(out, 1, &message.name);
    let oneof = message.oneof();
    let mut optional = Vec::new();
    for field in &message.fields {
        within(out, 2, |out| {
            let (label, item) = match &field.slot {
                Slot::Single(item) | Slot::Optional { some: item, .. } => (label::OPTIONAL, *item),
                Slot::List(item) => (label::REPEATED, *item),
                Slot::Flags(at) => (label::REPEATED, Item::Enum(*at)),
                Slot::Map { .. } => {
                    let entry = format!("{}.{}", message.name, name::entry(&field.spelled));
                    write_field(out, &field.spelled, field.number, label::REPEATED);
                    number(out, 5, ty::MESSAGE);
                    text(out, 6, &full_name(layout, &entry));
                    text(out, 10, &name::json(&field.spelled));
                    return;
                }
            };
            write_field(out, &field.spelled, field.number, label);
            write_type(out, layout, item);
            if oneof.is_some() {
                number(out, 9, 0);
            }
            text(out, 10, &name::json(&field.spelled));
            if matches!(field.slot, Slot::Optional { .. }) {
                // Each `optional` is the only one of a `oneof` of its own, so that its absence is seen.
                put_tag(out, 9, kind::VARINT);
                put_varint(out, optional.len() as u64);
                number(out, 17, 1);
                optional.push(format!("_{}", field.spelled));
            }
        });
    }
    for field in &message.fields {
        if let Slot::Map { key, value } = &field.slot {
            within(out, 3, |out| write_entry(out, layout, field, *key, *value));
        }
    }
    for name in oneof.into_iter().chain(optional) {
        within(out, 8, |out| text(out, 1, &name));
    }
    for (reserved, _) in &message.reserved {
        // The end of a range is not in it.
        within(out, 9, |out| range(out, *reserved, reserved + 1));
    }
    for (_, name) in &message.reserved {
        text(out, 10, name);
    }
}

fn write_entry(out: &mut Vec<u8>, layout: &Layout, field: &Field, key: Scalar, value: Item) {
    text(out, 1, &name::entry(&field.spelled));
    for (at, name, item) in [(1, "key", Item::Scalar(key)), (2, "value", value)] {
        within(out, 2, |out| {
            write_field(out, name, at, label::OPTIONAL);
            write_type(out, layout, item);
            text(out, 10, name);
        });
    }
    within(out, 7, |out| number(out, 7, 1));
}

fn write_field(out: &mut Vec<u8>, name: &str, at: u32, label: u32) {
    text(out, 1, name);
    number(out, 3, at);
    number(out, 4, label);
}

fn write_type(out: &mut Vec<u8>, layout: &Layout, item: Item) {
    let (code, name) = match item {
        Item::Scalar(scalar) => (code(scalar), None),
        Item::Empty => (ty::MESSAGE, Some(".google.protobuf.Empty".to_owned())),
        Item::Message(at) => (ty::MESSAGE, Some(full_name(layout, &layout.messages[at].name))),
        Item::Enum(at) => (ty::ENUM, Some(full_name(layout, &layout.enums[at].name))),
    };
    number(out, 5, code);
    if let Some(name) = name {
        text(out, 6, &name);
    }
}

fn code(scalar: Scalar) -> u32 {
    match scalar {
        Scalar::F64 => 1,
        Scalar::F32 => 2,
        Scalar::S64 => 3,
        Scalar::U64 => 4,
        Scalar::S8 | Scalar::S16 | Scalar::S32 => 5,
        Scalar::Bool => 8,
        Scalar::String => 9,
        Scalar::Bytes => 12,
        Scalar::U8 | Scalar::U16 | Scalar::U32 | Scalar::Char => 13,
    }
}

fn write_enum(out: &mut Vec<u8>, of: &Enum) {
    text(out, 1, &of.name);
    let values = of.values.iter().map(|value| (&value.spelled, value.number));
    for (name, at) in [(&of.unspecified, 0)].into_iter().chain(values) {
        within(out, 2, |out| {
            text(out, 1, name);
            // Zero is written: a value has a number.
            number(out, 2, at);
        });
    }
    for (reserved, _) in &of.reserved {
        // The end of an enum's range is in it, unlike that of a message's.
        within(out, 4, |out| range(out, *reserved, *reserved));
    }
    for (_, name) in &of.reserved {
        text(out, 5, name);
    }
}

fn full_name(layout: &Layout, name: &str) -> String {
    format!(".{}.{name}", layout.package)
}

fn range(out: &mut Vec<u8>, start: u32, end: u32) {
    number(out, 1, start);
    number(out, 2, end);
}

fn text(out: &mut Vec<u8>, field: u32, text: &str) {
    put_bytes(out, field, text.as_bytes());
}

fn number(out: &mut Vec<u8>, field: u32, value: u32) {
    put_tag(out, field, kind::VARINT);
    put_varint(out, value.into());
}

fn within(out: &mut Vec<u8>, field: u32, content: impl FnOnce(&mut Vec<u8>)) {
    let begin = open(out, field);
    content(out);
    close(out, begin);
}
