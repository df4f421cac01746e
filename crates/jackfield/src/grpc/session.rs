//! Talks to a gRPC plugin: functions of interfaces over the one stream or as unary calls, methods of services
//! as they are.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jackfield_grpc::Connection;
use jackfield_protocol::call::Cause;
use jackfield_protocol::runner::Enforced;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::Sleep;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Status, Streaming};

use super::about::{self, Known};
use super::carried::Carried;
use super::connect::Connected;
use super::end::{self, Over, Program};
use super::lane::{self, Lane, Waiting};
use super::launch::{Launched, SocketDir};
use super::services::{self, Dynamic, Services};
use super::status::{self, Said, Taken};
use super::unary::{self, Service};
use crate::limits::Limits;
use crate::log::PluginLog;
use crate::mechanism::{
    self, About, Boxed, Death, Exchange, FunctionName, Inbound, Messages, Outbound, Session, Spec, Told, finish,
};
use crate::program::Overtime;
use crate::room::{self, Room};
use crate::spans::Recorder;

pub(super) struct GrpcSession {
    about: About,
    program: Program,
    connected: Connected,
    version: u32,
    services: Services,
    functions: Vec<Option<Arc<Service>>>,
    lane: Option<Arc<Lane>>,
    room: Arc<Room>,
    /// Where the plugin's spans go.
    recorder: Arc<Recorder>,
    over: Arc<mechanism::Over>,
    limits: Limits,
    answer_bytes_max: usize,
    runtime: Handle,
    /// Its sockets go when it has ended.
    sockets: Mutex<Option<Arc<SocketDir>>>,
    enforced: Vec<Enforced>,
    /// What is done to it when a call takes too long.
    on_timeout: Option<Arc<Overtime>>,
}

impl GrpcSession {
    pub(super) fn new(
        spec: &Spec,
        launched: Launched,
        connected: Connected,
        known: Known,
        log: Arc<PluginLog>,
        runtime: &Handle,
    ) -> Self {
        let limits = spec.limits.clone();
        let answer_bytes_max = usize::try_from(limits.answer_bytes_max).unwrap_or(usize::MAX);
        let Launched { program, version, sockets, enforced, .. } = launched;
        let on_timeout = program.on_timeout(&limits);
        let over = Arc::new(watch::Sender::new(None));
        let room = Arc::new(Room::new(&limits).metered(log.meters()));
        let recorder = Arc::clone(log.recorder());
        runtime.spawn(end::watch(&program, connected.channel.clone(), log, Arc::clone(&over)));
        let Known { about, services, functions, lane } = known;
        let end = || lane::End { over: Arc::clone(&over), kill: program.killer() };
        let open = || Lane::open(&connected.channel, answer_bytes_max, Arc::clone(&recorder), end(), runtime);
        let lane = lane.then(open);
        Self {
            about,
            program,
            connected,
            version,
            services,
            functions,
            lane,
            room,
            recorder,
            over,
            limits,
            answer_bytes_max,
            runtime: runtime.clone(),
            sockets: Mutex::new(sockets),
            enforced,
            on_timeout,
        }
    }

    /// Made here, since whoever polls a call may be on a thread without a runtime.
    fn deadline(&self, timeout: Duration) -> Pin<Box<Sleep>> {
        let _entered = self.runtime.enter();
        Box::pin(tokio::time::sleep(timeout))
    }

    fn unary(&self, service: &Arc<Service>, function: usize, outbound: &Outbound<'_>) -> Result<Inbound, Cause> {
        let (encoding, timeout) = (outbound.encoding, outbound.timeout);
        let message = service.arguments(function, encoding, &outbound.arguments.bytes())?;
        self.room.admits(message.len())?;
        let made = unary::call(
            self.connected.channel.clone(),
            service.path(function),
            message.clone(),
            self.answer_bytes_max,
            timeout,
            Carried::of(outbound.trace.copied(), &self.recorder),
        );
        let (room, over, mut deadline) = (Arc::clone(&self.room), self.over.subscribe(), self.deadline(timeout));
        let service = Arc::clone(service);
        let answer_bytes_max = self.answer_bytes_max;
        let taken = Taken { message_bytes_max: unary::taken_max(answer_bytes_max), answer_bytes_max };
        let bytes = message.len();
        Ok(Inbound::Later(Box::pin(async move {
            let late = || Err(Cause::Timeout { after: timeout });
            let _room = match room.try_take(bytes) {
                Some(room) => room,
                None => tokio::select! {
                    room = room.take(bytes) => room,
                    () = &mut deadline => return late(),
                },
            };
            let made = tokio::select! {
                made = made => made,
                () = &mut deadline => return late(),
            };
            match made {
                Ok(message) => service.answer(function, encoding, &message),
                Err(status) => Err(match status::cause(&status, timeout, taken) {
                    Some(cause) => cause,
                    None => broken_off(over, &status).await,
                }),
            }
        })))
    }
}

