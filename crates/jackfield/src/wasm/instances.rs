//! Instances: how many there are, which one makes a call, and what becomes of it.
//!
//! An instance makes one call at a time. A call takes an idle one or has one made, and gives it back when it
//! ended well; one that trapped, ran out of time or was cancelled is thrown away with everything it held,
//! and the next call gets a new one. Calls that find all of them busy wait for their turn, in order.

use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use jackfield_protocol::call::Cause;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use wasmtime::Engine;

use super::extism;
use super::guest::{Guest, Watch};
use super::kind::{Live, Plugin};
use super::{WasmError, grants, left, trap};
use crate::log::PluginLog;
use crate::manifest::{Instances as Policy, PoolSpec};
use crate::mechanism::{About, Spec};

/// Makes instances of one plugin.
pub(super) struct Maker {
    engine: Engine,
    spec: Arc<Spec>,
    log: Arc<PluginLog>,
    extism: extism::State,
    /// Made instances may wait for the host, on whatever thread they are waited for.
    runtime: Handle,
}

/// The first instance, which was asked who it is.
pub(super) struct First {
    pub(super) about: About,
    live: Live,
}

impl First {
    pub(super) fn into_live(self) -> Live {
        self.live
    }
}

impl Maker {
    pub(super) fn new(engine: Engine, spec: Arc<Spec>, log: Arc<PluginLog>, plugin: &Plugin, runtime: &Handle) -> Self {
        Self { engine, spec, log, extism: plugin.extism_state(), runtime: runtime.clone() }
    }

    /// Makes the first instance and asks it who it is, both within `start_timeout`.
    pub(super) async fn first(&self, plugin: &mut Plugin) -> Result<First, WasmError> {
        let timeout = self.spec.limits.start_timeout;
        let begun = Instant::now();
        let mut live = self.make(plugin, timeout).await.map_err(|error| match error {
            MakeError::Grant(error) => error,
            MakeError::Start(cause) => WasmError::Start { cause },
        })?;
        let watch = Arc::clone(live.watch());
        let remaining = left(timeout, begun);
        watch.begin(remaining);
        let described = within(remaining, &self.runtime, plugin.describe(&mut live, &self.spec)).await;
        let about = described.unwrap_or(Err(WasmError::Start { cause: Cause::Timeout { after: timeout } }))?;
        watch.rest();
        Ok(First { about, live })
    }

    /// Makes an instance within a time.
    async fn make(&self, plugin: &Plugin, timeout: Duration) -> Result<Live, MakeError> {
        let watch = Watch::new(Arc::clone(&self.log), self.spec.limits.log_bytes_max);
        let wasi = grants::wasi(&self.spec, &watch).map_err(MakeError::Grant)?.build_p1();
        watch.begin(timeout);
        let broken = |error: wasmtime::Error| MakeError::Start(trap::cause(&error, watch.take_notes(), timeout));
        let store = Guest::store(&self.engine, &self.spec.limits, wasi, self.extism.clone(), Arc::clone(&watch));
        let store = store.map_err(broken)?;
        match within(timeout, &self.runtime, plugin.instantiate(store)).await {
            Some(made) => {
                let live = made.map_err(broken)?;
                watch.rest();
                Ok(live)
            }
            None => Err(MakeError::Start(Cause::Timeout { after: timeout })),
        }
    }
}

enum MakeError {
    Grant(WasmError),
    Start(Cause),
}

/// The instances of a plugin.
pub(super) struct Instances {
    plugin: Plugin,
    maker: Maker,
    /// One permit for each instance that may run.
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    /// Whether nothing that the plugin imports waits, so that a call may keep its thread.
    runs_here: bool,
    /// Instances that may wait for calls.
    idle_max: usize,
    calls_max: Option<u64>,
    /// Calls that run or wait.
    calls: AtomicUsize,
    /// Bytes of their arguments.
    bytes: AtomicUsize,
    /// Instances that exist, and that were ever made.
    alive: Arc<AtomicUsize>,
    made: AtomicU64,
    closed: AtomicBool,
}

