//! The one long-lived stream over which calls go when plugin and host are both Jackfield's.
//!
//! A unary call of gRPC costs a stream of HTTP/2 each; here a call is a message on a stream that is there
//! already, for about a quarter of the price. Answers come in any order.
//!
//! A call that is alone is written to the socket by the thread that makes it: what a call costs is mostly threads
//! that wake each other. Calls that overlap are left to the connection's task, which writes many at once.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use jackfield_grpc::channel::{Channel, Opening, Sink};
use jackfield_grpc::pb::ANSWER_BYTES_MAX;
use jackfield_grpc::pb::jackfield::channel_request::Kind;
use jackfield_grpc::pb::jackfield::channel_response::Outcome;
use jackfield_grpc::pb::jackfield::plugin_client::PluginClient;
use jackfield_grpc::pb::jackfield::{self as pb, ChannelRequest, ChannelResponse};
use jackfield_protocol::Encoding;
use jackfield_protocol::call::{Answer, AnswerValue, Buffer, Cause};
use tokio::runtime::Handle;
use tokio::time::Sleep;
use tonic::{Request, Status};

use super::end::why;
use super::status::hint;
use crate::mechanism::{self, Outbound, answer, finish};
use crate::pending::{Answered, Pending};
use crate::room::Taken;
use crate::spans::Recorder;
use crate::trace;

/// Room for what a message has beside its value.
const ENVELOPE_BYTES: usize = 4096;

/// The room that a message takes up until it is sent. A call that is given up leaves its message behind: a plugin
/// that reads nothing must not fill our memory with those.
type Held = Option<Arc<Taken>>;

/// The stream, with the calls on it.
pub(super) struct Lane {
    requests: Arc<Sink<Held>>,
    pending: Pending,
    next_id: AtomicU64,
    answer_bytes_max: usize,
    /// Where the plugin's spans go.
    recorder: Arc<Recorder>,
}

impl Lane {
    /// Opens the stream. What is sent before the plugin has taken it waits.
    pub(super) fn open(
        channel: &Channel,
        answer_bytes_max: usize,
        recorder: Arc<Recorder>,
        end: End,
        runtime: &Handle,
    ) -> Arc<Self> {
        // Not bounded here: each call has taken room before it is sent.
        let (opening, requests) = channel.with_sink();
        let pumped = Arc::clone(&requests);
        runtime.spawn(async move { pumped.pump().await });
        let (pending, next_id) = (Pending::new(), AtomicU64::new(1));
        let lane = Arc::new(Self { requests, pending, next_id, answer_bytes_max, recorder });
        let client = PluginClient::new(opening)
            .max_encoding_message_size(usize::MAX)
            .max_decoding_message_size(answer_bytes_max.saturating_add(ENVELOPE_BYTES));
        runtime.spawn(Arc::clone(&lane).read(client, end));
        lane
    }

