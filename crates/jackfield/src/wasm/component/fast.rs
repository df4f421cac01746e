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

use std::future::ready;

use jackfield_protocol::Encoding;
use jackfield_protocol::call::{Answer, Cause, Whole};
use jackfield_protocol::value::Encode;
use wasmtime::Store;
use wasmtime::component::{ComponentNamedList, Func, Lift, Lower, TypedFunc};

use super::lift::{answer, whole_answer};
use super::lower::Plain;
use super::shape::{Member, Returned, Shape, Signature};
use crate::mechanism::Boxed;
use crate::wasm::guest::Guest;

/// Most parameters of a fast function.
pub(super) const PARAMS_MAX: usize = 3;

/// The arguments of a fast function.
pub(super) type Arguments<'a> = [Option<Plain<'a>>; PARAMS_MAX];

/// Room for them.
pub(super) const NONE: Arguments<'static> = [const { None }; PARAMS_MAX];

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
            #[inline]
            pub(super) fn call<'a, W: Way>(
                &self,
                way: W,
                store: &'a mut Store<Guest>,
                arguments: &'a Arguments<'_>,
            ) -> W::Gives<'a> {
                match self {
                    $(Fast::$name(returns) => {
                        // Strings need to live as long as this call, and not for ever.
                        let returns: &Returns<($(texts!(@type 'a $param),)*)> = returns;
                        let mut next = arguments.iter();
                        let arguments = ($(texts!(@take $param next way),)*);
                        let _ = &mut next;
                        returns.call(way, store, arguments)
                    })*
                    Fast::S32(number) => number.call(way, store, arguments),
                    Fast::S64(number) => number.call(way, store, arguments),
                    Fast::U32(number) => number.call(way, store, arguments),
                    Fast::U64(number) => number.call(way, store, arguments),
                    Fast::F32(number) => number.call(way, store, arguments),
                    Fast::F64(number) => number.call(way, store, arguments),
                }
            }
        }
    };
    (@type $life:lifetime text) => { &$life str };
    (@type $life:lifetime bytes) => { &$life [u8] };
    (@shape text) => { Member { shape: Shape::String, .. } };
    (@shape bytes) => { Member { shape: Shape::Bytes, .. } };
    (@take text $from:ident $way:ident) => {
        match text($from.next()) {
            Some(argument) => argument,
            None => return $way.failed(unlike()),
        }
    };
    (@take bytes $from:ident $way:ident) => {
        match bytes($from.next()) {
            Some(argument) => argument,
            None => return $way.failed(unlike()),
        }
    };
    (@type $life:lifetime $number:ident) => { $number };
    (@shape u32) => { Member { shape: Shape::U32, .. } };
    (@shape u64) => { Member { shape: Shape::U64, .. } };
    (@take u32 $from:ident $way:ident) => {
        match u32($from.next()) {
            Some(argument) => argument,
            None => return $way.failed(unlike()),
        }
    };
    (@take u64 $from:ident $way:ident) => {
        match u64($from.next()) {
            Some(argument) => argument,
            None => return $way.failed(unlike()),
        }
    };
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

    fn call<'a, W: Way>(&self, way: W, store: &'a mut Store<Guest>, params: P) -> W::Gives<'a>
    where
        P: Send + Sync + 'a,
    {
        fn plain(value: Value) -> Given {
            Given { ok: true, value }
        }
        fn either<T>(given: Result<T, String>, value: fn(T) -> Value) -> Given {
            match given {
                Ok(given) => plain(value(given)),
                Err(error) => Given { ok: false, value: Value::Text(error) },
            }
        }
        match *self {
            Returns::Nothing(func) => way.run(func, store, params, |()| plain(Value::Nothing)),
            Returns::Text(func) => way.run(func, store, params, |(text,)| plain(Value::Text(text))),
            Returns::Bytes(func) => way.run(func, store, params, |(bytes,)| plain(Value::Bytes(bytes))),
            Returns::Bool(func) => way.run(func, store, params, |(value,)| plain(Value::Bool(value))),
            Returns::U32(func) => way.run(func, store, params, |(value,)| plain(Value::U32(value))),
            Returns::U64(func) => way.run(func, store, params, |(value,)| plain(Value::U64(value))),
            Returns::NothingOr(func) => way.run(func, store, params, |(given,)| either(given, |()| Value::Nothing)),
            Returns::TextOr(func) => way.run(func, store, params, |(given,)| either(given, Value::Text)),
            Returns::BytesOr(func) => way.run(func, store, params, |(given,)| either(given, Value::Bytes)),
        }
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
            fn call<'a, W: Way>(
                &self,
                way: W,
                store: &'a mut Store<Guest>,
                arguments: &Arguments<'_>,
            ) -> W::Gives<'a> {
                let number = |at: usize| match arguments.get(at) {
                    Some(Some(Plain::$kind(number))) => Some(*number),
                    _ => None,
                };
                let given = |(value,): ($number,)| Given { ok: true, value: Value::$kind(value) };
                match (*self, number(0), number(1)) {
                    (Number::One(func), Some(one), _) => way.run(func, store, (one,), given),
                    (Number::Two(func), Some(one), Some(two)) => way.run(func, store, (one, two), given),
                    _ => way.failed(unlike()),
                }
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

