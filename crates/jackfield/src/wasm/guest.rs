//! What the host keeps for each instance: its limits, its call's deadline, what it said.
//!
//! [`Guest`] is the data of a store. [`Watch`] is the part of it that is also looked at from outside, when
//! the call is over or while it runs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use jackfield_protocol::TraceContext;
use tracing::Level;
use wasmtime::{AsContextMut, Engine, ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtxView, WasiView};

use super::extism;
use crate::limits::Limits;
use crate::log::PluginLog;
use crate::spans::Recorder;
use crate::trace;

/// The data of a store.
pub(super) struct Guest {
    /// WASI, with what was granted.
    pub(super) wasi: WasiP1Ctx,
    /// Memory and variables of an Extism plugin; empty for others.
    pub(super) extism: extism::State,
    pub(super) watch: Arc<Watch>,
    limiter: Limiter,
}

impl Guest {
    /// A store with limits in force. Nothing runs in it before [`Watch::begin`].
    pub(super) fn store(
        engine: &Engine,
        limits: &Limits,
        wasi: WasiP1Ctx,
        extism: extism::State,
        watch: Arc<Watch>,
    ) -> wasmtime::Result<Store<Guest>> {
        let limiter = Limiter {
            watch: Arc::clone(&watch),
            memory_bytes_max: limits.memory_bytes_max,
            memory_bytes: 0,
            table_elements_max: limits.table_elements_max,
            table_elements: 0,
            is_off: false,
        };
        let mut store = Store::try_new(engine, Guest { wasi, extism, watch: Arc::clone(&watch), limiter })?;
        store.limiter(|guest| &mut guest.limiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| watch.look());
        if let Some(fuel) = limits.fuel_max {
            store.set_fuel(fuel)?;
        }
        Ok(store)
    }