/// Why a call broke off.
async fn broken_off(over: Over, status: &Status) -> Cause {
    let what = || format!("the call broke off: {}", status.message());
    end::why(over).await.unwrap_or_else(|| Cause::Protocol { what: what() })
}

impl Session for GrpcSession {
    fn about(&self) -> &About {
        &self.about
    }

    fn call(&self, outbound: Outbound<'_>) -> Inbound {
        let unavailable = |cause: &Cause| Cause::Unavailable { why: cause.to_string() };
        if let Some(Death { cause, .. }) = &*self.over.borrow() {
            return Inbound::Now(Err(unavailable(cause)));
        }
        let bytes = outbound.arguments.len();
        if let Err(cause) = self.room.admits(bytes) {
            return Inbound::Now(Err(cause));
        }
        let timeout = outbound.timeout;
        let FunctionName { position, .. } = outbound.function;
        let (Some(position), Some(service)) = (*position, &self.functions[outbound.interface]) else {
            let hint = " (nothing describes the interface)".to_owned();
            return Inbound::Now(Err(Cause::Unimplemented { hint }));
        };
        let Some(lane) = &self.lane else {
            let made = self.unary(service, position as usize, &outbound);
            let inbound = made.unwrap_or_else(|cause| Inbound::Now(Err(cause)));
            return Overtime::bounds(&self.on_timeout, inbound);
        };
        let (request, encoding) = (lane.request(&outbound, position), outbound.encoding);
        let mut deadline = self.deadline(timeout);
        if let Some(room) = self.room.try_take(bytes) {
            let inbound = match lane.send(request, encoding, room) {
                Ok(call) => Inbound::Later(Box::pin(Waiting { call, deadline, timeout })),
                Err(cause) => Inbound::Now(Err(cause)),
            };
            return Overtime::bounds(&self.on_timeout, inbound);
        }
        let (lane, room) = (Arc::clone(lane), Arc::clone(&self.room));
        let inbound = Inbound::Later(Box::pin(async move {
            let room = tokio::select! {
                room = room.take(bytes) => room,
                () = &mut deadline => return Err(Cause::Timeout { after: timeout }),
            };
            let call = lane.send(request, encoding, room)?;
            Waiting { call, deadline, timeout }.await
        }));
        Overtime::bounds(&self.on_timeout, inbound)
    }

    fn exchange(&self, exchange: Exchange) -> Result<Box<dyn Messages>, Cause> {
        if let Some(Death { cause, .. }) = &*self.over.borrow() {
            return Err(Cause::Unavailable { why: cause.to_string() });
        }
        let Some(method) = self.services.method(exchange.service, exchange.method) else {
            return Err(Cause::Unimplemented { hint: String::new() });
        };
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let path = PathAndQuery::try_from(path).map_err(|error| Cause::Refused { why: error.to_string() })?;
        let (refused, refusal) = oneshot::channel();
        let outgoing = Outgoing {
            from: ReceiverStream::new(exchange.messages),
            descriptor: method.input(),
            room: Arc::clone(&self.room),
            refused: Some(refused),
        };
        let codec = Dynamic { answer: method.output() };
        let channel = self.connected.channel.clone();
        let answer_bytes_max = self.answer_bytes_max;
        let room = Arc::clone(&self.room);
        let carried = Carried::of(exchange.trace, &self.recorder);
        let begun = async move {
            // A call of a service is one of the calls in flight, for as long as it streams.
            let held = room.take(0).await;
            let mut grpc = Grpc::new(channel).max_decoding_message_size(answer_bytes_max);
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            let mut request = tonic::Request::new(outgoing.messages());
            carried.add_to(request.metadata_mut());
            let answered = grpc.streaming(request, path, codec).await;
            if let Err(status) = &answered {
                carried.take_from(status.metadata());
            }
            Ok::<_, Status>((answered?.into_inner(), held))
        };
        Ok(Box::new(Answers {
            state: State::Beginning(Box::pin(begun)),
            refusal,
            timeout: exchange.timeout,
            taken: Taken { message_bytes_max: answer_bytes_max, answer_bytes_max },
            over: self.over.subscribe(),
            runtime: self.runtime.clone(),
            carried: Carried::of(exchange.trace, &self.recorder),
        }))
    }

    fn connection(&self) -> Option<Connection> {
        let Connected { channel, broker } = &self.connected;
        Some(Connection { channel: channel.clone(), broker: broker.clone(), app_version: self.version })
    }

    fn ended(&self) -> Option<String> {
        self.over.borrow().as_ref().map(|death| death.cause.to_string())
    }

