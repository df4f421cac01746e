//! Instances: how many there are, which one makes a call, and what becomes of it.
//!
//! An instance makes one call at a time. A call takes an idle one or has one made, and gives it back when it
//! ended well; one that trapped, ran out of time or was cancelled is thrown away with everything it held,
//! and the next call gets a new one. Calls that find all of them busy wait for their turn, in order.
//!
//! One idle instance lies ready at hand, where calls look first: its turn, its place among the calls and the room
//! for its arguments are paid for as long as it exists, so that a call that takes it and puts it back counts
//! nothing and locks nothing.

use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use jackfield_protocol::call::Cause;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use wasmtime::Engine;

use super::extism;
use super::guest::{Guest, Watch};
use super::kind::{Live, Plugin};
use super::slot::Slot;
use super::{WasmError, grants, left, trap};
use crate::limits::Limits;
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
    /// Whether nothing that the plugin imports waits, so that a call may keep its thread.
    runs_here: bool,
    /// Instances that may run, and that may wait for calls.
    running_max: usize,
    idle_max: usize,
    calls_max: Option<u64>,
    /// Whether an instance may be paid for.
    pays: bool,
    /// The one that is, while no call has it.
    ready: Slot<Idle>,
    desk: Mutex<Desk>,
    /// Turns that were handed to calls that wait, until these take them up. Such a call does not count as
    /// [waiting](Desk::waiting) any more.
    turns: Semaphore,
    /// Instances that exist, and that were ever made.
    alive: Arc<AtomicUsize>,
    made: AtomicU64,
    closed: AtomicBool,
}

/// What calls change when they come and when they go, but for those that the ready instance makes. All of it lies
/// under one lock, which a call takes twice: one lock is cheaper than a few counters that are atomic each for itself.
#[derive(Default)]
struct Desk {
    /// The one used last is at the end.
    #[expect(clippy::vec_box, reason = "a box is handed from one to the other several times in a call")]
    idle: Vec<Box<Idle>>,
    /// Turns that are taken: instances that run or are being made, and the one that is paid for.
    running: usize,
    /// Calls that wait for a turn. While there are any, all turns are taken.
    waiting: usize,
    /// Calls that run or wait; the instance that is paid for counts as one.
    calls: usize,
    /// Bytes of their arguments, and [`PAID_BYTES`] for the instance that is paid for.
    bytes: usize,
    /// Whether there is one that is paid for: it is [ready](Instances::ready), or a call has it.
    paid: bool,
    /// How often it was looked for instances that nobody wants.
    looks: u64,
}

/// Bytes of arguments that are paid for with an instance. A call that has more of them counts them itself.
const PAID_BYTES: usize = 4 << 10;

/// Of all bytes that there may be, so much that these make no difference.
const PAID_BYTES_OF: usize = 16 * PAID_BYTES;

/// An instance that waits for a call.
struct Idle {
    live: Live,
    calls: u64,
    /// Of [`Desk::looks`], when it was put back.
    since: u64,
    /// Of `calls`, when it was looked at last while it was ready.
    seen: Option<u64>,
    _alive: Alive,
}

impl Idle {
    fn new(live: Live, alive: Alive) -> Box<Self> {
        Box::new(Self { live, calls: 0, since: 0, seen: None, _alive: alive })
    }
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
        let runs_here = first.runs_here();
        let pays = idle_max > 0 && limits.calls_in_flight_max > 0 && limits.call_bytes_in_flight_max >= PAID_BYTES_OF;
        let instances = Arc::new(Self {
            plugin,
            runs_here,
            running_max,
            idle_max,
            calls_max: pool.as_ref().and_then(|pool| pool.max_calls),
            pays,
            ready: Slot::empty(),
            desk: Mutex::default(),
            turns: Semaphore::new(0),
            made: AtomicU64::new(1),
            closed: AtomicBool::new(false),
            maker,
            alive: Arc::default(),
        });
        // The one that was made to ask it who it is makes the first call, if any may wait for that.
        if idle_max > 0 {
            let idle = Idle::new(first, Alive::new(&instances.alive));
            let mut desk = instances.desk();
            (desk.calls, desk.running) = (1, 1);
            if !matches!(instances.put_back(&mut desk, idle, 0), Back::Ready) {
                (desk.calls, desk.running) = (0, 0);
            }
        }
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

