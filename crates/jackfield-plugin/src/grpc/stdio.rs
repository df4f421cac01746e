//! What the plugin prints, on its way to the host: `plugin.GRPCStdio`.
//!
//! stdout, and stderr if it is wanted, are pipes to ourselves. A thread for each reads them, so that a print never
//! waits for the host; what nobody fetches is kept up to [`KEPT_BYTES_MAX`] and then dropped, which is counted and
//! logged.

#[cfg(unix)]
mod capture;
#[cfg(not(unix))]
#[path = "stdio/uncaptured.rs"]
mod capture;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::Stream;
use jackfield_grpc::bytes::Bytes;
use jackfield_grpc::pb::plugin::StdioData;
use jackfield_grpc::pb::plugin::grpc_stdio_server::{GrpcStdio, GrpcStdioServer};
use jackfield_grpc::pb::plugin::stdio_data::Channel;
use jackfield_grpc::tonic::{self, Request, Response, Status};

use crate::log::{Level, log};
pub(super) use capture::{Captured, real_stderr};

/// Most that is kept for a host that does not fetch it, in bytes.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Most that is sent at once, in bytes: what hosts in Go send.
const PIECE_BYTES_MAX: usize = 1024;

/// Prints that wait for the host.
#[derive(Clone, Default)]
pub(super) struct Prints(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    pieces: VecDeque<(Channel, Bytes)>,
    bytes: usize,
    dropped_bytes: u64,
    /// Nothing more will be printed.
    ended: bool,
    /// Which call fetches: the newest one.
    reader: u64,
    waker: Option<Waker>,
}

impl Prints {
    /// Keeps what was printed, if there is room.
    fn push(&self, channel: Channel, data: Bytes) {
        let mut kept = self.lock();
        if kept.bytes + data.len() > KEPT_BYTES_MAX {
            let first = kept.dropped_bytes == 0;
            kept.dropped_bytes += data.len() as u64;
            drop(kept);
            if first {
                log(Level::Warn, "what is printed is dropped, for the host does not fetch it");
            }
            return;
        }
        kept.bytes += data.len();
        kept.pieces.push_back((channel, data));
        kept.wake();
    }

    /// Ends the call that fetches, once it has fetched all.
    pub(super) fn end(&self) {
        let mut kept = self.lock();
        kept.ended = true;
        kept.wake();
    }

    pub(super) fn service(&self) -> GrpcStdioServer<Stdio> {
        GrpcStdioServer::new(Stdio(self.clone()))
    }

    fn read(&self) -> Fetch {
        let mut kept = self.lock();
        kept.reader += 1;
        kept.wake();
        Fetch { from: self.clone(), reader: kept.reader }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The service.
#[derive(Clone)]
pub(super) struct Stdio(Prints);

#[tonic::async_trait]
impl GrpcStdio for Stdio {
    type StreamStdioStream = Fetch;

    async fn stream_stdio(&self, _: Request<()>) -> Result<Response<Fetch>, Status> {
        Ok(Response::new(self.0.read()))
    }
}

/// One call's fetching. A newer call ends it: what was sent once is not sent again.
pub(super) struct Fetch {
    from: Prints,
    reader: u64,
}

impl Stream for Fetch {
    type Item = Result<StdioData, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut kept = self.from.lock();
        if kept.reader != self.reader {
            return Poll::Ready(None);
        }
        let dropped = std::mem::take(&mut kept.dropped_bytes);
        let Some((channel, mut data)) = kept.pieces.pop_front() else {
            if kept.ended {
                return Poll::Ready(None);
            }
            kept.dropped_bytes = dropped;
            kept.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let piece = data.split_to(data.len().min(PIECE_BYTES_MAX));
        kept.bytes -= piece.len();
        if !data.is_empty() {
            kept.pieces.push_front((channel, data));
        }
        drop(kept);
        if dropped > 0 {
            log(Level::Warn, &format!("{dropped} bytes of what was printed were dropped"));
        }
        Poll::Ready(Some(Ok(StdioData { channel: channel.into(), data: piece.to_vec() })))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    fn fetched(fetch: &mut Fetch) -> Option<(i32, usize)> {
        let next = futures_util::FutureExt::now_or_never(fetch.next())?;
        next.map(|piece| piece.expect("no error")).map(|piece| (piece.channel, piece.data.len()))
    }

    #[test]
    fn prints_come_in_their_order_and_in_pieces() {
        let prints = Prints::default();
        prints.push(Channel::Stdout, vec![0; 2500].into());
        prints.push(Channel::Stderr, vec![0; 1].into());
        let mut fetch = prints.read();
        let pieces: Vec<_> = std::iter::from_fn(|| fetched(&mut fetch)).collect();
        assert_eq!(pieces, [(1, 1024), (1, 1024), (1, 452), (2, 1)]);
    }

    #[test]
    fn what_nobody_fetches_is_bounded_and_later_prints_come_again() {
        let prints = Prints::default();
        for _ in 0..KEPT_BYTES_MAX / 1000 + 100 {
            prints.push(Channel::Stdout, vec![0; 1000].into());
        }
        let mut fetch = prints.read();
        let bytes: usize = std::iter::from_fn(|| fetched(&mut fetch)).map(|(_, len)| len).sum();
        assert_eq!(bytes, KEPT_BYTES_MAX / 1000 * 1000);
        prints.push(Channel::Stdout, vec![0; 7].into());
        assert_eq!(fetched(&mut fetch), Some((1, 7)));
    }

    #[tokio::test]
    async fn a_newer_call_ends_the_older_one_and_the_end_ends_both() {
        let prints = Prints::default();
        let mut first = prints.read();
        let mut second = prints.read();
        assert!(first.next().await.is_none());
        prints.push(Channel::Stdout, vec![0; 7].into());
        prints.end();
        assert!(second.next().await.is_some());
        assert!(second.next().await.is_none());
    }
}
