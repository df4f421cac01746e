//! An interface in protobuf: its service as a `.proto` file and as a descriptor, and its values there and back.
//!
//! | the interface has | protobuf has |
//! |---|---|
//! | interface `demo:greeter/greeter@1.2.0` | package `demo.greeter.v1` (below 1.0 `v0_3`), service `Greeter` |
//! | function `greet` | `rpc Greet(GreetRequest) returns (GreetResponse)` |
//! | its parameters | fields of the request |
//! | what it gives | `value = 1` of the response; nothing is no field |
//! | a result it gives | `oneof result { ok = 1; err = 2; }`: a plugin's own error is an answer, not a status |
//! | `bool`, `s32`, `s64`, `u32`, `u64`, `f32`, `f64`, `string` | `bool`, `int32`, `int64`, `uint32`, `uint64`, `float`, `double`, `string` |
//! | `s8`, `s16`; `u8`, `u16`, `char` | `int32`; `uint32`; others than these are refused |
//! | `list<u8>` | `bytes` |
//! | `list<T>`, `map<K, V>`, `option<T>` | `repeated`, `map`, `optional` |
//! | `tuple<A, B>` | a message with `f0`, `f1` |
//! | `result<T, E>` within a value | a message with `oneof result` |
//! | record | a message; its fields of messages and enums must be there, others are zero when they are not |
//! | variant | a message with `oneof kind`; a case that carries nothing is a `google.protobuf.Empty` |
//! | enum | an enum; 0 is `…_UNSPECIFIED` and no value |
//! | flags | `repeated` values of an enum |
//! | what protobuf cannot nest (a list in a list, a list in an option, flags in a list) | a message of its own with one field |
//!
//! Fields of messages have the numbers of their positions, from 1, or those of a [`Lock`].
//!
//! Not here: gRPC, which carries it.

mod build;
mod descriptor;
mod enums;
mod layout;
mod lock;
mod name;
mod plain;
mod read;
mod text;
mod trail;
mod wire;
mod write;

use serde::Serialize;

use crate::dynamic::{self, ValueError};
use crate::encoding::Encoding;
use crate::interface::{Function, Interface, InterfaceError};
use layout::{Form, Layout};
pub use lock::{Lock, LockError};
use read::{Pieces, Reader};
use trail::Trail;
use write::Writer;

/// An interface in protobuf, prepared to convert values.
///
/// ```
/// use jackfield_protocol::{Interface, protobuf::ProtoSchema};
/// let greeter = Interface::from_json(r#"{
///     "interface": "demo:greeter/greeter@1.2.0",
///     "functions": [{"name": "greet", "params": [{"name": "name", "type": "string"}], "result": "string"}]
/// }"#)?;
/// let schema = ProtoSchema::new(&greeter)?;
/// assert_eq!(schema.method(0), "/demo.greeter.v1.Greeter/Greet");
/// let request = schema.json_arguments_to_proto(0, br#"{"name": "Ada"}"#)?;
/// assert_eq!(request, b"\x0a\x03Ada");
/// assert_eq!(schema.arguments_to_binary(0, &request)?, b"\x03Ada");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ProtoSchema {
    interface: Interface,
    layout: Layout,
}

/// An interface that cannot be laid out in protobuf.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// Its description is not sound.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// Its numbers are not those of the lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Its messages stand in each other deeper than readers of protobuf go.
    #[error("message `{message}` is nested too deep: more than {depth_max} messages")]
    TooDeep {
        /// The outermost one.
        message: String,
        /// How many there may be.
        depth_max: usize,
    },
}

impl ProtoSchema {
    /// The interface with each field's position as its number.
    pub fn new(interface: &Interface) -> Result<Self, SchemaError> {
        let interface = interface.clone().checked()?;
        let lock = Lock::new(&interface)?;
        Ok(Self { layout: Layout::new(&interface, &lock)?, interface })
    }

    /// The interface with the numbers of a lock, which must know each name of it.
    pub fn with_lock(interface: &Interface, lock: &Lock) -> Result<Self, SchemaError> {
        let interface = interface.clone().checked()?;
        lock.check(&interface)?;
        Ok(Self { layout: Layout::new(&interface, lock)?, interface })
    }

    /// `demo.greeter.v1`
    pub fn package(&self) -> &str {
        &self.layout.package
    }

    /// `Greeter`
    pub fn service(&self) -> &str {
        &self.layout.service
    }