    /// Whether a call may keep its thread: nothing in an instance waits.
    pub(super) fn runs_here(&self) -> bool {
        self.runs_here
    }

    /// Lets one more call in, unless as many as may be run or wait, and gives it an idle instance if there is
    /// one that nobody waits for.
    #[inline]
    pub(super) fn admit<I: Deref<Target = Self>>(this: I, bytes: usize) -> Result<Admitted<I>, Cause> {
        match this.ready.take() {
            Some(idle) if bytes <= PAID_BYTES => {
                Ok(Admitted { instances: this, calls: 0, bytes: 0, holds: Holds::Paid(idle), well: false })
            }
            ready => Self::admit_counted(this, ready, bytes),
        }
    }

    /// The same, where something has to be counted.
    fn admit_counted<I: Deref<Target = Self>>(
        this: I,
        ready: Option<Box<Idle>>,
        bytes: usize,
    ) -> Result<Admitted<I>, Cause> {
        let mut desk = this.desk();
        let calls = usize::from(ready.is_none());
        if let Err(cause) = desk.count(calls, bytes, &this.maker.spec.limits) {
            drop(desk);
            if let Some(idle) = ready {
                this.put_ready(idle);
            }
            return Err(cause);
        }
        let holds = match ready {
            Some(idle) => Holds::Paid(idle),
            None if desk.running < this.running_max => {
                desk.running += 1;
                desk.idle.pop().map_or(Holds::Turn, Holds::Instance)
            }
            None => Holds::Nothing,
        };
        drop(desk);
        Ok(Admitted { instances: this, calls, bytes, holds, well: false })
    }

    async fn make(&self, timeout: Duration) -> Result<Box<Idle>, Cause> {
        if self.is_closed() {
            return Err(stopped());
        }
        let alive = Alive::new(&self.alive);
        let live = self.maker.make(&self.plugin, timeout).await.map_err(|error| match error {
            MakeError::Grant(error) => Cause::Unavailable { why: error.to_string() },
            MakeError::Start(cause) => cause,
        })?;
        self.made.fetch_add(1, Ordering::Relaxed);
        Ok(Idle::new(live, alive))
    }

