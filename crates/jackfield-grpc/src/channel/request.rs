//! A request on its way, until its answer begins.
//!
//! One message is sent by whoever waits for the answer. A stream of them, whose next message is not there
//! yet, goes on in a task, for its sender may wait for what the server says.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use http::Response;
use http_body::Body as _;
use tonic::Status;
use tonic::body::Body;

use super::body::{EndOnDrop, ResponseBody};
use super::status;

/// A call until its answer begins. Dropped, it is cancelled.
pub struct ResponseFuture(State);

enum State {
    Failed(Option<Status>),
    Waiting { answer: h2::client::ResponseFuture, sending: Sending },
}

enum Sending {
    Here(Outgoing),
    Elsewhere(EndOnDrop),
    Done,
}

impl ResponseFuture {
    pub(super) fn new(answer: h2::client::ResponseFuture, outgoing: Option<(Body, SendStream<Bytes>)>) -> Self {
        let sending =
            outgoing.map_or(Sending::Done, |(body, to)| Sending::Here(Outgoing { body, to, held: None, begun: false }));
        Self(State::Waiting { answer, sending })
    }

    pub(super) fn failed(status: Status) -> Self {
        Self(State::Failed(Some(status)))
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (answer, sending) = match &mut self.get_mut().0 {
            State::Failed(status) => {
                let status = status.take().unwrap_or_else(|| Status::internal("polled after its end"));
                return Poll::Ready(Err(status));
            }
            State::Waiting { answer, sending } => (answer, sending),
        };
        if let Sending::Here(outgoing) = sending {
            let sent = Pin::new(&mut *outgoing).poll(cx);
            *sending = match (sent, std::mem::replace(sending, Sending::Done)) {
                (Poll::Pending, Sending::Here(outgoing)) => {
                    Sending::Elsewhere(EndOnDrop(tokio::spawn(outgoing).abort_handle()))
                }
                _ => Sending::Done,
            };
        }
        match ready!(Pin::new(answer).poll(cx)) {
            Ok(response) => {
                let sending = match std::mem::replace(sending, Sending::Done) {
                    Sending::Elsewhere(task) => Some(task),
                    Sending::Here(_) | Sending::Done => None,
                };
                Poll::Ready(Ok(response.map(|from| ResponseBody::new(from, sending))))
            }
            Err(error) => Poll::Ready(Err(status::of_h2(&error))),
        }
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}

/// The messages of a request. Ready when all are sent, or nobody takes them any more.
struct Outgoing {
    body: Body,
    to: SendStream<Bytes>,
    /// A piece that is sent when it is known whether it is the last, so that the end needs no piece of its own.
    held: Option<Bytes>,
    /// Whether a piece was sent before: the first one is sent whether there is room or not, since it is in
    /// memory anyway.
    begun: bool,
}

impl Outgoing {
    /// Sends all there is. `Err`: nobody takes it any more, and the answer says why.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            if self.begun {
                ready!(self.poll_room(cx))?;
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Of a request there is data alone; gRPC knows no trailers of it.
                    if let Some(before) = frame.into_data().ok().and_then(|data| self.held.replace(data)) {
                        self.send(before, false)?;
                    }
                }
                Poll::Ready(Some(Err(_))) => {
                    self.to.send_reset(h2::Reason::CANCEL);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(None) => {
                    let last = self.held.take().unwrap_or_default();
                    return Poll::Ready(self.send(last, true));
                }
                Poll::Pending => {
                    if let Some(before) = self.held.take() {
                        self.send(before, false)?;
                    }
                    // The other side may have enough of it, while there is nothing to send.
                    return self.to.poll_reset(cx).map(|seen| seen.map(drop));
                }
            }
        }
    }

    /// Waits until what was sent before has left, lest a stream of messages fill the memory.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        while self.to.capacity() == 0 {
            self.to.reserve_capacity(1);
            match ready!(self.to.poll_capacity(cx)) {
                Some(room) => drop(room?),
                None => return Poll::Ready(Err(h2::Reason::CANCEL.into())),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, data: Bytes, last: bool) -> Result<(), h2::Error> {
        self.begun = true;
        self.to.send_data(data, last)
    }
}

impl Future for Outgoing {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_send(cx).map(drop)
    }
}