    /// `demo.greeter.v1.Greeter`
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.layout.package, self.layout.service)
    }

    /// `demo/greeter/v1/greeter.proto`: where the file stands, as the descriptor says it.
    pub fn file_name(&self) -> &str {
        &self.layout.file
    }

    /// The path by which gRPC calls a function: `/demo.greeter.v1.Greeter/Greet`.
    ///
    /// # Panics
    ///
    /// When the interface has no function at this position.
    pub fn method(&self, function: usize) -> &str {
        &self.layout.methods[function].path
    }

    /// The function that gRPC calls by this path.
    pub fn function(&self, method: &str) -> Option<usize> {
        self.layout.methods.iter().position(|known| known.path == method)
    }

    /// The `.proto` file.
    pub fn text(&self) -> String {
        text::text(&self.interface, &self.layout)
    }

    /// An encoded `google.protobuf.FileDescriptorProto` of the same file, as reflection gives it. Where the
    /// file uses it, it depends on `google/protobuf/empty.proto`.
    pub fn file_descriptor(&self) -> Vec<u8> {
        descriptor::file(&self.layout)
    }

    /// The request of a call, of its arguments in the binary encoding.
    pub fn arguments_to_proto(&self, function: usize, binary: &[u8]) -> Result<Vec<u8>, ValueError> {
        self.write_arguments(function, Encoding::Binary, binary)
    }

    /// The request of a call, of its arguments in JSON, in any form that a plugin accepts.
    pub fn json_arguments_to_proto(&self, function: usize, json: &[u8]) -> Result<Vec<u8>, ValueError> {
        self.write_arguments(function, Encoding::Json, json)
    }

    /// The arguments of a call in the binary encoding, of its request.
    pub fn arguments_to_binary(&self, function: usize, proto: &[u8]) -> Result<Vec<u8>, ValueError> {
        self.read_arguments(function, Encoding::Binary, proto)
    }

    /// The arguments of a call in canonical JSON, of its request.
    pub fn arguments_to_json(&self, function: usize, proto: &[u8]) -> Result<Vec<u8>, ValueError> {
        self.read_arguments(function, Encoding::Json, proto)
    }

    /// The response to a call, of what the function gave, in the binary encoding: its success, or the plugin's
    /// own error.
    pub fn answer_to_proto(&self, function: usize, ok: bool, binary: &[u8]) -> Result<Vec<u8>, ValueError> {
        self.write_answer(function, ok, Encoding::Binary, binary)
    }

    /// The response to a call, of what the function gave, in JSON.
    pub fn json_answer_to_proto(&self, function: usize, ok: bool, json: &[u8]) -> Result<Vec<u8>, ValueError> {
        self.write_answer(function, ok, Encoding::Json, json)
    }

    /// What the function gave, in the binary encoding, of the response: whether it is a success, and its value.
    pub fn answer_to_binary(&self, function: usize, proto: &[u8]) -> Result<(bool, Vec<u8>), ValueError> {
        self.read_answer(function, Encoding::Binary, proto)
    }

    /// What the function gave, in canonical JSON, of the response: whether it is a success, and its value.
    pub fn answer_to_json(&self, function: usize, proto: &[u8]) -> Result<(bool, Vec<u8>), ValueError> {
        self.read_answer(function, Encoding::Json, proto)
    }

    fn write_arguments(&self, at: usize, encoding: Encoding, bytes: &[u8]) -> Result<Vec<u8>, ValueError> {
        let function = self.called(at)?;
        let request = &self.layout.messages[self.layout.methods[at].request];
        let trail = Trail::default();
        let mut writer = Writer::new(&self.layout, &trail);
        let written = match encoding {
            Encoding::Json => {
                let bytes = if bytes.is_empty() { b"{}" } else { bytes };
                let canonical = dynamic::check_arguments(&self.interface, function, &json(bytes, &function.name)?)?;
                writer.message(request, canonical).map_err(|error| error.to_string())
            }
            Encoding::Binary => binary(bytes, |from| writer.message(request, from)),
        };
        let written = written.map(|()| writer.finish());
        written.map_err(|error| argument(&function.name, trail.end(error)))
    }

    fn read_arguments(&self, at: usize, encoding: Encoding, proto: &[u8]) -> Result<Vec<u8>, ValueError> {
        let function = self.called(at)?;
        let request = &self.layout.messages[self.layout.methods[at].request];
        let trail = Trail::default();
        let reader = Reader { layout: &self.layout, trail: &trail };
        let read = encoded(encoding, &reader.value(request, Pieces::One(proto)));
        read.map_err(|error| argument(&function.name, trail.end(error)))
    }

    fn write_answer(&self, at: usize, ok: bool, encoding: Encoding, bytes: &[u8]) -> Result<Vec<u8>, ValueError> {
        let function = self.called(at)?;
        let path = result_path(function);
        let response = &self.layout.messages[self.layout.methods[at].response];
        let ty = match (ok, function.err()) {
            (true, _) => function.ok(),
            (false, Some(err)) => err.clone(),
            (false, None) => {
                let what = "has no error of the plugin's own, and was given one".to_owned();
                return Err(ValueError { path, what });
            }
        };
        let trail = Trail::default();
        let mut writer = Writer::new(&self.layout, &trail);
        // The response to a function that can fail has one of two fields; to another, one or none.
        let side = (response.form == Form::Result).then(|| &response.fields[usize::from(!ok)]);
        let written = match (encoding, side) {
            (Encoding::Json, side) => {
                let value = dynamic::check_value(&self.interface, &ty, &json(bytes, &path)?, &path)?;
                let written = match side {
                    Some(field) => writer.side(field, value),
                    None => writer.message(response, value),
                };
                written.map_err(|error| error.to_string())
            }
            (Encoding::Binary, Some(field)) => binary(bytes, |from| writer.side(field, from)),
            (Encoding::Binary, None) => binary(bytes, |from| writer.message(response, from)),
        };
        let written = written.map(|()| writer.finish());
        written.map_err(|error| within(path, trail.end(error)))
    }

    fn read_answer(&self, at: usize, encoding: Encoding, proto: &[u8]) -> Result<(bool, Vec<u8>), ValueError> {
        let function = self.called(at)?;
        let path = result_path(function);
        let response = &self.layout.messages[self.layout.methods[at].response];
        let trail = Trail::default();
        let reader = Reader { layout: &self.layout, trail: &trail };
        let pieces = Pieces::One(proto);
        if response.form != Form::Result {
            let read = encoded(encoding, &reader.value(response, pieces));
            return read.map(|value| (true, value)).map_err(|error| within(path, trail.end(error)));
        }
        let wrong = |what: String| ValueError { path: path.clone(), what };
        let last = reader.last(response, pieces).map_err(wrong)?;
        let (side, found) = last.ok_or_else(|| wrong("has neither `ok` nor `err`".to_owned()))?;
        let read = encoded(encoding, &reader.case(response, side, &found));
        let path = format!("{path}.{}", response.fields[side].name);
        read.map(|value| (side == 0, value)).map_err(|error| within(path, trail.end(error)))
    }

    fn called(&self, at: usize) -> Result<&Function, ValueError> {
        self.interface.functions.get(at).ok_or_else(|| ValueError {
            path: self.interface.id.to_string(),
            what: format!("has {} functions, and none at {at}", self.interface.functions.len()),
        })
    }
}

