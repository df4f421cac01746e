//! A call, as the generated client sees it: started by a [`Caller`], answered by an [`Answer`], or
//! failed with a [`Failure`].
//!
//! Not here: what a call goes through in the host (`jackfield::call`), how it reaches a plugin
//! (each mechanism's `session.rs`).

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use crate::encoding::{DecodeError, EncodeError, Encoding};
use crate::interface::{Interface, InterfaceError};
use crate::value::{Type, binary};

/// A Rust trait that `#[interface]` was put on, as `dyn Trait`.
pub trait Described: Send + Sync + 'static {
    /// What `Client<dyn Trait>` derefs to: one async method for each function.
    type Client: From<Arc<dyn Caller>> + Send + Sync + 'static;

    /// The description, built once. An error is a mistake in the trait, such as a recursive type.
    fn interface() -> Result<&'static Interface, InterfaceError>;
}

/// Makes calls for a generated client. The host implements it.
pub trait Caller: Send + Sync {
    /// Starts a call.
    fn call(&self, outgoing: Outgoing<'_>) -> Reply;

    /// Notes that an answer was read: a success, or the plugin's own error.
    fn answered(&self, function: usize, ok: bool);

    /// Turns an answer that is not of the type it should be into the call's failure.
    fn undecodable(&self, function: usize, error: DecodeError) -> Failure;

    /// Whether this thread may wait for a reply; on a thread that drives the host itself it must not.
    fn may_block(&self, function: usize) -> Result<(), Failure>;
}

/// Appends arguments to a message, in an encoding.
pub type EncodeArguments<'a> = dyn Fn(Encoding, &mut Vec<u8>) -> Result<(), EncodeError> + 'a;

/// A call on its way out. The arguments are encoded once it is known in which encoding, or taken as they
/// are by a caller that can pass them on so.
pub struct Outgoing<'a> {
    /// Position of the function in the host's description.
    pub function: usize,
    /// Appends the arguments, a record of the parameters, in the encoding given.
    pub arguments: &'a EncodeArguments<'a>,
    /// Takes the only argument, if there is one alone and it is a string or bytes. Once it has given
    /// something, `arguments` has nothing to write any more.
    pub take: &'a dyn Fn() -> Option<Whole>,
    /// Whether whoever calls waits on this very thread, so that nothing else waits for it.
    pub blocking: bool,
}

/// A value that can be passed as it is, without being encoded: to code that takes strings and bytes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whole {
    /// A `string`.
    Text(String),
    /// A `list<u8>`.
    Bytes(Vec<u8>),
}

impl Whole {
    /// The text or the bytes, and nothing else.
    #[inline]
    pub fn content(&self) -> &[u8] {
        match self {
            Whole::Text(text) => text.as_bytes(),
            Whole::Bytes(bytes) => bytes,
        }
    }

    /// What [`Encoding::Binary`] writes before the content.
    #[inline]
    pub fn length(&self) -> impl Deref<Target = [u8]> {
        binary::Length::of(self.content().len())
    }

    /// The value as [`Encoding::Binary`] writes it, which is also how it writes arguments that it is alone.
    pub fn binary(&self) -> Vec<u8> {
        let mut written = Vec::new();
        binary::write(self.content(), &mut written);
        written
    }
}

impl fmt::Debug for Outgoing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("function", &self.function).finish_non_exhaustive()
    }
}

/// The answer, now or later. A native call has it at once, and then nothing is boxed.
pub enum Reply {
    /// The call is over.
    Ready(Result<Answer, Failure>),
    /// The call is under way. Dropping it cancels the call.
    Later(Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>),
    /// It was taken already.
    Taken,
}

impl Future for Reply {
    type Output = Result<Answer, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Reply::Later(later) = &mut *self {
            return later.as_mut().poll(context);
        }
        match std::mem::replace(&mut *self, Reply::Taken) {
            Reply::Ready(answer) => Poll::Ready(answer),
            Reply::Later(_) | Reply::Taken => panic!("a reply was polled after it was taken"),
        }
    }
}

impl Reply {
    /// Waits for the answer on this thread, which must not be one that drives the host.
    #[inline]
    pub fn wait(self) -> Result<Answer, Failure> {
        match self {
            Reply::Ready(answer) => answer,
            later => later.park(),
        }
    }

