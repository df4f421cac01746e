//! The conformance suite on gRPC: calls over one stream.

#![cfg(feature = "grpc")]

#[path = "conformance/beside.rs"]
mod beside;
mod conformance;
mod suite;

const MECHANISM: suite::Mechanism = suite::Mechanism::Grpc;
