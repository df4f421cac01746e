//! Further connections between a host and a plugin, by number.
//!
//! One side accepts a number and the other dials it; how the other learns the number is the application's
//! business, a field of a message as a rule. Each side counts its own numbers, and what one accepts has
//! nothing to do with what it dials.
//!
//! The two sides talk over one stream of gRPC, `plugin.GRPCBroker/StartStream`. *Plain*: whoever accepts makes
//! a socket and says where. *Multiplexed*: whoever dials knocks, waits until the other side says that it will
//! take the connection, and opens it; the next connection that arrives is the one that was knocked for, which
//! is why a side dials one at a time.
//!
//! Not here: who opens that stream and when (the roles).

mod accept;
mod dial;
mod error;
mod messages;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use crate::channel::Channel;
use crate::mux::{Mux, Role};
use crate::net::{Place, Stream};
use crate::pb::plugin::grpc_broker_client::GrpcBrokerClient;
use crate::pb::plugin::grpc_broker_server::GrpcBrokerServer;
use crate::tls::Tls;
pub use accept::{Incoming, Serving, Unsecured};
pub use error::BrokerError;
pub use messages::BrokerService;

/// Time within which the other side says where a connection is, or that it takes it, and then takes it.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// Time that a number which is knocked for has to be accepted. The message that told the other side the number
/// may well be quicker than this side's call of `accept`.
pub const KNOCK_GRACE: Duration = Duration::from_secs(1);

/// Makes connections, by number. A clone is another handle; when the last one is gone, the broker is closed.
#[derive(Clone)]
pub struct Broker {
    shared: Arc<Shared>,
    _handle: Arc<Handle>,
}

pub(crate) struct Shared {
    transport: Transport,
    tls: Option<Tls>,
    last_id: AtomicU32,
    messages: messages::Outbox,
    dials: dial::Dials,
    stop: CancellationToken,
    tasks: TaskTracker,
}

enum Transport {
    Plain(Place),
    Multiplexed(accept::Doors),
}

struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Broker {
    /// A broker that makes a socket for each connection.
    pub fn plain(place: Place, tls: Option<Tls>) -> Self {
        Self::new(Transport::Plain(place), tls)
    }

    /// A broker whose connections are part of one.
    ///
    /// It takes all connections that the other side opens. Of a plugin's broker, those that were not knocked
    /// for are had from [`Broker::accept_main`]: the first one is the host's, for all of the plugin's services.
    pub fn multiplexed(mux: Mux, role: Role, tls: Option<Tls>) -> Self {
        let broker = Self::multiplexed_soon(role, tls);
        broker.begin(mux);
        broker
    }

    /// A broker whose connections will be part of one, given to [`Broker::begin`]. Until then it dials nothing.
    pub fn multiplexed_soon(role: Role, tls: Option<Tls>) -> Self {
        Self::new(Transport::Multiplexed(accept::Doors::new(role)), tls)
    }

    /// Gives the connection to a broker from [`Broker::multiplexed_soon`]. Only the first one counts.
    ///
    /// Must be called within a tokio runtime.
    pub fn begin(&self, mux: Mux) {
        if let Transport::Multiplexed(doors) = &self.shared.transport
            && doors.begin(mux.clone())
        {
            let shared = self.shared.clone();
            self.shared.tasks.spawn(async move { shared.let_in(&mux).await });
        }
    }

    fn new(transport: Transport, tls: Option<Tls>) -> Self {
        let shared = Arc::new(Shared {
            transport,
            tls,
            last_id: AtomicU32::new(0),
            messages: messages::Outbox::default(),
            dials: dial::Dials::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        Self { _handle: Arc::new(Handle(shared.clone())), shared }
    }

    /// A number that this side has not used. The first is 1.
    pub fn next_id(&self) -> u32 {
        self.shared.last_id.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// Connects to what the other side accepts under this number.
    ///
    /// Ends with an error when the other side has not said where within [`DIAL_TIMEOUT`], or has not taken the
    /// connection within as long.
    pub async fn dial(&self, id: u32) -> Result<Channel, BrokerError> {
        self.shared.dial(id).await
    }

    /// Accepts connections under this number, from now on and until what is returned is dropped.
    ///
    /// Must be called within a tokio runtime.
    pub fn accept(&self, id: u32) -> Result<Incoming, BrokerError> {
        Shared::accept(&self.shared, id)
    }

    /// Serves connections under this number, from now on and until the broker is closed or
    /// [`Serving::stop`] is called.
    ///
    /// Must be called within a tokio runtime.
    pub fn serve(&self, id: u32, routes: tonic::service::Routes) -> Result<Serving, BrokerError> {
        let incoming = self.accept(id)?;
        Ok(incoming.serve(routes))
    }

    /// A multiplexed connection that the other side opened without knocking; `None` at the end, and without
    /// multiplexing.
    pub async fn accept_main(&self) -> Option<Stream> {
        match &self.shared.transport {
            Transport::Plain(_) => None,
            Transport::Multiplexed(doors) => doors.accept_main().await,
        }
    }

    /// The host's part: exchanges messages with the plugin over its main connection, until either side ends it.
    ///
    /// To be run in a task: a plugin in Go answers only once it has something to say.
    pub async fn attach(&self, channel: Channel) -> Result<(), Status> {
        self.shared.attach(GrpcBrokerClient::new(channel)).await
    }

    /// The plugin's part: the service by which a host exchanges messages with it.
    pub fn service(&self) -> GrpcBrokerServer<BrokerService> {
        GrpcBrokerServer::new(BrokerService::new(self.shared.clone()))
    }

    /// Ends the exchange of messages, and takes no more connections. Calls on served connections are finished.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Waits until all that was served is over and the files of sockets are gone, after [`Broker::close`].
    pub async fn closed(&self) {
        self.shared.stop.cancelled().await;
        self.shared.tasks.wait().await;
    }
}

impl Shared {
    fn close(&self) {
        self.stop.cancel();
        self.messages.close();
        self.dials.close();
        self.tasks.close();
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.shared.transport {
            Transport::Plain(_) => "Broker",
            Transport::Multiplexed(_) => "Broker(multiplexed)",
        })
    }
}

#[cfg(test)]
mod tests;
