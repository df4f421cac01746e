//! A plugin that calls its host back, and streams.

use std::collections::HashMap;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use jackfield_plugin::grpc::tonic::{self, Request, Response, Status};
use jackfield_plugin::grpc::{Broker, Cookie, Server};
use kv::counter::adder_client::AdderClient;
use kv::counter::counter_server::{Counter, CounterServer};
use kv::counter::{AddRequest, Count, SumRequest, WatchRequest};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt as _};

struct Counts {
    broker: Broker,
    counts: Mutex<HashMap<String, watch::Sender<i64>>>,
}

impl Counts {
    fn of(&self, name: &str) -> watch::Sender<i64> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.entry(name.to_owned()).or_default().clone()
    }
}

#[tonic::async_trait]
impl Counter for Counts {
    async fn add(&self, request: Request<AddRequest>) -> Result<Response<Count>, Status> {
        let AddRequest { name, amount, adder } = request.into_inner();
        // The host serves its adder under this number, on a connection of its own.
        let host = self.broker.dial(adder).await.map_err(|error| Status::unavailable(error.to_string()))?;
        let count = self.of(&name);
        let before = *count.borrow();
        let sum = AdderClient::new(host).sum(SumRequest { a: before, b: amount }).await?.into_inner().sum;
        count.send_replace(sum);
        Ok(Response::new(Count { name, value: sum }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<Count, Status>> + Send>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let name = request.into_inner().name;
        let changes = WatchStream::new(self.of(&name).subscribe());
        Ok(Response::new(Box::pin(changes.map(move |value| Ok(Count { name: name.clone(), value })))))
    }
}

fn main() -> ExitCode {
    Server::new(Cookie::new("COUNTER_PLUGIN", "one-two-three"))
        .version(1, |services| {
            let counts = Counts { broker: services.broker(), counts: Mutex::default() };
            services.add(CounterServer::new(counts));
        })
        .descriptors(kv::DESCRIPTORS)
        .serve()
}