    #[inline(never)]
    fn park(mut self) -> Result<Answer, Failure> {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            match Pin::new(&mut self).poll(&mut context) {
                Poll::Ready(answer) => return answer,
                Poll::Pending => std::thread::park(),
            }
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reply::Ready(_) => "Ready",
            Reply::Later(_) => "Later",
            Reply::Taken => "Taken",
        })
    }
}

/// What a plugin said: a success or its own error, not yet of a Rust type.
#[derive(Debug)]
pub struct Answer {
    /// Whether the value is a success, rather than the plugin's own error.
    pub ok: bool,
    /// The value.
    pub value: AnswerValue,
    /// Who waits to know whether it can be read, if anybody does.
    pub unread: Option<Box<dyn Unread>>,
}

/// Who waits to know whether an [`Answer`] can be read. Dropped when it was, or when nobody reads it.
pub trait Unread: fmt::Debug + Send + Sync {
    /// It is not of the type that it should be.
    fn undecodable(self: Box<Self>);
}

/// The value of an [`Answer`].
#[derive(Debug)]
pub enum AnswerValue {
    /// A value of any type.
    Encoded {
        /// How the bytes are written.
        encoding: Encoding,
        /// The value.
        bytes: Buffer,
    },
    /// A string or bytes, as they came. Only where the call was made in [`Encoding::Binary`].
    Whole(Whole),
}

impl Answer {
    /// An answer whose value is encoded.
    #[inline]
    pub fn encoded(ok: bool, encoding: Encoding, bytes: Buffer) -> Self {
        Answer { ok, value: AnswerValue::Encoded { encoding, bytes }, unread: None }
    }

    /// An answer whose value is passed as it is.
    #[inline]
    pub fn whole(ok: bool, whole: Whole) -> Self {
        Answer { ok, value: AnswerValue::Whole(whole), unread: None }
    }

    /// The value as it is encoded; a whole one as [`Encoding::Binary`] would write it.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        match &self.value {
            AnswerValue::Encoded { bytes, .. } => Cow::Borrowed(bytes),
            AnswerValue::Whole(whole) => Cow::Owned(whole.binary()),
        }
    }
}

impl AnswerValue {
    /// The value as a Rust type.
    fn decode<T: Type>(self) -> Result<T, DecodeError> {
        match self {
            AnswerValue::Encoded { encoding, bytes } => encoding.decode(&bytes),
            // A type that is a string or bytes by another name knows only how it is written.
            AnswerValue::Whole(whole) => T::from_whole(whole).or_else(|whole| Encoding::Binary.decode(&whole.binary())),
        }
    }
}

/// Finishes a call of a generated client: waits, then decodes.
#[doc(hidden)]
pub async fn answered<T: Type, E: Type>(caller: &dyn Caller, function: usize, reply: Reply) -> Result<T, CallError<E>> {
    decoded(caller, function, reply.await)
}

/// Finishes a call of a generated blocking client.
#[doc(hidden)]
pub fn answered_blocking<T: Type, E: Type>(
    caller: &dyn Caller,
    function: usize,
    start: impl FnOnce() -> Reply,
) -> Result<T, CallError<E>> {
    caller.may_block(function).map_err(CallError::Failed)?;
    decoded(caller, function, start().wait())
}

fn decoded<T: Type, E: Type>(
    caller: &dyn Caller,
    function: usize,
    answer: Result<Answer, Failure>,
) -> Result<T, CallError<E>> {
    let Answer { ok, value, mut unread } = answer.map_err(CallError::Failed)?;
    let undecodable = |error| {
        if let Some(unread) = unread.take() {
            unread.undecodable();
        }
        CallError::Failed(caller.undecodable(function, error))
    };
    let read = match ok {
        true => Ok(value.decode().map_err(undecodable)?),
        false => Err(CallError::Plugin(value.decode().map_err(undecodable)?)),
    };
    caller.answered(function, ok);
    read
}

/// The error type of a function that has none of its own. No value of it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoError {}

impl Type for NoError {
    fn describe(_: &mut crate::Types) -> crate::TypeRef {
        crate::TypeRef::UNIT
    }

    fn encode<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        match *self {}
    }

    fn decode<'de, D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("the function has no error of its own, and the plugin gave one"))
    }
}

/// How a call ended: the closed set that is also the `status` label of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// A success.
    Ok,
    /// The plugin's own error: it works, and said no.
    Error,
    /// No answer before the deadline.
    Timeout,
    /// The caller gave up.
    Cancelled,
    /// The plugin died.
    Crashed,
    /// The plugin's code panicked, and was caught.
    Panicked,
    /// A limit was hit: of memory, of time, of the answer's size.
    Limit,
    /// The plugin is not running.
    Unavailable,
    /// The call was not made, or the plugin would not take or could not answer it: unknown function,
    /// wrong arguments, or an internal error of its that the interface has no type for.
    Refused,
    /// What came back breaks the protocol.
    Protocol,
}

