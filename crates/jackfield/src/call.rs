//! A call's way through the host: lease, encode, session, answer, count.
//!
//! What is checked once, when a client is made, is kept in a [`Binding`]: which interface of the
//! plugin, which encoding, which function is which. A new generation of the plugin is bound anew.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwapOption, Guard};
use jackfield_protocol::call::{Answer, Buffer, Caller, Cause, Described, Failure, Outgoing, Reply};
use jackfield_protocol::{
    CallError, Capability, Comparison, DecodeError, Encoding, Interface, Status, TraceContext, compare, dynamic,
    nearest,
};
use serde_json::Value;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc;

use crate::error::GetError;
use crate::exchange::{self, ValueStream};
use crate::lifecycle::Retry;
use crate::mechanism::{Arguments, FunctionName, Inbound, MethodInfo, Offered, Outbound};
use crate::metrics::{Begun, Series};
use crate::plugin::{Door, Generation, Lease, Plugin, Shared};
use crate::spans::Span;
use crate::trace;

/// A plugin as the trait it offers: `Client<dyn Greeter>` has the methods of `Greeter`, async.
///
/// Made by [`Host::get`](crate::Host::get), when interface and capabilities have been checked.
/// `client.blocking()` has the same methods for code that is not async.
pub struct Client<I: Described + ?Sized> {
    client: I::Client,
    plugin: Plugin,
    comparison: Comparison,
    interface: PhantomData<fn() -> Box<I>>,
}

impl<I: Described + ?Sized> Client<I> {
    /// The plugin behind a client. Not a method, since the interface may have one of this name.
    pub fn plugin(this: &Self) -> &Plugin {
        &this.plugin
    }

    /// How the host's interface and the plugin's compare. Of a plugin that gave no description only name
    /// and version were compared: then it is `Compatible`, with nothing missing and nothing extra.
    pub fn comparison(this: &Self) -> &Comparison {
        &this.comparison
    }
}

impl<I: Described + ?Sized> Deref for Client<I> {
    type Target = I::Client;

    fn deref(&self) -> &I::Client {
        &self.client
    }
}

impl<I: Described + ?Sized> fmt::Debug for Client<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("plugin", &self.plugin).finish_non_exhaustive()
    }
}

impl Plugin {
    /// Calls a function without a Rust type, on a plugin of any mechanism.
    ///
    /// `function` is `greet`, `greeter.greet` or `demo:greeter/greeter.greet`; the shorter forms when
    /// only one interface has it. `arguments` is an object by parameter name, an array by position, or
    /// null when there are none. Where the plugin described its interface, arguments and answer are
    /// checked against it; an error then names the path to what is wrong.
    pub async fn call(&self, function: &str, arguments: Value) -> Result<Value, CallError<Value>> {
        self.call_with(&CallOptions::default(), function, arguments).await
    }

    /// [`Plugin::call`], with a time-out of its own.
    pub async fn call_with(
        &self,
        options: &CallOptions,
        function: &str,
        arguments: Value,
    ) -> Result<Value, CallError<Value>> {
        call_dynamic(&self.shared, options, function, arguments).await
    }

    /// The method of one of the plugin's [services](crate::ServiceInfo), by the names that
    /// [`Plugin::stream`] takes. None if there is none of this name, or more than one.
    pub fn method(&self, name: &str) -> Option<MethodInfo> {
        let generation = self.shared.last()?;
        exchange::find(&generation.about, name).map(|found| found.info(&generation.about).clone())
    }

    /// Calls a method of one of the plugin's [services](crate::ServiceInfo), with any number of messages in
    /// either direction.
    ///
    /// `method` is `proto.KV/Get`, or the end of it where that is enough, `KV/Get`. What is sent are the
    /// messages as JSON, until the sender of `messages` is dropped; a method that takes one message wants
    /// exactly one. The time-out is that of each message of the answer, not of the whole.
    pub fn stream(
        &self,
        options: &CallOptions,
        method: &str,
        messages: mpsc::Receiver<Value>,
    ) -> Result<ValueStream, CallError<Value>> {
        let shared = &self.shared;
        let fail = |cause: Cause| CallError::Failed(shared.failure(None, method, cause));
        let lease = shared.lease().map_err(fail)?;
        let found =
            exchange::find(&lease.about, method).ok_or_else(|| fail(exchange::unknown(&lease.about, method)))?;
        let timeout = timeout_of(&lease, options);
        exchange::begin(shared, lease, timeout, method, found, messages)
    }
}

