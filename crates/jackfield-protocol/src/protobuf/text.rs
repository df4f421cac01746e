//! The `.proto` file.

use std::fmt::Write as _;

use super::layout::{Enum, Field, Item, Layout, Message, Method, Slot};
use super::name;
use crate::export::comment;
use crate::interface::Interface;

pub(super) fn text(interface: &Interface, layout: &Layout) -> String {
    let mut text = format!("// `{}` in protobuf.\n", interface.id);
    comment(
        &mut text,
        "",
        "//",
        "\nA field of a message or an enum must be there, unless it is `optional`. 0 is no value of an enum. What\n\
         is narrower than the field that carries it stands behind it.",
    );
    let _ = write!(text, "\nsyntax = \"proto3\";\n\npackage {};\n", layout.package);
    if layout.uses_empty() {
        text.push_str("\nimport \"google/protobuf/empty.proto\";\n");
    }
    text.push('\n');
    comment(&mut text, "", "//", &interface.docs);
    let _ = writeln!(text, "service {} {{", layout.service);
    for (at, method) in layout.methods.iter().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        write_method(&mut text, layout, method);
    }
    text.push_str("}\n");
    layout.messages.iter().for_each(|message| write_message(&mut text, layout, message));
    layout.enums.iter().for_each(|of| write_enum(&mut text, of));
    text
}

fn write_method(text: &mut String, layout: &Layout, method: &Method) {
    comment(text, "  ", "//", &method.docs);
    let [request, response] = [method.request, method.response].map(|at| &layout.messages[at].name);
    let _ = write!(text, "  rpc {}({request}) returns ({response})", method.rpc);
    text.push_str(match method.idempotent {
        true => " {\n    option idempotency_level = IDEMPOTENT;\n  }\n",
        false => ";\n",
    });
}

fn write_message(text: &mut String, layout: &Layout, message: &Message) {
    let _ = write!(text, "\n// {}\nmessage {} {{", message.of, message.name);
    if message.fields.is_empty() && message.reserved.is_empty() {
        text.push_str("}\n");
        return;
    }
    text.push('\n');
    write_reserved(text, &message.reserved);
    let indent = match message.oneof() {
        Some(oneof) => {
            let _ = writeln!(text, "  oneof {oneof} {{");
            "    "
        }
        None => "  ",
    };
    for field in &message.fields {
        let ty = field_type(layout, message, field);
        let _ = write!(text, "{indent}{ty} {} = {};", field.spelled, field.number);
        text.push_str(&narrower(&field.slot).map_or("\n".to_owned(), |what| format!(" // {what}\n")));
    }
    text.push_str(if message.oneof().is_some() { "  }\n}\n" } else { "}\n" });
}

fn write_enum(text: &mut String, of: &Enum) {
    let _ = writeln!(text, "\n// {}\nenum {} {{", of.docs, of.name);
    write_reserved(text, &of.reserved);
    let _ = writeln!(text, "  {} = 0;", of.unspecified);
    for value in &of.values {
        let _ = writeln!(text, "  {} = {};", value.spelled, value.number);
    }
    text.push_str("}\n");
}

fn write_reserved(text: &mut String, reserved: &[(u32, String)]) {
    if reserved.is_empty() {
        return;
    }
    let numbers: Vec<_> = reserved.iter().map(|(number, _)| number.to_string()).collect();
    let names: Vec<_> = reserved.iter().map(|(_, name)| format!("\"{name}\"")).collect();
    let _ = writeln!(text, "  reserved {};\n  reserved {};", numbers.join(", "), names.join(", "));
}

fn field_type(layout: &Layout, message: &Message, field: &Field) -> String {
    let item = |item: Item| item_type(layout, message, item);
    match &field.slot {
        Slot::Single(single) => item(*single),
        Slot::Optional { some, .. } => format!("optional {}", item(*some)),
        Slot::List(element) => format!("repeated {}", item(*element)),
        Slot::Map { key, value } => format!("map<{}, {}>", key.carrier().0, item(*value)),
        Slot::Flags(at) => format!("repeated {}", item(Item::Enum(*at))),
    }
}

fn item_type(layout: &Layout, message: &Message, item: Item) -> String {
    let name = match item {
        Item::Scalar(scalar) => return scalar.carrier().0.to_owned(),
        // A package can be called like the first part of it, so it begins at the root.
        Item::Empty => return ".google.protobuf.Empty".to_owned(),
        Item::Message(at) => &layout.messages[at].name,
        Item::Enum(at) => &layout.enums[at].name,
    };
    // Within the message, what protobuf makes of a map field comes before what is beside the message.
    let is_map = |field: &&Field| matches!(field.slot, Slot::Map { .. });
    match message.fields.iter().filter(is_map).any(|field| name::entry(&field.spelled) == *name) {
        true => format!(".{}.{name}", layout.package),
        false => name.clone(),
    }
}

/// What the field carries, where it could carry more.
fn narrower(slot: &Slot) -> Option<String> {
    let word = |item: &Item| match item {
        Item::Scalar(scalar) if scalar.carrier().1 => Some(scalar.word().to_owned()),
        _ => None,
    };
    match slot {
        Slot::Single(item) | Slot::Optional { some: item, .. } | Slot::List(item) => word(item),
        Slot::Map { key, value } => match (word(&Item::Scalar(*key)), word(value)) {
            (None, None) => None,
            (key, None) => key.map(|key| format!("the keys: {key}")),
            (None, value) => value,
            (Some(key), Some(value)) => Some(format!("{key}, {value}")),
        },
        Slot::Flags(_) => None,
    }
}
