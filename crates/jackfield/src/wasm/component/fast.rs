//! Calls through Rust types: strings, byte lists and numbers, which wasmtime copies whole.
//!
//! An untyped call makes one value of each byte of a list, which takes some 800 times as long. Which
//! functions can go this way is a closed set, since each member is code of its own:
//!
//! - up to three strings and byte lists, or at most one of them and a number (`u32`, `u64`), giving nothing,
//!   a string, bytes, a boolean, a `u32` or `u64`, or a `result` of a string, bytes or nothing whose error is
//!   a string;
//! - one or two numbers of one kind, giving such a number.
//!
//! Every other function is called untyped, and so are bytes within records. That costs about 0.5 µs more for
//! a call, and 90 ns for each element of a list, there and back.
//!
//! What is given back is copied out of the guest before its clean-up (`post-return`) runs; wasmtime's
//! borrowed `WasmStr` and `WasmList` would be read after it, when the guest has reused the memory.

use jackfield_protocol::Encoding;
use jackfield_protocol::call::{Answer, Cause, Whole};
use jackfield_protocol::value::Encode;
use wasmtime::Store;
use wasmtime::component::{ComponentNamedList, Func, Lift, Lower, TypedFunc};

use super::lift::{answer, whole_answer};
use super::lower::Plain;
use super::shape::{Member, Returned, Shape, Signature};
use crate::wasm::guest::Guest;

/// Most parameters of a fast function.
pub(super) const PARAMS_MAX: usize = 3;

/// The arguments of a fast function.
pub(super) type Arguments<'a> = [Option<Plain<'a>>; PARAMS_MAX];

/// What a fast function gave.
pub(super) struct Given {
    ok: bool,
    value: Value,
}

