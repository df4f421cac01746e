//! Functions of an interface as unary calls of its gRPC service, for plugins in any language.
//!
//! Arguments and answers are turned from the encoding of the call into protobuf and back by what the interface
//! says, without a tree of values in between.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use jackfield_grpc::channel::Channel;
use jackfield_protocol::call::{Answer, Buffer, Cause};
use jackfield_protocol::protobuf::ProtoSchema;
use jackfield_protocol::{Encoding, Interface};
use tonic::client::Grpc;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status};

use super::GrpcError;
use super::carried::Carried;

/// An interface of a plugin, as its gRPC service.
pub(super) struct Service {
    schema: ProtoSchema,
    paths: Vec<PathAndQuery>,
}

impl Service {
    pub(super) fn new(interface: &Interface, schema: ProtoSchema) -> Result<Self, GrpcError> {
        let path = |function| PathAndQuery::try_from(schema.method(function));
        let paths = (0..interface.functions.len()).map(path).collect::<Result<_, _>>();
        let paths = paths.map_err(|error| GrpcError::About { what: error.to_string() })?;
        Ok(Self { schema, paths })
    }

    /// `demo.greeter.v1.Greeter`.
    pub(super) fn name(&self) -> String {
        self.schema.full_name()
    }

    /// The message that is sent.
    pub(super) fn arguments(&self, function: usize, encoding: Encoding, arguments: &[u8]) -> Result<Bytes, Cause> {
        let message = match encoding {
            Encoding::Binary => self.schema.arguments_to_proto(function, arguments),
            _ => self.schema.json_arguments_to_proto(function, arguments),
        };
        message.map(Bytes::from).map_err(|error| Cause::Refused { why: error.to_string() })
    }

    /// The answer that a message is.
    pub(super) fn answer(&self, function: usize, encoding: Encoding, message: &[u8]) -> Result<Answer, Cause> {
        let read = match encoding {
            Encoding::Binary => self.schema.answer_to_binary(function, message),
            _ => self.schema.answer_to_json(function, message),
        };
        let wrong =
            |what: String| Cause::Protocol { what: format!("its answer is not what its interface says: {what}") };
        let (ok, value) = read.map_err(|error| wrong(error.to_string()))?;
        let mut bytes = Buffer::new();
        bytes.extend_from_slice(&value);
        Ok(Answer::encoded(ok, encoding, bytes))
    }

    pub(super) fn path(&self, function: usize) -> PathAndQuery {
        self.paths[function].clone()
    }
}

/// Makes a unary call with a message that is encoded already.
pub(super) async fn call(
    channel: Channel,
    path: PathAndQuery,
    message: Bytes,
    answer_bytes_max: usize,
    timeout: Duration,
    carried: Carried,
) -> Result<Bytes, Status> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(taken_max(answer_bytes_max));
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    carried.add_to(request.metadata_mut());
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    // What came behind the answer is among what came before it by now.
    match grpc.unary(request, path, Encoded).await {
        Ok(answer) => {
            carried.take_from(answer.metadata());
            Ok(answer.into_inner())
        }
        Err(status) => {
            carried.take_from(status.metadata());
            Err(status)
        }
    }
}

/// The largest message that is taken, for the largest answer: it has the answer's value in it.
pub(super) fn taken_max(answer_bytes_max: usize) -> usize {
    answer_bytes_max.saturating_add(ENVELOPE_BYTES)
}

/// Tags and lengths of the message around a value.
const ENVELOPE_BYTES: usize = 64;

/// Messages as they are.
#[derive(Clone, Copy)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.reserve(message.len());
        to.put(message);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}