/// How a client calls.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    /// Time for each call. Default: the plugin's `call_timeout`. A native call cannot be stopped and
    /// has none.
    pub timeout: Option<Duration>,
}

/// What is required of a plugin when a client is made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requirements {
    pub(crate) capabilities: Vec<Capability>,
    pub(crate) optional: Vec<String>,
    /// Use this encoding even where another could be used.
    pub(crate) encoding: Option<Encoding>,
    pub(crate) options: CallOptions,
}

/// Makes a client, if the plugin is what the host wants.
pub(crate) fn client<I: Described + ?Sized>(plugin: &Plugin, wanted: Requirements) -> Result<Client<I>, GetError> {
    let interface = I::interface()?;
    let shared = &plugin.shared;
    let unavailable = |cause: Cause| GetError::Unavailable {
        plugin: shared.name.clone(),
        why: match cause {
            Cause::Unavailable { why } => why,
            other => other.to_string(),
        },
    };
    let generation = match shared.door() {
        Door::Open(generation) => match generation.session.ended() {
            Some(why) => return Err(unavailable(Cause::Unavailable { why })),
            None => generation,
        },
        Door::Shut(cause) => return Err(unavailable(cause)),
        // What the next generation offers is seen when it is there; a call then says what is wrong with it.
        Door::Waits => {
            shared.last().ok_or_else(|| unavailable(Cause::Unavailable { why: shared.state().to_string() }))?
        }
    };
    if let Some((required, offered)) = generation.about.lacks(&wanted.capabilities) {
        return Err(GetError::Capability { plugin: shared.name.clone(), required: required.clone(), offered });
    }
    let (binding, comparison) = Binding::new(shared, &generation, interface, &wanted)?;
    let series = interface
        .functions
        .iter()
        .map(|function| shared.meters.method(&format!("{}.{}", interface.id.name, function.name)));
    let series = series.collect();
    let caller: Arc<dyn Caller> = Arc::new_cyclic(|this| PluginCaller {
        this: Weak::clone(this),
        shared: Arc::clone(shared),
        interface,
        series,
        wanted,
        first: binding,
        replaced: AtomicBool::new(false),
        binding: ArcSwapOption::empty(),
    });
    Ok(Client { client: caller.into(), plugin: plugin.clone(), comparison, interface: PhantomData })
}

/// A host's interface, matched with what one generation of a plugin offers.
struct Binding {
    generation: Arc<Generation>,
    interface: usize,
    encoding: Encoding,
    /// By position in the host's description; none where the plugin lacks an optional function.
    functions: Vec<Option<BoundFunction>>,
}

/// A function of a [`Binding`].
struct BoundFunction {
    name: FunctionName,
    /// Whether its only argument may be passed as it is.
    whole: bool,
    /// Whether a call of it is made again if the plugin dies in it.
    again: bool,
}

impl Binding {
    fn new(
        shared: &Shared,
        generation: &Arc<Generation>,
        wanted: &Interface,
        requirements: &Requirements,
    ) -> Result<(Self, Comparison), GetError> {
        let offered = &generation.about.interfaces;
        // The same name, in the line of versions that fits; or else the same name, to say what differs.
        let fits =
            offered.iter().position(|offered| offered.id.same_name(&wanted.id) && offered.id.same_major(&wanted.id));
        let named = fits.or_else(|| offered.iter().position(|offered| offered.id.same_name(&wanted.id)));
        let Some(interface) = named else {
            let list: Vec<_> = offered.iter().map(|offered| format!("`{}`", offered.id)).collect();
            return Err(GetError::NotOffered {
                plugin: shared.name.clone(),
                wanted: wanted.id.clone(),
                offered: list.join(", "),
            });
        };
        let offered = &offered[interface];
        let comparison = match &offered.description {
            Some(described) => compare(wanted, described, &requirements.optional),
            None => compare_names(wanted, offered),
        };
        if let Comparison::Incompatible { mismatches } = comparison {
            let plugin = shared.name.clone();
            return Err(GetError::Incompatible { plugin, wanted: wanted.id.clone(), mismatches });
        }
        let encoding = match comparison {
            Comparison::Exact if offered.binary => requirements.encoding.unwrap_or(Encoding::Binary),
            _ => Encoding::Json,
        };
        let functions = wanted.functions.iter().map(|function| {
            let position = match &offered.description {
                None => None,
                Some(described) => u32::try_from(described.function(&function.name)?.0).ok(),
            };
            let name = FunctionName { name: function.name.as_str().into(), position };
            let whole = encoding == Encoding::Binary && generation.session.takes_whole(interface, &name);
            let again = function.idempotent && generation.identity.lifecycle.retry == Retry::Idempotent;
            Some(BoundFunction { name, whole, again })
        });
        let functions = functions.collect();
        Ok((Self { generation: Arc::clone(generation), interface, encoding, functions }, comparison))
    }
}