enum Value {
    Nothing,
    Bool(bool),
    U32(u32),
    U64(u64),
    S32(i32),
    S64(i64),
    F32(f32),
    F64(f64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Given {
    /// Writes the answer, unless it can be passed as it is.
    pub(super) fn answer(self, encoding: Encoding, bytes_max: usize) -> Result<Answer, Cause> {
        let ok = self.ok;
        match self.value {
            Value::Nothing => answer(encoding, bytes_max, ok, &Encode(&())),
            Value::Bool(value) => answer(encoding, bytes_max, ok, &Encode(&value)),
            Value::U32(value) => answer(encoding, bytes_max, ok, &Encode(&value)),
            Value::U64(value) => answer(encoding, bytes_max, ok, &Encode(&value)),
            Value::S32(value) => answer(encoding, bytes_max, ok, &Encode(&value)),
            Value::S64(value) => answer(encoding, bytes_max, ok, &Encode(&value)),
            Value::F32(value) => answer(encoding, bytes_max, ok, &Encode(&value)),
            Value::F64(value) => answer(encoding, bytes_max, ok, &Encode(&value)),
            Value::Text(value) if encoding == Encoding::Binary => whole_answer(bytes_max, ok, Whole::Text(value)),
            Value::Bytes(value) if encoding == Encoding::Binary => whole_answer(bytes_max, ok, Whole::Bytes(value)),
            Value::Text(value) => answer(encoding, bytes_max, ok, &value),
            Value::Bytes(value) => answer(encoding, bytes_max, ok, &Encode(&value)),
        }
    }
}

/// Strings, byte lists and numbers that a function takes, by what they are.
macro_rules! texts {
    ($($name:ident: $($param:ident)*;)*) => {
        /// A function bound to its Rust types, in one instance.
        #[derive(Clone, Copy)]
        pub(super) enum Fast {
            $($name(Returns<($(texts!(@type 'static $param),)*)>),)*
            S32(Number<i32>),
            S64(Number<i64>),
            U32(Number<u32>),
            U64(Number<u64>),
            F32(Number<f32>),
            F64(Number<f64>),
        }

        impl Fast {
            /// Binds a function; none if it is not one of the set.
            pub(super) fn bind(func: &Func, store: &Store<Guest>, signature: &Signature) -> wasmtime::Result<Option<Self>> {
                let params: &[Member<Shape>] = &signature.params;
                let result = &signature.result;
                if let Some(number) = Self::bind_number(func, store, signature)? {
                    return Ok(Some(number));
                }
                $(
                    if let [$(texts!(@shape $param)),*] = params {
                        return Ok(Returns::bind(func, store, result)?.map(Fast::$name));
                    }
                )*
                Ok(None)
            }

            /// Makes a call.
            pub(super) async fn call<'a>(
                &self,
                store: &mut Store<Guest>,
                arguments: &'a Arguments<'_>,
                here: bool,
            ) -> wasmtime::Result<Given> {
                match self {
                    $(Fast::$name(returns) => {
                        // Strings need to live as long as this call, and not for ever.
                        let returns: &Returns<($(texts!(@type 'a $param),)*)> = returns;
                        let mut next = arguments.iter();
                        let arguments = ($(texts!(@take $param next),)*);
                        let _ = &mut next;
                        returns.call(store, arguments, here).await
                    })*
                    Fast::S32(number) => number.call(store, arguments, here).await,
                    Fast::S64(number) => number.call(store, arguments, here).await,
                    Fast::U32(number) => number.call(store, arguments, here).await,
                    Fast::U64(number) => number.call(store, arguments, here).await,
                    Fast::F32(number) => number.call(store, arguments, here).await,
                    Fast::F64(number) => number.call(store, arguments, here).await,
                }
            }
        }
    };
    (@type $life:lifetime text) => { &$life str };
    (@type $life:lifetime bytes) => { &$life [u8] };
    (@shape text) => { Member { shape: Shape::String, .. } };
    (@shape bytes) => { Member { shape: Shape::Bytes, .. } };
    (@take text $from:ident) => { text($from.next())? };
    (@take bytes $from:ident) => { bytes($from.next())? };
    (@type $life:lifetime $number:ident) => { $number };
    (@shape u32) => { Member { shape: Shape::U32, .. } };
    (@shape u64) => { Member { shape: Shape::U64, .. } };
    (@take u32 $from:ident) => { u32($from.next())? };
    (@take u64 $from:ident) => { u64($from.next())? };
}
texts! {
    Nothing: ;
    Text: text;
    Bytes: bytes;
    TextText: text text;
    TextBytes: text bytes;
    BytesText: bytes text;
    BytesBytes: bytes bytes;
    TextTextText: text text text;
    TextTextBytes: text text bytes;
    OneU32: u32;
    OneU64: u64;
    TextU32: text u32;
    TextU64: text u64;
    BytesU32: bytes u32;
    BytesU64: bytes u64;
}

impl Fast {
    fn bind_number(func: &Func, store: &Store<Guest>, signature: &Signature) -> wasmtime::Result<Option<Self>> {
        let Returned::Plain(result) = &signature.result else { return Ok(None) };
        let kind = std::mem::discriminant(result);
        let count = signature.params.len();
        let same = signature.params.iter().all(|param| std::mem::discriminant(&param.shape) == kind);
        if !same || !(1..=2).contains(&count) {
            return Ok(None);
        }
        Ok(Some(match result {
            Shape::S32 => Fast::S32(Number::bind(func, store, count)?),
            Shape::S64 => Fast::S64(Number::bind(func, store, count)?),
            Shape::U32 => Fast::U32(Number::bind(func, store, count)?),
            Shape::U64 => Fast::U64(Number::bind(func, store, count)?),
            Shape::F32 => Fast::F32(Number::bind(func, store, count)?),
            Shape::F64 => Fast::F64(Number::bind(func, store, count)?),
            _ => return Ok(None),
        }))
    }
}

/// A function of parameters `P`, by what it gives.
#[derive(Clone, Copy)]
pub(super) enum Returns<P> {
    Nothing(TypedFunc<P, ()>),
    Text(TypedFunc<P, (String,)>),
    Bytes(TypedFunc<P, (Vec<u8>,)>),
    Bool(TypedFunc<P, (bool,)>),
    U32(TypedFunc<P, (u32,)>),
    U64(TypedFunc<P, (u64,)>),
    NothingOr(TypedFunc<P, (Result<(), String>,)>),
    TextOr(TypedFunc<P, (Result<String, String>,)>),
    BytesOr(TypedFunc<P, (Result<Vec<u8>, String>,)>),
}

impl<P: ComponentNamedList + Lower> Returns<P> {
    fn bind(func: &Func, store: &Store<Guest>, result: &Returned) -> wasmtime::Result<Option<Self>> {
        Ok(Some(match result {
            Returned::Nothing => Returns::Nothing(func.typed(store)?),
            Returned::Plain(Shape::String) => Returns::Text(func.typed(store)?),
            Returned::Plain(Shape::Bytes) => Returns::Bytes(func.typed(store)?),
            Returned::Plain(Shape::Bool) => Returns::Bool(func.typed(store)?),
            Returned::Plain(Shape::U32) => Returns::U32(func.typed(store)?),
            Returned::Plain(Shape::U64) => Returns::U64(func.typed(store)?),
            Returned::Either(None, Some(Shape::String)) => Returns::NothingOr(func.typed(store)?),
            Returned::Either(Some(Shape::String), Some(Shape::String)) => Returns::TextOr(func.typed(store)?),
            Returned::Either(Some(Shape::Bytes), Some(Shape::String)) => Returns::BytesOr(func.typed(store)?),
            _ => return Ok(None),
        }))
    }

    async fn call(&self, store: &mut Store<Guest>, params: P, here: bool) -> wasmtime::Result<Given> {
        let either = |value: Result<Value, String>| match value {
            Ok(value) => Given { ok: true, value },
            Err(error) => Given { ok: false, value: Value::Text(error) },
        };
        let value = match self {
            Returns::Nothing(func) => {
                run(func, store, params, here).await?;
                Value::Nothing
            }
            Returns::Text(func) => Value::Text(run(func, store, params, here).await?.0),
            Returns::Bytes(func) => Value::Bytes(run(func, store, params, here).await?.0),
            Returns::Bool(func) => Value::Bool(run(func, store, params, here).await?.0),
            Returns::U32(func) => Value::U32(run(func, store, params, here).await?.0),
            Returns::U64(func) => Value::U64(run(func, store, params, here).await?.0),
            Returns::NothingOr(func) => {
                return Ok(either(run(func, store, params, here).await?.0.map(|()| Value::Nothing)));
            }
            Returns::TextOr(func) => return Ok(either(run(func, store, params, here).await?.0.map(Value::Text))),
            Returns::BytesOr(func) => return Ok(either(run(func, store, params, here).await?.0.map(Value::Bytes))),
        };
        Ok(Given { ok: true, value })
    }
}

/// A function of one or two numbers.
#[derive(Clone, Copy)]
pub(super) enum Number<N> {
    One(TypedFunc<(N,), (N,)>),
    Two(TypedFunc<(N, N), (N,)>),
}

impl<N: Lower + Lift> Number<N> {
    fn bind(func: &Func, store: &Store<Guest>, count: usize) -> wasmtime::Result<Self> {
        Ok(match count {
            1 => Number::One(func.typed(store)?),
            _ => Number::Two(func.typed(store)?),
        })
    }
}

macro_rules! numbers {
    ($($number:ident $kind:ident;)*) => {$(
        impl Number<$number> {
            async fn call(
                &self,
                store: &mut Store<Guest>,
                arguments: &Arguments<'_>,
                here: bool,
            ) -> wasmtime::Result<Given> {
                let number = |at: usize| match arguments.get(at) {
                    Some(Some(Plain::$kind(number))) => Ok(*number),
                    _ => Err(unlike()),
                };
                let (value,) = match self {
                    Number::One(func) => run(func, store, (number(0)?,), here).await?,
                    Number::Two(func) => run(func, store, (number(0)?, number(1)?), here).await?,
                };
                Ok(Given { ok: true, value: Value::$kind(value) })
            }
        }
    )*};
}
numbers! {
    i32 S32;
    i64 S64;
    u32 U32;
    u64 U64;
    f32 F32;
    f64 F64;
}

/// Runs a function on this thread's stack, or on one of its own, which it can be left on for a while.
async fn run<P, R>(func: &TypedFunc<P, R>, store: &mut Store<Guest>, params: P, here: bool) -> wasmtime::Result<R>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift + 'static,
{
    match here {
        true => func.call(store, params),
        false => func.call_async(store, params).await,
    }
}

fn text<'a>(argument: Option<&'a Option<Plain<'_>>>) -> wasmtime::Result<&'a str> {
    match argument {
        Some(Some(Plain::Text(text))) => Ok(text),
        _ => Err(unlike()),
    }
}

fn bytes<'a>(argument: Option<&'a Option<Plain<'_>>>) -> wasmtime::Result<&'a [u8]> {
    match argument {
        Some(Some(Plain::Bytes(bytes))) => Ok(bytes),
        _ => Err(unlike()),
    }
}

fn u32(argument: Option<&Option<Plain<'_>>>) -> wasmtime::Result<u32> {
    match argument {
        Some(Some(Plain::U32(number))) => Ok(*number),
        _ => Err(unlike()),
    }
}

fn u64(argument: Option<&Option<Plain<'_>>>) -> wasmtime::Result<u64> {
    match argument {
        Some(Some(Plain::U64(number))) => Ok(*number),
        _ => Err(unlike()),
    }
}

/// Arguments are read by the shapes that the function was bound by.
fn unlike() -> wasmtime::Error {
    wasmtime::Error::msg("an argument is not of the type that the function was bound with")
}
