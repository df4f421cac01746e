//! What is counted of every call.

use std::sync::atomic::{AtomicU64, Ordering};

use jackfield_protocol::Status;

/// How many calls of a plugin ended in which way, since the host started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls([u64; Status::ALL.len()]);

impl Calls {
    /// Calls that ended like this.
    pub fn ended(&self, status: Status) -> u64 {
        self.0[status as usize]
    }

    /// All calls that ended.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// The counters behind [`Calls`].
#[derive(Debug, Default)]
pub(crate) struct Counters([AtomicU64; Status::ALL.len()]);

impl Counters {
    pub(crate) fn count(&self, status: Status) {
        self.0[status as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Calls {
        Calls(std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed)))
    }
}
