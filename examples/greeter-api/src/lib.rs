//! The greeter: what its hosts and its plugins share, and all that they share.

use jackfield_plugin::{Type, interface};

/// Greets people.
#[interface("demo:greeter/greeter@1.0.0")]
pub trait Greeter {
    /// Greets one person by name.
    fn greet(&self, name: String) -> Result<String, GreetError>;
}

/// Why somebody cannot be greeted.
#[derive(Clone, Debug, PartialEq, Eq, Type)]
pub enum GreetError {
    /// There is no name.
    EmptyName,
    /// The name is too long: its length in characters, of 100 allowed.
    TooLong(u32),
}

/// The rule for names that every greeter follows.
pub fn check_name(name: &str) -> Result<(), GreetError> {
    match name.chars().count() {
        0 => Err(GreetError::EmptyName),
        length if length > 100 => Err(GreetError::TooLong(u32::try_from(length).unwrap_or(u32::MAX))),
        _ => Ok(()),
    }
}
