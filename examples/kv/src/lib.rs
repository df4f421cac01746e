//! The services of the examples, as `cargo xtask codegen` makes them of the files in `proto/`.

/// A store of values.
pub mod proto {
    #![allow(clippy::all, missing_docs, reason = "generated")]
    include!("generated/proto.rs");
}

/// A counter that calls its host back, and streams.
pub mod counter {
    #![allow(clippy::all, missing_docs, reason = "generated")]
    include!("generated/demo.counter.v1.rs");
}

/// All of them described, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");