    /// Ends every idle instance, and every other when its call is over.
    pub(super) fn close(&self) {
        let mut desk = self.desk();
        self.closed.store(true, Ordering::Release);
        self.turns.close();
        let idle = std::mem::take(&mut desk.idle);
        // A call that has it is told of this when it puts it back.
        let ready = self.ready.want();
        if ready.is_some() {
            self.unpay(&mut desk);
        }
        drop(desk);
        // Outside the lock: what an instance holds may take its time to go.
        drop((idle, ready));
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    #[inline]
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an instance makes no more calls.
    #[inline]
    fn is_worn(&self, idle: &Idle) -> bool {
        self.calls_max.is_some_and(|max| idle.calls >= max) || idle.live.spent() || self.is_closed()
    }

    /// Puts the instance of a call that was counted back, with `bytes` of arguments.
    fn put_back(&self, desk: &mut Desk, mut idle: Box<Idle>, bytes: usize) -> Back {
        if self.is_worn(&idle) || desk.idle.len() >= self.idle_max {
            return Back::Worn(idle);
        }
        let room = self.maker.spec.limits.call_bytes_in_flight_max - (desk.bytes - bytes);
        if self.pays && !desk.paid && desk.waiting == 0 && room >= PAID_BYTES {
            desk.paid = true;
            desk.bytes = desk.bytes - bytes + PAID_BYTES;
            // Nobody waits, and whoever comes to wait has to have the desk before.
            self.ready.put(idle);
            return Back::Ready;
        }
        idle.since = desk.looks;
        desk.idle.push(idle);
        Back::Idle
    }

    /// Puts the instance that is paid for back to where calls look first; or hands it to a call that waits.
    #[inline]
    fn put_ready(&self, idle: Box<Idle>) {
        if self.ready.is_wanted() {
            self.hand_over(Some(idle));
        } else if self.ready.put(idle) {
            self.hand_over(None);
        }
    }

    /// The same, where somebody has left word that it is wanted; none if it was put back already.
    #[cold]
    fn hand_over(&self, idle: Option<Box<Idle>>) {
        let mut desk = self.desk();
        let closed = self.is_closed();
        if desk.waiting == 0 && !closed {
            // Whoever wanted it has another by now, or gave up.
            if let Some(idle) = idle {
                self.ready.put(idle);
            }
            return;
        }
        // If yet another call has taken it, that one finds the word.
        let Some(idle) = idle.or_else(|| self.ready.want()) else { return };
        if closed {
            self.unpay(&mut desk);
            drop(desk);
            drop(idle);
            return;
        }
        desk.idle.push(idle);
        self.unpay(&mut desk);
    }

    /// There is none any more that is paid for.
    fn unpay(&self, desk: &mut Desk) {
        desk.paid = false;
        desk.calls -= 1;
        desk.bytes -= PAID_BYTES;
        self.end_turn(desk);
    }

    /// Hands a turn on to the call that has waited longest.
    #[inline]
    fn end_turn(&self, desk: &mut Desk) {
        match desk.waiting {
            0 => desk.running -= 1,
            _ => {
                desk.waiting -= 1;
                // Under the lock, so that a call that gives up waiting finds the turn that it was handed.
                self.turns.add_permits(1);
            }
        }
    }
}

impl Desk {
    /// Counts what comes, unless it is more than may be.
    fn count(&mut self, calls: usize, bytes: usize, limits: &Limits) -> Result<(), Cause> {
        let (calls_max, bytes_max) = (limits.calls_in_flight_max, limits.call_bytes_in_flight_max);
        if calls > 0 && self.calls >= calls_max {
            let what = format!("{calls_max} calls run or wait already");
            return Err(Cause::Limit { limit: "calls_in_flight", what });
        }
        let all = self.bytes.saturating_add(bytes);
        if all > bytes_max {
            let what = format!("the arguments of all calls would be {all} bytes of {bytes_max} allowed");
            return Err(Cause::Limit { limit: "call_bytes_in_flight", what });
        }
        self.calls += calls;
        self.bytes = all;
        Ok(())
    }
}

/// Where an instance went.
enum Back {
    /// It is paid for, with what its call had paid.
    Ready,
    Idle,
    /// Nowhere: it makes no more calls, or there are enough.
    Worn(Box<Idle>),
}

/// A call that was let in, with what it has of an instance by now. Dropped without
/// [`Admitted::give_back`], the instance is gone.
pub(super) struct Admitted<I: Deref<Target = Instances> = Arc<Instances>> {
    instances: I,
    /// What it has counted at the desk: itself, and the bytes of its arguments.
    calls: usize,
    bytes: usize,
    holds: Holds,
    /// Whether the call ended well, so that its instance may make another.
    well: bool,
}

/// What a call has.
enum Holds {
    /// It has to wait for its turn.
    Nothing,
    /// It may have an instance made.
    Turn,
    Instance(Box<Idle>),
    /// The one that is paid for.
    Paid(Box<Idle>),
}

impl<I: Deref<Target = Instances>> Admitted<I> {
    /// The instance, once there is one.
    #[inline]
    pub(super) fn live(&mut self) -> Option<&mut Live> {
        self.live_and_runtime().map(|(live, _)| live)
    }

    /// The instance, and where it may wait.
    #[inline]
    pub(super) fn live_and_runtime(&mut self) -> Option<(&mut Live, &Handle)> {
        match &mut self.holds {
            Holds::Instance(idle) | Holds::Paid(idle) => Some((&mut idle.live, self.instances.runtime())),
            Holds::Nothing | Holds::Turn => None,
        }
    }

    /// Waits for an instance, or has one made.
    pub(super) async fn take(&mut self, timeout: Duration) -> Result<(), Cause> {
        let begun = Instant::now();
        let instances = &*self.instances;
        if let Holds::Nothing = self.holds {
            self.holds = match Wait::begin(instances) {
                Err(holds) => holds,
                Ok(wait) => match within(timeout, instances.runtime(), wait.turn()).await {
                    Some(true) => Holds::Turn,
                    Some(false) => return Err(stopped()),
                    None => return Err(Cause::Timeout { after: timeout }),
                },
            };
        }
        if let Holds::Turn = self.holds {
            let idle = instances.desk().idle.pop();
            let start_timeout = instances.maker.spec.limits.start_timeout;
            self.holds = Holds::Instance(match idle {
                Some(idle) => idle,
                None => instances.make(turn_time(start_timeout, left(timeout, begun))).await?,
            });
        }
        Ok(())
    }

