//! The client side of a connection.
//!
//! A [`Channel`] is one connection and stays that: nothing is queued in front of it, nothing is retried, and
//! when the connection is gone the channel is closed for good. It sends no pings of its own, for servers in Go
//! close connections that ping more than they like.
//!
//! A request is written by the task that makes it, and its answer wakes that task: between the two there is
//! one other task, which has the connection. That is why this stands on h2 and not on hyper, which has two more
//! hand-overs for each call.
//!
//! Not here: time-outs, which are the caller's (dropping a call cancels it), and limits on the size of
//! messages, which are the generated clients'.

mod body;
mod driver;
mod request;
mod sink;
mod status;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::SendStream;
use h2::client::SendRequest;
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use tokio::sync::watch;
use tonic::{Code, Status};
use tower_service::Service;

use crate::net::Stream;
pub use body::ResponseBody;
use driver::Driver;
pub use request::ResponseFuture;
pub use sink::{Opening, Sink};

/// What a peer may send of one message before it is read, in bytes.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 8 << 20;

/// What a peer may send of all messages together before any is read, in bytes.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// Longest piece of a message that a peer may send at once, in bytes.
pub(crate) const FRAME_BYTES_MAX: u32 = 1 << 20;

/// What is kept of messages that cannot be sent yet, in bytes for each stream.
const SEND_BUFFER_BYTES: usize = 1 << 20;

/// A connection as gRPC clients use it: `KvClient::new(channel)`. A clone is another handle of the same one.
///
/// The connection is closed when its last handle and its last call are gone, or by [`Channel::close`].
#[derive(Clone)]
pub struct Channel {
    send: SendRequest<Bytes>,
    shared: Arc<Shared>,
}

struct Shared {
    scheme: Scheme,
    authority: Authority,
    close: watch::Sender<bool>,
    end: watch::Receiver<Option<Arc<str>>>,
    driver: Arc<Driver>,
}

impl Channel {
    /// Speaks HTTP/2 on a connection. What the other side does is not waited for.
    pub async fn connect(stream: Stream) -> io::Result<Self> {
        let scheme = if stream.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
        let connecting = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            .enable_push(false)
            .handshake(stream);
        let (send, connection) = connecting.await.map_err(io::Error::other)?;
        let (close, mut closing) = watch::channel(false);
        let (ended, end) = watch::channel(None);
        let driver = Arc::new(Driver::new(connection));
        let driven = Arc::clone(&driver);
        tokio::spawn(async move {
            let why: Arc<str> = tokio::select! {
                done = poll_fn(|cx| driven.poll(cx)) => match done {
                    Ok(()) => "the connection was closed".into(),
                    Err(error) => status::of_h2(&error).message().into(),
                },
                Ok(_) = closing.wait_for(|closing| *closing) => "the connection was closed by this side".into(),
            };
            driven.close();
            ended.send_replace(Some(why));
        });
        let authority = Authority::from_static("localhost");
        Ok(Self { send, shared: Arc::new(Shared { scheme, authority, close, end, driver }) })
    }

    /// Waits until the connection is closed, and says why.
    pub async fn closed(&self) -> Arc<str> {
        let mut end = self.shared.end.clone();
        match end.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "the runtime ended".into(),
        }
    }

    /// Whether the connection is closed.
    pub fn is_closed(&self) -> bool {
        self.shared.end.borrow().is_some() || self.shared.end.has_changed().is_err()
    }

    /// Closes the connection. Calls under way end with the status `unavailable`.
    pub fn close(&self) {
        self.shared.close.send_replace(true);
    }

    /// The request's target, as HTTP/2 wants it. The authority is the one that Go's clients send.
    fn target(&self, path: Option<PathAndQuery>) -> Result<Uri, http::Error> {
        let mut parts = Parts::default();
        parts.scheme = Some(self.shared.scheme.clone());
        parts.authority = Some(self.shared.authority.clone());
        parts.path_and_query = Some(path.unwrap_or(PathAndQuery::from_static("/")));
        Ok(Uri::from_parts(parts)?)
    }

    /// Why there is no call: of a closed connection, why it was closed.
    fn refused(&self, error: &h2::Error) -> Status {
        match &*self.shared.end.borrow() {
            Some(why) => status::seen_here(Code::Unavailable, &**why),
            None => status::of_h2(error),
        }
    }

    fn start(&mut self, request: Request<tonic::body::Body>) -> Result<ResponseFuture, Status> {
        let (head, body) = request.into_parts();
        let empty = http_body::Body::is_end_stream(&body);
        let (answer, sink) = self.begin(head, empty)?;
        Ok(ResponseFuture::new(answer, (!empty).then_some((body, sink))))
    }

    /// Begins a call; `empty`: nothing is sent of it but its head.
    fn begin(
        &mut self,
        head: http::request::Parts,
        empty: bool,
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), Status> {
        let target = self.target(head.uri.into_parts().path_and_query);
        let mut head_only = Request::new(());
        *head_only.method_mut() = head.method;
        *head_only.uri_mut() = target.map_err(|error| Status::internal(error.to_string()))?;
        *head_only.version_mut() = Version::HTTP_2;
        *head_only.headers_mut() = head.headers;
        self.send.send_request(head_only, empty).map_err(|error| self.refused(&error))
    }
}

impl Service<Request<tonic::body::Body>> for Channel {
    type Response = Response<ResponseBody>;
    type Error = Status;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        // That the connection is gone is for the call to say: generated clients make of an error here that the
        // service was not ready, with the status `unknown`.
        self.send.poll_ready(cx).map(|_| Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> ResponseFuture {
        self.start(request).unwrap_or_else(ResponseFuture::failed)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_closed() { "Channel(closed)" } else { "Channel" })
    }
}

#[cfg(test)]
mod tests;
