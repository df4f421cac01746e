//! Many connections over one, by hashicorp's yamux.
//!
//! The host is yamux's client and the plugin its server; both may open connections. One task has the socket
//! and does nothing else, so that the other side's pings are answered whatever becomes of the connections.
//!
//! Which connection is for whom is the broker's business.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};
use yamux::{Config, Connection, ConnectionError, Mode};

use crate::net::Stream;

/// Connections that may exist at once. The other side has no such limit.
const CONNECTIONS_MAX: usize = 8192;

/// Which side this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It started the other one.
    Host,
    /// It was started.
    Plugin,
}

/// A multiplexed connection. A clone is another handle.
///
/// It is closed when the other side closes it, by [`Mux::close`], or when no handle and no connection is left.
#[derive(Clone)]
pub struct Mux {
    orders: mpsc::UnboundedSender<Order>,
    incoming: Arc<Mutex<mpsc::UnboundedReceiver<MuxStream>>>,
    ended: watch::Receiver<bool>,
}

enum Order {
    Open(oneshot::Sender<io::Result<Opened>>),
    Close,
}

/// A connection that this side opened.
#[derive(Debug)]
pub struct Opened {
    /// The connection. The other side learns of it when something is written.
    pub stream: Stream,
    /// Ready when the other side has said something on it, and so has taken it; an error if it never does.
    pub taken: oneshot::Receiver<()>,
}

impl Mux {
    /// Multiplexes a connection, in a task of its own.
    pub fn new(stream: Stream, role: Role) -> Self {
        let mut config = Config::default();
        // Each connection has a bound of its own, HTTP/2's.
        config.set_max_connection_receive_window(None);
        config.set_max_num_streams(CONNECTIONS_MAX);
        let mode = match role {
            Role::Host => Mode::Client,
            Role::Plugin => Mode::Server,
        };
        let (orders, ordered) = mpsc::unbounded_channel();
        let (arrived, incoming) = mpsc::unbounded_channel();
        let (ended, end) = watch::channel(false);
        let driver = Driver {
            connection: Connection::new(stream.compat(), config, mode),
            ordered,
            alive: orders.downgrade(),
            opening: VecDeque::new(),
            arrived,
            phase: Phase::Open,
        };
        tokio::spawn(async move {
            driver.run().await;
            ended.send_replace(true);
        });
        Self { orders, incoming: Arc::new(Mutex::new(incoming)), ended: end }
    }

    /// Opens a connection.
    pub async fn open(&self) -> io::Result<Opened> {
        let (answer, answered) = oneshot::channel();
        self.orders.send(Order::Open(answer)).map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// The next connection that the other side opens; `None` when it will open no more.
    pub async fn accept(&self) -> Option<Stream> {
        self.incoming.lock().await.recv().await.map(Stream::from)
    }

    /// Closes the connection, and all that it carries.
    pub fn close(&self) {
        // Whoever does not take the order has ended already.
        let _ = self.orders.send(Order::Close);
    }

    /// Waits until it is closed.
    pub async fn closed(&self) {
        // An error is the end of the task, too.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

impl fmt::Debug for Mux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mux")
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the multiplexed connection is closed")
}

/// One connection of many.
pub(crate) struct MuxStream {
    io: Compat<yamux::Stream>,
    taken: Option<oneshot::Sender<()>>,
    /// Keeps the multiplexed connection open.
    _alive: Option<mpsc::UnboundedSender<Order>>,
}

impl AsyncRead for MuxStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before
            && let Some(taken) = self.taken.take()
        {
            // Nobody may wait for it.
            let _ = taken.send(());
        }
        read
    }
}

impl AsyncWrite for MuxStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Has the socket.
struct Driver {
    connection: Connection<Compat<Stream>>,
    ordered: mpsc::UnboundedReceiver<Order>,
    alive: mpsc::WeakUnboundedSender<Order>,
    opening: VecDeque<oneshot::Sender<io::Result<Opened>>>,
    arrived: mpsc::UnboundedSender<MuxStream>,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Closing,
}

impl Driver {
    async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.phase == Phase::Closing {
                return self.connection.poll_close(cx).map(drop);
            }
            match self.ordered.poll_recv(cx) {
                Poll::Ready(Some(Order::Open(answer))) => self.opening.push_back(answer),
                Poll::Ready(Some(Order::Close) | None) => {
                    self.phase = Phase::Closing;
                    continue;
                }
                Poll::Pending => {}
            }
            if !self.opening.is_empty()
                && let Poll::Ready(opened) = self.connection.poll_new_outbound(cx)
                && let Some(answer) = self.opening.pop_front()
            {
                // Who does not want it any more drops it.
                let _ = answer.send(opened.map(|stream| self.opened(stream)).map_err(of_yamux));
                continue;
            }
            match self.connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => {
                    let stream = self.stream(stream, None);
                    let _ = self.arrived.send(stream);
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending if self.ordered.is_empty() => return Poll::Pending,
                // Another order came meanwhile.
                Poll::Pending => {}
            }
        }
    }

    fn opened(&self, stream: yamux::Stream) -> Opened {
        let (told, taken) = oneshot::channel();
        Opened { stream: self.stream(stream, Some(told)).into(), taken }
    }

    fn stream(&self, stream: yamux::Stream, taken: Option<oneshot::Sender<()>>) -> MuxStream {
        MuxStream { io: stream.compat(), taken, _alive: self.alive.upgrade() }
    }
}

fn of_yamux(error: ConnectionError) -> io::Error {
    match error {
        ConnectionError::Io(error) => error,
        ConnectionError::Closed => closed(),
        error => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests;
