//! The conformance suite on gRPC: each call by itself, in protobuf, as plugins in other languages have it.

#![cfg(feature = "grpc")]

#[path = "conformance/beside.rs"]
mod beside;
mod conformance;
mod suite;

const MECHANISM: suite::Mechanism = suite::Mechanism::GrpcUnary;