    /// Does what takes memory that is not the guest's own, and that is bounded elsewhere.
    pub(super) fn unlimited<C: AsContextMut<Data = Guest>, R>(store: &mut C, work: impl FnOnce(&mut C) -> R) -> R {
        store.as_context_mut().data_mut().limiter.is_off = true;
        let done = work(store);
        store.as_context_mut().data_mut().limiter.is_off = false;
        done
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

/// Keeps the sum over all memories, and over all tables, of an instance below its limits.
struct Limiter {
    watch: Arc<Watch>,
    memory_bytes_max: u64,
    memory_bytes: u64,
    table_elements_max: u64,
    table_elements: u64,
    /// Whether what grows now is not the guest's.
    is_off: bool,
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if self.is_off {
            return Ok(true);
        }
        let grown = self.memory_bytes.saturating_add((desired - current) as u64);
        if grown > self.memory_bytes_max {
            let what = format!("it wanted {grown} bytes of memory of {} allowed", self.memory_bytes_max);
            self.watch.note_limit("memory", what);
            return Ok(false);
        }
        self.memory_bytes = grown;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let grown = self.table_elements.saturating_add((desired - current) as u64);
        if grown > self.table_elements_max {
            let what = format!("it wanted {grown} elements of tables of {} allowed", self.table_elements_max);
            self.watch.note_limit("table_elements", what);
            return Ok(false);
        }
        self.table_elements = grown;
        Ok(true)
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// The call that an instance makes: its deadline, and what is to be said of it if it fails.
pub(super) struct Watch {
    log: Arc<PluginLog>,
    /// Nanoseconds for the call.
    timeout: AtomicU64,
    /// When the call has to be over, in nanoseconds of [`now`]; 0 until the first tick of the call, so
    /// that a short one reads no clock.
    deadline: AtomicU64,
    /// Whether the thread is the call's own until it is over.
    here: AtomicBool,
    /// The trace of the call, where it has one: what the guest says meanwhile belongs to it.
    trace: Mutex<Option<TraceContext>>,
    /// Bytes that the call may still log.
    log_bytes_max: u64,
    /// Whether there are notes to forget.
    noted: AtomicBool,
    notes: Mutex<Notes>,
}

/// What happened during a call that explains its failure.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// The limit that something was denied for, last.
    pub(super) limit: Option<(&'static str, String)>,
    /// Message and place of a panic.
    pub(super) panic: Option<String>,
    /// The last lines it printed or logged.
    pub(super) lines: Vec<String>,
    /// The place of a panic whose message is on the next line.
    panic_at: Option<String>,
    log_bytes: u64,
    log_full: bool,
}

/// The end of a call's time.
#[derive(Debug, thiserror::Error)]
#[error("the time of the call is over")]
pub(super) struct DeadlineReached;

/// Lines of a call that its failure shows.
const LINES_SHOWN: usize = 5;

/// Bytes of a line that are kept and logged in one piece.
const LINE_BYTES_MAX: usize = 8 * 1024;

impl Watch {
    pub(super) fn new(log: Arc<PluginLog>, log_bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            log,
            timeout: AtomicU64::new(u64::MAX),
            deadline: AtomicU64::new(0),
            here: AtomicBool::new(false),
            trace: Mutex::default(),
            log_bytes_max,
            noted: AtomicBool::new(false),
            notes: Mutex::default(),
        })
    }

    /// Begins a call, or the start of an instance, that has this much time.
    pub(super) fn begin(&self, timeout: Duration) {
        self.here.store(false, Ordering::Relaxed);
        self.timeout.store(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.deadline.store(0, Ordering::Relaxed);
        if self.noted.load(Ordering::Relaxed) {
            self.noted.store(false, Ordering::Relaxed);
            *self.notes() = Notes::default();
        }
    }

    /// Begins a call whose caller waits on this thread, so that it needs no stack of its own to be left on.
    pub(super) fn begin_here(&self, timeout: Duration) {
        self.begin(timeout);
        self.here.store(true, Ordering::Relaxed);
    }

    /// The call belongs to this trace; to none when it is over. No part of [`Watch::begin`], which is to be short for
    /// calls without a trace: whoever says one here takes it back.
    pub(super) fn carry(&self, trace: Option<TraceContext>) {
        *self.trace.lock().unwrap_or_else(PoisonError::into_inner) = trace;
    }

    /// Nothing is being waited for: what runs now may do so for ever.
    pub(super) fn rest(&self) {
        self.begin(Duration::MAX);
    }

    /// Called at each tick while the guest runs: lets others run, or ends it.
    fn look(&self) -> wasmtime::Result<UpdateDeadline> {
        let now = now();
        let timeout = self.timeout.load(Ordering::Relaxed);
        let deadline = match self.deadline.load(Ordering::Relaxed) {
            0 => {
                let deadline = now.saturating_add(timeout);
                self.deadline.store(deadline, Ordering::Relaxed);
                deadline
            }
            deadline => deadline,
        };
        if now >= deadline {
            return Err(DeadlineReached.into());
        }
        Ok(match self.here.load(Ordering::Relaxed) {
            true => UpdateDeadline::Continue(1),
            false => UpdateDeadline::Yield(1),
        })
    }

    /// Something was denied.
    pub(super) fn note_limit(&self, limit: &'static str, what: String) {
        self.notes().limit = Some((limit, what));
    }

    /// Where its spans go.
    pub(super) fn recorder(&self) -> &Arc<Recorder> {
        self.log.recorder()
    }

    /// A line that the guest logged, with a level of its own.
    pub(super) fn logged(&self, level: Level, line: &str) {
        if let Some(line) = self.note_line(line) {
            self.in_trace(|| self.log.logged(level, line));
        }
    }

    /// A line that the guest wrote to stderr or stdout.
    pub(super) fn printed(&self, line: &str) {
        if let Some(line) = self.note_line(line) {
            self.in_trace(|| self.log.stderr(line));
        }
    }

    fn in_trace(&self, say: impl FnOnce()) {
        let trace = *self.trace.lock().unwrap_or_else(PoisonError::into_inner);
        match trace {
            Some(trace) => trace::traced_blocking(trace, say),
            None => say(),
        }
    }

    /// What happened in the call so far; taken, for it is over.
    pub(super) fn take_notes(&self) -> Notes {
        std::mem::take(&mut *self.notes())
    }

    /// Keeps a line for the report of a failure; none if the call has logged all it may.
    fn note_line<'a>(&self, line: &'a str) -> Option<&'a str> {
        let mut notes = self.notes();
        notes.log_bytes = notes.log_bytes.saturating_add(line.len() as u64 + 1);
        if notes.log_bytes > self.log_bytes_max {
            if !std::mem::replace(&mut notes.log_full, true) {
                let max = self.log_bytes_max;
                drop(notes);
                let what = format!("limit `log_bytes`: more than {max} bytes in one call are not logged");
                self.in_trace(|| self.log.logged(Level::WARN, &what));
            }
            return None;
        }
        let line = &line[..line.floor_char_boundary(LINE_BYTES_MAX)];
        notes.note_panic(line);
        if notes.lines.len() == LINES_SHOWN {
            notes.lines.remove(0);
        }
        notes.lines.push(line.to_owned());
        Some(line)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.noted.store(true, Ordering::Relaxed);
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    /// Understands a panic by what it prints: `panicked at PLACE: MESSAGE` (our SDK), or, over two lines,
    /// `thread 'main' panicked at PLACE:` and the message (Rust's std).
    fn note_panic(&mut self, line: &str) {
        if let Some(place) = self.panic_at.take() {
            // What std prints for a payload that is no text.
            let message = if line == "Box<dyn Any>" { "a value that is no text" } else { line };
            self.panic = Some(format!("{message} ({place})"));
            return;
        }
        let Some((before, after)) = line.split_once("panicked at ") else { return };
        // A packed component writes what the SDK logs to stderr, with its level.
        if before.is_empty() || before == "[ERROR] " {
            // A place is `file:line:column`; what follows `: ` is the message.
            let (place, message) = after.split_once(": ").unwrap_or((after, "no message"));
            self.panic = Some(format!("{message} ({place})"));
        } else if before.starts_with("thread '") {
            self.panic_at = Some(after.trim_end_matches(':').to_owned());
        }
    }
}

/// Nanoseconds since some moment early in this process, never 0.
fn now() -> u64 {
    static BASE: OnceLock<Instant> = OnceLock::new();
    let since = BASE.get_or_init(Instant::now).elapsed();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).saturating_add(1)
}
