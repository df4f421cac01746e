//! Connections that this side takes.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::{BrokerError, DIAL_TIMEOUT, KNOCK_GRACE, Shared, Transport};
use crate::mux::{Mux, Role};
use crate::net::{Listener, Stream};
use crate::pb::plugin::ConnInfo;
use crate::pb::plugin::conn_info::Knock;
use crate::serve;
use crate::tls::Tls;

/// Which connection of a multiplexed one goes to whom.
pub(super) struct Doors {
    mux: OnceLock<Mux>,
    role: Role,
    table: Mutex<Table>,
    /// Changed whenever a number is accepted.
    accepted: watch::Sender<()>,
    main: tokio::sync::Mutex<mpsc::UnboundedReceiver<Stream>>,
}

struct Table {
    open: HashMap<u32, mpsc::UnboundedSender<Stream>>,
    /// Numbers whose connections come next, in this order.
    expected: VecDeque<u32>,
    main: Option<mpsc::UnboundedSender<Stream>>,
}

impl Doors {
    pub(super) fn new(role: Role) -> Self {
        let (to_main, main) = mpsc::unbounded_channel();
        let table = Table { open: HashMap::new(), expected: VecDeque::new(), main: Some(to_main) };
        Self {
            mux: OnceLock::new(),
            role,
            table: Mutex::new(table),
            accepted: watch::Sender::new(()),
            main: main.into(),
        }
    }

    /// Whether there was no connection before.
    pub(super) fn begin(&self, mux: Mux) -> bool {
        self.mux.set(mux).is_ok()
    }

    pub(super) fn mux(&self) -> Option<&Mux> {
        self.mux.get()
    }

    pub(super) async fn accept_main(&self) -> Option<Stream> {
        self.main.lock().await.recv().await
    }

    /// Whether a knock waits for its number to be accepted.
    #[cfg(test)]
    pub(super) fn waits_for_acceptance(&self) -> bool {
        self.accepted.receiver_count() > 0
    }

    fn open(&self, id: u32) -> Result<mpsc::UnboundedReceiver<Stream>, BrokerError> {
        let mut table = self.lock();
        if table.open.get(&id).is_some_and(|other| !other.is_closed()) {
            return Err(BrokerError::InUse { id });
        }
        let (to, from) = mpsc::unbounded_channel();
        table.open.insert(id, to);
        drop(table);
        self.accepted.send_replace(());
        Ok(from)
    }

    /// Whether the number is accepted; its connection is the next one, then.
    fn expect(&self, id: u32) -> bool {
        let mut table = self.lock();
        let open = table.open.get(&id).is_some_and(|door| !door.is_closed());
        if open {
            table.expected.push_back(id);
        }
        open
    }

    /// Hands a connection to whoever it is for.
    fn let_in(&self, stream: Stream) {
        let mut table = self.lock();
        let door = match table.expected.pop_front() {
            Some(id) => table.open.get(&id),
            None if self.role == Role::Plugin => table.main.as_ref(),
            None => None,
        };
        match door {
            // Whoever accepted it may have stopped meanwhile; then the connection is closed.
            Some(door) => drop(door.send(stream)),
            None => tracing::warn!("the plugin opened a connection without knocking, which was closed"),
        }
    }

