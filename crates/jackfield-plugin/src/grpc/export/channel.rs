//! `jackfield.plugin.v1.Plugin`: what the plugin says of itself, and its calls over one stream.
//!
//! The stream of answers reads the stream of calls: one task does both, so that a call passes from the connection
//! to the desk and back without being handed on in between.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::Stream;
use jackfield_grpc::pb::jackfield::channel_request::Kind;
use jackfield_grpc::pb::jackfield::channel_response::Outcome as Ended;
use jackfield_grpc::pb::jackfield::plugin_server::{Plugin, PluginServer};
use jackfield_grpc::pb::jackfield::{
    CapabilitiesRequest, CapabilitiesResponse, ChannelRequest, ChannelResponse, Encoding as Written, OfferedInterface,
};
use jackfield_grpc::tonic::{self, Request, Response, Status, Streaming};
use jackfield_protocol::dispatch::Dispatched;
use jackfield_protocol::message::HelloAnswer;
use jackfield_protocol::{Encoding, Interface, PROTOCOL, TraceContext};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::Offered;
use super::desk::{Call, Reply, Work};
use crate::SDK;
use crate::about::about;
use crate::instance::{Export, Outcome};
use crate::trace::Carried;

/// Longest message taken from a host. The host bounds what it sends; this bounds a broken host.
pub(super) const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Longest answer: its length, with what is around it, has to fit into four bytes.
const ANSWER_BYTES_MAX: usize = u32::MAX as usize - 1024;

/// What the plugin can do beyond the protocol: this stream.
const FEATURE: &str = "channel";

pub(super) struct Service {
    about: CapabilitiesResponse,
    work: mpsc::UnboundedSender<Work>,
    stop: CancellationToken,
}

