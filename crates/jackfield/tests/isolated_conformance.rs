//! The conformance suite on native plugins with a process of their own: the same libraries, hosted by the runner.

#![cfg(all(feature = "native", feature = "process", unix))]

#[path = "conformance/beside.rs"]
mod beside;
mod conformance;
mod suite;

const MECHANISM: suite::Mechanism = suite::Mechanism::Isolated;
