//! Requests by hand: what a client of ours would never send.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Response {
    /// The kind of an error, or the status of an answer.
    pub(crate) fn kind(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body));
        let kind = body.pointer("/error/kind").or_else(|| body.get("status"));
        kind.and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

pub(crate) fn unix(path: &Path, request: &str) -> Response {
    let stream = UnixStream::connect(path).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    exchange(stream, request)
}

pub(crate) fn tcp(address: &str, request: &str) -> Response {
    let stream = TcpStream::connect(address.trim_start_matches("tcp:")).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    exchange(stream, request)
}

/// Sends a request that asks for the connection to be closed, and reads until it is.
fn exchange(mut stream: impl Read + Write, request: &str) -> Response {
    // One that is refused is not read to its end.
    let _ = stream.write_all(request.as_bytes());
    answer(stream)
}

/// Reads an answer until the connection is closed.
pub(crate) fn answer(mut stream: impl Read) -> Response {
    let mut bytes = Vec::new();
    // What came before the connection broke counts.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Response { status, body: body.to_owned() }
}
