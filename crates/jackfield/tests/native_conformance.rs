//! The conformance suite on the native mechanism.

#![cfg(feature = "native")]

#[path = "conformance/beside.rs"]
mod beside;
mod conformance;
mod suite;

const MECHANISM: suite::Mechanism = suite::Mechanism::Native;
