//! Who drives a connection: its task, or whoever has something to send.
//!
//! What is handed to the connection's task to be written costs waking a thread, which is more than writing it.
//! So a sender may drive the connection itself for a moment, on its own thread; what the connection wants
//! meanwhile it learns, instead of the task. At any other time the task is woken, as ever.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use h2::client::Connection;

use crate::net::Stream;

/// How often a sender drives a connection that always wants more, before its task does.
const ROUNDS_MAX: usize = 4;

/// A connection, and who is woken for it.
pub(super) struct Driver {
    connection: Mutex<State>,
    gate: Arc<Gate>,
    /// Of the gate. The same whoever drives, so that the connection wakes nobody who is gone.
    waker: Waker,
}

enum State {
    Open(Pin<Box<Connection<Stream, Bytes>>>),
    /// With how it ended, until the task has asked.
    Ended(Option<Result<(), h2::Error>>),
}

struct Gate {
    /// Whether a sender drives.
    driven: AtomicBool,
    /// Whether the connection wants to be driven again.
    again: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // In this order, and a sender looks in the other: one of the two sees what the other did.
        self.again.store(true, Ordering::SeqCst);
        if !self.driven.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

impl State {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let State::Open(connection) = self else { return Poll::Ready(()) };
        match connection.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(ended) => {
                *self = State::Ended(Some(ended));
                Poll::Ready(())
            }
        }
    }
}

impl Driver {
    pub(super) fn new(connection: Connection<Stream, Bytes>) -> Self {
        let gate =
            Arc::new(Gate { driven: AtomicBool::new(false), again: AtomicBool::new(false), task: AtomicWaker::new() });
        let waker = Waker::from(Arc::clone(&gate));
        Self { connection: Mutex::new(State::Open(Box::pin(connection))), gate, waker }
    }

    /// What the task does, until the connection ends.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        self.gate.task.register(cx.waker());
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        self.gate.again.store(false, Ordering::SeqCst);
        match connection.poll(&mut Context::from_waker(&self.waker)) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => match &mut *connection {
                State::Ended(ended) => Poll::Ready(ended.take().unwrap_or(Ok(()))),
                State::Open(_) => Poll::Pending,
            },
        }
    }

    /// Drops the connection.
    pub(super) fn close(&self) {
        let mut state = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let open = std::mem::replace(&mut *state, State::Ended(None));
        drop(state);
        // Without the lock: what is on the connection is woken, and may want to send.
        drop(open);
    }

    /// Hands something to the connection, and writes it on this thread, if nobody else drives just now.
    pub(super) fn send_now<T>(&self, send: impl FnOnce() -> T) -> T {
        let mut connection = match self.connection.try_lock() {
            Ok(connection) => connection,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Whoever drives is told by what is sent.
            Err(TryLockError::WouldBlock) => return send(),
        };
        self.gate.driven.store(true, Ordering::SeqCst);
        let sent = send();
        let mut cx = Context::from_waker(&self.waker);
        for _ in 0..ROUNDS_MAX {
            self.gate.again.store(false, Ordering::SeqCst);
            if connection.poll(&mut cx).is_ready() {
                // That it has ended is for the task to say.
                self.gate.again.store(true, Ordering::SeqCst);
                break;
            }
            if !self.gate.again.load(Ordering::SeqCst) {
                break;
            }
        }
        drop(connection);
        self.gate.driven.store(false, Ordering::SeqCst);
        if self.gate.again.swap(false, Ordering::SeqCst) {
            self.gate.task.wake();
        }
        sent
    }
}
