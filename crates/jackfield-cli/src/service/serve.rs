//! Listeners and connections.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Entry, Service, routes};
use crate::token::Token;

/// Connections of one listener at once. More wait to be accepted.
const CONNECTIONS_MAX: usize = 512;

/// Time for the head of a request to arrive. A connection on which nothing is asked for so long is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Time after which a listener that could not accept tries again: it has no descriptor left, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where requests come in.
#[derive(Debug)]
pub(crate) enum Listener {
    #[cfg(unix)]
    Unix(tokio::net::UnixListener),
    Tcp(TcpListener, Token),
}

/// Serves what comes in by a listener until the service is stopped; then ends when all that came in is answered.
pub(crate) async fn serve(listener: Listener, service: Arc<Service>) {
    let token = match &listener {
        #[cfg(unix)]
        Listener::Unix(_) => None,
        Listener::Tcp(_, token) => Some(token.clone()),
    };
    let router = routes::router(Entry { service: Arc::clone(&service), token });
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            Ok(place) = Arc::clone(&room).acquire_owned() => place,
            () = service.stopped() => break,
        };
        let stream = tokio::select! {
            stream = accept(&listener) => stream,
            () = service.stopped() => break,
        };
        // Those that ended are forgotten.
        while connections.try_join_next().is_some() {}
        match stream {
            Ok(stream) => {
                let (service, router) = (Arc::clone(&service), router.clone());
                connections.spawn(async move {
                    let _place = place;
                    converse(stream, &service, router).await;
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Nobody is let in any more, and whoever tries is told so.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Bytes to a client and back.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn accept(listener: &Listener) -> io::Result<Box<dyn Stream>> {
    match listener {
        #[cfg(unix)]
        Listener::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        Listener::Tcp(listener, _) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
    }
}

async fn converse(stream: Box<dyn Stream>, service: &Service, router: axum::Router) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).half_close(false);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = service.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended: {error}");
    }
}
