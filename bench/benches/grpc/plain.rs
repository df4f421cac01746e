//! tonic alone: its server on a Unix socket, in a process of its own, and its channel.

use std::error::Error;
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command, ExitCode};

use hyper_util::rt::TokioIo;
use matrix::pb::matrix_client::MatrixClient;
use matrix::pb::matrix_server::{Matrix, MatrixServer};
use matrix::pb::{
    Blob, CallBackRequest, CountRequest, DieRequest, Empty, LogRequest, Number, OfferReply, PrintRequest, Sum,
    VersionReply,
};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Request, Response, Status, Streaming};

/// Names the socket, in the process that serves.
pub(super) const SOCKET: &str = "JACKFIELD_BENCH_PLAIN_TONIC";

/// Says how many threads it has.
const THREADS: &str = "JACKFIELD_BENCH_PLAIN_TONIC_THREADS";
pub(super) const ONE_THREAD: &str = "1";
pub(super) const TWO_THREADS: &str = "2";

/// Ends with its owner.
pub(super) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the server and connects to it.
pub(super) async fn start(dir: &Path, threads: &str) -> Result<(Process, MatrixClient<Channel>), Box<dyn Error>> {
    let socket = dir.join("plain");
    let server = Process(Command::new(std::env::current_exe()?).env(SOCKET, &socket).env(THREADS, threads).spawn()?);
    loop {
        let socket = socket.clone();
        let connect = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        // Until it listens, there is no socket.
        if let Ok(channel) = Endpoint::from_static("http://localhost").connect_with_connector(connect).await {
            return Ok((server, MatrixClient::new(channel)));
        }
        tokio::task::yield_now().await;
    }
}

/// Serves until it is killed.
pub(super) fn serve(socket: &Path) -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let served = runtime.block_on(async {
        let listener = UnixListener::bind(socket).expect("a socket");
        let incoming = UnixListenerStream::new(listener);
        Server::builder().add_service(MatrixServer::new(Echo)).serve_with_incoming(incoming).await
    });
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Echo;

type None<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Matrix for Echo {
    type CountStream = None<Number>;
    type ChatStream = None<Blob>;

    async fn echo(&self, request: Request<Blob>) -> Result<Response<Blob>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn call_back(&self, _: Request<CallBackRequest>) -> Result<Response<Sum>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn offer(&self, _: Request<Empty>) -> Result<Response<OfferReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn count(&self, _: Request<CountRequest>) -> Result<Response<Self::CountStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn chat(&self, _: Request<Streaming<Blob>>) -> Result<Response<Self::ChatStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn print(&self, _: Request<PrintRequest>) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn version(&self, _: Request<Empty>) -> Result<Response<VersionReply>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn die(&self, _: Request<DieRequest>) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn log(&self, _: Request<LogRequest>) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented(""))
    }
}