/// A plugin that gives no description is taken at its word.
fn compare_names(wanted: &Interface, offered: &Offered) -> Comparison {
    if offered.id.same_major(&wanted.id) {
        return Comparison::Compatible { missing: Vec::new(), extra: Vec::new() };
    }
    let mismatch = jackfield_protocol::Mismatch {
        path: "interface".to_owned(),
        host: format!("version {}", wanted.id.version),
        plugin: format!("version {}", offered.id.version),
    };
    Comparison::Incompatible { mismatches: vec![mismatch] }
}

/// Makes the calls of a typed client.
struct PluginCaller {
    /// For calls that outlive the one who made them.
    this: Weak<Self>,
    shared: Arc<Shared>,
    interface: &'static Interface,
    /// What is measured, by position in the host's description.
    series: Box<[Arc<Series>]>,
    wanted: Requirements,
    /// By the generation that there was when the client was made. As long as that takes calls, which is for most clients
    /// for ever, nothing that changes is read. What is left of it later is a session that was stopped.
    first: Binding,
    /// Whether that takes no more calls.
    replaced: AtomicBool,
    /// By a later generation.
    binding: ArcSwapOption<Binding>,
}

impl PluginCaller {
    fn name(&self, function: usize) -> String {
        format!("{}.{}", self.interface.id.name, self.interface.functions[function].name)
    }

    fn fail(&self, generation: Option<&Generation>, function: usize, cause: Cause) -> Failure {
        self.shared.failure_of(generation, &self.series[function], &self.name(function), cause)
    }

    /// [`PluginCaller::fail`], of a call that no generation was to answer and that has no span yet.
    #[cold]
    fn fail_at_once(&self, function: usize, cause: Cause) -> Failure {
        self.shared.recorder.begin().end(&self.series[function], cause.status());
        self.fail(None, function, cause)
    }

    /// Matches the interface with a generation of the plugin.
    fn bind(&self, generation: &Arc<Generation>) -> Result<Arc<Binding>, Cause> {
        let bound = Binding::new(&self.shared, generation, self.interface, &self.wanted);
        let (bound, _) = bound.map_err(|error| Cause::Unavailable { why: error.to_string() })?;
        let bound = Arc::new(bound);
        self.binding.store(Some(Arc::clone(&bound)));
        Ok(bound)
    }

    /// Makes a call, by a binding whose generation is held.
    fn make(&self, bound: &Binding, lease: Lease<&Arc<Generation>>, outgoing: &Outgoing<'_>) -> Reply {
        let function = outgoing.function;
        if let Err(pause) = self.shared.breaker.admits(Instant::now) {
            return Reply::Ready(Err(self.fail_at_once(function, broken(pause))));
        }
        if bound.functions[function].as_ref().is_some_and(|function| function.again) {
            return self.make_twice(lease.for_later(), outgoing);
        }
        let begun = self.shared.meters.begin();
        let span = self.shared.recorder.begin();
        span.at(lease.log.recorder());
        match self.send(bound, &lease, outgoing, &span) {
            Inbound::Now(Ok(mut answer)) => {
                self.series[function].took_in(&self.shared.meters, begun, span.context());
                span.end_when_read(&self.series[function], &mut answer);
                // Before the answer is moved: what it was written with has reached memory by then.
                drop(lease);
                Reply::Ready(Ok(answer))
            }
            Inbound::Now(Err(cause)) => {
                self.series[function].took_in(&self.shared.meters, begun, span.context());
                span.end(&self.series[function], cause.status());
                Reply::Ready(Err(self.fail(Some(&lease), function, cause)))
            }
            Inbound::Later(later) => {
                let lease = lease.for_later();
                let name = self.name(function);
                let mut unanswered = Unanswered::new(&self.shared, &self.series[function], begun, span);
                Reply::Later(Box::pin(async move {
                    let mut answer = later.await;
                    unanswered.over_with(answer.as_mut().map_err(|cause| cause.status()));
                    // Before the hold is given back: whoever waits for that wants to know of this.
                    let answer = answer.map_err(|cause| unanswered.failure(&lease, &name, cause));
                    drop(lease);
                    answer
                }))
            }
        }
    }