/// How a function is run: to its end, or so that it can be left for a while.
pub(super) trait Way {
    /// What a call gives, or a future of it.
    type Gives<'a>;

    fn run<'a, P, R>(
        self,
        func: TypedFunc<P, R>,
        store: &'a mut Store<Guest>,
        params: P,
        given: fn(R) -> Given,
    ) -> Self::Gives<'a>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'a,
        R: ComponentNamedList + Lift + Send + Sync + 'static;

    /// For a call that was not made.
    fn failed<'a>(self, error: wasmtime::Error) -> Self::Gives<'a>;
}

/// On this thread's stack, to its end.
pub(super) struct Here;

impl Way for Here {
    type Gives<'a> = wasmtime::Result<Given>;

    fn run<'a, P, R>(
        self,
        func: TypedFunc<P, R>,
        store: &'a mut Store<Guest>,
        params: P,
        given: fn(R) -> Given,
    ) -> wasmtime::Result<Given>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'a,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        func.call(store, params).map(given)
    }

    fn failed<'a>(self, error: wasmtime::Error) -> Self::Gives<'a> {
        Err(error)
    }
}

/// On a stack of its own.
pub(super) struct Later;

impl Way for Later {
    // On the heap: its futures are as many as there are types, and the largest is large.
    type Gives<'a> = Boxed<'a, wasmtime::Result<Given>>;

    fn run<'a, P, R>(
        self,
        func: TypedFunc<P, R>,
        store: &'a mut Store<Guest>,
        params: P,
        given: fn(R) -> Given,
    ) -> Boxed<'a, wasmtime::Result<Given>>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'a,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        Box::pin(async move { func.call_async(store, params).await.map(given) })
    }

    fn failed<'a>(self, error: wasmtime::Error) -> Self::Gives<'a> {
        Box::pin(ready(Err(error)))
    }
}

fn text<'a>(argument: Option<&'a Option<Plain<'_>>>) -> Option<&'a str> {
    match argument {
        Some(Some(Plain::Text(text))) => Some(text),
        _ => None,
    }
}

fn bytes<'a>(argument: Option<&'a Option<Plain<'_>>>) -> Option<&'a [u8]> {
    match argument {
        Some(Some(Plain::Bytes(bytes))) => Some(bytes),
        _ => None,
    }
}

fn u32(argument: Option<&Option<Plain<'_>>>) -> Option<u32> {
    match argument {
        Some(Some(Plain::U32(number))) => Some(*number),
        _ => None,
    }
}

fn u64(argument: Option<&Option<Plain<'_>>>) -> Option<u64> {
    match argument {
        Some(Some(Plain::U64(number))) => Some(*number),
        _ => None,
    }
}

/// Arguments are read by the shapes that the function was bound by.
fn unlike() -> wasmtime::Error {
    wasmtime::Error::msg("an argument is not of the type that the function was bound with")
}
