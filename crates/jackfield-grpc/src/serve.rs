//! The server side of a connection: any services of tonic's, without its transport.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::pin;

use futures_util::FutureExt as _;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::service::Routes;
use tonic::{Code, Status};
use tower_service::Service as _;

use crate::channel::{CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, STREAM_WINDOW_BYTES};
use crate::net::Stream;

/// Calls that the other side may have dropped before we looked at them. Above it the connection is closed, for
/// that is an attack elsewhere; here it is a host that cancels many calls at once.
const DROPPED_CALLS_MAX: usize = 10_000;

/// Metadata of an answer that is no answer, since the plugin panicked: of this name, and this value.
pub const PANICKED: (&str, &str) = ("jackfield-outcome", "panicked");

/// The status of a call that panicked, with [`PANICKED`].
pub fn panicked_status(message: impl Into<String>) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert(PANICKED.0, MetadataValue::from_static(PANICKED.1));
    Status::with_metadata(Code::Internal, message, metadata)
}

fn panicked() -> Response<tonic::body::Body> {
    panicked_status("the service panicked").into_http()
}

/// Serves a connection until it is closed. A panic of a service ends its call, with [`PANICKED`].
///
/// When `stop` is ready, calls under way are finished, no new ones are taken, and the connection is closed.
/// Streams that a service keeps open it has to end itself.
pub async fn connection(stream: Stream, routes: Routes, stop: impl Future<Output = ()>) -> io::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        // A router is always ready, and a clone of it is one count.
        let answer = routes.clone().call(request);
        // A service that panicked is not used again by this call, and what it shares with others is its own.
        let answer = AssertUnwindSafe(answer).catch_unwind();
        async move {
            Ok::<_, Infallible>(match answer.await {
                Ok(answered) => answered.unwrap_or_else(|never| match never {}),
                Err(_panic) => panicked(),
            })
        }
    });
    let connection = Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(None)
        .max_pending_accept_reset_streams(DROPPED_CALLS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut stop = pin!(stop);
    tokio::select! {
        served = connection.as_mut() => return served.map_err(broken),
        () = stop.as_mut() => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(broken)
}

/// hyper says that there was an error, and what it was in its source.
fn broken(error: hyper::Error) -> io::Error {
    let why = error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    io::Error::other(why)
}
