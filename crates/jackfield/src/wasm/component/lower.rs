//! Encoded arguments read as what the component takes, by their shapes.
//!
//! Both encodings go the same way: serde asks the shape what comes next. Strings and numbers are read by the
//! implementations of `jackfield_protocol::Type`, so that what a native plugin accepts, a component does.
//! Nothing is reserved on a sender's word alone, and depth is bounded by the shapes'. A string or bytes that
//! come as they are, because there is no other argument, are not read at all.
//!
//! Not here: values on their way back (`lift.rs`).

use std::borrow::Cow;
use std::fmt;

use jackfield_protocol::call::Whole;
use jackfield_protocol::{Encoding, Type, nearest};
use serde::Deserializer;
use serde::de::{DeserializeSeed, EnumAccess, Error as _, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor};
use wasmtime::component::Val;

use super::shape::{Cases, MapShape, Member, OptionShape, Shape};
use crate::wasm::kind::Passed;

/// Most elements reserved for on a sender's word alone; more are made room for as they arrive.
const RESERVE_MAX: usize = 1024;

/// Reads the arguments of a call, by name or in order, to the beginning of `room`. The error says what is wrong with them.
pub(in crate::wasm) fn arguments<'de, T: Target<'de>>(
    encoding: Encoding,
    passed: Passed<'de>,
    params: &[Member<Shape>],
    room: &mut [Option<T>],
) -> Result<(), String> {
    let room = room.get_mut(..params.len()).ok_or("the function takes more arguments than there is room for")?;
    arguments_into(encoding, passed, params, room)
}

/// Reads as many arguments as there are parameters.
pub(super) fn values(encoding: Encoding, passed: Passed<'_>, params: &[Member<Shape>]) -> Result<Vec<Val>, String> {
    let mut read: Vec<Option<Val>> = params.iter().map(|_| None).collect();
    arguments_into(encoding, passed, params, &mut read)?;
    Ok(read.into_iter().flatten().collect())
}

fn arguments_into<'de, T: Target<'de>>(
    encoding: Encoding,
    passed: Passed<'de>,
    params: &[Member<Shape>],
    into: &mut [Option<T>],
) -> Result<(), String> {
    let bytes = match (passed, params, &mut *into) {
        (Passed::Encoded(bytes), ..) => bytes,
        (Passed::Whole(whole), [param], [argument]) => {
            *argument = Some(T::whole(&param.shape, whole).ok_or("its argument is of another type")?);
            return Ok(());
        }
        (Passed::Whole(_), ..) => return Err(format!("it takes {} arguments, and there is one", params.len())),
    };
    let members = Members { what: "argument", members: params, into };
    match encoding {
        Encoding::Json => {
            let bytes = if bytes.is_empty() { b"{}" } else { bytes };
            let mut json = serde_json::Deserializer::from_slice(bytes);
            members.deserialize(&mut json).and_then(|()| json.end()).map_err(|error| error.to_string())
        }
        Encoding::Binary => {
            let mut binary = postcard::Deserializer::from_bytes(bytes);
            members.deserialize(&mut binary).map_err(|error| error.to_string())?;
            match binary.finalize() {
                Ok([]) => Ok(()),
                Ok(rest) => Err(format!("{} bytes follow the arguments", rest.len())),
                Err(error) => Err(error.to_string()),
            }
        }
    }
}

/// What a value is read as.
pub(in crate::wasm) trait Target<'de>: Sized {
    fn read<D: Deserializer<'de>>(shape: &Shape, from: D) -> Result<Self, D::Error>;

    /// What the absence of a member means, where it means something.
    fn absent(shape: &Shape) -> Option<Self>;

    /// What came as it is; none if that is not of the shape.
    fn whole(shape: &Shape, whole: &'de Whole) -> Option<Self>;
}