    fn end(&self) {
        let mut table = self.lock();
        table.main = None;
        table.open.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Takes the connections of a multiplexed one, to its end.
    pub(super) async fn let_in(&self, mux: &Mux) {
        let Transport::Multiplexed(doors) = &self.transport else { return };
        loop {
            let stream = tokio::select! {
                stream = mux.accept() => stream,
                () = self.stop.cancelled() => None,
            };
            match stream {
                Some(stream) => doors.let_in(stream),
                None => return doors.end(),
            }
        }
    }

    pub(super) fn accept(shared: &Arc<Self>, id: u32) -> Result<Incoming, BrokerError> {
        if shared.stop.is_cancelled() {
            return Err(BrokerError::Closed { id });
        }
        let source = match &shared.transport {
            Transport::Plain(place) => {
                let listener = Listener::bind(place).map_err(|source| BrokerError::Bind { id, source })?;
                shared.messages.send(ConnInfo {
                    service_id: id,
                    network: listener.address().network().to_owned(),
                    address: listener.address().location(),
                    knock: None,
                });
                Source::Socket(listener)
            }
            Transport::Multiplexed(doors) => Source::Door(doors.open(id)?),
        };
        Ok(Incoming { id, source, shared: shared.clone() })
    }

    /// The other side wants to know whether a connection of this number will be taken.
    pub(super) fn knocked(self: &Arc<Self>, id: u32) {
        let Transport::Multiplexed(doors) = &self.transport else {
            return self.answer_knock(id, "this side does not multiplex its connections".to_owned());
        };
        if doors.expect(id) {
            return self.answer_knock(id, String::new());
        }
        let shared = self.clone();
        self.tasks.spawn(async move {
            let Transport::Multiplexed(doors) = &shared.transport else { return };
            let mut accepted = doors.accepted.subscribe();
            let expected = timeout(KNOCK_GRACE, async {
                while !doors.expect(id) {
                    // It is changed by this table alone, which is not gone.
                    let _ = accepted.changed().await;
                }
            });
            tokio::select! {
                expected = expected => {
                    let error = if expected.is_ok() { String::new() } else { format!("no listener for id {id}") };
                    shared.answer_knock(id, error);
                }
                () = shared.stop.cancelled() => {}
            }
        });
    }

    fn answer_knock(&self, id: u32, error: String) {
        let knock = Knock { knock: true, ack: true, error };
        self.messages.send(ConnInfo { service_id: id, knock: Some(knock), ..ConnInfo::default() });
    }
}

/// Connections under one number.
pub struct Incoming {
    id: u32,
    source: Source,
    shared: Arc<Shared>,
}

enum Source {
    Socket(Listener),
    Door(mpsc::UnboundedReceiver<Stream>),
}

impl Incoming {
    /// The number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The next connection; `None` when there will be no more.
    pub async fn accept(&mut self) -> Option<io::Result<Unsecured>> {
        let tls = self.shared.tls.clone();
        let accepted = match &mut self.source {
            Source::Socket(listener) => tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.shared.stop.cancelled() => return None,
            },
            Source::Door(door) => Ok(door.recv().await?),
        };
        Some(accepted.map(|stream| Unsecured { stream, tls }))
    }

    /// Serves all of them, in tasks of their own.
    pub fn serve(mut self, routes: Routes) -> Serving {
        let stop = self.shared.stop.child_token();
        let serving = Serving { stop: stop.clone() };
        let tasks = self.shared.tasks.clone();
        let routes = routes.prepare();
        let in_tasks = tasks.clone();
        tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = self.accept() => accepted,
                    () = stop.cancelled() => None,
                };
                match accepted {
                    Some(Ok(connection)) => {
                        drop(in_tasks.spawn(one_connection(connection, routes.clone(), stop.clone())));
                    }
                    Some(Err(error)) => {
                        tracing::warn!("no more connections under {}: {error}", self.id);
                        return;
                    }
                    None => return,
                }
            }
        });
        serving
    }
}

async fn one_connection(connection: Unsecured, routes: Routes, stop: CancellationToken) {
    let served = async {
        let stream = tokio::select! {
            secured = timeout(DIAL_TIMEOUT, connection.secure()) => secured.map_err(io::Error::from)??,
            () = stop.cancelled() => return Ok(()),
        };
        serve::connection(stream, routes, stop.cancelled()).await
    };
    if let Err(error) = served.await {
        // Also how a stranger is refused.
        tracing::debug!("a connection ended with an error: {error}");
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incoming({})", self.id)
    }
}

/// A connection of which it is not known yet who is at its other end.
#[derive(Debug)]
pub struct Unsecured {
    stream: Stream,
    tls: Option<Tls>,
}

impl Unsecured {
    /// The connection, under TLS if the broker has it. Waits for the other side, so one that says nothing
    /// should keep nobody waiting.
    pub async fn secure(self) -> io::Result<Stream> {
        match self.tls {
            Some(tls) => tls.accept(self.stream).await,
            None => Ok(self.stream),
        }
    }
}

/// Services under one number. Dropped, it changes nothing.
#[derive(Clone, Debug)]
pub struct Serving {
    stop: CancellationToken,
}

impl Serving {
    /// Takes no more connections, and closes those there are when their calls are over.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}
