//! Where calls are made.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jackfield_grpc::bytes::Bytes;
use jackfield_grpc::serve::panicked_status;
use jackfield_grpc::tonic::Status;
use jackfield_protocol::Encoding;
use jackfield_protocol::dispatch::{Called, Dispatched, Incoming};
use jackfield_protocol::span::SpanRecord;
use jackfield_serve::{Turn, Turns};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use super::Offered;
use super::channel::Ticket;
use crate::instance::{Outcome, Served};
use crate::log::{Level, log};
use crate::trace::{Carried, take_spans, within};

/// Time that calls have to end once the connections are closed. They had time before that, too.
const END_GRACE: Duration = Duration::from_millis(100);

/// What there is to do.
pub(super) enum Work {
    /// A call.
    Call(Call),
    /// The last of all.
    End,
}

/// A call, owned, so that any thread can make it.
pub(super) struct Call {
    pub(super) interface: usize,
    pub(super) function: usize,
    pub(super) arguments: Bytes,
    pub(super) carried: Carried,
    pub(super) reply: Reply,
}

/// Who wants the answer, and in what form.
pub(super) enum Reply {
    /// A call of its own, in protobuf.
    Unary(oneshot::Sender<Answered>),
    /// One of a stream, in our own encodings. After `until` nobody waits any more.
    Channel { encoding: Encoding, ticket: Ticket, until: Option<Instant> },
}

/// The answer to a unary call, and its spans as JSON.
pub(super) type Answered = (Result<Vec<u8>, Status>, Vec<String>);

/// A call that was made.
enum Made {
    Unary(oneshot::Sender<Answered>, Answered),
    Channel(Ticket, Outcome, Vec<u8>, Vec<String>),
    Unwanted,
}

impl Made {
    fn hand_over(self) {
        match self {
            // Whoever does not want it any more has dropped the other end.
            Made::Unary(to, answer) => drop(to.send(answer)),
            Made::Channel(ticket, outcome, value, spans) => ticket.answer(outcome, value, spans),
            Made::Unwanted => {}
        }
    }
}

/// The threads that drive the runtime and make calls, in turns.
pub(super) struct Desk {
    runtime: Runtime,
    queue: Mutex<mpsc::UnboundedReceiver<Work>>,
    served: Served,
    schemas: Arc<[Offered]>,
    turns: Turns<Call>,
}

impl Desk {
    pub(super) fn new(
        runtime: Runtime,
        queue: mpsc::UnboundedReceiver<Work>,
        served: Served,
        schemas: Arc<[Offered]>,
        workers: usize,
    ) -> Arc<Self> {
        Arc::new(Self { runtime, queue: Mutex::new(queue), served, schemas, turns: Turns::new(workers) })
    }

    /// Makes calls on this thread, and on more as they overlap, until the last one.
    pub(super) fn run(self: &Arc<Self>) {
        self.find_relief();
        self.serve(self.turns.first());
        self.turns.wait_for_end();
        self.turns.wait_for_relieved(END_GRACE);
        self.served.stop();
        // The runtime is not dropped, for a thread that is still at a call may have it, and a drop waits for
        // threads. What it has goes with the process.
        std::mem::forget(Arc::clone(self));
    }

    /// Starts a thread that takes over when a call takes long.
    fn find_relief(self: &Arc<Self>) {
        let desk = Arc::clone(self);
        let relief = move || {
            if let Some(turn) = desk.turns.relieve() {
                desk.find_relief();
                desk.serve(turn);
            }
        };
        if thread::Builder::new().name("jackfield".to_owned()).spawn(relief).is_err() {
            log(Level::Warn, "no thread for calls that overlap: they are made one after the other");
        }
    }

    /// Drives the runtime and makes calls, until there are no more or another thread has the turn.
    fn serve(&self, mut turn: Turn) {
        let mut made = Made::Unwanted;
        loop {
            let Work::Call(call) = self.next(made) else { return self.end() };
            made = Made::Unwanted;
            let Some(call) = self.turns.accept(call) else { continue };
            self.turns.begin(&mut turn);
            made = self.make(call);
            if !self.turns.end(&mut turn) {
                break;
            }
        }
        made.hand_over();
        while let Some(call) = self.turns.next_of_backlog() {
            self.make(call).hand_over();
        }
    }

    /// Hands over an answer and waits for the next call; meanwhile this thread has the connections.
    fn next(&self, made: Made) -> Work {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        self.runtime.block_on(async {
            // Within the runtime, which need not be woken then.
            made.hand_over();
            queue.recv().await.unwrap_or(Work::End)
        })
    }

    /// What the thread does that sees the end. The main thread may be among those that do not come back from
    /// their calls.
    fn end(&self) {
        self.turns.finish();
        if !self.turns.wait_for_relieved(END_GRACE) {
            std::process::exit(0);
        }
    }

    fn make(&self, call: Call) -> Made {
        let Call { interface, function, arguments, carried, reply } = call;
        match reply {
            Reply::Unary(to) if to.is_closed() => Made::Unwanted,
            Reply::Unary(to) => {
                let answered =
                    within(carried, || (self.make_unary(interface, function, &arguments), take_spans_as_json()));
                Made::Unary(to, answered)
            }
            Reply::Channel { ticket, .. } if !ticket.is_wanted() => Made::Unwanted,
            Reply::Channel { ticket, until: Some(until), .. } if until <= Instant::now() => {
                let why = "its time was over before its turn came".to_owned();
                Made::Channel(ticket, Outcome::Dispatched(Dispatched::Failed(why)), Vec::new(), Vec::new())
            }
            Reply::Channel { encoding, ticket, .. } => {
                let mut value = Vec::new();
                let call = Incoming { function: Called::Position(function), encoding, arguments: &arguments };
                let (outcome, spans) =
                    within(carried, || (self.served.call(interface, call, &mut value), take_spans_as_json()));
                Made::Channel(ticket, outcome, value, spans)
            }
        }
    }

    fn make_unary(&self, interface: usize, function: usize, arguments: &[u8]) -> Result<Vec<u8>, Status> {
        let schema = self.schemas.get(interface).and_then(|offered| offered.schema.as_ref());
        let schema = schema.ok_or_else(|| Status::unimplemented("no such interface"))?;
        let arguments = schema.arguments_to_binary(function, arguments);
        let arguments = arguments.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let mut answer = Vec::new();
        let encoding = Encoding::Binary;
        let call = Incoming { function: Called::Position(function), encoding, arguments: &arguments };
        let ok = match self.served.call(interface, call, &mut answer) {
            Outcome::Dispatched(Dispatched::Ok) => true,
            Outcome::Dispatched(Dispatched::OwnError) => false,
            failed => return Err(status(failed)),
        };
        schema.answer_to_proto(function, ok, &answer).map_err(|error| Status::internal(error.to_string()))
    }
}

/// The spans of the present call.
fn take_spans_as_json() -> Vec<String> {
    take_spans().iter().map(SpanRecord::to_json).collect()
}

/// What gRPC calls a call that gave no answer.
fn status(outcome: Outcome) -> Status {
    match outcome {
        Outcome::Dispatched(Dispatched::Unimplemented) => Status::unimplemented("no such function"),
        Outcome::Dispatched(Dispatched::BadArguments(why)) => Status::invalid_argument(why),
        Outcome::Dispatched(Dispatched::Failed(why)) => Status::internal(why),
        Outcome::Panicked(message) => panicked_status(message),
        Outcome::Stopped => Status::unavailable("the plugin was stopped"),
        Outcome::Dispatched(Dispatched::Ok | Dispatched::OwnError) => Status::internal(String::new()),
    }
}