    /// Makes a call that may be made again: once more on the next generation, if the plugin dies in it.
    fn make_twice(&self, first: Lease, outgoing: &Outgoing<'_>) -> Reply {
        self.later(outgoing, |this, call| async move {
            let begun = Instant::now();
            let answer = this.send_json(&first, &call).await;
            match answer {
                Err(Cause::Crashed { .. }) => {}
                answer => return answer.map_err(|cause| this.fail(Some(&first), call.function, cause)),
            }
            // It is counted by how it ends; that the plugin died is the keeper's to report.
            drop(first);
            this.send_in_time(&call, begun).await
        })
    }

    /// Makes a call as soon as there is a generation to make it.
    fn wait(&self, outgoing: &Outgoing<'_>) -> Reply {
        self.later(outgoing, |this, call| async move { this.send_in_time(&call, Instant::now()).await })
    }

    /// Makes a call that does not end with whoever began it. Its arguments are kept as JSON, which any
    /// generation understands.
    fn later<F>(&self, outgoing: &Outgoing<'_>, make: impl FnOnce(Arc<Self>, Kept) -> F) -> Reply
    where
        F: Future<Output = Result<Answer, Failure>> + Send + 'static,
    {
        let function = outgoing.function;
        let mut arguments = Vec::new();
        if let Err(error) = (outgoing.arguments)(Encoding::Json, &mut arguments) {
            return Reply::Ready(Err(self.fail_at_once(function, Cause::Refused { why: error.to_string() })));
        }
        let timeout = self.wanted.options.timeout.unwrap_or_else(|| self.shared.limits().call_timeout);
        let Some(this) = self.this.upgrade() else {
            // Whoever calls holds it.
            return Reply::Ready(Err(self.fail_at_once(function, Cause::Cancelled)));
        };
        let begun = self.shared.meters.begin();
        let span = self.shared.recorder.begin();
        let made = make(this, Kept { function, arguments, timeout, span: span.clone() });
        let mut unanswered = Unanswered::new(&self.shared, &self.series[function], begun, span);
        Reply::Later(Box::pin(InRuntime::new(self.shared.runtime.clone(), async move {
            // The whole of it, and not its flag alone.
            let unanswered = &mut unanswered;
            let mut answer = made.await;
            unanswered.over_with(answer.as_mut().map_err(|failure| failure.status()));
            answer
        })))
    }

    /// Makes a kept call on the current generation or the next.
    async fn send_in_time(&self, call: &Kept, begun: Instant) -> Result<Answer, Failure> {
        let left = call.timeout.saturating_sub(begun.elapsed());
        let lease = self.shared.lease_in_time(left).await.map_err(|cause| {
            let cause = match cause {
                Cause::Timeout { .. } => Cause::Timeout { after: call.timeout },
                cause => cause,
            };
            self.fail(None, call.function, cause)
        })?;
        let call = Kept { timeout: call.timeout.saturating_sub(begun.elapsed()), ..call.clone() };
        self.send_json(&lease, &call).await.map_err(|cause| self.fail(Some(&lease), call.function, cause))
    }

    async fn send_json(&self, lease: &Lease, call: &Kept) -> Result<Answer, Cause> {
        let bound = self.bind(lease.generation())?;
        let Some(function) = &bound.functions[call.function] else {
            return Err(Cause::Unimplemented { hint: String::new() });
        };
        call.span.at(lease.log.recorder());
        let inbound = lease.session.call(Outbound {
            interface: bound.interface,
            function: &function.name,
            encoding: Encoding::Json,
            arguments: Arguments::Encoded(call.arguments.clone().into()),
            timeout: call.timeout,
            trace: call.span.carried(),
            blocking: false,
        });
        match inbound {
            Inbound::Now(answer) => answer,
            Inbound::Later(later) => later.await,
        }
    }

    fn send(&self, bound: &Binding, generation: &Generation, outgoing: &Outgoing<'_>, span: &Span) -> Inbound {
        let Some(function) = &bound.functions[outgoing.function] else {
            return Inbound::Now(Err(Cause::Unimplemented { hint: String::new() }));
        };
        let whole = if function.whole { (outgoing.take)() } else { None };
        let arguments = match whole {
            Some(whole) => Arguments::Whole(whole),
            None => {
                let mut bytes = Buffer::new();
                if let Err(error) = (outgoing.arguments)(bound.encoding, &mut bytes) {
                    return Inbound::Now(Err(Cause::Refused { why: error.to_string() }));
                }
                Arguments::Encoded(bytes)
            }
        };
        generation.session.call(Outbound {
            interface: bound.interface,
            function: &function.name,
            encoding: bound.encoding,
            arguments,
            timeout: timeout_of(generation, &self.wanted.options),
            trace: span.carried(),
            blocking: outgoing.blocking,
        })
    }
}

/// A call that is kept until it can be made.
#[derive(Clone)]
struct Kept {
    function: usize,
    /// As JSON.
    arguments: Vec<u8>,
    /// Time for it.
    timeout: Duration,
    span: Span,
}

fn broken(pause: Duration) -> Cause {
    let why = format!("too many of its calls failed one after the other; the next is made in {pause:.1?}");
    Cause::Unavailable { why }
}

impl Caller for PluginCaller {
    fn call(&self, outgoing: Outgoing<'_>) -> Reply {
        if !self.replaced.load(Ordering::Relaxed) {
            if let Some(lease) = Lease::of(&self.first.generation) {
                return self.make(&self.first, lease, &outgoing);
            }
            self.replaced.store(true, Ordering::Relaxed);
        }
        let mut bound = self.binding.load();
        loop {
            if let Some(bound) = &*bound
                && let Some(lease) = Lease::of(&bound.generation)
            {
                return self.make(bound, lease, &outgoing);
            }
            // Its generation takes no more calls: the plugin has another by now, or will have, or was stopped.
            let anew = match self.shared.door() {
                Door::Open(generation) => self.bind(&generation),
                Door::Waits => return self.wait(&outgoing),
                Door::Shut(cause) => Err(cause),
            };
            match anew {
                Ok(anew) => bound = Guard::from_inner(Some(anew)),
                Err(cause) => return Reply::Ready(Err(self.fail_at_once(outgoing.function, cause))),
            }
        }
    }

