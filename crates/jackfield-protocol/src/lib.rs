//! What crosses the border between a Jackfield host and its plugins, as types.
//!
//! An interface is described by [`Interface`], its values by the traits in [`value`], a call by
//! [`call`]; [`message`] and [`frame`] are what the `process` mechanism writes to a pipe, and
//! [`native`] is `jackfield.h` in Rust. [`life`] is an interface that any plugin may offer beside its
//! own. The words are those of the glossary in ARCHITECTURE.md.
//!
//! Not here: I/O of any kind. The host's half is `jackfield`, the plugin's half `jackfield-plugin`.

mod hint;
pub mod name;
mod types;

mod interface;

mod compare;
pub mod dynamic;
mod encoding;
pub mod export;
pub mod value;

pub mod call;
pub mod dispatch;
pub mod frame;
pub mod life;
pub mod message;
pub mod native;
pub mod protobuf;
pub mod runner;
mod trace;

pub mod span;

pub use call::{CallError, Status};
pub use compare::{Comparison, Mismatch, compare};
pub use encoding::{DecodeError, EncodeError, Encoding};
pub use hint::nearest;
pub use interface::{Fingerprint, Function, Interface, InterfaceError, Param};
pub use name::{Capability, InterfaceId, NameError, is_kebab};
pub use trace::{NoTraceContext, TraceContext, TraceText};
pub use types::{Case, Field, TypeDef, TypeRef, Types};
pub use value::Type;

#[doc(hidden)]
pub use serde;

/// The id of an interface, for its description. Used by generated code.
#[doc(hidden)]
pub fn interface_id(text: &str) -> Result<InterfaceId, InterfaceError> {
    text.parse().map_err(|error: NameError| InterfaceError::Unreadable { what: error.to_string() })
}

/// Version of the protocol between host and plugin, spoken by this build: `major.minor`.
///
/// A host and a plugin understand each other when the majors are equal. It is not the version of
/// any crate; `docs/protocol.md` lists what each version added.
pub const PROTOCOL: message::ProtocolVersion = message::ProtocolVersion { major: 1, minor: 0 };
