//! What an interface is in protobuf: its messages, enums and methods, with names and numbers.
//!
//! The text, the descriptor and both directions of conversion read this, so that they cannot differ. Messages
//! stand once however often they are used, and refer to each other by position.
//!
//! Not here: how it comes of an interface (`build.rs`).

use super::{SchemaError, name};
use crate::types::TypeRef;

/// Deepest nesting of messages. Guards the stack of what reads and writes them; readers in other languages
/// stop at 100.
const DEPTH_MAX: usize = 64;

/// A file of protobuf.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// `demo/greeter/v1/greeter.proto`
    pub(super) file: String,
    pub(super) package: String,
    pub(super) service: String,
    /// In the order of the interface's functions.
    pub(super) methods: Vec<Method>,
    /// Requests and responses, the interface's types, then those that only wrap another.
    pub(super) messages: Vec<Message>,
    pub(super) enums: Vec<Enum>,
}

#[derive(Clone, Debug)]
pub(super) struct Method {
    pub(super) rpc: String,
    pub(super) docs: String,
    pub(super) idempotent: bool,
    /// Messages.
    pub(super) request: usize,
    pub(super) response: usize,
    /// `/demo.greeter.v1.Greeter/Greet`
    pub(super) path: String,
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) name: String,
    /// What it is in the interface, as a comment: `record person`.
    pub(super) of: String,
    pub(super) form: Form,
    pub(super) fields: Vec<Field>,
    /// Positions of fields, by their numbers.
    numbers: Vec<(u32, usize)>,
    /// Numbers and names that fields had.
    pub(super) reserved: Vec<(u32, String)>,
}

/// How the fields of a message make a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// All of them, by name.
    Record,
    /// All of them, in order.
    Tuple,
    /// There is one, or none for nothing, and its value is that of the message.
    Wrapper,
    /// One of them.
    Variant,
    /// One of two: `ok`, `err`.
    Result,
}

#[derive(Clone, Debug)]
pub(super) struct Field {
    /// Of the interface: kebab-case, or a position in a tuple.
    pub(super) name: String,
    /// As protobuf has it.
    pub(super) spelled: String,
    pub(super) number: u32,
    pub(super) slot: Slot,
}

/// How a value stands in a field.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    /// Once: a scalar that is absent is zero, anything else must be there.
    Single(Item),
    /// Once or not at all.
    Optional {
        some: Item,
        /// Whether canonical JSON wraps what it holds.
        wrapped: bool,
    },
    List(Item),
    Map {
        key: Scalar,
        value: Item,
    },
    /// A list of the values of an enum.
    Flags(usize),
}

/// What one field can carry without help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Scalar(Scalar),
    Enum(usize),
    Message(usize),
    /// `google.protobuf.Empty`
    Empty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    Bool,
    S8,
    S16,
    S32,
    S64,
    U8,
    U16,
    U32,
    U64,
    F32,
    F64,
    Char,
    String,
    Bytes,
}

#[derive(Clone, Debug)]
pub(super) struct Enum {
    pub(super) name: String,
    /// Of the interface, for errors.
    pub(super) of: String,
    /// What it is in the interface, as a comment: `enum color`.
    pub(super) docs: String,
    /// The value 0, which says that none was given.
    pub(super) unspecified: String,
    pub(super) values: Vec<EnumValue>,
    pub(super) reserved: Vec<(u32, String)>,
}

#[derive(Clone, Debug)]
pub(super) struct EnumValue {
    /// Of the interface.
    pub(super) name: String,
    pub(super) spelled: String,
    pub(super) number: u32,
}

impl Layout {
    /// Whether `google.protobuf.Empty` is used.
    pub(super) fn uses_empty(&self) -> bool {
        let mut slots = self.messages.iter().flat_map(|message| &message.fields).map(|field| &field.slot);
        slots.any(|slot| slot.item() == Some(Item::Empty))
    }

    pub(super) fn check_depth(&self) -> Result<(), SchemaError> {
        let mut known = vec![None; self.messages.len()];
        for at in 0..self.messages.len() {
            self.height(at, 0, &mut known).ok_or_else(|| {
                let message = self.messages[at].name.clone();
                SchemaError::TooDeep { message, depth_max: DEPTH_MAX }
            })?;
        }
        Ok(())
    }