    /// The message of a call. `function` is its position in the plugin's description.
    pub(super) fn request(&self, outbound: &Outbound<'_>, function: u32) -> ChannelRequest {
        let encoding = match outbound.encoding {
            Encoding::Binary => pb::Encoding::Binary,
            _ => pb::Encoding::Json,
        };
        let left = u64::try_from(outbound.timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        ChannelRequest {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            kind: Kind::Call.into(),
            interface: u32::try_from(outbound.interface).unwrap_or(u32::MAX),
            function,
            encoding: encoding.into(),
            arguments: Bytes::copy_from_slice(&outbound.arguments.bytes()),
            timeout_ms: u32::try_from(left).unwrap_or(u32::MAX),
            traceparent: outbound.trace.map(|trace| trace.to_string()).unwrap_or_default(),
            tracestate: outbound.trace.and_then(|_| trace::state()).as_deref().unwrap_or_default().to_owned(),
            spans: outbound.trace.is_some() && self.recorder.takes_spans(),
        }
    }

    /// Sends a call, whose answer comes in this encoding.
    pub(super) fn send(
        self: &Arc<Self>,
        request: ChannelRequest,
        encoding: Encoding,
        room: Taken,
    ) -> Result<Call, Cause> {
        let id = request.id;
        let (answered, waiting) = self.pending.add(id)?;
        // If the stream is over, the answer says why, as soon as that is known.
        let room = Arc::new(room);
        self.requests.send(&request, Some(Arc::clone(&room)), waiting == 1);
        Ok(Call { id, encoding, answered, lane: Arc::clone(self), over: false, _room: room })
    }

    /// Reads answers to the end of the stream; then ends every call.
    async fn read(self: Arc<Self>, mut client: PluginClient<Opening<Held>>, end: End) {
        // What is sent goes another way.
        let mut request = Request::new(tokio_stream::empty());
        request.metadata_mut().insert(ANSWER_BYTES_MAX, self.answer_bytes_max.into());
        let ended = match client.channel(request).await {
            Ok(answers) => {
                let mut answers = answers.into_inner();
                loop {
                    match answers.message().await {
                        Ok(Some(answer)) => self.take(answer),
                        Ok(None) => break None,
                        Err(status) => break Some(status),
                    }
                }
            }
            Err(status) => Some(status),
        };
        self.requests.close();
        self.pending.end(end.why(ended).await);
    }

    fn take(&self, response: ChannelResponse) {
        let ChannelResponse { id, outcome, value, message: why, spans } = response;
        spans.iter().for_each(|span| self.recorder.take(span.as_bytes()));
        let encoded = |ok: bool| {
            let mut bytes = Buffer::new();
            bytes.extend_from_slice(&value);
            // Whoever waits for it knows the encoding, which is that of the call.
            answer(ok, Encoding::Json, bytes, self.answer_bytes_max)
        };
        let settled = match Outcome::try_from(outcome) {
            Ok(Outcome::Ok) => encoded(true),
            Ok(Outcome::OwnError) => encoded(false),
            Ok(Outcome::Unimplemented) => Err(Cause::Unimplemented { hint: hint(&why) }),
            Ok(Outcome::Refused) => Err(Cause::Refused { why }),
            Ok(Outcome::Failed) => Err(Cause::Refused { why: format!("it could not answer: {why}") }),
            Ok(Outcome::Panicked) => Err(Cause::Panicked { message: why }),
            Ok(Outcome::Stopped) => Err(Cause::Unavailable { why }),
            // The only limit that a plugin is told of.
            Ok(Outcome::Limit) => Err(Cause::Limit { limit: "answer_bytes", what: why }),
            Err(error) => Err(Cause::Protocol { what: format!("its answer has an outcome of no name: {error}") }),
        };
        self.pending.settle(id, settled);
    }
}

/// What the end of the stream means for the plugin.
pub(super) struct End {
    pub(super) over: Arc<mechanism::Over>,
    pub(super) kill: Box<dyn FnOnce() + Send>,
}

impl End {
    /// Why the stream has ended: the plugin's end, or else what the plugin did to it, which is its end, too. It
    /// was told how long an answer may be, so one that is longer is no mistake.
    async fn why(self, ended: Option<Status>) -> Cause {
        if let Some(cause) = why(self.over.subscribe()).await {
            return cause;
        }
        let what =
            ended.map_or_else(|| "the stream of its calls ended".to_owned(), |status| status.message().to_owned());
        let cause = Cause::Protocol { what: format!("its calls cannot be made: {what}") };
        finish(&self.over, cause.clone().into());
        (self.kill)();
        cause
    }
}

/// A call on the stream. Dropped before it is over, it is cancelled.
pub(super) struct Call {
    id: u64,
    encoding: Encoding,
    answered: Answered,
    lane: Arc<Lane>,
    over: bool,
    _room: Arc<Taken>,
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.lane.pending.forget(self.id);
        let cancel = ChannelRequest { id: self.id, kind: Kind::Cancel.into(), ..ChannelRequest::default() };
        self.lane.requests.send(&cancel, None, false);
    }
}

/// Waits for the answer, or for the deadline.
pub(super) struct Waiting {
    pub(super) call: Call,
    pub(super) deadline: Pin<Box<Sleep>>,
    pub(super) timeout: Duration,
}

impl Future for Waiting {
    type Output = Result<Answer, Cause>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(answer) = Pin::new(&mut self.call.answered).poll(context) {
            self.call.over = true;
            let gone = || Err(Cause::Unavailable { why: "the host gave it up".to_owned() });
            return Poll::Ready(answer.unwrap_or_else(|_| gone()).map(|mut answer| {
                if let AnswerValue::Encoded { encoding, .. } = &mut answer.value {
                    *encoding = self.call.encoding;
                }
                answer
            }));
        }
        if self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(Cause::Timeout { after: self.timeout }));
        }
        Poll::Pending
    }
}
