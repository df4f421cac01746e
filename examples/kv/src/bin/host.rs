//! A host that calls services of its plugins with clients of its own, and is called back by one.
//!
//! `kv-rust-host DIR` loads the plugins in the directory: `kv-rust` or `kv-go`, and `counter-rust`.

use std::error::Error;

use jackfield::Host;
use kv::counter::adder_server::{Adder, AdderServer};
use kv::counter::counter_client::CounterClient;
use kv::counter::{AddRequest, SumRequest, SumResponse, WatchRequest};
use kv::proto::kv_client::KvClient;
use kv::proto::{GetRequest, PutRequest};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

struct Sums;

#[tonic::async_trait]
impl Adder for Sums {
    async fn sum(&self, request: Request<SumRequest>) -> Result<Response<SumResponse>, Status> {
        let SumRequest { a, b } = request.into_inner();
        println!("the plugin asks for {a} + {b}");
        a.checked_add(b).map(|sum| Response::new(SumResponse { sum })).ok_or_else(|| Status::out_of_range("too much"))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args().nth(1).ok_or("usage: kv-rust-host DIR")?;
    let host = Host::builder().plugin_dir(dir).build().await?;
    for refused in host.refused() {
        eprintln!("refused: {refused}");
    }
    for name in ["kv-rust", "kv-go"] {
        let Some(connection) = host.plugin(name).ok().and_then(|plugin| plugin.connection()) else { continue };
        let mut kv = KvClient::new(connection.channel);
        kv.put(PutRequest { key: "hello".into(), value: b"world".into() }).await?;
        let value = kv.get(GetRequest { key: "hello".into() }).await?.into_inner().value;
        println!("{name}: hello is {}", String::from_utf8_lossy(&value));
    }
    if let Some(connection) = host.plugin("counter-rust").ok().and_then(|plugin| plugin.connection()) {
        let adder = connection.broker.next_id();
        let _serving = connection.broker.serve(adder, Routes::new(AdderServer::new(Sums)))?;
        let mut counter = CounterClient::new(connection.channel);
        let mut changes = counter.watch(WatchRequest { name: "apples".into() }).await?.into_inner();
        for amount in [3, 4] {
            counter.add(AddRequest { name: "apples".into(), amount, adder }).await?;
        }
        while let Some(count) = changes.message().await? {
            // Changes that come quickly are told together; the last is always told.
            if count.value == 7 {
                println!("{} {}", count.value, count.name);
                break;
            }
        }
    }
    host.stop().await;
    Ok(())
}