    fn answered(&self, function: usize, ok: bool) {
        self.shared.answered(&self.series[function], ok);
    }

    fn undecodable(&self, function: usize, error: DecodeError) -> Failure {
        let what = format!("its answer is not what the interface says ({}): {error}", error.encoding);
        let later = self.binding.load();
        let bound = later.as_deref().unwrap_or(&self.first);
        self.fail(Some(&bound.generation), function, Cause::Protocol { what })
    }

    fn may_block(&self, function: usize) -> Result<(), Failure> {
        // A thread of a runtime that has no other must not wait for what that runtime is to do.
        let only_thread = Handle::try_current().is_ok_and(|current| {
            current.id() == self.shared.runtime.id()
                && (current.runtime_flavor() == RuntimeFlavor::CurrentThread || current.metrics().num_workers() < 2)
        });
        match only_thread {
            false => Ok(()),
            true => {
                let why = "a blocking call on the only thread of the host's runtime would wait for itself";
                Err(self.fail(None, function, Cause::Refused { why: why.to_owned() }))
            }
        }
    }
}

/// A future that finds the runtime of its host, whoever polls it: timers are made in it.
struct InRuntime<F> {
    runtime: Handle,
    future: Pin<Box<F>>,
}

impl<F> InRuntime<F> {
    fn new(runtime: Handle, future: F) -> Self {
        Self { runtime, future: Box::pin(future) }
    }
}

impl<F: Future> Future for InRuntime<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let _entered = this.runtime.enter();
        this.future.as_mut().poll(context)
    }
}

/// Counts a call as cancelled unless it ends otherwise.
struct Unanswered {
    shared: Arc<Shared>,
    series: Arc<Series>,
    begun: Begun,
    span: Span,
    over: bool,
}

