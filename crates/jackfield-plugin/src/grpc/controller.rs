//! The host's word that the plugin shall end.

use jackfield_grpc::pb::plugin::Empty;
use jackfield_grpc::pb::plugin::grpc_controller_server::{GrpcController, GrpcControllerServer};
use jackfield_grpc::tonic::{self, Request, Response, Status};
use tokio_util::sync::CancellationToken;

pub(super) struct Controller(CancellationToken);

/// The service that cancels `stop`.
pub(super) fn service(stop: CancellationToken) -> GrpcControllerServer<Controller> {
    GrpcControllerServer::new(Controller(stop))
}

#[tonic::async_trait]
impl GrpcController for Controller {
    async fn shutdown(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        // This call is one of those that are finished before the connection is closed.
        self.0.cancel();
        Ok(Response::new(Empty {}))
    }
}