/// Any value, as wasmtime takes it without a Rust type.
impl<'de> Target<'de> for Val {
    fn read<D: Deserializer<'de>>(shape: &Shape, from: D) -> Result<Val, D::Error> {
        Ok(match shape {
            Shape::Bool => Val::Bool(Type::decode(from)?),
            Shape::S8 => Val::S8(Type::decode(from)?),
            Shape::S16 => Val::S16(Type::decode(from)?),
            Shape::S32 => Val::S32(Type::decode(from)?),
            Shape::S64 => Val::S64(Type::decode(from)?),
            Shape::U8 => Val::U8(Type::decode(from)?),
            Shape::U16 => Val::U16(Type::decode(from)?),
            Shape::U32 => Val::U32(Type::decode(from)?),
            Shape::U64 => Val::U64(Type::decode(from)?),
            Shape::F32 => Val::Float32(Type::decode(from)?),
            Shape::F64 => Val::Float64(Type::decode(from)?),
            Shape::Char => Val::Char(Type::decode(from)?),
            Shape::String => Val::String(Type::decode(from)?),
            // One by one: wasmtime's untyped values know no other way. Functions whose values are bytes, and
            // not records with bytes in them, go through `fast.rs`.
            Shape::Bytes => Val::List(Vec::<u8>::decode(from)?.into_iter().map(Val::U8).collect()),
            Shape::List(item) => from.deserialize_seq(Items(item))?,
            Shape::Map(map) => from.deserialize_map(Entries(map))?,
            Shape::Option(option) => Val::Option(read_option(option, from)?),
            Shape::Result(sides) => match from.is_human_readable() {
                true => from.deserialize_map(Either(sides))?,
                false => from.deserialize_enum("result", &["ok", "err"], Either(sides))?,
            },
            Shape::Tuple(shapes) => from.deserialize_tuple(shapes.len(), Elements(shapes))?,
            Shape::Record(fields) => {
                let mut read: Vec<Option<Val>> = fields.iter().map(|_| None).collect();
                Members { what: "field", members: fields, into: &mut read }.deserialize(from)?;
                let named = fields.iter().zip(read);
                Val::Record(named.filter_map(|(field, value)| Some((field.name.clone(), value?))).collect())
            }
            Shape::Variant(cases) => {
                let (case, value) = read_case(cases, |shape| shape.as_ref(), from)?;
                Val::Variant(cases.cases[case].name.clone(), value.map(Box::new))
            }
            Shape::Enum(cases) => {
                let (case, _) = read_case(cases, |()| None, from)?;
                Val::Enum(cases.cases[case].name.clone())
            }
            Shape::Flags(flags) => Val::Flags(read_flags(flags, from)?),
        })
    }

    fn absent(shape: &Shape) -> Option<Val> {
        matches!(shape, Shape::Option(_)).then_some(Val::Option(None))
    }

    fn whole(shape: &Shape, whole: &'de Whole) -> Option<Val> {
        match (shape, whole) {
            (Shape::String, Whole::Text(text)) => Some(Val::String(text.clone())),
            (Shape::Bytes, Whole::Bytes(bytes)) => Some(Val::List(bytes.iter().copied().map(Val::U8).collect())),
            _ => None,
        }
    }
}

/// What goes into a component or module as a Rust type, borrowed from the arguments where it can be.
#[derive(Debug)]
pub(in crate::wasm) enum Plain<'de> {
    S32(i32),
    S64(i64),
    U32(u32),
    U64(u64),
    F32(f32),
    F64(f64),
    Text(Cow<'de, str>),
    Bytes(Cow<'de, [u8]>),
}

impl<'de> Target<'de> for Plain<'de> {
    fn read<D: Deserializer<'de>>(shape: &Shape, from: D) -> Result<Self, D::Error> {
        Ok(match shape {
            Shape::S32 => Plain::S32(Type::decode(from)?),
            Shape::S64 => Plain::S64(Type::decode(from)?),
            Shape::U32 => Plain::U32(Type::decode(from)?),
            Shape::U64 => Plain::U64(Type::decode(from)?),
            Shape::F32 => Plain::F32(Type::decode(from)?),
            Shape::F64 => Plain::F64(Type::decode(from)?),
            Shape::String => Plain::Text(from.deserialize_str(BorrowedText)?),
            // Base64 is made into bytes; in the other encoding they lie there.
            Shape::Bytes if from.is_human_readable() => Plain::Bytes(Cow::Owned(Type::decode(from)?)),
            Shape::Bytes => Plain::Bytes(from.deserialize_bytes(BorrowedBytes)?),
            _ => return Err(D::Error::custom("it is no string, bytes or number")),
        })
    }

    fn absent(_: &Shape) -> Option<Self> {
        None
    }

    fn whole(shape: &Shape, whole: &'de Whole) -> Option<Self> {
        match (shape, whole) {
            (Shape::String, Whole::Text(text)) => Some(Plain::Text(Cow::Borrowed(text))),
            (Shape::Bytes, Whole::Bytes(bytes)) => Some(Plain::Bytes(Cow::Borrowed(bytes))),
            _ => None,
        }
    }
}

