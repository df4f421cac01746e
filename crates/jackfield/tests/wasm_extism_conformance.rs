//! The conformance suite on WebAssembly: an Extism plugin, by its ABI and by the direct path.

#![cfg(feature = "wasm")]

mod conformance;
mod suite;

const MECHANISM: suite::Mechanism = suite::Mechanism::Extism;
