//! What is counted of every call.

use jackfield_protocol::Status;

/// How many calls of a plugin ended in which way, since the host started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls(pub(crate) [u64; Status::ALL.len()]);

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
