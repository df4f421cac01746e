//! The trace that the present call belongs to.

use std::cell::Cell;

use jackfield_protocol::TraceContext;

thread_local! {
    static CURRENT: Cell<Option<TraceContext>> = const { Cell::new(None) };
}

/// The span of the caller's in which the call was made that runs on this thread; none if the caller records none.
///
/// For a plugin that records spans of its own: they are children of this one. Known in shared libraries, and in
/// programs that speak JSON lines or frames.
pub fn trace_context() -> Option<TraceContext> {
    CURRENT.try_with(Cell::get).ok().flatten()
}

/// Runs a call in this context.
#[inline]
pub(crate) fn within<T>(context: Option<TraceContext>, call: impl FnOnce() -> T) -> T {
    struct Leave(Option<TraceContext>);
    impl Drop for Leave {
        fn drop(&mut self) {
            let _ = CURRENT.try_with(|current| current.set(self.0));
        }
    }
    // Most calls have none, and none are within another: then there is nothing to put back.
    let Some(context) = context else { return call() };
    let _leave = Leave(CURRENT.try_with(|current| current.replace(Some(context))).ok().flatten());
    call()
}
