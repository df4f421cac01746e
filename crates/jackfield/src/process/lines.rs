//! A pair of pipes as messages: pieces in, bytes out.
//!
//! Works on any streams, so the protocol is tested without a process.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use jackfield_protocol::frame::{Piece, Splitter};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

/// Bytes asked of a pipe at once: what a Linux pipe holds.
const READ_BYTES: usize = 64 * 1024;

/// The reading end.
pub(super) struct Reader {
    from: Box<dyn AsyncRead + Send + Unpin>,
    splitter: Splitter,
}

impl Reader {
    pub(super) fn new(from: Box<dyn AsyncRead + Send + Unpin>, bytes_max: usize) -> Self {
        Self { from, splitter: Splitter::new(bytes_max) }
    }

    /// The next piece that is there already.
    pub(super) fn next_piece(&mut self) -> Option<Piece<'_>> {
        self.splitter.next_piece()
    }

    /// Waits for more; 0 is the end. May be dropped and called again without losing a byte.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        let room = self.splitter.room();
        room.reserve(READ_BYTES);
        self.from.read_buf(room).await
    }

    /// What came of a piece that never became complete.
    pub(super) fn rest(&self) -> &[u8] {
        self.splitter.rest()
    }
}

/// The writing end. Whoever sends tries to write at once; what the pipe does not take, the task that
/// runs [`Writer::drive`] writes. So a lone call costs no hop to another task, a caller that gives up
/// leaves no half a message behind, and many calls at once share their writes.
#[derive(Clone)]
pub(super) struct Writer(Arc<Mutex<Out>>);

struct Out {
    /// None once it is closed.
    to: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    queue: Vec<u8>,
    written: usize,
    /// Bytes that were ever given to the pipe.
    total: u64,
    /// What is let go when the bytes up to a mark are written.
    held: Vec<(u64, Box<dyn Send>)>,
    closing: bool,
    driver: Option<Waker>,
}

impl Writer {
    pub(super) fn new(to: Box<dyn AsyncWrite + Send + Unpin>) -> Self {
        let out = Out {
            to: Some(to),
            queue: Vec::new(),
            written: 0,
            total: 0,
            held: Vec::new(),
            closing: false,
            driver: None,
        };
        Self(Arc::new(Mutex::new(out)))
    }

    /// Sends whole messages. `now`: try to write at once, rather than together with what others send.
    /// Bytes sent to a closed pipe are dropped: its reader learns of the end. Gives the mark of the last
    /// byte, for [`Writer::hold_until_written`].
    pub(super) fn send(&self, bytes: &[u8], now: bool) -> u64 {
        let mut out = self.lock();
        if out.to.is_none() || out.closing {
            return 0;
        }
        let behind = !out.queue.is_empty();
        out.queue.extend_from_slice(bytes);
        let mark = out.total + (out.queue.len() - out.written) as u64;
        match out.driver.clone() {
            // The driver's waker: if the pipe is full, the driver is who must learn of room in it. On
            // Windows a pipe is written by tokio's threads, which only its own tasks may ask.
            Some(driver) if now && !behind && cfg!(unix) => out.write(&mut Context::from_waker(&driver)),
            Some(driver) if !behind => driver.wake(),
            _ => {}
        }
        mark
    }

    /// Keeps `what` until the bytes up to `mark` are written: what waits to be written still takes room.
    pub(super) fn hold_until_written(&self, mark: u64, what: impl Send + 'static) {
        let mut out = self.lock();
        if out.total < mark && out.to.is_some() {
            out.held.push((mark, Box::new(what)));
        }
    }

    /// Closes the pipe once everything is written.
    pub(super) fn close(&self) {
        let mut out = self.lock();
        out.closing = true;
        match out.driver.take() {
            Some(driver) => driver.wake(),
            None => out.to = None,
        }
    }

    /// Writes what senders leave, until the pipe is closed or broken.
    pub(super) async fn drive(self) {
        std::future::poll_fn(|context| {
            let mut out = self.lock();
            out.driver = Some(context.waker().clone());
            out.write(context);
            if out.closing && out.queue.is_empty() {
                out.to = None;
            }
            if out.to.is_none() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, Out> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Out {
    fn write(&mut self, context: &mut Context<'_>) {
        while self.written < self.queue.len() {
            let Some(to) = &mut self.to else { break };
            match Pin::new(to).poll_write(context, &self.queue[self.written..]) {
                Poll::Ready(Ok(written)) if written > 0 => {
                    self.written += written;
                    self.total += written as u64;
                }
                Poll::Pending => break,
                Poll::Ready(_) => self.to = None,
            }
        }
        if self.to.is_none() {
            self.held.clear();
        } else if !self.held.is_empty() {
            let total = self.total;
            self.held.retain(|(mark, _)| *mark > total);
        }
        if self.to.is_some() && self.written < self.queue.len() {
            return;
        }
        self.queue.clear();
        self.written = 0;
        // A message of megabytes must not keep its room for ever.
        self.queue.shrink_to(READ_BYTES);
    }
}
