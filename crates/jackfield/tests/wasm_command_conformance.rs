//! The conformance suite on WebAssembly: a WASI command.

#![cfg(feature = "wasm")]

mod conformance;
mod suite;

const MECHANISM: suite::Mechanism = suite::Mechanism::Command;
