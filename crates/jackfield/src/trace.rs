//! The trace that a call belongs to, as its caller says.
//!
//! The host makes no spans: it hands the context of the caller's on to the plugin, so that one with an exporter of its
//! own goes on with the same trace, and notes it beside the time of the call, where a person who looks at a slow bucket
//! finds it.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

use jackfield_protocol::TraceContext;

thread_local! {
    static CURRENT: Cell<Option<TraceContext>> = const { Cell::new(None) };
}

/// A future whose calls of plugins belong to a trace. Made by [`traced`].
#[derive(Debug)]
#[must_use = "a future does nothing before it is awaited"]
pub struct Traced<F> {
    context: TraceContext,
    future: Pin<Box<F>>,
}

/// Makes the calls of plugins that `future` begins belong to the span `context`.
///
/// ```no_run
/// # async fn example(plugin: jackfield::Plugin) -> Result<(), Box<dyn std::error::Error>> {
/// let context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?;
/// jackfield::traced(context, plugin.call("greet", serde_json::json!({"name": "Ada"}))).await?;
/// # Ok(())
/// # }
/// ```
pub fn traced<F: Future>(context: TraceContext, future: F) -> Traced<F> {
    Traced { context, future: Box::pin(future) }
}

/// [`traced`], for blocking clients: for calls that `work` makes on this thread.
pub fn traced_blocking<T>(context: TraceContext, work: impl FnOnce() -> T) -> T {
    let _entered = Entered::enter(context);
    work()
}

/// The context of the calls that this thread begins now.
#[inline]
pub(crate) fn current() -> Option<TraceContext> {
    CURRENT.try_with(Cell::get).ok().flatten()
}

impl<F: Future> Future for Traced<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _entered = Entered::enter(self.context);
        self.future.as_mut().poll(context)
    }
}

/// Puts back what was there before, also when what is polled panics.
struct Entered(Option<TraceContext>);

impl Entered {
    fn enter(context: TraceContext) -> Self {
        Self(CURRENT.replace(Some(context)))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(number: u8) -> TraceContext {
        TraceContext { trace_id: [number; 16], span_id: [number; 8], sampled: true }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_context_is_that_of_its_future_alone() {
        let inner = traced(context(2), async { current() });
        let outer = traced(context(1), async move {
            let before = current();
            tokio::task::yield_now().await;
            (before, inner.await, current())
        });
        let other = async {
            tokio::task::yield_now().await;
            current()
        };
        let (outer, other) = tokio::join!(outer, other);
        assert_eq!(outer, (Some(context(1)), Some(context(2)), Some(context(1))));
        assert_eq!((other, current()), (None, None));
        assert_eq!(traced_blocking(context(3), current), Some(context(3)));
    }
}
