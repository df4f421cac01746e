//! An interface as a service of gRPC: a method for each function, with protobuf's messages.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use jackfield_grpc::bytes::{Buf as _, BufMut as _, Bytes};
use jackfield_grpc::http;
use jackfield_grpc::tonic::body::Body;
use jackfield_grpc::tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use jackfield_grpc::tonic::metadata::{MetadataMap, MetadataValue};
use jackfield_grpc::tonic::server::{Grpc, UnaryService};
use jackfield_grpc::tonic::service::AxumBody;
use jackfield_grpc::tonic::{Request, Response, Status};
use jackfield_protocol::span;
use tokio::sync::{mpsc, oneshot};
use tower_service::Service;

use super::Offered;
use super::channel::MESSAGE_BYTES_MAX;
use super::desk::{Call, Reply, Work};
use crate::trace::Carried;

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send>>;

/// The service of one interface.
#[derive(Clone)]
pub(super) struct Unary {
    interface: usize,
    schemas: Arc<[Offered]>,
    work: mpsc::UnboundedSender<Work>,
}

impl Unary {
    pub(super) fn new(interface: usize, schemas: Arc<[Offered]>, work: mpsc::UnboundedSender<Work>) -> Self {
        Self { interface, schemas, work }
    }
}

impl Service<http::Request<AxumBody>> for Unary {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<AxumBody>) -> Self::Future {
        let schema = self.schemas[self.interface].schema.as_ref();
        let Some(function) = schema.and_then(|schema| schema.function(request.uri().path())) else {
            let no_function = Status::unimplemented(format!("no function `{}`", request.uri().path()));
            return Box::pin(async move { Ok(no_function.into_http()) });
        };
        let method = Method { interface: self.interface, function, work: self.work.clone() };
        Box::pin(async move {
            let mut grpc = Grpc::new(AsItIs).max_decoding_message_size(MESSAGE_BYTES_MAX);
            Ok(grpc.unary(method, request.map(Body::new)).await)
        })
    }
}

/// One function.
struct Method {
    interface: usize,
    function: usize,
    work: mpsc::UnboundedSender<Work>,
}

impl UnaryService<Bytes> for Method {
    type Response = Bytes;
    type Future = Answer<Response<Bytes>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (reply, answer) = oneshot::channel();
        let (interface, function) = (self.interface, self.function);
        let said = |name: &str| request.metadata().get(name).and_then(|value| value.to_str().ok());
        let carried = Carried {
            context: said("traceparent").and_then(|parent| parent.parse().ok()),
            state: said("tracestate").unwrap_or_default().to_owned(),
            home: said(span::METADATA_WANTED) == Some("1"),
        };
        let reply = Reply::Unary(reply);
        let call = Call { interface, function, arguments: request.into_inner(), carried, reply };
        // Nobody takes it at the end; then the answer says so.
        let _ = self.work.send(Work::Call(call));
        Box::pin(async move {
            let (answer, spans) = answer.await.map_err(|_| Status::unavailable("the plugin was stopped"))?;
            match answer {
                Ok(answer) => {
                    let mut response = Response::new(answer.into());
                    add(response.metadata_mut(), &spans);
                    Ok(response)
                }
                Err(mut status) => {
                    add(status.metadata_mut(), &spans);
                    Err(status)
                }
            }
        })
    }
}

/// Puts spans beside an answer.
fn add(metadata: &mut MetadataMap, spans: &[String]) {
    for span in spans {
        metadata.append_bin(span::METADATA, MetadataValue::from_bytes(span.as_bytes()));
    }
}

/// Messages that are bytes already.
struct AsItIs;

impl Codec for AsItIs {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = AsItIs;
    type Decoder = AsItIs;

    fn encoder(&mut self) -> AsItIs {
        AsItIs
    }

    fn decoder(&mut self) -> AsItIs {
        AsItIs
    }
}

impl Encoder for AsItIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for AsItIs {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