impl Unanswered {
    fn new(shared: &Arc<Shared>, series: &Arc<Series>, begun: Begun, span: Span) -> Self {
        Self { shared: Arc::clone(shared), series: Arc::clone(series), begun, span, over: false }
    }

    /// It has ended like this.
    fn over(&mut self, status: Status) {
        self.over = true;
        self.series.took_in(&self.shared.meters, self.begun, self.span.context());
        self.span.end(&self.series, status);
    }

    /// It has ended with this answer, which is still to be read, or without one.
    fn over_with(&mut self, answer: Result<&mut Answer, Status>) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(status) => return self.over(status),
        };
        self.over = true;
        self.series.took_in(&self.shared.meters, self.begun, self.span.context());
        self.span.end_when_read(&self.series, answer);
    }

    fn failure(&self, lease: &Lease, function: &str, cause: Cause) -> Failure {
        self.shared.failure_of(Some(lease), &self.series, function, cause)
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if !self.over {
            self.over(Status::Cancelled);
            self.shared.record(&self.series, Status::Cancelled);
        }
    }
}

/// Calls a function by name, with JSON.
async fn call_dynamic(
    shared: &Arc<Shared>,
    options: &CallOptions,
    function: &str,
    arguments: Value,
) -> Result<Value, CallError<Value>> {
    // Of a call that the plugin is not asked.
    let fail = |cause: Cause| {
        shared.recorder.begin().end(&shared.meters.named(function), cause.status());
        CallError::Failed(shared.failure(None, function, cause))
    };
    let lease = match shared.lease() {
        Ok(lease) => lease,
        Err(_) => {
            let timeout = options.timeout.unwrap_or_else(|| shared.limits().call_timeout);
            shared.lease_in_time(timeout).await.map_err(fail)?
        }
    };
    shared.breaker.admits(Instant::now).map_err(|pause| fail(broken(pause)))?;
    let timeout = timeout_of(&lease, options);
    let found = match find(&lease, function) {
        Ok(found) => found,
        Err(cause) => {
            return match exchange::find(&lease.about, function) {
                Some(method) => exchange::one(shared, lease, timeout, function, method, arguments).await,
                None if lease.about.interfaces.is_empty() => Err(fail(exchange::unknown(&lease.about, function))),
                None => Err(fail(cause)),
            };
        }
    };
    let method = format!("{}.{}", found.offered.id.name, found.function);
    // Without a description, the name is the caller's.
    let series = match found.offered.description {
        Some(_) => shared.meters.method(&method),
        None => shared.meters.named(&method),
    };
    let (begun, span) = (shared.meters.begin(), shared.recorder.begin());
    span.at(lease.log.recorder());
    let context = span.context();
    let mut unanswered = Unanswered::new(shared, &series, begun, span);
    let answer = ask_found(&lease, found, &arguments, timeout, context).await;
    unanswered.over(match &answer {
        Ok(Ok(_)) => Status::Ok,
        Ok(Err(_)) => Status::Error,
        Err(cause) => cause.status(),
    });
    match answer {
        Ok(Ok(value)) => {
            shared.answered(&series, true);
            Ok(value)
        }
        Ok(Err(own)) => {
            shared.answered(&series, false);
            Err(CallError::Plugin(own))
        }
        Err(cause) => Err(CallError::Failed(unanswered.failure(&lease, function, cause))),
    }
}

/// Asks one generation a function of its interfaces, by name and with JSON. `Ok(Err(_))` is its own error. Counts
/// nothing: whoever asks may be the host itself.
pub(crate) async fn ask(
    generation: &Generation,
    function: &str,
    arguments: &Value,
    timeout: Duration,
) -> Result<Result<Value, Value>, Cause> {
    let context = trace::current();
    // What it records of this is within the step that it is asked for.
    let _asked = generation.log.recorder().ask(context);
    ask_found(generation, find(generation, function)?, arguments, timeout, context).await
}