    fn over(&self) -> Boxed<'static, Death> {
        mechanism::over(&self.over)
    }

    fn ping(&self) -> Boxed<'_, Result<(), Cause>> {
        Box::pin(async {
            let what = |error: super::GrpcError| Cause::Unavailable { why: error.to_string() };
            about::healthy(&self.connected.channel).await.map_err(what)
        })
    }

    fn stop(&self, _idle: bool) -> Boxed<'_, ()> {
        Box::pin(async {
            // What ends from now on was stopped, and did not crash.
            finish(&self.over, Cause::Unavailable { why: "it was stopped".to_owned() }.into());
            self.connected.broker.close();
            self.program.end(&self.connected.channel, self.limits.stop_grace).await;
            self.connected.channel.close();
            drop(self.sockets.lock().unwrap_or_else(PoisonError::into_inner).take());
        })
    }

    fn kill(&self, cause: Cause) {
        finish(&self.over, cause.into());
        self.connected.broker.close();
        self.program.abandon(&self.connected.channel);
        self.connected.channel.close();
    }

    fn enforced(&self) -> Vec<Enforced> {
        self.enforced.clone()
    }

    fn process(&self) -> Option<u32> {
        Some(self.program.id())
    }
}

/// The messages of a call, turned from JSON as they come.
struct Outgoing {
    from: ReceiverStream<Value>,
    descriptor: MessageDescriptor,
    /// For the size of each of them.
    room: Arc<Room>,
    /// Told when one of them is no message, or too large: then nothing more is sent.
    refused: Option<oneshot::Sender<Cause>>,
}

impl Outgoing {
    fn messages(mut self) -> impl tokio_stream::Stream<Item = DynamicMessage> + Send + 'static {
        let taken = move |value| {
            let message = services::from_json(self.descriptor.clone(), value).map_err(|why| Cause::Refused { why })?;
            self.room.admits(message.encoded_len())?;
            Ok(message)
        };
        self.from.map_while(move |value| match taken(value) {
            Ok(message) => Some(message),
            Err(why) => {
                if let Some(refused) = self.refused.take() {
                    let _ = refused.send(why);
                }
                None
            }
        })
    }
}

type Beginning = Pin<Box<dyn Future<Output = Result<(Streaming<DynamicMessage>, room::Taken), Status>> + Send>>;

/// The answers of a call.
struct Answers {
    state: State,
    refusal: oneshot::Receiver<Cause>,
    timeout: Duration,
    taken: Taken,
    over: Over,
    runtime: Handle,
    carried: Carried,
}

enum State {
    Beginning(Beginning),
    Open(Box<(Streaming<DynamicMessage>, room::Taken)>),
    Ended,
}

impl Answers {
    async fn message(&mut self) -> Result<Option<DynamicMessage>, Status> {
        if let State::Beginning(beginning) = &mut self.state {
            let begun = beginning.await;
            self.state = State::Ended;
            self.state = State::Open(Box::new(begun?));
        }
        match &mut self.state {
            State::Open(answers) => {
                let message = answers.0.message().await;
                match &message {
                    Ok(Some(_)) => {}
                    Ok(None) => {
                        // They have come with the end.
                        if let Some(trailers) = answers.0.trailers().await? {
                            self.carried.take_from(&trailers);
                        }
                    }
                    Err(status) => self.carried.take_from(status.metadata()),
                }
                message
            }
            _ => Ok(None),
        }
    }

    async fn next(&mut self) -> Option<Result<Value, Told>> {
        let timeout = self.timeout;
        let entered = self.runtime.enter();
        let deadline = tokio::time::sleep(timeout);
        drop(entered);
        let read = tokio::select! {
            read = self.message() => read,
            () = deadline => {
                self.state = State::Ended;
                return Some(Err(Told::Failed(Cause::Timeout { after: timeout })));
            }
        };
        // What was refused on our side ends the call on the plugin's, with whatever it makes of that.
        if let Ok(cause) = self.refusal.try_recv() {
            self.state = State::Ended;
            return Some(Err(Told::Failed(cause)));
        }
        match read {
            Ok(None) => None,
            Ok(Some(message)) => Some(services::to_json(&message).map_err(|what| {
                Told::Failed(Cause::Protocol { what: format!("its message has no form in JSON: {what}") })
            })),
            Err(status) => {
                self.state = State::Ended;
                Some(Err(match status::said(&status, timeout, self.taken) {
                    Said::Told(told) => told,
                    Said::Disconnected => Told::Failed(broken_off(self.over.clone(), &status).await),
                }))
            }
        }
    }
}

impl Messages for Answers {
    fn next(&mut self) -> Boxed<'_, Option<Result<Value, Told>>> {
        Box::pin(Answers::next(self))
    }
}
