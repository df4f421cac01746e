//! The conformance suite on the native mechanism.

#![cfg(feature = "native")]

mod conformance;
mod suite;

const MECHANISM: suite::Mechanism = suite::Mechanism::Native;
