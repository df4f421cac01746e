//! Connections that this side asks for.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::{BrokerError, DIAL_TIMEOUT, Shared, Transport};
use crate::channel::Channel;
use crate::mux::Mux;
use crate::net::{self, Address, Stream};
use crate::pb::plugin::ConnInfo;
use crate::pb::plugin::conn_info::Knock;

/// What the other side has said of numbers, and who waits for it to say something.
#[derive(Default)]
pub(super) struct Dials {
    table: Mutex<Table>,
    /// Held by the one dial that a multiplexed connection has at a time.
    one_at_a_time: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Table {
    entries: HashMap<u32, Dial>,
    closed: bool,
}

enum Dial {
    /// It was said before anybody asked, at this time.
    Answered(ConnInfo, Instant),
    Awaited(oneshot::Sender<ConnInfo>),
}

impl Dials {
    /// The other side has said something. Only the first word about a number counts.
    pub(super) fn answered(&self, info: ConnInfo) {
        let mut table = self.lock();
        if table.closed {
            return;
        }
        let now = Instant::now();
        // What nobody asked for in time is forgotten.
        table.entries.retain(|_, dial| match dial {
            Dial::Answered(_, at) => now - *at < DIAL_TIMEOUT,
            Dial::Awaited(waiting) => !waiting.is_closed(),
        });
        match table.entries.entry(info.service_id) {
            Entry::Vacant(vacant) => drop(vacant.insert(Dial::Answered(info, now))),
            Entry::Occupied(occupied) if matches!(occupied.get(), Dial::Awaited(_)) => {
                if let Dial::Awaited(waiting) = occupied.remove() {
                    // Nobody waits any more: then nobody asked.
                    let _ = waiting.send(info);
                }
            }
            Entry::Occupied(_) => {}
        }
    }

    /// What the other side says, or has said, of a number.
    fn ask(&self, id: u32) -> Result<oneshot::Receiver<ConnInfo>, BrokerError> {
        let (tell, told) = oneshot::channel();
        let mut table = self.lock();
        if table.closed {
            return Err(BrokerError::Closed { id });
        }
        match table.entries.remove(&id) {
            Some(Dial::Answered(info, at)) if at.elapsed() < DIAL_TIMEOUT => {
                // Its receiver is here.
                let _ = tell.send(info);
            }
            Some(Dial::Awaited(waiting)) if !waiting.is_closed() => {
                table.entries.insert(id, Dial::Awaited(waiting));
                return Err(BrokerError::InUse { id });
            }
            _ => drop(table.entries.insert(id, Dial::Awaited(tell))),
        }
        Ok(told)
    }

    /// Whether somebody waits to hear of a number.
    #[cfg(test)]
    pub(super) fn awaits(&self, id: u32) -> bool {
        matches!(self.lock().entries.get(&id), Some(Dial::Awaited(_)))
    }

    pub(super) fn close(&self) {
        let mut table = self.lock();
        table.closed = true;
        table.entries.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    pub(super) async fn dial(self: &Arc<Self>, id: u32) -> Result<Channel, BrokerError> {
        match &self.transport {
            Transport::Plain(_) => self.dial_plain(id).await,
            Transport::Multiplexed(doors) => {
                let mux = doors.mux().ok_or(BrokerError::NotConnected { id })?;
                self.dial_multiplexed(mux, id).await
            }
        }
    }

    async fn dial_plain(&self, id: u32) -> Result<Channel, BrokerError> {
        let waited = DIAL_TIMEOUT;
        let info = match timeout(waited, self.dials.ask(id)?).await {
            Ok(Ok(info)) => info,
            Ok(Err(_)) => return Err(BrokerError::Closed { id }),
            Err(_) => return Err(BrokerError::NoAddress { id, waited }),
        };
        let address = Address::parse(&info.network, &info.address);
        let address = address.map_err(|source| BrokerError::Address { id, source })?;
        let connected = timeout(waited, async { self.speak(net::connect(&address).await?).await }).await;
        connected
            .map_err(|_| BrokerError::NotTaken { id, waited })?
            .map_err(|source| BrokerError::Connect { id, source })
    }

    async fn dial_multiplexed(&self, mux: &Mux, id: u32) -> Result<Channel, BrokerError> {
        // Until the other side has taken the connection: it tells them apart by their order alone, and what
        // is written first is not necessarily sent first.
        let _alone = self.dials.one_at_a_time.lock().await;
        let waited = DIAL_TIMEOUT;
        let answer = self.dials.ask(id)?;
        let knock = Knock { knock: true, ack: false, error: String::new() };
        self.messages.send(ConnInfo { service_id: id, knock: Some(knock), ..ConnInfo::default() });
        match timeout(waited, answer).await {
            Ok(Ok(ConnInfo { knock: Some(knock), .. })) if knock.error.is_empty() => {}
            Ok(Ok(ConnInfo { knock: Some(knock), .. })) => return Err(BrokerError::Refused { id, why: knock.error }),
            Ok(Ok(ConnInfo { knock: None, .. })) => {
                let why = "it does not multiplex its connections".to_owned();
                return Err(BrokerError::Refused { id, why });
            }
            Ok(Err(_)) => return Err(BrokerError::Closed { id }),
            Err(_) => return Err(BrokerError::NoAnswer { id, waited }),
        }
        let connected = timeout(waited, async {
            let opened = mux.open().await?;
            let channel = self.speak(opened.stream).await?;
            // Without a word from there, the connection was closed.
            opened.taken.await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionReset))?;
            Ok(channel)
        });
        connected
            .await
            .map_err(|_| BrokerError::NotTaken { id, waited })?
            .map_err(|source| BrokerError::Connect { id, source })
    }

    async fn speak(&self, stream: Stream) -> io::Result<Channel> {
        let stream = match &self.tls {
            Some(tls) => tls.connect(stream).await?,
            None => stream,
        };
        Channel::connect(stream).await
    }
}