impl Status {
    /// All of them, in the order of the discriminants.
    pub const ALL: [Status; 10] = [
        Status::Ok,
        Status::Error,
        Status::Timeout,
        Status::Cancelled,
        Status::Crashed,
        Status::Panicked,
        Status::Limit,
        Status::Unavailable,
        Status::Refused,
        Status::Protocol,
    ];

    /// `ok`, `error`, `timeout`, …
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Error => "error",
            Status::Timeout => "timeout",
            Status::Cancelled => "cancelled",
            Status::Crashed => "crashed",
            Status::Panicked => "panicked",
            Status::Limit => "limit",
            Status::Unavailable => "unavailable",
            Status::Refused => "refused",
            Status::Protocol => "protocol",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a call gave no success.
#[derive(Clone, Debug, PartialEq)]
pub enum CallError<E = serde_json::Value> {
    /// The plugin's own error. The plugin is well.
    Plugin(E),
    /// There is no answer of the plugin's.
    Failed(Failure),
}

impl<E> CallError<E> {
    /// How the call ended.
    pub fn status(&self) -> Status {
        match self {
            CallError::Plugin(_) => Status::Error,
            CallError::Failed(failure) => failure.status(),
        }
    }

    /// The cause, unless it is the plugin's own error.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            CallError::Plugin(_) => None,
            CallError::Failed(failure) => Some(&failure.cause),
        }
    }
}

impl<E: fmt::Debug> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Plugin(error) => write!(f, "the plugin answered with its own error: {error:?}"),
            CallError::Failed(failure) => failure.fmt(f),
        }
    }
}

impl<E: fmt::Debug> std::error::Error for CallError<E> {}

impl<E> From<Failure> for CallError<E> {
    fn from(failure: Failure) -> Self {
        CallError::Failed(failure)
    }
}

/// A call without an answer of the plugin's: whose, of what, why.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure(Box<FailedCall>);

/// The content of a [`Failure`], which derefs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedCall {
    /// The plugin's name.
    pub plugin: String,
    /// The function, as `greeter.greet`.
    pub function: String,
    /// What happened.
    pub cause: Cause,
}

impl Failure {
    /// Says that the call of `function` of `plugin` failed of `cause`.
    pub fn new(plugin: impl Into<String>, function: impl Into<String>, cause: Cause) -> Self {
        Failure(Box::new(FailedCall { plugin: plugin.into(), function: function.into(), cause }))
    }

    /// How the call ended.
    pub fn status(&self) -> Status {
        self.cause.status()
    }
}

impl Deref for Failure {
    type Target = FailedCall;

    fn deref(&self) -> &FailedCall {
        &self.0
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FailedCall { plugin, function, cause } = &*self.0;
        write!(f, "call of `{function}` of plugin `{plugin}`: {cause}")
    }
}

impl std::error::Error for Failure {}

/// What kept a call from being answered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// No answer in time.
    #[error("no answer after {after:?}")]
    Timeout {
        /// The time given.
        after: Duration,
    },
    /// The caller gave up.
    #[error("cancelled")]
    Cancelled,
    /// The plugin died, in this call or in another.
    #[error("the plugin crashed: {how}")]
    Crashed {
        /// Exit code or signal, and the last lines of stderr.
        how: String,
    },
    /// The plugin's code panicked and was caught.
    #[error("the plugin panicked: {message}")]
    Panicked {
        /// The panic's message and place.
        message: String,
    },
    /// A limit was hit.
    #[error("limit `{limit}`: {what}")]
    Limit {
        /// The limit's name, as in the manifest.
        limit: &'static str,
        /// Used and allowed.
        what: String,
    },
    /// The plugin is not running.
    #[error("the plugin is not running: {why}")]
    Unavailable {
        /// Its state, with the reason.
        why: String,
    },
    /// The plugin does not have the function.
    #[error("the plugin has no such function{hint}")]
    Unimplemented {
        /// The nearest name, or nothing.
        hint: String,
    },
    /// The call was not made, or not taken.
    #[error("refused: {why}")]
    Refused {
        /// What is wrong with it.
        why: String,
    },
    /// What came back breaks the protocol.
    #[error("the plugin broke the protocol: {what}")]
    Protocol {
        /// What came back.
        what: String,
    },
}

