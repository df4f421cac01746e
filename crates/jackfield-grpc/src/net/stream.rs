//! A connection, whatever it is made of.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_rustls::TlsStream;

use crate::mux::MuxStream;

/// A connection: a socket, a part of a multiplexed one, either of them under TLS, or anything in memory.
pub struct Stream(Kind);

enum Kind {
    #[cfg(unix)]
    Unix(UnixStream),
    Tcp(TcpStream),
    Mux(MuxStream),
    Tls(Box<TlsStream<Stream>>),
    Other(Pin<Box<dyn Io>>),
}

trait Io: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

impl Stream {
    /// A connection of another kind.
    pub fn new(io: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        Self(Kind::Other(Box::pin(io)))
    }

    /// Whether it is under TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.0, Kind::Tls(_))
    }
}

#[cfg(unix)]
impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self(Kind::Unix(stream))
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        // Calls are short, and wait for their answer. A socket that refuses is only slower.
        let _ = stream.set_nodelay(true);
        Self(Kind::Tcp(stream))
    }
}

impl From<MuxStream> for Stream {
    fn from(stream: MuxStream) -> Self {
        Self(Kind::Mux(stream))
    }
}

impl From<TlsStream<Stream>> for Stream {
    fn from(stream: TlsStream<Stream>) -> Self {
        Self(Kind::Tls(Box::new(stream)))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            #[cfg(unix)]
            Kind::Unix(_) => "Stream(unix)",
            Kind::Tcp(_) => "Stream(tcp)",
            Kind::Mux(_) => "Stream(multiplexed)",
            Kind::Tls(_) => "Stream(TLS)",
            Kind::Other(_) => "Stream",
        })
    }
}

/// The same for every kind.
macro_rules! each {
    ($self:ident, $io:ident => $do:expr) => {
        match &mut $self.get_mut().0 {
            #[cfg(unix)]
            Kind::Unix(io) => {
                let $io = Pin::new(io);
                $do
            }
            Kind::Tcp(io) => {
                let $io = Pin::new(io);
                $do
            }
            Kind::Mux(io) => {
                let $io = Pin::new(io);
                $do
            }
            Kind::Tls(io) => {
                let $io = Pin::new(io);
                $do
            }
            Kind::Other(io) => {
                let $io = io.as_mut();
                $do
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, io => io.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.0 {
            #[cfg(unix)]
            Kind::Unix(io) => io.is_write_vectored(),
            Kind::Tcp(io) => io.is_write_vectored(),
            Kind::Mux(io) => io.is_write_vectored(),
            Kind::Tls(io) => io.is_write_vectored(),
            Kind::Other(io) => io.is_write_vectored(),
        }
    }
}
