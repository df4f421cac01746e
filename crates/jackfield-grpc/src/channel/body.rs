//! An answer's messages and trailers.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame};
use tokio::task::AbortHandle;
use tonic::Status;

use super::status;

/// What an answer consists of, as it comes. Dropped before its end, it cancels the call.
pub struct ResponseBody {
    from: RecvStream,
    data_ended: bool,
    /// Ends the sending of a request that is still going on.
    _sending: Option<EndOnDrop>,
}

impl ResponseBody {
    pub(super) fn new(from: RecvStream, sending: Option<EndOnDrop>) -> Self {
        Self { from, data_ended: false, _sending: sending }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if !self.data_ended {
            match ready!(self.from.poll_data(cx)) {
                Some(Ok(data)) => {
                    // What was read makes room for as much. That the stream is gone matters to the next read.
                    let _ = self.from.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // A server that has said all may reset the stream, so that the rest of the request is not sent.
                Some(Err(error)) if error.reason() == Some(h2::Reason::NO_ERROR) => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(status::of_h2(&error)))),
                None => self.data_ended = true,
            }
        }
        let trailers = ready!(self.from.poll_trailers(cx));
        Poll::Ready(match trailers {
            Ok(Some(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(None) => None,
            Err(error) => Some(Err(status::of_h2(&error))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.from.is_end_stream()
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseBody")
    }
}

/// A task that ends when nobody wants its work any more.
pub(super) struct EndOnDrop(pub(super) AbortHandle);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