impl Cause {
    /// The status under which the call is counted.
    pub fn status(&self) -> Status {
        match self {
            Cause::Timeout { .. } => Status::Timeout,
            Cause::Cancelled => Status::Cancelled,
            Cause::Crashed { .. } => Status::Crashed,
            Cause::Panicked { .. } => Status::Panicked,
            Cause::Limit { .. } => Status::Limit,
            Cause::Unavailable { .. } => Status::Unavailable,
            Cause::Unimplemented { .. } | Cause::Refused { .. } => Status::Refused,
            Cause::Protocol { .. } => Status::Protocol,
        }
    }
}

/// Bytes whose room is used again: dropped, it waits on its thread for the next call.
///
/// A native call costs tens of nanoseconds; two trips to the allocator would be half of that.
#[derive(Default)]
pub struct Buffer(Vec<u8>);

/// Buffers kept for a thread, and the largest kept.
const KEPT_MAX: usize = 8;
const KEPT_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Buffer {
    /// An empty buffer, with room if one was kept.
    pub fn new() -> Self {
        Buffer(KEPT.try_with(|kept| kept.borrow_mut().pop()).ok().flatten().unwrap_or_default())
    }

    /// The bytes themselves; their room is not kept.
    pub fn into_vec(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.0.capacity() == 0 || self.0.capacity() > KEPT_BYTES_MAX {
            return;
        }
        let mut bytes = std::mem::take(&mut self.0);
        bytes.clear();
        // A thread that is ending has no room any more; then the bytes are simply freed.
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < KEPT_MAX {
                kept.push(bytes);
            }
        });
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Buffer(bytes)
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;

    use super::*;

    /// A string by another name, as `derive(Type)` makes it.
    #[derive(Debug, PartialEq)]
    struct Name(String);

    impl Type for Name {
        fn describe(types: &mut crate::Types) -> crate::TypeRef {
            String::describe(types)
        }

        fn encode<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            self.0.encode(to)
        }

        fn decode<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            String::decode(from).map(Name)
        }
    }

    fn text(text: &str) -> Whole {
        Whole::Text(text.to_owned())
    }

    fn decoded<T: Type + Debug>(whole: Whole) -> Result<T, String> {
        AnswerValue::Whole(whole).decode().map_err(|error| error.to_string())
    }

    #[test]
    fn strings_and_bytes_are_taken_whole_and_nothing_else_is() {
        let mut ada = "Ada".to_owned();
        assert_eq!((ada.take_whole(), &*ada), (Some(text("Ada")), ""));
        assert_eq!(vec![1_u8, 2].take_whole(), Some(Whole::Bytes(vec![1, 2])));
        let mut name = Name("Ada".to_owned());
        assert_eq!((name.take_whole(), name), (None, Name("Ada".to_owned())));
        assert_eq!(vec![1_u16, 2].take_whole(), None);
        assert_eq!(Some("Ada".to_owned()).take_whole(), None);
    }

    #[test]
    fn a_whole_value_becomes_the_type_it_is() {
        assert_eq!(decoded(text("Ada")), Ok("Ada".to_owned()));
        assert_eq!(decoded(Whole::Bytes(vec![0xff, 0])), Ok(vec![0xff_u8, 0]));
    }

    #[test]
    fn a_type_that_cannot_take_a_whole_value_reads_it_encoded() {
        assert_eq!(decoded(text("Ada")), Ok(Name("Ada".to_owned())));
        assert_eq!(decoded(Whole::Bytes(b"Ada".to_vec())), Ok("Ada".to_owned()));
    }

    #[test]
    fn a_whole_value_of_another_type_is_an_error() {
        assert!(decoded::<u32>(text("Ada")).is_err_and(|what| what.contains("3 bytes follow the value")));
        assert!(decoded::<NoError>(text("Ada")).is_err_and(|what| !what.is_empty()));
        assert!(decoded::<String>(Whole::Bytes(vec![0xff])).is_err());
    }

    proptest! {
        #[test]
        fn a_whole_value_is_written_as_the_encoding_writes_it(content in ".{0,300}") {
            let mut written = Vec::new();
            Encoding::Binary.encode(&content, &mut written).expect("a string");
            prop_assert_eq!(Whole::Bytes(content.clone().into_bytes()).binary(), &*written);
            prop_assert_eq!(Whole::Text(content).binary(), written);
        }
    }
}
