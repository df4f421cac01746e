//! Calls that wait for their answers, by number, where answers come in any order.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jackfield_protocol::call::{Answer, Cause};
use tokio::sync::oneshot;

/// The calls of one session that wait, until there can be none any more.
pub(crate) struct Pending(Mutex<State>);

enum State {
    Open(HashMap<u64, oneshot::Sender<Result<Answer, Cause>>>),
    Ended(Cause),
}

/// Where the answer of a call arrives.
pub(crate) type Answered = oneshot::Receiver<Result<Answer, Cause>>;

impl Pending {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State::Open(HashMap::new())))
    }

    /// Adds a call, and says how many wait now. An error after the end: there is nobody to make it.
    pub(crate) fn add(&self, id: u64) -> Result<(Answered, usize), Cause> {
        match &mut *self.state() {
            State::Open(calls) => {
                let (answer, answered) = oneshot::channel();
                calls.insert(id, answer);
                Ok((answered, calls.len()))
            }
            // A call made after the end does not crash.
            State::Ended(cause) => Err(Cause::Unavailable { why: cause.to_string() }),
        }
    }

    /// Gives a call its answer. Not if nobody waits for it any more: it was cancelled, or came too late.
    pub(crate) fn settle(&self, id: u64, answer: Result<Answer, Cause>) -> bool {
        self.remove(id).is_some_and(|waiting| waiting.send(answer).is_ok())
    }

    /// Nobody waits for this call any more.
    pub(crate) fn forget(&self, id: u64) {
        self.remove(id);
    }

    /// Ends every call that waits, and every call to come.
    pub(crate) fn end(&self, cause: Cause) {
        let before = std::mem::replace(&mut *self.state(), State::Ended(cause.clone()));
        match before {
            State::Open(calls) => {
                for waiting in calls.into_values() {
                    let _ = waiting.send(Err(cause.clone()));
                }
            }
            // The first reason is the one that counts.
            ended => *self.state() = ended,
        }
    }

    /// Why there can be no calls any more.
    pub(crate) fn ended(&self) -> Option<String> {
        match &*self.state() {
            State::Open(_) => None,
            State::Ended(cause) => Some(cause.to_string()),
        }
    }

    fn remove(&self, id: u64) -> Option<oneshot::Sender<Result<Answer, Cause>>> {
        match &mut *self.state() {
            State::Open(calls) => calls.remove(&id),
            State::Ended(_) => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
