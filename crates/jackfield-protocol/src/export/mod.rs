//! An interface in the languages of others: WIT and protobuf for programmers, JSON Schema for tools.
//!
//! Pure functions of the description. The description itself, as JSON, is the form that loses nothing.

use std::fmt::Write as _;

use crate::interface::Interface;
use crate::protobuf::{ProtoSchema, SchemaError};

mod json_schema;
mod wit;

pub use json_schema::json_schema;
pub use wit::wit;

/// An interface that another language cannot say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// WIT has a type for nothing only as the success or the error of a result.
    #[error("WIT has no `_` outside of a result, as at `{path}`")]
    Unit {
        /// Where: `greet(name)`, `person.address`.
        path: String,
    },
    /// In WIT, types and functions of an interface must have different names.
    #[error("WIT has no type and function of one name, as is `{name}`")]
    SharedName {
        /// The name of both.
        name: String,
    },
    /// It cannot be laid out in protobuf.
    #[error(transparent)]
    Protobuf(#[from] SchemaError),
}

/// The interface as a `.proto` file, each field's number being its position. For an interface that has a lock,
/// it is the [`text`](ProtoSchema::text) of the schema with it.
pub fn proto(interface: &Interface) -> Result<String, ExportError> {
    Ok(ProtoSchema::new(interface)?.text())
}

/// Documentation as a comment, `mark` before each line of it.
pub(crate) fn comment(text: &mut String, indent: &str, mark: &str, docs: &str) {
    for line in docs.lines() {
        let line = line.trim_end();
        let space = if line.is_empty() { "" } else { " " };
        let _ = write!(text, "{indent}{mark}{space}");
        line.chars().for_each(|c| match is_forbidden(c) {
            true => text.extend(c.escape_unicode()),
            false => text.push(c),
        });
        text.push('\n');
    }
}

/// Characters that WIT allows nowhere, not even in a comment: those that make a terminal or a reader
/// see something else than what is there, and those that Unicode advises against.
fn is_forbidden(c: char) -> bool {
    const ADVISED_AGAINST: [char; 8] =
        ['\u{149}', '\u{673}', '\u{f77}', '\u{f79}', '\u{17a3}', '\u{17a4}', '\u{17b4}', '\u{17b5}'];
    let overrides_direction = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    overrides_direction || ADVISED_AGAINST.contains(&c) || c.is_control() && c != '\t'
}
