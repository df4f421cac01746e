//! A place for the one thing that threads hand to each other: each taking and each putting back is one atomic
//! exchange.
//!
//! Who finds the place empty can leave word that the thing is wanted, and whoever puts it back is told: since
//! both are exchanges of the same word of memory, one of them always sees the other.

#![expect(unsafe_code, reason = "a box travels as the address of what is in it")]

use std::fmt;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A place for one thing.
pub(super) struct Slot<T> {
    /// Null: nothing is there. [`Slot::WANTED`]: nothing is there, and somebody waits for it. Any other: the
    /// address that `Box::into_raw` gave, of a box that belongs to this place.
    at: AtomicPtr<T>,
    /// It may be shared between threads as far as what is in it may go from one to the other.
    owns: PhantomData<Mutex<Box<T>>>,
}

impl<T> Slot<T> {
    /// No box has this address, since what is in it is aligned to more.
    const WANTED: *mut T = {
        assert!(align_of::<T>() > 1);
        ptr::without_provenance_mut(1)
    };

    pub(super) const fn empty() -> Self {
        Self { at: AtomicPtr::new(ptr::null_mut()), owns: PhantomData }
    }

    /// Takes what is there. A word that it is wanted stays where it is.
    #[inline]
    pub(super) fn take(&self) -> Option<Box<T>> {
        let seen = self.at.load(Ordering::Relaxed);
        if seen.is_null() || seen == Self::WANTED {
            return None;
        }
        let taken = self.at.compare_exchange(seen, ptr::null_mut(), Ordering::Acquire, Ordering::Relaxed).ok()?;
        own(taken)
    }

    /// Puts something there. True if somebody had left word that they want it, which is then forgotten.
    ///
    /// What was there is dropped. There is one thing for each place, so there was none.
    #[inline]
    pub(super) fn put(&self, thing: Box<T>) -> bool {
        let before = self.at.swap(Box::into_raw(thing), Ordering::AcqRel);
        match before == Self::WANTED {
            true => true,
            false => {
                drop(own(before));
                false
            }
        }
    }

    /// Takes what is there, and leaves word that it is wanted for whoever puts it back.
    pub(super) fn want(&self) -> Option<Box<T>> {
        let before = self.at.swap(Self::WANTED, Ordering::AcqRel);
        if before == Self::WANTED { None } else { own(before) }
    }

    /// Whether somebody has left word. Only a hint, as to what others do at the same time.
    #[inline]
    pub(super) fn is_wanted(&self) -> bool {
        self.at.load(Ordering::Relaxed) == Self::WANTED
    }
}

/// The box at an address that was exchanged out of a place; none for null.
#[inline]
fn own<T>(at: *mut T) -> Option<Box<T>> {
    debug_assert!(at != Slot::<T>::WANTED);
    match at.is_null() {
        true => None,
        // SAFETY: the addresses in `Slot::at` are null, `WANTED` and what `Box::into_raw` gave in `put`, and no
        // caller of this passes `WANTED`. The exchange that gave `at` has put another value in its place, so no
        // other thread gets it from there again until it is put back by `put`: the box has one owner. What its
        // last owner did happens before this, since `put` releases and each such exchange acquires.
        false => Some(unsafe { Box::from_raw(at) }),
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::{Arc, Condvar};
    use std::thread;

    use super::*;

    #[test]
    fn what_is_put_is_taken_once() {
        let slot = Slot::empty();
        assert_eq!(slot.take(), None);
        assert!(!slot.put(Box::new(7)));
        assert_eq!((slot.take(), slot.take()), (Some(Box::new(7)), None));
    }

    #[test]
    fn a_word_is_left_until_the_thing_is_put_back() {
        let slot = Slot::empty();
        assert!(!slot.is_wanted());
        assert_eq!(slot.want(), None);
        assert_eq!((slot.is_wanted(), slot.take(), slot.want()), (true, None, None));
        assert!(slot.put(Box::new(1)), "whoever puts it back is told");
        assert!(!slot.is_wanted());
        assert_eq!(slot.want(), Some(Box::new(1)), "it is there");
        assert!(slot.put(Box::new(2)), "the word was left with it");
        assert!(!slot.put(slot.take().expect("there")));
    }

    #[test]
    fn what_is_there_goes_with_its_place() {
        let thing = Arc::new(());
        let slot = Slot::empty();
        slot.put(Box::new(Arc::clone(&thing)));
        drop(slot);
        assert_eq!(Arc::strong_count(&thing), 1);
        let slot = Slot::<Arc<()>>::empty();
        slot.want();
        drop(slot);
    }

    #[test]
    fn whoever_waits_for_it_is_never_forgotten() {
        const THREADS: usize = 4;
        // Fewer where each step is looked at.
        const ROUNDS: usize = if cfg!(miri) { 50 } else { 20_000 };
        let slot = Slot::empty();
        slot.put(Box::new(0_usize));
        // Those who wait, and things that they were handed.
        let (waiting, handed) = (Mutex::new((0_usize, Vec::new())), Condvar::new());
        let waited = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        let thing = slot.take().unwrap_or_else(|| {
                            let mut desk = waiting.lock().expect("no panic");
                            if let Some(thing) = slot.want() {
                                return thing;
                            }
                            desk.0 += 1;
                            waited.fetch_add(1, Ordering::Relaxed);
                            loop {
                                desk = handed.wait(desk).expect("no panic");
                                if let Some(thing) = desk.1.pop() {
                                    return thing;
                                }
                            }
                        });
                        let mut thing = thing;
                        *thing += 1;
                        if slot.put(thing) {
                            let mut desk = waiting.lock().expect("no panic");
                            if desk.0 > 0
                                && let Some(thing) = slot.want()
                            {
                                desk.0 -= 1;
                                desk.1.push(thing);
                                handed.notify_one();
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(slot.take().or_else(|| slot.want()), Some(Box::new(THREADS * ROUNDS)));
        println!("{} of {} had to wait", waited.load(Ordering::Relaxed), THREADS * ROUNDS);
    }
}
