//! Room for calls: how many a program is given at once, and how many bytes of arguments.

use std::sync::Arc;

use jackfield_protocol::call::Cause;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::Limits;

/// The room of one plugin.
pub(crate) struct Room {
    calls: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    bytes_max: usize,
}

/// What a call takes up while it is in flight.
pub(crate) type Taken = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Room {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            calls: Arc::new(Semaphore::new(limits.calls_in_flight_max.min(Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(limits.call_bytes_in_flight_max.min(Semaphore::MAX_PERMITS))),
            bytes_max: limits.call_bytes_in_flight_max,
        }
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
        let call = Arc::clone(&self.calls).try_acquire_owned().ok()?;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Some((call, Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()?))
    }

    /// Waits for room.
    pub(crate) async fn take(&self, bytes: usize) -> Taken {
        // Bytes first: one large call must not hold back small ones by a number while it waits.
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(bytes).await;
        let call = Arc::clone(&self.calls).acquire_owned().await;
        match (call, bytes) {
            (Ok(call), Ok(bytes)) => (call, bytes),
            // Neither semaphore is ever closed.
            _ => std::future::pending().await,
        }
    }
}
