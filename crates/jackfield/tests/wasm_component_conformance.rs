//! The conformance suite on WebAssembly: a component.

#![cfg(feature = "wasm")]

mod conformance;
mod suite;

const MECHANISM: suite::Mechanism = suite::Mechanism::Component;