struct BorrowedText;

impl<'de> DeserializeSeed<'de> for BorrowedText {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for BorrowedText {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text))
    }
}

struct BorrowedBytes;

impl<'de> Visitor<'de> for BorrowedBytes {
    type Value = Cow<'de, [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_borrowed_bytes<E: serde::de::Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(bytes))
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Cow::Owned(bytes.to_vec()))
    }
}

/// A value of a shape, as serde wants to be asked for it.
struct Seed<'a>(&'a Shape);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Val;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Val, D::Error> {
        Val::read(self.0, from)
    }
}

struct Items<'a>(&'a Shape);

impl<'de> Visitor<'de> for Items<'_> {
    type Value = Val;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Val, A::Error> {
        let mut items = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(RESERVE_MAX));
        while let Some(item) = seq.next_element_seed(Seed(self.0))? {
            items.push(item);
        }
        Ok(Val::List(items))
    }
}

struct Elements<'a>(&'a [Shape]);

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = Val;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a tuple of {}", self.0.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Val, A::Error> {
        let mut items = Vec::with_capacity(self.0.len());
        for (at, shape) in self.0.iter().enumerate() {
            let item = seq.next_element_seed(Seed(shape))?;
            items.push(item.ok_or_else(|| A::Error::invalid_length(at, &self))?);
        }
        Ok(Val::Tuple(items))
    }
}

struct Entries<'a>(&'a MapShape);

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = Val;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Val, A::Error> {
        let mut entries = Vec::with_capacity(map.size_hint().unwrap_or(0).min(RESERVE_MAX));
        while let Some(entry) = map.next_entry_seed(Seed(&self.0.key), Seed(&self.0.value))? {
            entries.push(entry);
        }
        Ok(match self.0.pairs {
            true => Val::List(entries.into_iter().map(|(key, value)| Val::Tuple(vec![key, value])).collect()),
            false => Val::Map(entries),
        })
    }
}

fn read_option<'de, D: Deserializer<'de>>(option: &OptionShape, from: D) -> Result<Option<Box<Val>>, D::Error> {
    struct Perhaps<'a> {
        some: &'a Shape,
        wrapped: bool,
    }
    impl<'de> Visitor<'de> for Perhaps<'_> {
        type Value = Option<Box<Val>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(if self.wrapped { "`null` or `{\"some\": value}`" } else { "an option" })
        }

        fn visit_none<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
            match self.wrapped {
                true => from.deserialize_map(self),
                false => Val::read(self.some, from).map(|value| Some(Box::new(value))),
            }
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            match map.next_key_seed(BorrowedText)?.as_deref() {
                Some("some") => {}
                _ => return Err(A::Error::missing_field("some")),
            }
            let value = map.next_value_seed(Seed(self.some))?;
            nothing_more(&mut map)?;
            Ok(Some(Box::new(value)))
        }
    }
    let wrapped = option.wrapped && from.is_human_readable();
    from.deserialize_option(Perhaps { some: &option.some, wrapped })
}

struct Either<'a>(&'a [Option<Shape>; 2]);

impl Either<'_> {
    fn made(side: usize, value: Option<Val>) -> Val {
        let value = value.map(Box::new);
        Val::Result(if side == 0 { Ok(value) } else { Err(value) })
    }
}

impl<'de> Visitor<'de> for Either<'_> {
    type Value = Val;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`{\"ok\": value}` or `{\"err\": value}`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Val, A::Error> {
        let side = match map.next_key_seed(BorrowedText)?.as_deref() {
            Some("ok") => 0,
            Some("err") => 1,
            Some(other) => return Err(A::Error::custom(format_args!("`result` has no `{other}`"))),
            None => return Err(A::Error::missing_field("ok")),
        };
        let value = match &self.0[side] {
            Some(shape) => Some(map.next_value_seed(Seed(shape))?),
            None => map.next_value::<()>().map(|()| None)?,
        };
        nothing_more(&mut map)?;
        Ok(Self::made(side, value))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Val, A::Error> {
        let (side, value) = data.variant::<u32>()?;
        let side = side as usize;
        let Some(shape) = self.0.get(side) else {
            return Err(A::Error::invalid_value(Unexpected::Unsigned(side as u64), &self));
        };
        Ok(Self::made(
            side,
            match shape {
                Some(shape) => Some(value.newtype_variant_seed(Seed(shape))?),
                // A success that carries nothing is written as `()`, which has no bytes.
                None => value.newtype_variant::<()>().map(|()| None)?,
            },
        ))
    }
}

