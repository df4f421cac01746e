//! Talks to a WebAssembly plugin: on the caller's thread, as long as the call is short.
//!
//! A call is begun where it is made. Most are over before the first tick of the clock, and then nothing was
//! handed to another thread; one that takes longer gives the thread back at each tick, and goes on where it
//! is awaited.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use jackfield_protocol::call::{Answer, Cause};
use jackfield_protocol::{Encoding, TraceContext};

use super::instances::{Admitted, First, Instances, Maker, within};
use super::kind::{Ended, Live, Passed, Plugin, Request};
use super::trap;
use crate::mechanism::{self, About, Arguments, Boxed, FunctionName, Inbound, Outbound, Session, Spec};

pub(super) struct WasmSession {
    about: About,
    instances: Arc<Instances>,
    answer_bytes_max: usize,
    fuel: Option<u64>,
    /// Why calls under way end before they are over.
    killed: mechanism::Over,
}

impl WasmSession {
    pub(super) fn new(spec: Arc<Spec>, plugin: Plugin, maker: Maker, first: First) -> Self {
        let mut about = first.about.clone();
        if about.speaks.is_empty() {
            about.speaks = plugin.speaks().to_owned();
        }
        Self {
            about,
            instances: Instances::new(plugin, maker, first.into_live()),
            answer_bytes_max: usize::try_from(spec.limits.answer_bytes_max).unwrap_or(usize::MAX),
            fuel: spec.limits.fuel_max,
            killed: mechanism::Over::new(None),
        }
    }
}

impl Session for WasmSession {
    fn about(&self) -> &About {
        &self.about
    }

    fn call(&self, outbound: Outbound<'_>) -> Inbound {
        if let Some(why) = self.ended() {
            return Inbound::Now(Err(Cause::Unavailable { why }));
        }
        let Some(function) = self.instances.plugin().function(outbound.interface, outbound.function) else {
            return Inbound::Now(Err(Cause::Unimplemented { hint: String::new() }));
        };
        // A call that is traced is longer by what is said before and after it.
        if outbound.blocking && outbound.trace.is_none() && self.instances.runs_here() {
            match Instances::admit(&*self.instances, outbound.arguments.len()) {
                Ok(mut admitted) => {
                    if admitted.live().is_some() {
                        return self.make_here(admitted, function, &outbound);
                    }
                }
                Err(cause) => return Inbound::Now(Err(cause)),
            }
        }
        self.begin(function, outbound)
    }

    fn takes_whole(&self, interface: usize, function: &FunctionName) -> bool {
        let plugin = self.instances.plugin();
        plugin.function(interface, function).is_some_and(|function| plugin.takes_whole(function))
    }

    fn ended(&self) -> Option<String> {
        self.instances.is_closed().then(|| "it was stopped".to_owned())
    }

    fn stop(&self, _idle: bool) -> Boxed<'_, ()> {
        Box::pin(async { self.instances.close() })
    }

    fn kill(&self, cause: Cause) {
        mechanism::finish(&self.killed, cause.into());
        self.instances.close();
    }

    fn process(&self) -> Option<u32> {
        None
    }
}

impl WasmSession {
    /// Makes a call whose caller waits on this thread, in an instance in which nothing waits: without a stack of
    /// its own, or anything else on the heap. The call has its instance.
    #[inline]
    fn make_here(&self, mut admitted: Admitted<&Instances>, function: usize, outbound: &Outbound<'_>) -> Inbound {
        let Some(live) = admitted.live() else { unreachable!("it was looked at") };
        live.watch().begin_here(outbound.timeout);
        let request = Request {
            function,
            encoding: outbound.encoding,
            arguments: Passed::of(&outbound.arguments),
            answer_bytes_max: self.answer_bytes_max,
            timeout: outbound.timeout,
            trace: None,
        };
        let ended = match refuel(live, self.fuel) {
            Ok(()) => live.call_here(&request),
            Err(error) => Ended::Broken(error),
        };
        let error = match ended {
            Ended::Well(answer) => {
                // Before the answer is moved: what it was written with has reached memory by then.
                admitted.give_back();
                return Inbound::Now(answer);
            }
            Ended::Broken(error) => error,
        };
        Inbound::Now(Err(trap::cause(&error, live.watch().take_notes(), outbound.timeout)))
    }

    /// Begins a call that may be left for a while. Apart from the call that may not, whose way is shorter.
    #[inline(never)]
    fn begin(&self, function: usize, outbound: Outbound<'_>) -> Inbound {
        let admitted = match Instances::admit(Arc::clone(&self.instances), outbound.arguments.len()) {
            Ok(admitted) => admitted,
            Err(cause) => return Inbound::Now(Err(cause)),
        };
        let call = Call {
            function,
            encoding: outbound.encoding,
            arguments: outbound.arguments,
            answer_bytes_max: self.answer_bytes_max,
            fuel: self.fuel,
            timeout: outbound.timeout,
            trace: outbound.trace.copied(),
        };
        let mut made: Boxed<'static, _> = Box::pin(make(admitted, call));
        // Nobody is woken by this first look, and nobody has to be: whoever waits looks again.
        match made.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Inbound::Now(answer),
            Poll::Pending => {
                let killed = mechanism::over(&self.killed);
                Inbound::Later(Box::pin(async {
                    tokio::select! {
                        answer = made => answer,
                        death = killed => Err(death.cause),
                    }
                }))
            }
        }
    }
}

struct Call {
    function: usize,
    encoding: Encoding,
    arguments: Arguments,
    answer_bytes_max: usize,
    fuel: Option<u64>,
    timeout: Duration,
    trace: Option<TraceContext>,
}

impl Call {
    fn request(&self, timeout: Duration) -> Request<'_> {
        Request {
            function: self.function,
            encoding: self.encoding,
            arguments: Passed::of(&self.arguments),
            answer_bytes_max: self.answer_bytes_max,
            timeout,
            trace: self.trace,
        }
    }
}

/// Gives the instance the fuel for a call, where there is a limit.
#[inline]
fn refuel(live: &mut Live, fuel: Option<u64>) -> wasmtime::Result<()> {
    fuel.map_or(Ok(()), |fuel| live.refuel(fuel))
}

/// Makes a call in an instance, the one it was given or the next that is free.
async fn make(mut admitted: Admitted, call: Call) -> Result<Answer, Cause> {
    let mut timeout = call.timeout;
    if admitted.live().is_none() {
        let begun = std::time::Instant::now();
        admitted.take(timeout).await?;
        timeout = super::left(timeout, begun);
    }
    let Some((live, runtime)) = admitted.live_and_runtime() else { unreachable!("it was taken above") };
    live.watch().begin(timeout);
    if call.trace.is_some() {
        live.watch().carry(call.trace);
    }
    let ended = match refuel(live, call.fuel) {
        Ok(()) => within(timeout, runtime, live.call(&call.request(timeout))).await,
        Err(error) => Some(Ended::Broken(error)),
    };
    let watch = live.watch();
    match ended {
        Some(Ended::Well(answer)) => {
            watch.rest();
            if call.trace.is_some() {
                watch.carry(None);
            }
            admitted.give_back();
            answer
        }
        Some(Ended::Broken(error)) => Err(trap::cause(&error, watch.take_notes(), call.timeout)),
        None => Err(Cause::Timeout { after: call.timeout }),
    }
}
