//! A stream of messages that many send on, each on its own thread.
//!
//! A stream that is the body of a request is read by a task, which is woken for each message. A [`Sink`] is sent on
//! directly: while there is room, a message goes to the connection from the thread that has it. What finds no room
//! waits in order, and [`Sink::pump`] sends it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::SendStream;
use http::{Request, Response};
use prost::Message;
use tonic::Status;
use tower_service::Service;

use super::Channel;
use super::body::ResponseBody;
use super::driver::Driver;
use super::request::ResponseFuture;

/// Bytes that gRPC has before each message: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;

/// Where the messages of one call are sent. `K` is kept with a message until it is sent.
pub struct Sink<K> {
    driver: Arc<Driver>,
    state: Mutex<State<K>>,
}

struct State<K> {
    to: To,
    /// What has no room yet.
    queue: VecDeque<(Bytes, K)>,
    pump: Option<Waker>,
}

enum To {
    /// The call has not begun.
    Nowhere,
    Open(SendStream<Bytes>),
    Closed,
}

impl Channel {
    /// A channel for one call with a stream of messages, which are then sent on the sink. What the request itself
    /// brings along as messages is passed over.
    pub fn with_sink<K: Send + 'static>(&self) -> (Opening<K>, Arc<Sink<K>>) {
        let state = State { to: To::Nowhere, queue: VecDeque::new(), pump: None };
        let sink = Arc::new(Sink { driver: Arc::clone(&self.shared.driver), state: Mutex::new(state) });
        (Opening { channel: self.clone(), sink: Arc::clone(&sink) }, sink)
    }
}

/// A channel whose call takes its messages from a [`Sink`].
pub struct Opening<K> {
    channel: Channel,
    sink: Arc<Sink<K>>,
}

impl<K: Send + 'static> Service<Request<tonic::body::Body>> for Opening<K> {
    type Response = Response<ResponseBody>;
    type Error = Status;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> ResponseFuture {
        match self.channel.begin(request.into_parts().0, false) {
            Ok((answer, to)) => {
                self.sink.open(to);
                ResponseFuture::new(answer, None)
            }
            Err(status) => ResponseFuture::failed(status),
        }
    }
}

impl<K> Sink<K> {
    /// Sends a message, now or when there is room. Nothing happens once the sink is closed.
    ///
    /// `here`: it is written on this thread, if it can be. That is the quickest for one that is alone; several are
    /// better written together, by the connection's task.
    pub fn send(&self, message: &impl Message, keep: K, here: bool) {
        let len = message.encoded_len();
        let mut framed = BytesMut::with_capacity(HEAD_BYTES + len);
        framed.put_u8(0);
        // gRPC has no longer ones; whoever sends bounds what it sends.
        framed.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
        let encoded = message.encode(&mut framed);
        debug_assert!(encoded.is_ok(), "there is always room: {encoded:?}");
        let framed = framed.freeze();
        let mut state = self.state();
        if let State { to: To::Open(to), queue, .. } = &mut *state
            && queue.is_empty()
            && has_room(to)
        {
            // An error is the end of the call, which its answer tells.
            let send = || drop(to.send_data(framed, false));
            if here {
                self.driver.send_now(send)
            } else {
                send()
            }
            return;
        }
        if !matches!(state.to, To::Closed) {
            state.queue.push_back((framed, keep));
            if let Some(pump) = state.pump.take() {
                pump.wake();
            }
        }
    }

    /// Sends what waits, as there is room for it, until the sink is closed.
    pub async fn pump(&self) {
        std::future::poll_fn(|cx| self.poll_pump(cx)).await;
    }

    /// Sends nothing any more: the call is over.
    pub fn close(&self) {
        let mut state = self.state();
        let closed = (std::mem::replace(&mut state.to, To::Closed), std::mem::take(&mut state.queue));
        let pump = state.pump.take();
        drop(state);
        // What goes now may wake others, and they may want to send.
        drop(closed);
        pump.into_iter().for_each(Waker::wake);
    }

    fn open(&self, to: SendStream<Bytes>) {
        let mut state = self.state();
        if let To::Nowhere = state.to {
            state.to = To::Open(to);
            state.pump.take().into_iter().for_each(Waker::wake);
        }
    }

    fn poll_pump(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        let State { to, queue, pump } = &mut *state;
        let to = match to {
            To::Closed => return Poll::Ready(()),
            To::Nowhere => None,
            To::Open(to) => Some(to),
        };
        if let Some(to) = to {
            while !queue.is_empty() {
                if !has_room(to) {
                    match to.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(_))) => continue,
                        // The call is over, and its answer says why.
                        Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                        Poll::Pending => break,
                    }
                }
                if let Some((framed, _kept)) = queue.pop_front() {
                    let _ = to.send_data(framed, false);
                }
            }
        }
        *pump = Some(cx.waker().clone());
        Poll::Pending
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what was sent before has left, lest messages fill the memory.
fn has_room(to: &mut SendStream<Bytes>) -> bool {
    if to.capacity() == 0 {
        to.reserve_capacity(1);
    }
    to.capacity() > 0
}

impl<K> fmt::Debug for Sink<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}

impl<K> fmt::Debug for Opening<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opening")
    }
}
