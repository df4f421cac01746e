//! The stdin and the stdout of a guest: bytes that wait in memory for the other side.
//!
//! Both ends are in one task: who runs the guest also writes its input and reads its output. So no other task
//! stands between them, as there would with tokio's pipes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// A pipe; each clone is the same one.
#[derive(Clone)]
pub(super) struct Pipe(Arc<Mutex<Waiting>>);

struct Waiting {
    bytes: VecDeque<u8>,
    /// Bytes that a guest may write before they are read. The host is not held back.
    bytes_max: usize,
    /// Who waits for bytes, or for room.
    waker: Option<Waker>,
}

impl Pipe {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Waiting { bytes: VecDeque::new(), bytes_max, waker: None })))
    }

    /// Writes, however much waits already.
    pub(super) fn push(&self, bytes: &[u8]) {
        let mut waiting = self.lock();
        waiting.bytes.extend(bytes);
        waiting.wake();
    }

    /// Moves all that waits to the end of `into`.
    pub(super) fn drain_into(&self, into: &mut Vec<u8>) {
        let mut waiting = self.lock();
        if waiting.bytes.is_empty() {
            return;
        }
        let (front, back) = waiting.bytes.as_slices();
        into.extend_from_slice(front);
        into.extend_from_slice(back);
        waiting.bytes.clear();
        waiting.wake();
    }

    /// Whether a guest that writes has to wait.
    pub(super) fn is_full(&self) -> bool {
        self.lock().room() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes.len())
    }

    fn take(&mut self, max: usize) -> Vec<u8> {
        let len = self.bytes.len().min(max);
        let taken = self.bytes.drain(..len).collect();
        if self.bytes.is_empty() {
            // A message of megabytes must not keep its room for ever.
            self.bytes.shrink_to(self.bytes_max);
        }
        taken
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll(&mut self, ready: bool, context: &mut Context<'_>) -> Poll<()> {
        match ready {
            true => Poll::Ready(()),
            false => {
                self.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl IsTerminal for Pipe {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Pipe {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(Input(self.clone()))
    }
}

impl StdoutStream for Pipe {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Output(self.clone()))
    }
}

struct Input(Pipe);

#[async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        poll_fn(|context| {
            let mut waiting = self.0.lock();
            let ready = !waiting.bytes.is_empty();
            waiting.poll(ready, context)
        })
        .await;
    }
}

impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        Ok(self.0.lock().take(size).into())
    }
}

struct Output(Pipe);

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        poll_fn(|context| {
            let mut waiting = self.0.lock();
            let ready = waiting.room() > 0;
            waiting.poll(ready, context)
        })
        .await;
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut waiting = self.0.lock();
        if bytes.len() > waiting.room() {
            return Err(StreamError::trap("more was written than there was room for"));
        }
        waiting.bytes.extend(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(self.0.lock().room())
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut waiting = self.lock();
        let ready = !waiting.bytes.is_empty();
        waiting.poll(ready, context).map(|()| {
            into.put_slice(&waiting.take(into.remaining()));
            Ok(())
        })
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut waiting = self.lock();
        let room = waiting.room();
        waiting.poll(room > 0, context).map(|()| {
            let len = bytes.len().min(room);
            waiting.bytes.extend(&bytes[..len]);
            Ok(len)
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