pub(super) fn service(
    export: &'static Export,
    schemas: &[Offered],
    work: mpsc::UnboundedSender<Work>,
    stop: CancellationToken,
) -> PluginServer<Service> {
    let described: Vec<&'static Interface> = schemas.iter().map(|offered| offered.interface).collect();
    let HelloAnswer { protocol, plugin, features, capabilities, .. } = about(export, &described, &[FEATURE]);
    let interfaces = schemas.iter().map(|Offered { interface, schema }| OfferedInterface {
        id: interface.id.to_string(),
        // A description is always JSON; without it the host goes by the name.
        description: serde_json::to_string(interface).unwrap_or_default(),
        service: schema.as_ref().map(|schema| schema.full_name()).unwrap_or_default(),
        binary: true,
    });
    let about = CapabilitiesResponse {
        protocol: protocol.to_string(),
        name: plugin.name,
        version: plugin.version,
        sdk: SDK.to_owned(),
        capabilities: capabilities.iter().map(ToString::to_string).collect(),
        interfaces: interfaces.collect(),
        features,
    };
    PluginServer::new(Service { about, work, stop }).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

#[tonic::async_trait]
impl Plugin for Service {
    async fn capabilities(
        &self,
        request: Request<CapabilitiesRequest>,
    ) -> Result<Response<CapabilitiesResponse>, Status> {
        let host = request.into_inner().protocol;
        let major = host.split('.').next().and_then(|major| major.parse().ok());
        if major != Some(PROTOCOL.major) {
            let why = format!("the host speaks protocol {host}, this plugin speaks {PROTOCOL}");
            return Err(Status::failed_precondition(why));
        }
        Ok(Response::new(self.about.clone()))
    }

    type ChannelStream = Calls;

    async fn channel(&self, request: Request<Streaming<ChannelRequest>>) -> Result<Response<Calls>, Status> {
        let (answers, answered) = mpsc::unbounded_channel();
        let said = request.metadata().get(jackfield_grpc::pb::ANSWER_BYTES_MAX);
        let said = said.and_then(|bytes| bytes.to_str().ok()?.parse().ok());
        Ok(Response::new(Calls {
            answer_bytes_max: ANSWER_BYTES_MAX.min(said.unwrap_or(usize::MAX)),
            requests: Some(request.into_inner()),
            work: self.work.clone(),
            answers,
            answered,
            wanted: Arc::default(),
            stopped: Some(Box::pin(self.stop.clone().cancelled_owned())),
        }))
    }
}

/// One host's calls, and the stream of their answers.
pub(super) struct Calls {
    /// `None` when there will be no more.
    requests: Option<Streaming<ChannelRequest>>,
    work: mpsc::UnboundedSender<Work>,
    answers: mpsc::UnboundedSender<ChannelResponse>,
    answered: mpsc::UnboundedReceiver<ChannelResponse>,
    wanted: Arc<Wanted>,
    answer_bytes_max: usize,
    /// `None` when the plugin is to end.
    stopped: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

/// The calls that are not answered yet, and whose answers are wanted.
#[derive(Default)]
struct Wanted(Mutex<HashSet<u64>>);

impl Wanted {
    fn lock(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an answer is given for.
pub(super) struct Ticket {
    id: u64,
    wanted: Arc<Wanted>,
    answer_bytes_max: usize,
    answers: mpsc::UnboundedSender<ChannelResponse>,
}

impl Ticket {
    /// Whether the host still waits.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.lock().contains(&self.id)
    }

    /// `spans`: of the call, as JSON.
    pub(super) fn answer(self, outcome: Outcome, value: Vec<u8>, spans: Vec<String>) {
        let (outcome, value, message) = match outcome {
            Outcome::Dispatched(Dispatched::Ok | Dispatched::OwnError) if value.len() > self.answer_bytes_max => {
                let why = format!("the answer is {} bytes of {} allowed", value.len(), self.answer_bytes_max);
                (Ended::Limit, Vec::new(), why)
            }
            Outcome::Dispatched(Dispatched::Ok) => (Ended::Ok, value, String::new()),
            Outcome::Dispatched(Dispatched::OwnError) => (Ended::OwnError, value, String::new()),
            Outcome::Dispatched(Dispatched::Unimplemented) => (Ended::Unimplemented, Vec::new(), String::new()),
            Outcome::Dispatched(Dispatched::BadArguments(why)) => (Ended::Refused, Vec::new(), why),
            Outcome::Dispatched(Dispatched::Failed(why)) => (Ended::Failed, Vec::new(), why),
            Outcome::Panicked(message) => (Ended::Panicked, Vec::new(), message),
            Outcome::Stopped => (Ended::Stopped, Vec::new(), "the plugin was stopped".to_owned()),
        };
        let answer = ChannelResponse { id: self.id, outcome: outcome.into(), value: value.into(), message, spans };
        // The stream is gone, and with it whoever wanted an answer.
        let _ = self.answers.send(answer);
    }
}

impl Calls {
    fn take(&self, request: ChannelRequest) {
        let id = request.id;
        if request.kind() == Kind::Cancel {
            // It runs on; its answer is dropped.
            self.wanted.lock().remove(&id);
            return;
        }
        let (wanted, answers) = (self.wanted.clone(), self.answers.clone());
        let ticket = Ticket { id, wanted, answer_bytes_max: self.answer_bytes_max, answers };
        if !self.wanted.lock().insert(id) {
            let why = format!("another call has the number {id}");
            let refused = Outcome::Dispatched(Dispatched::BadArguments(why));
            return ticket.answer(refused, Vec::new(), Vec::new());
        }
        let encoding = match request.encoding() {
            Written::Binary => Encoding::Binary,
            Written::Json => Encoding::Json,
        };
        let until =
            (request.timeout_ms > 0).then(|| Instant::now() + Duration::from_millis(u64::from(request.timeout_ms)));
        let call = Call {
            interface: request.interface as usize,
            function: request.function as usize,
            arguments: request.arguments,
            carried: Carried {
                context: TraceContext::parse(request.traceparent.as_bytes()),
                state: request.tracestate,
                home: request.spans,
            },
            reply: Reply::Channel { encoding, ticket, until },
        };
        // Nobody takes it at the end, and then nobody waits for the answer.
        let _ = self.work.send(Work::Call(call));
    }

    /// Takes the calls that have come.
    fn poll_requests(&mut self, cx: &mut Context<'_>) {
        while let Some(requests) = &mut self.requests {
            match Pin::new(requests).poll_next(cx) {
                Poll::Ready(Some(Ok(request))) => self.take(request),
                Poll::Ready(None) => self.requests = None,
                // The host is gone; nobody waits for what is under way.
                Poll::Ready(Some(Err(_))) => {
                    self.requests = None;
                    self.wanted.lock().clear();
                }
                Poll::Pending => return,
            }
        }
    }
}

impl Stream for Calls {
    type Item = Result<ChannelResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let calls = &mut *self;
        if let Some(stopped) = &mut calls.stopped
            && stopped.as_mut().poll(cx).is_ready()
        {
            calls.stopped = None;
            calls.requests = None;
        }
        calls.poll_requests(cx);
        while let Poll::Ready(Some(answer)) = calls.answered.poll_recv(cx) {
            if calls.wanted.lock().remove(&answer.id) {
                return Poll::Ready(Some(Ok(answer)));
            }
        }
        if calls.requests.is_none() && calls.wanted.lock().is_empty() {
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        // Calls that wait for their turn need not be made any more.
        self.wanted.lock().clear();
    }
}
