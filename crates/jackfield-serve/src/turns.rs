//! Whose turn it is to read: one thread serves, another relieves it when a call takes long.
//!
//! The thread that reads a message also makes the call, for handing either to another thread costs a
//! plugin as much as all the rest of a short call (19 µs a call with a hand-over each time, 12 µs
//! without, over a pipe that takes 6). So that a slow call keeps nobody waiting, a second thread looks
//! every `TICK` whether the server is still at the same call; if so it takes the turn, and the old
//! server is done when its call is. After a slow call the next relief comes at once.
//!
//! The turn is one number, `server << 32 | step`: the step is odd during a call. Server and relief
//! change it by compare-and-swap, so that of "the call is over" and "I take over" one wins.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

/// A call that is still running when the relief has looked twice is slow.
const TICK: Duration = Duration::from_millis(1);

/// Looks without a call in between, after which the relief sleeps until it is woken.
const IDLE_TICKS: u32 = 50;

/// `W` is a call that waits for a thread.
#[derive(Debug)]
pub struct Turns<W> {
    turn: AtomicU64,
    /// The relief's thread; another one after each relief.
    relief: Mutex<Option<Thread>>,
    asleep: AtomicBool,
    at_once: AtomicBool,
    slow: AtomicBool,
    ended: AtomicBool,
    crew: Mutex<Crew<W>>,
    changed: Condvar,
    workers: usize,
}

/// The servers that were relieved and are still at their calls, and the calls they make next.
///
/// When they are as many as `workers`, the server makes no calls any more: it reads on, so that it sees
/// the end of stdin whatever the others do, and leaves the calls to them. The host bounds how many.
#[derive(Debug)]
struct Crew<W> {
    relieved: usize,
    backlog: VecDeque<W>,
}

/// A turn that a thread has.
#[derive(Clone, Copy, Debug)]
pub struct Turn(u64);

const SERVER: u64 = 1 << 32;

impl<W> Turns<W> {
    /// Turns for at most `workers` calls at once.
    pub fn new(workers: usize) -> Self {
        Self {
            turn: AtomicU64::new(0),
            relief: Mutex::new(None),
            asleep: AtomicBool::new(false),
            at_once: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            crew: Mutex::new(Crew { relieved: 0, backlog: VecDeque::new() }),
            changed: Condvar::new(),
            workers: workers.max(1),
        }
    }

    /// The first turn.
    pub fn first(&self) -> Turn {
        Turn(self.turn.load(SeqCst))
    }

    /// A call begins.
    pub fn begin(&self, turn: &mut Turn) {
        turn.0 += 1;
        self.turn.store(turn.0, SeqCst);
        let slow = self.slow.load(SeqCst);
        if slow {
            self.at_once.store(true, SeqCst);
        }
        if slow || self.asleep.swap(false, SeqCst) {
            self.wake_relief();
        }
    }

    /// A call is over. Whether the thread still has the turn; without it, it has nothing left to do.
    pub fn end(&self, turn: &mut Turn) -> bool {
        let next = turn.0 + 1;
        if self.turn.compare_exchange(turn.0, next, SeqCst, SeqCst).is_ok() {
            turn.0 = next;
            self.slow.store(false, SeqCst);
            return true;
        }
        self.slow.store(true, SeqCst);
        false
    }

    /// Takes a call that the server is to make, unless all threads are busy; then one of them will.
    pub fn accept(&self, work: W) -> Option<W> {
        let mut crew = self.lock();
        if crew.relieved < self.workers {
            return Some(work);
        }
        crew.backlog.push_back(work);
        None
    }

    /// The next call for a server that was relieved and is done with its own. None: it is free to go.
    pub fn next_of_backlog(&self) -> Option<W> {
        let mut crew = self.lock();
        let next = crew.backlog.pop_front();
        if next.is_none() {
            crew.relieved -= 1;
            self.changed.notify_all();
        }
        next
    }

    /// No message will come any more.
    pub fn finish(&self) {
        let crew = self.lock();
        self.ended.store(true, SeqCst);
        self.changed.notify_all();
        drop(crew);
        self.wake_relief();
    }

    /// What the relief does: waits until it is needed, and gives the turn it takes. None at the end.
    pub fn relieve(&self) -> Option<Turn> {
        *self.relief.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current());
        let mut seen = self.turn.load(SeqCst);
        let mut idle = 0;
        loop {
            if self.ended.load(SeqCst) {
                return None;
            }
            thread::park_timeout(TICK);
            let now = self.turn.load(SeqCst);
            let calling = now & 1 == 1;
            let at_once = self.at_once.swap(false, SeqCst);
            if calling && (at_once || now == seen) {
                if let Some(turn) = self.take(now) {
                    return Some(turn);
                }
            } else if now == seen {
                idle += 1;
                if idle > IDLE_TICKS {
                    idle = 0;
                    self.sleep(now);
                }
            } else {
                idle = 0;
            }
            seen = now;
        }
    }

    /// Waits until every relieved server is done with its call; false if `grace` is over first.
    pub fn wait_for_relieved(&self, grace: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), grace, |crew| crew.relieved > 0);
        waited.unwrap_or_else(PoisonError::into_inner).0.relieved == 0
    }

    /// Waits for the end: what a relieved main thread does.
    pub fn wait_for_end(&self) {
        let mut crew = self.lock();
        while !self.ended.load(SeqCst) {
            crew = self.changed.wait(crew).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn take(&self, from: u64) -> Option<Turn> {
        let mut crew = self.lock();
        if crew.relieved >= self.workers {
            return None;
        }
        let turn = (from & !(SERVER - 1)).wrapping_add(SERVER);
        self.turn.compare_exchange(from, turn, SeqCst, SeqCst).ok()?;
        crew.relieved += 1;
        Some(Turn(turn))
    }

    fn sleep(&self, seen: u64) {
        self.asleep.store(true, SeqCst);
        // A call may have begun just before: then nobody will wake us.
        while self.asleep.load(SeqCst) && self.turn.load(SeqCst) == seen && !self.ended.load(SeqCst) {
            thread::park();
        }
        self.asleep.store(false, SeqCst);
    }

    fn wake_relief(&self) {
        if let Some(relief) = &*self.relief.lock().unwrap_or_else(PoisonError::into_inner) {
            relief.unpark();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Crew<W>> {
        self.crew.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