async fn ask_found(
    generation: &Generation,
    found: Found<'_>,
    arguments: &Value,
    timeout: Duration,
    trace: Option<TraceContext>,
) -> Result<Result<Value, Value>, Cause> {
    let described = found.offered.description.clone();
    let known = described.as_deref().and_then(|interface| Some((interface, interface.function(&found.function)?.1)));
    let arguments = match known {
        Some((interface, function)) => dynamic::check_arguments(interface, function, arguments)
            .map_err(|error| Cause::Refused { why: error.to_string() })?,
        None if arguments.is_object() => arguments.clone(),
        None => {
            let why = "without a description of the interface, arguments are given by name: an object";
            return Err(Cause::Refused { why: why.to_owned() });
        }
    };
    let mut encoded = Buffer::new();
    serde_json::to_writer(&mut *encoded, &arguments).map_err(|error| Cause::Refused { why: error.to_string() })?;
    let inbound = generation.session.call(Outbound {
        interface: found.interface,
        function: &FunctionName { name: found.function.into(), position: found.position },
        encoding: Encoding::Json,
        arguments: Arguments::Encoded(encoded),
        timeout,
        trace: trace.as_ref(),
        blocking: false,
    });
    let answer = match inbound {
        Inbound::Now(answer) => answer,
        Inbound::Later(later) => later.await,
    }?;
    let value: Value = serde_json::from_slice(&answer.bytes())
        .map_err(|error| Cause::Protocol { what: format!("its answer is not JSON: {error}") })?;
    let value = match known {
        None => value,
        Some((interface, function)) => {
            let ty = if answer.ok { Some(function.ok()) } else { function.err().cloned() };
            let checked = ty.map(|ty| dynamic::check_value(interface, &ty, &value, "answer"));
            match checked {
                Some(Ok(value)) => value,
                Some(Err(error)) => {
                    let what = format!("its answer is not what its interface says: {error}");
                    return Err(Cause::Protocol { what });
                }
                None => {
                    let what = format!("`{}` has no error of its own, and it gave {value}", function.name);
                    return Err(Cause::Protocol { what });
                }
            }
        }
    };
    Ok(if answer.ok { Ok(value) } else { Err(value) })
}

fn timeout_of(generation: &Generation, options: &CallOptions) -> Duration {
    options.timeout.unwrap_or(generation.identity.limits.call_timeout)
}

struct Found<'a> {
    interface: usize,
    offered: &'a Offered,
    /// As the plugin knows it.
    function: String,
    position: Option<u32>,
}

/// Finds `greet`, `greeter.greet` or `demo:greeter/greeter.greet` among what a plugin offers.
fn find<'a>(generation: &'a Generation, written: &str) -> Result<Found<'a>, Cause> {
    let (interface, function) = match written.rsplit_once('.') {
        Some((interface, function)) => (Some(interface), function),
        None => (None, written),
    };
    let offered = generation.about.interfaces.iter().enumerate();
    let candidates: Vec<_> = offered
        .filter(|(_, offered)| {
            let name = |interface: &str| offered.id.name == interface || offered.id.unversioned() == interface;
            interface.is_none_or(name)
        })
        .collect();
    if let (Some(interface), true) = (interface, candidates.is_empty()) {
        let names: Vec<_> = generation.about.interfaces.iter().map(|offered| offered.id.unversioned()).collect();
        let why = format!("it offers no interface `{interface}`; it offers {}", names.join(", "));
        return Err(Cause::Refused { why });
    }
    let mut found: Vec<Found<'a>> = candidates
        .iter()
        .filter_map(|(at, offered)| {
            let known = |described: &Arc<Interface>| {
                let (position, function) = described.function(function)?;
                Some((function.name.clone(), u32::try_from(position).ok()))
            };
            let (function, position) = match &offered.description {
                Some(described) => known(described)?,
                None => (function.to_owned(), None),
            };
            Some(Found { interface: *at, offered, function, position })
        })
        .collect();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            let names = candidates.iter().filter_map(|(_, offered)| offered.description.as_ref());
            let names: Vec<_> =
                names.flat_map(|known| known.functions.iter().map(|known| known.name.clone())).collect();
            let hint = match nearest(function, names.iter().map(String::as_str)) {
                Some(near) => format!("; did you mean `{near}`?"),
                None => format!("; it has {}", names.join(", ")),
            };
            Err(Cause::Unimplemented { hint })
        }
        _ => {
            let names: Vec<_> =
                found.iter().map(|found| format!("`{}.{}`", found.offered.id.unversioned(), found.function)).collect();
            Err(Cause::Refused { why: format!("several interfaces have `{function}`: {}", names.join(", ")) })
        }
    }
}