/// An instance that waits for a call.
struct Idle {
    /// On the heap, for it is handed from one to the other several times in a call.
    live: Box<Live>,
    calls: u64,
    since: Instant,
    _alive: Alive,
}

/// Counts an instance for as long as it exists.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Instances {
    pub(super) fn new(plugin: Plugin, maker: Maker, first: Live) -> Arc<Self> {
        let limits = &maker.spec.limits;
        let (running_max, idle_max, pool) = match &maker.spec.wasm.instances {
            Policy::Shared => (1, 1, None),
            Policy::Fresh => (limits.calls_in_flight_max, 0, None),
            Policy::Pool(pool) => (pool.max, pool.max, Some(pool.clone())),
        };
        let alive = Arc::new(AtomicUsize::new(0));
        let instances = Arc::new(Self {
            plugin,
            turns: Arc::new(Semaphore::new(running_max.min(Semaphore::MAX_PERMITS))),
            idle: Mutex::new(Vec::new()),
            runs_here: first.runs_here(),
            idle_max,
            calls_max: pool.as_ref().and_then(|pool| pool.max_calls),
            calls: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            made: AtomicU64::new(1),
            closed: AtomicBool::new(false),
            maker,
            alive: Arc::clone(&alive),
        });
        instances.keep(Idle { live: Box::new(first), calls: 0, since: Instant::now(), _alive: Alive::new(&alive) });
        if let Some(PoolSpec { idle, .. }) = pool {
            instances.runtime().spawn(forget_idle(Arc::downgrade(&instances), idle));
        }
        instances
    }

    pub(super) fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.maker.runtime
    }

    /// Lets one more call in, unless as many as may be run or wait.
    pub(super) fn admit<I: Deref<Target = Self>>(this: I, bytes: usize) -> Result<Admitted<I>, Cause> {
        let limits = &this.maker.spec.limits;
        let calls = this.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let all = this.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let (calls_max, bytes_max) = (limits.calls_in_flight_max, limits.call_bytes_in_flight_max);
        let admitted = Admitted { instances: this, bytes };
        if calls > calls_max {
            let what = format!("{calls_max} calls run or wait already");
            return Err(Cause::Limit { limit: "calls_in_flight", what });
        }
        if all > bytes_max {
            let what = format!("the arguments of all calls would be {all} bytes of {bytes_max} allowed");
            return Err(Cause::Limit { limit: "call_bytes_in_flight", what });
        }
        Ok(admitted)
    }

    /// Takes an idle instance for a call that keeps this thread, if there is one in which nothing waits.
    pub(super) fn take_here(&self) -> Option<Lent<&Self, SemaphorePermit<'_>>> {
        let turn = if self.runs_here { self.turns.try_acquire().ok()? } else { return None };
        let idle = self.idle().pop()?;
        Some(Lent { instances: self, idle: Some(idle), _turn: turn })
    }

    /// Takes an idle instance, if there is one and nobody waits for it.
    pub(super) fn take_now(self: &Arc<Self>) -> Option<Lent> {
        let turn = Arc::clone(&self.turns).try_acquire_owned().ok()?;
        let idle = self.idle().pop()?;
        Some(Lent { instances: Arc::clone(self), idle: Some(idle), _turn: turn })
    }

    /// Waits for an instance, or has one made.
    pub(super) async fn take(self: &Arc<Self>, timeout: Duration) -> Result<Lent, Cause> {
        let begun = Instant::now();
        let turn = within(timeout, self.runtime(), Arc::clone(&self.turns).acquire_owned()).await;
        let Some(Ok(turn)) = turn else {
            return Err(match self.is_closed() {
                true => stopped(),
                false => Cause::Timeout { after: timeout },
            });
        };
        let idle = self.idle().pop();
        let idle = match idle {
            Some(idle) => idle,
            None => self.make(turn_time(self.maker.spec.limits.start_timeout, left(timeout, begun))).await?,
        };
        Ok(Lent { instances: Arc::clone(self), idle: Some(idle), _turn: turn })
    }

    async fn make(&self, timeout: Duration) -> Result<Idle, Cause> {
        if self.is_closed() {
            return Err(stopped());
        }
        let alive = Alive::new(&self.alive);
        let live = self.maker.make(&self.plugin, timeout).await.map_err(|error| match error {
            MakeError::Grant(error) => Cause::Unavailable { why: error.to_string() },
            MakeError::Start(cause) => cause,
        })?;
        self.made.fetch_add(1, Ordering::Relaxed);
        Ok(Idle { live: Box::new(live), calls: 0, since: Instant::now(), _alive: alive })
    }

    /// Ends every idle instance, and every other when its call is over.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.turns.close();
        let idle = std::mem::take(&mut *self.idle());
        // Outside the lock: what an instance holds may take its time to go.
        drop(idle);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn keep(&self, idle: Idle) {
        let worn = self.calls_max.is_some_and(|max| idle.calls >= max) || idle.live.spent();
        let mut all = self.idle();
        if !worn && !self.is_closed() && all.len() < self.idle_max {
            all.push(idle);
        } else {
            drop(all);
            drop(idle);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that was let in.
pub(super) struct Admitted<I: Deref<Target = Instances> = Arc<Instances>> {
    instances: I,
    bytes: usize,
}

impl Admitted {
    pub(super) fn instances(&self) -> &Arc<Instances> {
        &self.instances
    }
}

impl<I: Deref<Target = Instances>> Drop for Admitted<I> {
    fn drop(&mut self) {
        self.instances.calls.fetch_sub(1, Ordering::Relaxed);
        self.instances.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// An instance, for one call. Dropped without [`Lent::give_back`], the instance is gone.
pub(super) struct Lent<I = Arc<Instances>, P = OwnedSemaphorePermit> {
    instances: I,
    idle: Option<Idle>,
    _turn: P,
}

impl<I: Deref<Target = Instances>, P> Lent<I, P> {
    pub(super) fn live(&mut self) -> &mut Live {
        match &mut self.idle {
            Some(idle) => &mut idle.live,
            None => unreachable!("an instance is lent until it is given back"),
        }
    }

    /// The call ended well.
    pub(super) fn give_back(mut self) {
        if let Some(mut idle) = self.idle.take() {
            idle.calls += 1;
            self.instances.keep(idle);
        }
    }
}

/// Lets go of instances that no call has wanted for `idle`.
async fn forget_idle(instances: std::sync::Weak<Instances>, idle: Duration) {
    loop {
        tokio::time::sleep(idle).await;
        let Some(instances) = instances.upgrade().filter(|instances| !instances.is_closed()) else { return };
        let mut old = Vec::new();
        let mut all = instances.idle();
        // The last one used is at the end, and the first that is used again.
        while all.first().is_some_and(|first| first.since.elapsed() >= idle) {
            old.push(all.remove(0));
        }
        drop(all);
    }
}

fn stopped() -> Cause {
    Cause::Unavailable { why: "it was stopped".to_owned() }
}

/// Making an instance is part of the call that wants it, and has no more time than that.
fn turn_time(start: Duration, call: Duration) -> Duration {
    start.min(call)
}

/// Runs a future for at most `timeout`; a clock is started only if it is not ready at once. May be polled
/// on any thread: what the future waits for is `runtime`'s.
pub(super) async fn within<F: Future>(timeout: Duration, runtime: &Handle, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut clock = None;
    poll_fn(|context| {
        let _entered = runtime.enter();
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        let clock = clock.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        clock.as_mut().poll(context).map(|()| None)
    })
    .await
}