    /// The call ended well: the instance may make another.
    #[inline]
    pub(super) fn give_back(mut self) {
        self.well = true;
    }
}

impl<I: Deref<Target = Instances>> Drop for Admitted<I> {
    fn drop(&mut self) {
        let instances = &*self.instances;
        match std::mem::replace(&mut self.holds, Holds::Nothing) {
            Holds::Paid(mut idle) => {
                idle.calls += 1;
                if self.well && !instances.is_worn(&idle) {
                    instances.put_ready(idle);
                } else {
                    lose(instances, idle);
                }
                if (self.calls, self.bytes) != (0, 0) {
                    self.uncount(&mut instances.desk());
                }
            }
            holds => self.end(holds),
        }
    }
}

/// The instance that is paid for makes no more calls.
#[cold]
fn lose(instances: &Instances, idle: Box<Idle>) {
    drop(idle);
    instances.unpay(&mut instances.desk());
}

impl<I: Deref<Target = Instances>> Admitted<I> {
    fn uncount(&self, desk: &mut Desk) {
        desk.calls -= self.calls;
        desk.bytes -= self.bytes;
    }

    /// Ends a call that was counted.
    fn end(&self, holds: Holds) {
        let instances = &*self.instances;
        let has_turn = !matches!(holds, Holds::Nothing);
        // An instance goes before its turn is another's, so that there are never more than may be; and outside
        // the lock, for it may take its time.
        let mut desk = match holds {
            Holds::Nothing | Holds::Turn => instances.desk(),
            Holds::Instance(mut idle) | Holds::Paid(mut idle) if self.well => {
                idle.calls += 1;
                let mut desk = instances.desk();
                match instances.put_back(&mut desk, idle, self.bytes) {
                    Back::Ready => return,
                    Back::Idle => desk,
                    Back::Worn(worn) => {
                        drop(desk);
                        drop(worn);
                        instances.desk()
                    }
                }
            }
            Holds::Instance(broken) | Holds::Paid(broken) => {
                drop(broken);
                instances.desk()
            }
        };
        self.uncount(&mut desk);
        if has_turn {
            instances.end_turn(&mut desk);
        }
    }
}

/// A call that waits for its turn.
struct Wait<'a> {
    instances: &'a Instances,
    over: bool,
}

impl<'a> Wait<'a> {
    /// What it has, if there is nothing to wait for.
    fn begin(instances: &'a Instances) -> Result<Self, Holds> {
        let mut desk = instances.desk();
        if desk.running < instances.running_max {
            desk.running += 1;
            return Err(Holds::Turn);
        }
        if desk.paid
            && let Some(idle) = instances.ready.want()
        {
            return Err(Holds::Paid(idle));
        }
        desk.waiting += 1;
        Ok(Self { instances, over: false })
    }

    /// Whether there was a turn, before the plugin was stopped.
    async fn turn(mut self) -> bool {
        match self.instances.turns.acquire().await {
            Ok(turn) => {
                // From here on it counts as taken.
                turn.forget();
                self.over = true;
                true
            }
            Err(_) => false,
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut desk = self.instances.desk();
        match desk.waiting {
            // All who wait were handed a turn, and this one gives up nevertheless.
            0 => {
                if let Ok(turn) = self.instances.turns.try_acquire() {
                    turn.forget();
                    self.instances.end_turn(&mut desk);
                }
            }
            _ => desk.waiting -= 1,
        }
    }
}

/// Lets go of instances that no call has wanted for `idle`.
async fn forget_idle(instances: std::sync::Weak<Instances>, idle: Duration) {
    loop {
        tokio::time::sleep(idle).await;
        let Some(instances) = instances.upgrade().filter(|instances| !instances.is_closed()) else { return };
        if let Some(mut idle) = instances.ready.take() {
            if idle.seen == Some(idle.calls) {
                lose(&instances, idle);
            } else {
                idle.seen = Some(idle.calls);
                instances.put_ready(idle);
            }
        }
        let mut desk = instances.desk();
        // What was put back since the last look stays until the next.
        let old = desk.idle.iter().take_while(|idle| idle.since < desk.looks).count();
        let old: Vec<_> = desk.idle.drain(..old).collect();
        desk.looks += 1;
        drop(desk);
        drop(old);
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
