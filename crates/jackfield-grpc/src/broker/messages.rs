//! The stream of messages between the two brokers, in both roles.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::Stream;
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::Shared;
use crate::channel::Channel;
use crate::pb::plugin::ConnInfo;
use crate::pb::plugin::conn_info::Knock;
use crate::pb::plugin::grpc_broker_client::GrpcBrokerClient;
use crate::pb::plugin::grpc_broker_server::GrpcBroker;

/// Messages to the other side. What is said before there is a stream waits for one.
#[derive(Default)]
pub(super) struct Outbox(Mutex<Line>);

enum Line {
    Waiting(VecDeque<ConnInfo>),
    Open(mpsc::UnboundedSender<ConnInfo>),
    Closed,
}

impl Default for Line {
    fn default() -> Self {
        Line::Waiting(VecDeque::new())
    }
}

impl Outbox {
    /// Says something to the other side, now or when there is a stream.
    pub(super) fn send(&self, info: ConnInfo) {
        let mut line = self.lock();
        match &mut *line {
            Line::Waiting(queue) => queue.push_back(info),
            Line::Open(to) => {
                // The stream has ended, and another one may come: a plugin can have one host after the other.
                if let Err(mpsc::error::SendError(info)) = to.send(info) {
                    *line = Line::Waiting([info].into());
                }
            }
            Line::Closed => {}
        }
    }

    /// What is to be sent over a new stream. An older stream gets nothing any more.
    fn open(&self) -> impl Stream<Item = ConnInfo> + Send + 'static {
        let (to, mut from) = mpsc::unbounded_channel();
        let mut line = self.lock();
        match &mut *line {
            Line::Waiting(queue) => {
                for info in queue.drain(..) {
                    // Its receiver is here.
                    let _ = to.send(info);
                }
                *line = Line::Open(to);
            }
            Line::Open(_) => *line = Line::Open(to),
            Line::Closed => {}
        }
        stream::poll_fn(move |cx| from.poll_recv(cx))
    }

    /// What waits for a stream.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> Vec<ConnInfo> {
        match &*self.lock() {
            Line::Waiting(queue) => queue.iter().cloned().collect(),
            Line::Open(_) | Line::Closed => Vec::new(),
        }
    }

    pub(super) fn close(&self) {
        *self.lock() = Line::Closed;
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// The host's part.
    pub(super) async fn attach(self: &Arc<Self>, mut client: GrpcBrokerClient<Channel>) -> Result<(), Status> {
        let exchange = async {
            let incoming = client.start_stream(self.messages.open()).await?.into_inner();
            self.take_messages(incoming).await
        };
        tokio::select! {
            done = exchange => done,
            () = self.stop.cancelled() => Ok(()),
        }
    }

    async fn take_messages(self: &Arc<Self>, mut incoming: Streaming<ConnInfo>) -> Result<(), Status> {
        while let Some(info) = incoming.message().await? {
            self.take_message(info);
        }
        Ok(())
    }

    pub(super) fn take_message(self: &Arc<Self>, info: ConnInfo) {
        match info.knock {
            Some(Knock { ack: false, .. }) => self.knocked(info.service_id),
            _ => self.dials.answered(info),
        }
    }
}

/// The plugin's part.
#[derive(Clone)]
pub struct BrokerService(Arc<Shared>);

impl BrokerService {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

impl std::fmt::Debug for BrokerService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BrokerService")
    }
}

#[tonic::async_trait]
impl GrpcBroker for BrokerService {
    type StartStreamStream = Pin<Box<dyn Stream<Item = Result<ConnInfo, Status>> + Send>>;

    async fn start_stream(
        &self,
        request: Request<Streaming<ConnInfo>>,
    ) -> Result<Response<Self::StartStreamStream>, Status> {
        let outgoing = self.0.messages.open();
        let shared = self.0.clone();
        self.0.tasks.spawn(async move {
            tokio::select! {
                // That the host is gone is for the server to see.
                _ = shared.take_messages(request.into_inner()) => {}
                () = shared.stop.cancelled() => {}
            }
        });
        Ok(Response::new(outgoing.map(Ok).boxed()))
    }
}
