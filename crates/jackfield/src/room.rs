//! Room for calls: how many a program is given at once, and how many bytes of arguments.
//!
//! A call that does not fit waits. A smaller one that fits goes first: it may be the very call that the plugin
//! waits for to answer what takes up the room. But not for ever: a call that was overtaken [`OVERTAKEN_MAX`] times
//! lets no other by.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jackfield_protocol::call::Cause;
use tokio::sync::oneshot;

use crate::limits::Limits;
use crate::metrics::Meters;

/// How often a call that waits is overtaken at most.
const OVERTAKEN_MAX: u32 = 1_000;

/// The room of one plugin.
pub(crate) struct Room {
    free: Arc<Mutex<Free>>,
    bytes_max: usize,
    meters: Option<Arc<Meters>>,
}

/// What is free, and who waits for more.
struct Free {
    calls: usize,
    bytes: usize,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    bytes: usize,
    overtaken: u32,
    to: oneshot::Sender<Taken>,
}

/// What a call takes up while it is in flight. Dropped, it is free again.
pub(crate) struct Taken {
    room: Arc<Mutex<Free>>,
    bytes: usize,
}

impl Room {
    pub(crate) fn new(limits: &Limits) -> Self {
        let bytes_max = limits.call_bytes_in_flight_max;
        let free = Free { calls: limits.calls_in_flight_max, bytes: bytes_max, waiting: VecDeque::new() };
        Self { free: Arc::new(Mutex::new(free)), bytes_max, meters: None }
    }

    /// The same, and how long calls wait is measured.
    pub(crate) fn metered(self, meters: &Arc<Meters>) -> Self {
        Self { meters: Some(Arc::clone(meters)), ..self }
    }

    /// Refuses what no waiting would make room for.
    pub(crate) fn admits(&self, bytes: usize) -> Result<(), Cause> {
        match bytes > self.bytes_max || u32::try_from(bytes).is_err() {
            true => Err(Cause::Limit {
                limit: "call_bytes_in_flight",
                what: format!("the arguments are {bytes} bytes of {} allowed", self.bytes_max),
            }),
            false => Ok(()),
        }
    }

    /// Takes room, if there is some now.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<Taken> {
        let taken = lock(&self.free).overtake(bytes);
        taken.then(|| Taken { room: Arc::clone(&self.free), bytes })
    }

    /// Waits for room.
    pub(crate) async fn take(&self, bytes: usize) -> Taken {
        let granted = {
            let mut free = lock(&self.free);
            if free.overtake(bytes) {
                return Taken { room: Arc::clone(&self.free), bytes };
            }
            let (to, granted) = oneshot::channel();
            free.waiting.push_back(Waiting { bytes, overtaken: 0, to });
            granted
        };
        let begun = Instant::now();
        match granted.await {
            Ok(taken) => {
                if let Some(meters) = &self.meters {
                    meters.queued(begun.elapsed());
                }
                taken
            }
            // Only one that nobody waits for is dropped.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Free {
    fn fits(&self, bytes: usize) -> bool {
        self.calls > 0 && bytes <= self.bytes
    }

    fn remove(&mut self, bytes: usize) {
        self.calls -= 1;
        self.bytes -= bytes;
    }

    /// Takes room in front of all who wait, if there is some and they let it by.
    fn overtake(&mut self, bytes: usize) -> bool {
        self.waiting.retain(|waiting| !waiting.to.is_closed());
        let may = self.fits(bytes) && self.waiting.iter().all(|waiting| waiting.overtaken < OVERTAKEN_MAX);
        if may {
            self.remove(bytes);
            self.waiting.iter_mut().for_each(|waiting| waiting.overtaken += 1);
        }
        may
    }

    /// Takes room for those who wait, as far as there is some, the first of them first.
    fn grant(&mut self) -> Vec<Waiting> {
        let mut granted = Vec::new();
        let mut left = VecDeque::new();
        let mut closed = false;
        for waiting in std::mem::take(&mut self.waiting).into_iter().filter(|waiting| !waiting.to.is_closed()) {
            if closed || !self.fits(waiting.bytes) {
                closed |= waiting.overtaken >= OVERTAKEN_MAX;
                left.push_back(waiting);
                continue;
            }
            self.remove(waiting.bytes);
            left.iter_mut().for_each(|before: &mut Waiting| before.overtaken += 1);
            granted.push(waiting);
        }
        self.waiting = left;
        granted
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let granted = {
            let mut free = lock(&self.room);
            free.calls += 1;
            free.bytes += self.bytes;
            free.grant()
        };
        // Without the lock, which is taken again where somebody has given up meanwhile.
        for Waiting { bytes, to, .. } in granted {
            drop(to.send(Taken { room: Arc::clone(&self.room), bytes }));
        }
    }
}

fn lock(free: &Mutex<Free>) -> MutexGuard<'_, Free> {
    free.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn room(calls: usize, bytes: usize) -> Room {
        let limits = Limits { calls_in_flight_max: calls, call_bytes_in_flight_max: bytes, ..Limits::default() };
        Room::new(&limits)
    }

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_small_call_goes_before_a_large_one_that_waits() {
        let room = room(10, 100);
        let heavy = room.try_take(70).expect("room");
        let mut large = pin!(room.take(60));
        assert!(poll(large.as_mut()).is_pending());
        drop(room.try_take(30).expect("room beside the one that waits"));
        assert!(room.try_take(40).is_none());
        drop(heavy);
        assert!(poll(large).is_ready());
    }

    #[test]
    fn a_call_is_not_overtaken_for_ever() {
        let room = room(10, 100);
        let heavy = room.try_take(70).expect("room");
        let mut large = pin!(room.take(60));
        assert!(poll(large.as_mut()).is_pending());
        for _ in 0..OVERTAKEN_MAX {
            drop(room.try_take(1).expect("it lets this one by"));
        }
        assert!(room.try_take(1).is_none());
        drop(heavy);
        assert!(poll(large).is_ready());
        assert!(room.try_take(1).is_some());
    }

    #[test]
    fn who_gives_up_leaves_the_room_to_others() {
        let room = room(1, 100);
        let first = room.try_take(1).expect("room");
        let mut second = Box::pin(room.take(1));
        let mut third = pin!(room.take(1));
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        drop(first);
        // It was granted, and is given up before it is looked at.
        drop(second);
        assert!(poll(third).is_ready());
        assert!(room.try_take(100).is_some());
    }
}
