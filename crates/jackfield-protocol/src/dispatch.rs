//! A call, as a plugin sees it: found by name or number, its arguments decoded, its answer encoded.
//!
//! `#[interface]` implements [`Dispatch`] for `dyn Trait`. Not here: the panic guard around it and
//! how the call came (`jackfield-plugin`).

use crate::call::{Described, NoError};
use crate::encoding::{DecodeError, EncodeError, Encoding};
use crate::name::spells;
use crate::value::Type;

/// A Rust trait that `#[interface]` was put on, as `dyn Trait`, seen from the plugin.
pub trait Dispatch: Described {
    /// Makes the call on `self` and appends its value to `answer`.
    fn dispatch(&self, call: Incoming<'_>, answer: &mut Vec<u8>) -> Dispatched;
}

/// A call that came in.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// The function, by name or, between equals, by number.
    pub function: Called<'a>,
    /// Encoding of the arguments and of the answer.
    pub encoding: Encoding,
    /// The arguments: a record of the parameters. Empty is a call without any.
    pub arguments: &'a [u8],
}

/// Which function is called.
#[derive(Clone, Copy, Debug)]
pub enum Called<'a> {
    /// By name, in any accepted spelling.
    Name(&'a str),
    /// By position in the description, which both sides know to be the same.
    Position(usize),
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dispatched {
    /// The answer holds the value.
    Ok,
    /// The answer holds the plugin's own error.
    OwnError,
    /// There is no such function.
    Unimplemented,
    /// The arguments are not the function's.
    BadArguments(String),
    /// The value cannot be encoded.
    Failed(String),
}

impl Incoming<'_> {
    /// Position of the function among `names`.
    #[inline]
    pub fn position(&self, names: &[&str]) -> Option<usize> {
        match self.function {
            Called::Position(position) => Some(position),
            Called::Name(written) => names.iter().position(|name| spells(written, name)),
        }
    }

    /// Runs a function that gives `Result<T, E>`.
    // A part of its caller, so that arguments and answer need not be handed on through memory. What is long in
    // it is elsewhere (`encoding.rs`).
    #[inline(always)]
    pub fn run<P: Type, T: Type, E: Type>(
        &self,
        answer: &mut Vec<u8>,
        function: impl FnOnce(P) -> Result<T, E>,
    ) -> Dispatched {
        let arguments = match (self.arguments, self.encoding) {
            ([], Encoding::Json) => b"{}",
            (arguments, _) => arguments,
        };
        let params = match self.encoding.decode(arguments) {
            Ok(params) => params,
            Err(error) => return bad_arguments(&error),
        };
        let (encoded, ended) = match function(params) {
            Ok(value) => (self.encoding.encode(&value, answer), Dispatched::Ok),
            Err(error) => (self.encoding.encode(&error, answer), Dispatched::OwnError),
        };
        match encoded {
            Ok(()) => ended,
            Err(error) => failed(&error),
        }
    }

    /// Runs a function that always succeeds.
    #[inline(always)]
    pub fn run_plain<P: Type, T: Type>(&self, answer: &mut Vec<u8>, function: impl FnOnce(P) -> T) -> Dispatched {
        self.run::<P, T, NoError>(answer, |params| Ok(function(params)))
    }
}

#[cold]
fn bad_arguments(error: &DecodeError) -> Dispatched {
    Dispatched::BadArguments(error.to_string())
}

#[cold]
fn failed(error: &EncodeError) -> Dispatched {
    Dispatched::Failed(error.to_string())
}
