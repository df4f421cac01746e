//! The trace that a call belongs to, as its caller says.
//!
//! It is handed on to the plugin, and noted beside the time of the call, where a person who looks at a slow bucket finds
//! it. A host that records spans puts one of its own in between (`spans/`).

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use jackfield_protocol::TraceContext;

thread_local! {
    static CURRENT: Cell<Option<TraceContext>> = const { Cell::new(None) };
    /// W3C `tracestate` of it.
    static STATE: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// A future whose calls of plugins belong to a trace. Made by [`traced`].
#[derive(Debug)]
#[must_use = "a future does nothing before it is awaited"]
pub struct Traced<F> {
    context: TraceContext,
    state: Option<Arc<str>>,
    future: Pin<Box<F>>,
}

impl<F> Traced<F> {
    /// Hands the caller's W3C `tracestate` on, too. Not one of more than 512 bytes, nor one that is not printable ASCII:
    /// then there is none, as the W3C has it.
    pub fn with_state(mut self, state: &str) -> Self {
        let printable = state.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        self.state = (printable && !state.is_empty() && state.len() <= STATE_BYTES_MAX).then(|| state.into());
        self
    }
}

/// Longest `tracestate` that is handed on.
const STATE_BYTES_MAX: usize = 512;

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
    Traced { context, state: None, future: Box::pin(future) }
}

/// [`traced`], for blocking clients: for calls that `work` makes on this thread.
pub fn traced_blocking<T>(context: TraceContext, work: impl FnOnce() -> T) -> T {
    let _entered = Entered::enter(context, None);
    work()
}

/// The context of the calls that this thread begins now.
#[inline]
pub(crate) fn current() -> Option<TraceContext> {
    CURRENT.try_with(Cell::get).ok().flatten()
}

/// The `tracestate` of the calls that this thread begins now.
#[cold]
pub(crate) fn state() -> Option<Arc<str>> {
    STATE.try_with(|state| state.borrow().clone()).ok().flatten()
}

impl<F: Future> Future for Traced<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _entered = Entered::enter(self.context, self.state.clone());
        self.future.as_mut().poll(context)
    }
}

/// Puts back what was there before, also when what is polled panics.
struct Entered(Option<TraceContext>, Option<Arc<str>>);

impl Entered {
    fn enter(context: TraceContext, state: Option<Arc<str>>) -> Self {
        Self(CURRENT.replace(Some(context)), STATE.replace(state))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
        STATE.set(self.1.take());
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

    #[tokio::test(flavor = "current_thread")]
    async fn a_state_goes_with_its_context_if_it_may() {
        let told = async |text: &str| traced(context(1), async { state() }).with_state(text).await;
        assert_eq!(told("a=b,c=d").await.as_deref(), Some("a=b,c=d"));
        for none in ["", "a=\n", "a=é", &"x".repeat(STATE_BYTES_MAX + 1)] {
            assert_eq!(told(none).await, None, "{none}");
        }
        let inner = traced(context(2), async { state() });
        assert_eq!(traced(context(1), inner).with_state("a=b").await, None, "that of another context");
        assert_eq!(state(), None);
    }
}
