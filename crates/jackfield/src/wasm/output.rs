//! What a guest prints: line by line into the log, with the limits of its call.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use memchr::memchr;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use super::guest::Watch;

/// Longest line kept in one piece.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// The stdout or stderr of a guest whose prints go to the log.
#[derive(Clone)]
pub(super) struct Lines {
    watch: Arc<Watch>,
    waiting: Arc<Mutex<Vec<u8>>>,
}

impl Lines {
    pub(super) fn to(watch: &Arc<Watch>) -> Self {
        Self { watch: Arc::clone(watch), waiting: Arc::default() }
    }

    fn take(&self, bytes: &[u8]) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(end) = memchr(b'\n', &waiting[start..]) {
            self.print(&waiting[start..start + end]);
            start += end + 1;
        }
        waiting.drain(..start);
        if waiting.len() >= LINE_BYTES_MAX {
            self.print(&waiting);
            waiting.clear();
        }
    }

    fn print(&self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end();
        if !line.is_empty() {
            self.watch.printed(line);
        }
    }
}

/// What is left of a line is a line, when nothing can follow any more.
impl Drop for Lines {
    fn drop(&mut self) {
        if Arc::strong_count(&self.waiting) == 1 {
            let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            self.print(&waiting);
        }
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Lines {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
