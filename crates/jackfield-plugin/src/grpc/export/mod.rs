//! The interfaces of an `export!`, over gRPC.
//!
//! Each interface is a service of its own, with protobuf's messages, for whoever speaks gRPC; a Jackfield host
//! makes its calls over one stream of `jackfield.plugin.v1.Plugin` instead, in our own encodings.
//!
//! Calls are made as those of a program on pipes are (`process/`): the thread that has read a call makes it, and
//! when that takes long, another thread reads on (`Turns` of `jackfield-serve`). Here to read is to drive a runtime
//! of one thread, which has the connections. A short call is thus never handed to another thread, and a long one
//! keeps nobody waiting.
//!
//! Not here: what every plugin serves (`server.rs`), protobuf (`jackfield_protocol::protobuf`).

mod channel;
mod desk;
mod unary;

use std::process::ExitCode;
use std::sync::Arc;

use jackfield_grpc::handshake::{Cookie, JACKFIELD_APP_VERSION};
use jackfield_protocol::Interface;
use jackfield_protocol::protobuf::ProtoSchema;
use tokio::sync::mpsc;

use super::server::{Server, failed};
use super::services::Services;
use super::start::StartError;
use crate::instance::{Export, Served, interfaces};
use crate::log::{Level, log};
use desk::{Desk, Work};

/// Serves a plugin until the host ends it: the whole of `main`.
///
/// What the plugin prints to stdout goes to the host over gRPC, and what it prints to stderr to the host's log.
///
/// The exit code is 0 when the host ended it and 1 when it could not start; the reason is on stderr.
pub fn serve(export: &'static Export) -> ExitCode {
    let described = match interfaces(export) {
        Ok(described) => described,
        Err(error) => {
            log(Level::Error, &error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&StartError::Io(error)),
    };
    let schemas: Arc<[Offered]> = described.into_iter().map(Offered::new).collect();
    let (work, queue) = mpsc::unbounded_channel();
    let (made, instance) = std::sync::mpsc::channel();
    let server = schemas
        .iter()
        .filter_map(Offered::descriptors)
        .fold(Server::new(Cookie::jackfield()).name(export.name).keep_stderr(), Server::descriptors);
    let server = server.version(JACKFIELD_APP_VERSION, {
        let (schemas, work) = (schemas.clone(), work.clone());
        move |services| {
            // Here, where stdout is no longer the handshake's.
            let _ = made.send(Served::new(export));
            add(services, export, &schemas, &work);
        }
    });
    let listening = match runtime.block_on(async { server.start() }) {
        Ok(listening) => listening,
        Err(error) => return failed(&error),
    };
    let served = instance.recv().expect("the one version was chosen, and its services were made");
    runtime.spawn(async move {
        listening.run().await;
        // Nobody takes it if the calls ended otherwise.
        let _ = work.send(Work::End);
    });
    Desk::new(runtime, queue, served, schemas, export.workers).run();
    ExitCode::SUCCESS
}

fn add(services: &mut Services, export: &'static Export, schemas: &Arc<[Offered]>, work: &mpsc::UnboundedSender<Work>) {
    let mut names = std::collections::HashSet::new();
    for (position, offered) in schemas.iter().enumerate() {
        let Some(schema) = &offered.schema else { continue };
        let name = schema.full_name();
        if !names.insert(name.clone()) {
            log(Level::Warn, &format!("`{}` has the service of another interface, `{name}`", offered.interface.id));
            continue;
        }
        services.add_named(&name, unary::Unary::new(position, schemas.clone(), work.clone()));
    }
    services.add(channel::service(export, schemas, work.clone(), services.stop_token()));
}

/// An interface that is served.
pub(super) struct Offered {
    interface: &'static Interface,
    /// In protobuf, if it can be.
    schema: Option<ProtoSchema>,
}

impl Offered {
    fn new(interface: &'static Interface) -> Self {
        let schema = ProtoSchema::new(interface);
        if let Err(error) = &schema {
            log(Level::Warn, &format!("`{}` is served to Jackfield's hosts alone: {error}", interface.id));
        }
        Self { interface, schema: schema.ok() }
    }

    /// Its file described, as a set of one.
    fn descriptors(&self) -> Option<Vec<u8>> {
        let file = self.schema.as_ref()?.file_descriptor();
        // Field 1, of bytes, and their length.
        let mut set = vec![0x0a];
        let mut left = file.len();
        while left >= 0x80 {
            set.push((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        set.push(left as u8);
        set.extend_from_slice(&file);
        Some(set)
    }
}
