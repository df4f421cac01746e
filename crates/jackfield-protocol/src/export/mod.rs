//! An interface in the languages of others: WIT for programmers, JSON Schema for tools.
//!
//! Pure functions of the description. The description itself, as JSON, is the form that loses nothing.

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
}