    /// How many messages stand in each other, from this one on.
    fn height(&self, at: usize, depth: usize, known: &mut Vec<Option<usize>>) -> Option<usize> {
        if depth == DEPTH_MAX {
            return None;
        }
        if let Some(height) = known[at] {
            return (depth + height <= DEPTH_MAX).then_some(height);
        }
        let mut height = 1;
        for field in &self.messages[at].fields {
            if let Some(Item::Message(inner)) = field.slot.item() {
                height = height.max(1 + self.height(inner, depth + 1, known)?);
            }
        }
        known[at] = Some(height);
        Some(height)
    }
}

impl Message {
    /// The name of the `oneof` that has all its fields.
    pub(super) fn oneof(&self) -> Option<String> {
        match self.form {
            Form::Result => Some("result".to_owned()),
            Form::Variant => {
                // Fields and their `oneof` are in one namespace; no field ends with `_`.
                let is_taken = self.fields.iter().any(|field| field.spelled == "kind");
                Some(if is_taken { "kind_" } else { "kind" }.to_owned())
            }
            Form::Record | Form::Tuple | Form::Wrapper => None,
        }
    }

    /// The position of the field with this number.
    pub(super) fn position(&self, number: u32) -> Option<usize> {
        // Mostly, number n is the n-th.
        let guess = number as usize - 1;
        if self.numbers.get(guess).is_some_and(|(known, _)| *known == number) {
            return Some(self.numbers[guess].1);
        }
        let found = self.numbers.binary_search_by_key(&number, |(known, _)| *known).ok()?;
        Some(self.numbers[found].1)
    }
}

impl Slot {
    /// What its elements are; a set of flags has numbers.
    pub(super) fn item(&self) -> Option<Item> {
        match self {
            Slot::Single(item) | Slot::Optional { some: item, .. } | Slot::List(item) => Some(*item),
            Slot::Map { value, .. } => Some(*value),
            Slot::Flags(_) => None,
        }
    }
}

impl Scalar {
    pub(super) fn of(ty: &TypeRef) -> Option<Self> {
        Some(match ty {
            TypeRef::Bool => Scalar::Bool,
            TypeRef::S8 => Scalar::S8,
            TypeRef::S16 => Scalar::S16,
            TypeRef::S32 => Scalar::S32,
            TypeRef::S64 => Scalar::S64,
            TypeRef::U8 => Scalar::U8,
            TypeRef::U16 => Scalar::U16,
            TypeRef::U32 => Scalar::U32,
            TypeRef::U64 => Scalar::U64,
            TypeRef::F32 => Scalar::F32,
            TypeRef::F64 => Scalar::F64,
            TypeRef::Char => Scalar::Char,
            TypeRef::String => Scalar::String,
            TypeRef::Bytes => Scalar::Bytes,
            _ => return None,
        })
    }

    /// The interface's word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Scalar::Bool => "bool",
            Scalar::S8 => "s8",
            Scalar::S16 => "s16",
            Scalar::S32 => "s32",
            Scalar::S64 => "s64",
            Scalar::U8 => "u8",
            Scalar::U16 => "u16",
            Scalar::U32 => "u32",
            Scalar::U64 => "u64",
            Scalar::F32 => "f32",
            Scalar::F64 => "f64",
            Scalar::Char => "char",
            Scalar::String => "string",
            Scalar::Bytes => "list<u8>",
        }
    }

    /// Protobuf's word for what carries it, and whether that can hold more than it.
    pub(super) fn carrier(self) -> (&'static str, bool) {
        match self {
            Scalar::Bool => ("bool", false),
            Scalar::S8 | Scalar::S16 => ("int32", true),
            Scalar::S32 => ("int32", false),
            Scalar::S64 => ("int64", false),
            Scalar::U8 | Scalar::U16 | Scalar::Char => ("uint32", true),
            Scalar::U32 => ("uint32", false),
            Scalar::U64 => ("uint64", false),
            Scalar::F32 => ("float", false),
            Scalar::F64 => ("double", false),
            Scalar::String => ("string", false),
            Scalar::Bytes => ("bytes", false),
        }
    }
}

impl Message {
    pub(super) fn new(name: String, of: String, form: Form, fields: Vec<Field>) -> Self {
        let mut numbers: Vec<_> = fields.iter().enumerate().map(|(at, field)| (field.number, at)).collect();
        numbers.sort_unstable();
        Self { name, of, form, fields, numbers, reserved: Vec::new() }
    }

    pub(super) fn placeholder() -> Self {
        Self::new(String::new(), String::new(), Form::Record, Vec::new())
    }
}

impl Field {
    pub(super) fn new(name: &str, number: u32, slot: Slot) -> Self {
        Self { name: name.to_owned(), spelled: name::snake(name), number, slot }
    }
}