/// Reads a case with what it carries.
fn read_case<'de, S, D: Deserializer<'de>>(
    cases: &Cases<S>,
    carries: impl Fn(&S) -> Option<&Shape>,
    from: D,
) -> Result<(usize, Option<Val>), D::Error> {
    let visitor = CaseVisitor { cases, carries };
    match from.is_human_readable() {
        true => from.deserialize_any(visitor),
        false => from.deserialize_enum("", &[], visitor),
    }
}

struct CaseVisitor<'a, S, F> {
    cases: &'a Cases<S>,
    carries: F,
}

impl<'a, S, F: Fn(&'a S) -> Option<&'a Shape>> CaseVisitor<'a, S, F> {
    fn carried(&self, case: usize) -> Option<&'a Shape> {
        (self.carries)(&self.cases.cases[case].shape)
    }

    fn bare<E: serde::de::Error>(&self, case: usize) -> Result<(usize, Option<Val>), E> {
        let Cases { of, cases } = self.cases;
        match self.carried(case) {
            None => Ok((case, None)),
            Some(_) => Err(E::custom(format_args!("`{}` of `{of}` wants a value", cases[case].name))),
        }
    }
}

impl<'a, 'de, S, F: Fn(&'a S) -> Option<&'a Shape>> Visitor<'de> for CaseVisitor<'a, S, F> {
    type Value = (usize, Option<Val>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a case of `{}`", self.cases.of)
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        let case = member(&self.cases.of, &self.cases.cases, name)?;
        self.bare(case)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Self::Value, A::Error> {
        let (case, value) = data.variant::<u32>()?;
        let case = case as usize;
        if case >= self.cases.cases.len() {
            return Err(A::Error::invalid_value(Unexpected::Unsigned(case as u64), &self));
        }
        match self.carried(case) {
            None => value.unit_variant().map(|()| (case, None)),
            Some(shape) => Ok((case, Some(value.newtype_variant_seed(Seed(shape))?))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Cases { of, cases } = self.cases;
        let find = |name: &str| member::<_, A::Error>(of, cases, name);
        let first = map.next_key_seed(BorrowedText)?.ok_or_else(|| A::Error::missing_field("tag"))?;
        let value = match &*first {
            "tag" => {
                let case = find(&map.next_value::<String>()?)?;
                match map.next_key_seed(BorrowedText)?.as_deref() {
                    None => return self.bare(case),
                    Some("val") => self.value(case, &mut map)?,
                    Some(extra) => return Err(A::Error::custom(format_args!("unexpected member `{extra}`"))),
                }
            }
            // The value stands before its tag: keep it until the tag tells its type.
            "val" if !cases.iter().any(|case| case.name == "val") => {
                let kept: serde_json::Value = map.next_value()?;
                if map.next_key_seed(BorrowedText)?.as_deref() != Some("tag") {
                    return Err(A::Error::missing_field("tag"));
                }
                let case = find(&map.next_value::<String>()?)?;
                match self.carried(case) {
                    None if kept.is_null() => (case, None),
                    None => {
                        return Err(A::Error::custom(format_args!("`{}` of `{of}` carries nothing", cases[case].name)));
                    }
                    Some(shape) => (case, Some(Val::read(shape, kept).map_err(A::Error::custom)?)),
                }
            }
            name => {
                let case = find(name)?;
                self.value(case, &mut map)?
            }
        };
        nothing_more(&mut map)?;
        Ok(value)
    }
}

impl<'a, S, F: Fn(&'a S) -> Option<&'a Shape>> CaseVisitor<'a, S, F> {
    fn value<'de, A: MapAccess<'de>>(&self, case: usize, map: &mut A) -> Result<(usize, Option<Val>), A::Error> {
        Ok((
            case,
            match self.carried(case) {
                None => map.next_value::<()>().map(|()| None)?,
                Some(shape) => Some(map.next_value_seed(Seed(shape))?),
            },
        ))
    }
}

fn read_flags<'de, D: Deserializer<'de>>(flags: &Cases<()>, from: D) -> Result<Vec<String>, D::Error> {
    struct Names<'a>(&'a Cases<()>);
    impl<'de> Visitor<'de> for Names<'_> {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an array of names of `{}`", self.0.of)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<u64, A::Error> {
            let mut bits = 0;
            while let Some(name) = seq.next_element_seed(BorrowedText)? {
                bits |= 1 << member::<_, A::Error>(&self.0.of, &self.0.cases, &name)?;
            }
            Ok(bits)
        }
    }
    let Cases { of, cases } = flags;
    let bits = match from.is_human_readable() {
        true => from.deserialize_seq(Names(flags))?,
        false => u64::decode(from)?,
    };
    if cases.len() < 64 && bits >> cases.len() != 0 {
        return Err(D::Error::custom(format_args!("`{of}` has only {} flags", cases.len())));
    }
    let set = cases.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
    Ok(set.map(|(_, flag)| flag.name.clone()).collect())
}

