//! Write a Jackfield plugin.
//!
//! A plugin implements a trait that host and plugin share, and exports itself; the same source is
//! then a shared library (crate type `cdylib`), an executable (a `main` that calls `serve`), and both for
//! WebAssembly: the library for `wasm32-unknown-unknown`, the executable for `wasm32-wasip1`.
//!
//! ```
//! mod greeter_api {
//!     #[jackfield_plugin::interface("demo:greeter/greeter@1.0.0")]
//!     pub trait Greeter {
//!         /// Greets one person by name.
//!         fn greet(&self, name: String) -> String;
//!     }
//! }
//!
//! struct English;
//!
//! impl greeter_api::Greeter for English {
//!     fn greet(&self, name: String) -> String {
//!         format!("Hello, {name}!")
//!     }
//! }
//!
//! use greeter_api::Greeter;
//! jackfield_plugin::export!(English: Greeter, capabilities: ["greeting@1"]);
//! # fn main() {}
//! ```
//!
//! A panic in a function ends that call, not the plugin: the instance is thrown away and the next
//! call gets a new one. What [`log`] is given goes to the host's log, and so does what a program prints; a
//! library prints where its host prints.
//!
//! # A plugin's life
//!
//! A plugin that offers [`Life`] beside its own interfaces can say whether it is able to serve, and what the
//! next generation of it goes on with when it is reloaded. It implements what it wants of that: by default it
//! is well, and has no state. A plugin that does not offer it is well once it has started.
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering};
//!
//! use jackfield_plugin::{Life, StateSnapshot};
//! # mod tally {
//! #     #[jackfield_plugin::interface("demo:tally/tally@1.0.0")]
//! #     pub trait Tally { fn next(&self) -> u64; }
//! # }
//! # use tally::Tally;
//! # impl Tally for Counter {
//! #     fn next(&self) -> u64 { self.count.fetch_add(1, Ordering::Relaxed) + 1 }
//! # }
//!
//! #[derive(Default)]
//! struct Counter {
//!     count: AtomicU64,
//! }
//!
//! impl Life for Counter {
//!     fn export_state(&self) -> Result<Option<StateSnapshot>, String> {
//!         let count = self.count.load(Ordering::Relaxed);
//!         Ok(Some(StateSnapshot { schema_version: 1, data: count.to_string().into_bytes() }))
//!     }
//!
//!     fn import_state(&self, state: StateSnapshot) -> Result<(), String> {
//!         if state.schema_version != 1 {
//!             return Err(format!("cannot read a state of schema {}", state.schema_version));
//!         }
//!         let text = String::from_utf8(state.data).map_err(|error| error.to_string())?;
//!         let count = text.parse().map_err(|_| format!("{text:?} is no count"))?;
//!         self.count.store(count, Ordering::Relaxed);
//!         Ok(())
//!     }
//! }
//!
//! jackfield_plugin::export!(Counter::default(): Tally + Life);
//! # fn main() {}
//! ```
//!
//! `schema_version` is the plugin's own: raise it when `data` gets another form, and go on reading the earlier
//! one as long as plugins with it may be running. What is exported is a copy, since the plugin that exported
//! goes on serving when the reload fails.
//!
//! # Spans
//!
//! A call whose trace is recorded has a span around the author's function, without a line of the author's, and
//! [`span()`] makes more within it. They go home with the answer, and the host exports them: a plugin needs no exporter. One
//! that has its own makes its spans within [`trace_context`]. A call that is not recorded costs a look at a
//! thread-local.
//!
//! # In WebAssembly
//!
//! A panic is logged and ends the instance, for nothing can be caught there; the host makes a new
//! one. There is one thread. What a library prints there is lost, and [`log`] is the only way out.

mod instance;
mod log;
mod trace;

mod about;

#[cfg(any(test, all(target_family = "wasm", target_os = "unknown")))]
mod canonical;
#[cfg(all(feature = "grpc", not(target_family = "wasm")))]
pub mod grpc;
#[cfg(not(target_family = "wasm"))]
pub mod native;
pub mod process;
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
#[doc(hidden)]
pub mod wasm;

pub use instance::{Export, Instance};
pub use jackfield_macros::{Type, export, interface};
pub use jackfield_protocol::TraceContext;
pub use jackfield_protocol::Type;
pub use jackfield_protocol::life::{Life, StateSnapshot};
pub use log::{Level, log};
pub use trace::{Span, span, trace_context, trace_state};

/// What generated code refers to, and what a plugin without the macros would use.
pub use jackfield_protocol as protocol;

/// Name and version of this SDK, as hosts show it.
pub const SDK: &str = concat!("jackfield-plugin/", env!("CARGO_PKG_VERSION"));

/// What `export!` makes only with the feature `grpc` of this crate.
#[cfg(all(feature = "grpc", not(target_family = "wasm")))]
#[doc(hidden)]
#[macro_export]
macro_rules! __if_grpc {
    ($($item:item)*) => { $($item)* };
}

/// What `export!` makes only with the feature `grpc` of this crate.
#[cfg(not(all(feature = "grpc", not(target_family = "wasm"))))]
#[doc(hidden)]
#[macro_export]
macro_rules! __if_grpc {
    ($($item:item)*) => {};
}
