//! A body that is sent piece by piece: lines of JSON, as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use serde::Serialize;
use tokio::sync::mpsc;

/// Pieces that wait for the network. Who writes more waits, too.
const PIECES_MAX: usize = 16;

/// A body that is there, or that is sent through its [`Pieces`] and ends when they are dropped.
#[derive(Debug)]
pub(crate) enum Piecewise {
    Whole(Bytes),
    Pieces(mpsc::Receiver<Bytes>),
}

/// The other end of a [`Piecewise`].
#[derive(Clone, Debug)]
pub(crate) struct Pieces(mpsc::Sender<Bytes>);

impl Piecewise {
    pub(crate) fn new() -> (Pieces, Self) {
        let (sender, receiver) = mpsc::channel(PIECES_MAX);
        (Pieces(sender), Self::Pieces(receiver))
    }

    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(bytes.into())
    }
}

impl Pieces {
    /// Sends a value as a line. False if nobody reads any more.
    pub(crate) async fn line(&self, value: &impl Serialize) -> bool {
        let Ok(mut line) = serde_json::to_vec(value) else { return false };
        line.push(b'\n');
        self.0.send(line.into()).await.is_ok()
    }

    /// Waits until nobody reads any more.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}

impl Body for Piecewise {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Piecewise::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Piecewise::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Piecewise::Pieces(pieces) => {
                pieces.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Piecewise::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Piecewise::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Piecewise::Pieces(_) => SizeHint::default(),
        }
    }
}

/// The lines of a body.
#[derive(Debug)]
pub(crate) struct Lines<B> {
    body: B,
    bytes_max: usize,
    buffer: Vec<u8>,
    /// Bytes of the buffer in which there is no end of a line.
    searched: usize,
    over: bool,
}

impl<B> Lines<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    /// Lines of at most `bytes_max` bytes.
    pub(crate) fn new(body: B, bytes_max: usize) -> Self {
        Self { body, bytes_max, buffer: Vec::new(), searched: 0, over: false }
    }

    /// The next line that is not empty, without its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let end = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            let line = match end {
                Some(end) => {
                    let rest = self.buffer.split_off(self.searched + end + 1);
                    self.searched = 0;
                    std::mem::replace(&mut self.buffer, rest)
                }
                None if self.over => {
                    self.searched = 0;
                    std::mem::take(&mut self.buffer)
                }
                None => {
                    self.searched = self.buffer.len();
                    if self.searched > self.bytes_max {
                        bail!("a line is longer than {} bytes", self.bytes_max);
                    }
                    match self.body.frame().await {
                        Some(frame) => {
                            let frame = frame.context("the connection broke")?;
                            self.buffer.extend(frame.into_data().unwrap_or_default());
                        }
                        None => self.over = true,
                    }
                    continue;
                }
            };
            let line = line.trim_ascii();
            if !line.is_empty() {
                return Ok(Some(line.to_vec()));
            }
            if self.over && self.buffer.is_empty() {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_put_together_again() {
        let (pieces, body) = Piecewise::new();
        for piece in ["{\"a\":1}\n\n{\"b\"", ":2}\r\n", "{\"c\"", ":3}"] {
            pieces.0.send(piece.into()).await.expect("room");
        }
        drop(pieces);
        let mut lines = Lines::new(body, 64);
        let mut read = Vec::new();
        while let Some(line) = lines.next().await.expect("a line") {
            read.push(String::from_utf8(line).expect("UTF-8"));
        }
        assert_eq!(read, ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"]);
    }
}
