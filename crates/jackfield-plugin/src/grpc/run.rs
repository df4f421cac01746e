//! Connections taken, until the end.

use std::io;
use std::time::Duration;

use jackfield_grpc::broker::{Broker, DIAL_TIMEOUT};
use jackfield_grpc::mux::{Mux, Role};
use jackfield_grpc::net::{Listener, Stream};
use jackfield_grpc::serve;
use jackfield_grpc::tls::Tls;
use jackfield_grpc::tonic::service::Routes;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::stdio::{Captured, Prints};
use crate::log::{Level, log};

/// Time that calls under way have to end. A host gives the whole process twice as much.
const END_GRACE: Duration = Duration::from_secs(1);

/// Time that the last prints have to be read, which takes none unless another program holds the pipe, too.
const PRINTS_GRACE: Duration = Duration::from_millis(50);

/// A plugin that listens.
pub(super) struct Listening {
    pub(super) listener: Listener,
    pub(super) tls: Option<Tls>,
    pub(super) multiplexed: bool,
    pub(super) routes: Routes,
    pub(super) broker: Broker,
    pub(super) prints: Prints,
    pub(super) captured: Option<Captured>,
    pub(super) stop: CancellationToken,
}

impl Listening {
    /// Serves until `stop` is cancelled. Order: no new connections and calls, the broker's messages end, the last
    /// prints are sent, calls under way end, sockets go.
    pub(super) async fn run(self) {
        let Self { listener, tls, multiplexed, routes, broker, prints, captured, stop } = self;
        let tasks = TaskTracker::new();
        let connections = Connections { tls, routes, stop: stop.clone(), tasks: tasks.clone() };
        if multiplexed {
            connections.take_one(&listener, &broker).await;
        } else {
            connections.take_all(&listener).await;
        }
        broker.close();
        if let Some(captured) = captured {
            let released = tokio::task::spawn_blocking(move || captured.release());
            if timeout(PRINTS_GRACE, released).await.is_err() {
                log(Level::Debug, "a program that this plugin started still has its stdout");
            }
        }
        prints.end();
        tasks.close();
        let ended = timeout(END_GRACE, async {
            tasks.wait().await;
            broker.closed().await;
        });
        if ended.await.is_err() {
            log(Level::Warn, "ended while calls were unanswered");
        }
    }
}

struct Connections {
    tls: Option<Tls>,
    routes: Routes,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Connections {
    /// Takes connections until the end. One that is closed at once is a host that looks whether we are here.
    async fn take_all(&self, listener: &Listener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok(stream) => self.serve(stream),
                Err(error) => {
                    // As when there are too many open files: that passes.
                    log(Level::Warn, &format!("a connection was not taken: {error}"));
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    /// Takes the one connection that carries all others. Its end is the plugin's: a host makes no second one.
    async fn take_one(&self, listener: &Listener, broker: &Broker) {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = self.stop.cancelled() => return,
        };
        match accepted {
            Ok(stream) => broker.begin(Mux::new(stream, Role::Plugin)),
            Err(error) => {
                log(Level::Error, &format!("the host's connection was not taken: {error}"));
                return self.stop.cancel();
            }
        }
        loop {
            let stream = tokio::select! {
                stream = broker.accept_main() => stream,
                () = self.stop.cancelled() => return,
            };
            match stream {
                Some(stream) => self.serve(stream),
                None => return self.stop.cancel(),
            }
        }
    }

    fn serve(&self, stream: Stream) {
        let (tls, routes, stop) = (self.tls.clone(), self.routes.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let served = async {
                let stream = match tls {
                    Some(tls) => tokio::select! {
                        secured = timeout(DIAL_TIMEOUT, tls.accept(stream)) => secured.map_err(io::Error::from)??,
                        () = stop.cancelled() => return Ok(()),
                    },
                    None => stream,
                };
                serve::connection(stream, routes, stop.cancelled()).await
            };
            if let Err(error) = served.await {
                // How a stranger is refused, and how a host that is gone is noticed.
                log(Level::Debug, &format!("a connection ended with an error: {error}"));
            }
        });
    }
}
