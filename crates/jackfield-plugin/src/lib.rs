//! Write a Jackfield plugin.
//!
//! A plugin implements a trait that host and plugin share, and exports itself; the same source is
//! then a shared library (crate type `cdylib`) and an executable (a `main` that calls `serve`):
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

mod instance;
mod log;

#[cfg(not(target_family = "wasm"))]
pub mod native;
#[cfg(not(target_family = "wasm"))]
pub mod process;

pub use instance::{Export, Instance};
pub use jackfield_macros::{Type, export, interface};
pub use jackfield_protocol::Type;
pub use log::{Level, log};

/// What generated code refers to, and what a plugin without the macros would use.
pub use jackfield_protocol as protocol;

/// Name and version of this SDK, as hosts show it.
pub const SDK: &str = concat!("jackfield-plugin/", env!("CARGO_PKG_VERSION"));
