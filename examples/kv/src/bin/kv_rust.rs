//! A store of values, as a plugin for every host of go-plugin.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use jackfield_plugin::grpc::tonic::{self, Request, Response, Status};
use jackfield_plugin::grpc::{Cookie, Server};
use kv::proto::kv_server::{Kv, KvServer};
use kv::proto::{Empty, GetRequest, GetResponse, PutRequest};

#[derive(Default)]
struct Store(Mutex<HashMap<String, Vec<u8>>>);

#[tonic::async_trait]
impl Kv for Store {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let key = request.into_inner().key;
        let values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match values.get(&key) {
            Some(value) => Ok(Response::new(GetResponse { value: value.clone() })),
            None => Err(Status::not_found(format!("nothing under the key {key:?}"))),
        }
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<Empty>, Status> {
        let PutRequest { key, value } = request.into_inner();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value);
        Ok(Response::new(Empty {}))
    }
}

fn main() -> ExitCode {
    Server::new(Cookie::new("BASIC_PLUGIN", "hello"))
        .version(1, |services| {
            services.add(KvServer::new(Store::default()));
        })
        .descriptors(kv::DESCRIPTORS)
        .serve()
}
