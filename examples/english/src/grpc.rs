//! The same plugin as a program that speaks gRPC.

fn main() -> std::process::ExitCode {
    english::serve_grpc()
}
