//! Messages, clients and servers, made of the files in `proto/` by `cargo xtask codegen`.

/// `plugin.GRPCBroker`, `plugin.GRPCController` and `plugin.GRPCStdio`: go-plugin's own services.
pub mod plugin {
    #![allow(clippy::all, missing_docs, reason = "generated")]
    include!("generated/plugin.rs");
}

/// `jackfield.plugin.v1`: what a plugin says of itself, and calls over one stream.
pub mod jackfield {
    #![allow(clippy::all, missing_docs, reason = "generated")]
    include!("generated/jackfield.plugin.v1.rs");
}

/// Metadata of a call of `jackfield.plugin.v1.Plugin/Channel`: the longest answer that the host takes, in bytes
/// of the encoded value, as a decimal number. A longer one is answered with `OUTCOME_LIMIT`.
pub const ANSWER_BYTES_MAX: &str = "jackfield-answer-bytes-max";

/// The files described, with what they import: an encoded `google.protobuf.FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");