fn result_path(function: &Function) -> String {
    format!("{}() result", function.name)
}

/// `.name.zip` of the arguments is `greet(name).zip`.
fn argument(function: &str, error: ValueError) -> ValueError {
    let ValueError { path, what } = error;
    let Some(rest) = path.strip_prefix('.') else { return ValueError { path: format!("{function}{path}"), what } };
    let end = rest.find(['.', '[', '{']).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    ValueError { path: format!("{function}({name}){rest}"), what }
}

fn within(path: String, error: ValueError) -> ValueError {
    ValueError { path: path + &error.path, what: error.what }
}

fn json(bytes: &[u8], path: &str) -> Result<serde_json::Value, ValueError> {
    serde_json::from_slice(bytes).map_err(|error| ValueError { path: path.to_owned(), what: error.to_string() })
}

/// Reads a value that fills `bytes` exactly.
fn binary<'de, E>(
    bytes: &'de [u8],
    read: impl FnOnce(&mut postcard::Deserializer<'de, postcard::de_flavors::Slice<'de>>) -> Result<(), E>,
) -> Result<(), String>
where
    E: std::fmt::Display,
{
    let mut from = postcard::Deserializer::from_bytes(bytes);
    read(&mut from).map_err(|error| error.to_string())?;
    match from.finalize() {
        Ok([]) => Ok(()),
        Ok(rest) => Err(format!("{} bytes follow the value", rest.len())),
        Err(error) => Err(error.to_string()),
    }
}

fn encoded(encoding: Encoding, value: &impl Serialize) -> Result<Vec<u8>, String> {
    match encoding {
        Encoding::Json => serde_json::to_vec(value).map_err(|error| error.to_string()),
        Encoding::Binary => postcard::to_allocvec(value).map_err(|error| error.to_string()),
    }
}
