//! The conformance suite on the process mechanism. It also runs as a Windows build under wine.

#![cfg(feature = "process")]

#[path = "conformance/beside.rs"]
mod beside;
mod conformance;
mod suite;

const MECHANISM: suite::Mechanism = suite::Mechanism::Process;
