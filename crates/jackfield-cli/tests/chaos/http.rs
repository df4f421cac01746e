//! As much of HTTP as it takes to ask a host again and again over one connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::PATIENCE;

pub struct Connection(BufReader<UnixStream>);

impl Connection {
    pub fn to(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("the host listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        Self(BufReader::new(stream))
    }

    /// Calls a function. Gives the status and the body.
    pub fn call(&mut self, plugin: &str, function: &str, arguments: Value, timeout: &str) -> (u16, Value) {
        let body = json!({ "function": function, "arguments": arguments, "timeout": timeout }).to_string();
        self.ask(&format!("POST /v1/plugins/{plugin}/call"), &body)
    }

    pub fn get(&mut self, path: &str) -> (u16, Value) {
        self.ask(&format!("GET {path}"), "")
    }

    fn ask(&mut self, what: &str, body: &str) -> (u16, Value) {
        let request = format!("{what} HTTP/1.1\r\nHost: host\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        self.0.get_mut().write_all(request.as_bytes()).expect("the host reads");
        let status = self.line().split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut length = 0;
        loop {
            let line = self.line().to_ascii_lowercase();
            match line.split_once(':') {
                None => break,
                Some(("content-length", value)) => length = value.trim().parse().expect("a length"),
                Some(_) => {}
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("a body");
        let body = serde_json::from_slice(&body);
        (status, body.unwrap_or_else(|error| panic!("{what}: the answer with status {status} is no JSON: {error}")))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer in time");
        assert!(!line.is_empty(), "the host closed the connection");
        line.trim_end().to_owned()
    }
}