/// Named values: the arguments of a call, the fields of a record. By name in JSON, else in order.
struct Members<'a, 'into, T> {
    what: &'static str,
    members: &'a [Member<Shape>],
    into: &'into mut [Option<T>],
}

impl<'de, T: Target<'de>> DeserializeSeed<'de> for Members<'_, '_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        match from.is_human_readable() {
            true => from.deserialize_map(self),
            false => from.deserialize_tuple(self.members.len(), self),
        }
    }
}

struct MemberSeed<'a, T>(&'a Shape, std::marker::PhantomData<T>);

impl<'de, T: Target<'de>> DeserializeSeed<'de> for MemberSeed<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        T::read(self.0, from)
    }
}

impl<'de, T: Target<'de>> Visitor<'de> for Members<'_, '_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with {} {}s", self.members.len(), self.what)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        for (member, into) in self.members.iter().zip(self.into) {
            let value = seq.next_element_seed(MemberSeed(&member.shape, std::marker::PhantomData))?;
            *into =
                Some(value.ok_or_else(|| A::Error::custom(format_args!("missing {} `{}`", self.what, member.name)))?);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(BorrowedText)? {
            let Some(at) = self.members.iter().position(|member| spells(&name, &member.name)) else {
                let near = nearest(&name, self.members.iter().map(|member| member.name.as_str()));
                let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                return Err(A::Error::custom(format_args!("there is no {} `{name}`{hint}", self.what)));
            };
            let value = map.next_value_seed(MemberSeed(&self.members[at].shape, std::marker::PhantomData))?;
            if self.into[at].replace(value).is_some() {
                return Err(A::Error::custom(format_args!("{} `{name}` is there twice", self.what)));
            }
        }
        for (member, into) in self.members.iter().zip(self.into) {
            if into.is_none() {
                *into = T::absent(&member.shape);
            }
            if into.is_none() {
                return Err(A::Error::custom(format_args!("missing {} `{}`", self.what, member.name)));
            }
        }
        Ok(())
    }
}

/// The position of a case or flag.
fn member<S, E: serde::de::Error>(of: &str, members: &[Member<S>], written: &str) -> Result<usize, E> {
    members.iter().position(|member| spells(written, &member.name)).ok_or_else(|| {
        let near = nearest(written, members.iter().map(|member| member.name.as_str()));
        let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        E::custom(format_args!("`{of}` has no `{written}`{hint}"))
    })
}

/// Whether `written` is `name`, as it is, in snake_case or in camelCase.
fn spells(written: &str, name: &str) -> bool {
    let joined = |upper: bool| {
        let mut words = name.split('-');
        let first = words.next().unwrap_or_default();
        let mut spelled = first.to_owned();
        for word in words {
            if !upper {
                spelled.push('_');
            }
            let (head, tail) = word.split_at(word.len().min(1));
            spelled.push_str(&if upper { head.to_ascii_uppercase() } else { head.to_owned() });
            spelled.push_str(tail);
        }
        spelled
    };
    written == name || (name.contains('-') && (written == joined(false) || written == joined(true)))
}

fn nothing_more<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    match map.next_key_seed(BorrowedText)? {
        None => Ok(()),
        Some(extra) => Err(A::Error::custom(format_args!("unexpected member `{extra}`"))),
    }
}
