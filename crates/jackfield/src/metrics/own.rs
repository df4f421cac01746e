//! Cells of one's own: what a thread adds to there, no other thread does.
//!
//! An addition that any thread may make takes a processor as long as a dozen others, and takes the cells away from
//! whoever used them last. One that only its own thread makes is a load and a store. So each thread that calls plugins
//! has a number, as long as there are no more than [`THREADS`], and with it cells of its own in each set; all others
//! share the cells that everybody has. Whoever reads adds all up.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Threads that have cells of their own.
const THREADS: usize = 16;

/// Cells of each thread that ever added to them.
#[derive(Debug)]
pub(super) struct Own<C>([OnceLock<Box<C>>; THREADS]);

impl<C> Default for Own<C> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| OnceLock::new()))
    }
}

impl<C: Default> Own<C> {
    /// Those of this thread. None if it has no number.
    #[inline]
    pub(super) fn mine(&self) -> Option<&C> {
        let number = match NUMBER.get() {
            UNKNOWN => Number::find()?,
            number => usize::from(number),
        };
        Some(self.0.get(number)?.get_or_init(Box::default))
    }

    /// Those of all threads that there are and were.
    pub(super) fn all(&self) -> impl Iterator<Item = &C> {
        self.0.iter().filter_map(|cells| cells.get().map(|cells| &**cells))
    }
}

/// Who else adds to a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Adders {
    /// Nobody: it is [one's own](Own::mine).
    Me,
    Anybody,
}

/// Adds to a cell, and gives what was there before.
#[inline]
pub(super) fn add(cell: &AtomicU64, amount: u64, adders: Adders) -> u64 {
    match adders {
        Adders::Me => {
            let before = cell.load(Ordering::Relaxed);
            cell.store(before.wrapping_add(amount), Ordering::Relaxed);
            before
        }
        Adders::Anybody => cell.fetch_add(amount, Ordering::Relaxed),
    }
}

/// A thread that has not asked for its number yet.
const UNKNOWN: u8 = u8::MAX;

/// A thread that has none: others have all of them, or it is about to end.
const NONE: u8 = u8::MAX - 1;

/// The number of a thread, until it ends. Whoever has it next finds what was added: the lock is between them.
struct Number(Option<usize>);

static TAKEN: Mutex<[bool; THREADS]> = Mutex::new([false; THREADS]);

thread_local! {
    /// The number, to read: what has nothing to drop is read without a look whether it is still there.
    static NUMBER: Cell<u8> = const { Cell::new(UNKNOWN) };
    static HELD: Number = Number::take();
}

impl Number {
    fn take() -> Self {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let free = taken.iter().position(|taken| !taken);
        if let Some(free) = free {
            taken[free] = true;
        }
        Self(free)
    }

    /// That of this thread, which has not asked before.
    #[cold]
    #[inline(never)]
    fn find() -> Option<usize> {
        let number = HELD.try_with(|held| held.0).ok().flatten();
        NUMBER.set(number.and_then(|number| u8::try_from(number).ok()).unwrap_or(NONE));
        number
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        // First: what else is dropped at the end of the thread may count, too.
        NUMBER.set(NONE);
        if let Some(number) = self.0 {
            TAKEN.lock().unwrap_or_else(PoisonError::into_inner)[number] = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[derive(Debug, Default)]
    struct Cells(AtomicU64);

    #[test]
    fn nothing_is_lost_however_many_threads_there_are_and_whoever_comes_after_whom() {
        const AT_ONCE: usize = THREADS + 5;
        let (own, common) = (Own::<Cells>::default(), AtomicU64::new(0));
        let add_one = || match own.mine() {
            Some(cells) => add(&cells.0, 1, Adders::Me),
            None => add(&common, 1, Adders::Anybody),
        };
        for _ in 0..3 {
            let all_there = Barrier::new(AT_ONCE);
            std::thread::scope(|scope| {
                for _ in 0..AT_ONCE {
                    scope.spawn(|| {
                        // So that no thread has the number of one that has ended.
                        _ = own.mine();
                        all_there.wait();
                        (0..1_000).for_each(|_| _ = add_one());
                    });
                }
            });
        }
        let owned: u64 = own.all().map(|cells| cells.0.load(Ordering::Relaxed)).sum();
        let common = common.load(Ordering::Relaxed);
        assert_eq!(owned + common, 3 * 1_000 * AT_ONCE as u64);
        assert!(owned > 0 && common > 0, "{owned} {common}");
    }
}
