//! A host that runs as a service, asked through its HTTP API.

use std::io;
use std::pin::Pin;
use std::task::{self, Poll};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use jackfield::{Address, CallOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};

use crate::body::{Lines, Piecewise};
use crate::fault::{self, Kind};
use crate::inspect::{View, written};
use crate::list::Listing;
use crate::own::Said;
use crate::report::Told;
use crate::token::Token;

/// Longest line of an answer that is read. A message of a plugin's may be as long as its manifest says.
const LINE_BYTES_MAX: usize = 1 << 30;

/// A connection to a running host, made when it is first needed.
#[derive(Debug)]
pub(crate) struct Running {
    address: Address,
    token: Option<Token>,
    connection: Mutex<Option<SendRequest<Piecewise>>>,
}

impl Running {
    pub(crate) fn new(address: Address, token: Option<Token>) -> Self {
        Self { address, token, connection: Mutex::new(None) }
    }

    pub(crate) async fn list(&self) -> Result<Listing> {
        self.get("/v1/plugins").await
    }

    pub(crate) async fn inspect(&self, name: &str) -> Result<View> {
        self.get(&plugin_path(name, "")).await
    }

    pub(crate) async fn call(
        &self,
        plugin: &str,
        function: &str,
        arguments: &Value,
        options: &CallOptions,
    ) -> Result<Said> {
        let timeout = options.timeout.map(written);
        let body = json!({ "function": function, "arguments": arguments, "timeout": timeout });
        self.post(&plugin_path(plugin, "/call"), &body).await
    }

    pub(crate) async fn stream(
        &self,
        plugin: &str,
        method: &str,
        mut messages: mpsc::Receiver<Value>,
        options: &CallOptions,
    ) -> Result<Answers> {
        let mut query = vec![("function", method.to_owned())];
        query.extend(options.timeout.map(|timeout| ("timeout", written(timeout))));
        let (pieces, body) = Piecewise::new();
        let sending = tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                if !pieces.line(&message).await {
                    break;
                }
            }
        });
        let path = with_query(&plugin_path(plugin, "/stream"), &query);
        let answers = self.lines(self.request(Method::POST, &path, body)?).await?;
        Ok(Answers { lines: answers, _sending: Sending(sending) })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let (status, body) = self.whole(self.request(Method::GET, path, Piecewise::whole(""))?).await?;
        self.read(status, &body)
    }

    /// [`Running::get`] where 503 comes with the same data as 200.
    pub(crate) async fn get_even_unwell<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let (status, body) = self.whole(self.request(Method::GET, path, Piecewise::whole(""))?).await?;
        match serde_json::from_slice(&body) {
            Ok(data) if status == StatusCode::SERVICE_UNAVAILABLE => Ok(data),
            _ => self.read(status, &body),
        }
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let body = Piecewise::whole(serde_json::to_vec(body)?);
        let (status, body) = self.whole(self.request(Method::POST, path, body)?).await?;
        self.read(status, &body)
    }

    /// Gets what has no end, or one that is far away: a line at a time.
    pub(crate) async fn follow(&self, path: &str) -> Result<Lines<Incoming>> {
        self.lines(self.request(Method::GET, path, Piecewise::whole(""))?).await
    }

    async fn lines(&self, request: Request<Piecewise>) -> Result<Lines<Incoming>> {
        let response = self.send(request).await?;
        match response.status() {
            StatusCode::OK => Ok(Lines::new(response.into_body(), LINE_BYTES_MAX)),
            status => {
                let body = self.collect(response).await?;
                Err(self.refusal(status, &body))
            }
        }
    }

    fn request(&self, method: Method, path: &str, body: Piecewise) -> Result<Request<Piecewise>> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().with_context(|| format!("`{path}` is no path"))?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let host = match &self.address {
            Address::Tcp(address) => HeaderValue::from_str(address)?,
            Address::Unix(_) => HeaderValue::from_static("localhost"),
        };
        headers.insert(HOST, host);
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.header()?);
        }
        Ok(request)
    }

    async fn whole(&self, request: Request<Piecewise>) -> Result<(StatusCode, Bytes)> {
        let response = self.send(request).await?;
        let status = response.status();
        Ok((status, self.collect(response).await?))
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Bytes> {
        let body = response.into_body().collect().await;
        Ok(body.with_context(|| format!("the host at {} broke off its answer", self.address))?.to_bytes())
    }

    async fn send(&self, request: Request<Piecewise>) -> Result<Response<Incoming>> {
        let mut connection = self.connection.lock().await;
        // One that is not used for a while is closed by the host.
        let usable = match connection.as_mut() {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            *connection = Some(self.connect().await?);
        }
        let Some(sender) = connection.as_mut() else { unreachable!("it was connected just now") };
        let sent = sender.send_request(request);
        sent.await.with_context(|| format!("the host at {} did not answer", self.address))
    }

    async fn connect(&self) -> Result<SendRequest<Piecewise>> {
        let stream = match &self.address {
            #[cfg(unix)]
            Address::Unix(path) => {
                crate::socket::check_owner(path)?;
                tokio::net::UnixStream::connect(path).await.map(Stream::new)
            }
            #[cfg(not(unix))]
            Address::Unix(_) => Err(io::Error::from(io::ErrorKind::Unsupported)),
            Address::Tcp(address) => TcpStream::connect(address).await.and_then(|stream| {
                stream.set_nodelay(true)?;
                Ok(Stream::new(stream))
            }),
        };
        let stream = stream.map_err(|error| self.unreachable(&error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Whoever sends learns how it ended.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }

    fn unreachable(&self, error: &io::Error) -> Told {
        let told = Told::new(Kind::Internal, format!("no host can be reached at {}", self.address));
        let told = Told { source: Some(Box::new(Told::copy_of(error))), ..told };
        told.hint(format!("start one with `jackfield run --listen {}`", self.address))
    }

    fn read<T: DeserializeOwned>(&self, status: StatusCode, body: &[u8]) -> Result<T> {
        match status.is_success() {
            true => {
                let read = serde_json::from_slice(body);
                read.with_context(|| format!("what is at {} answers as no host of this version does", self.address))
            }
            false => Err(self.refusal(status, body)),
        }
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> anyhow::Error {
        let fault: Result<fault::Body, _> = serde_json::from_slice(body);
        let Ok(fault::Body { error }) = fault else {
            return anyhow::anyhow!("what is at {} answered with status {status}", self.address);
        };
        let told = error.told();
        match told.kind {
            Kind::Unauthorized => told.hint("give the file with the host's token with `--token-file`").into(),
            _ => told.into(),
        }
    }
}

/// The messages that a method of a running host's plugin answers with.
#[derive(Debug)]
pub(crate) struct Answers {
    lines: Lines<Incoming>,
    _sending: Sending,
}

/// Ends with whoever reads the answers.
#[derive(Debug)]
struct Sending(tokio::task::JoinHandle<()>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Answers {
    pub(crate) async fn next(&mut self) -> Option<Result<Said>> {
        let line = match self.lines.next().await {
            Ok(line) => line?,
            Err(error) => return Some(Err(error)),
        };
        Some(match serde_json::from_slice(&line) {
            Ok(said) => Ok(said),
            Err(error) => match serde_json::from_slice::<fault::Body>(&line) {
                Ok(fault) => Err(fault.error.told().into()),
                Err(_) => Err(error.into()),
            },
        })
    }
}

/// `/v1/plugins/NAME` and what comes after it.
pub(crate) fn plugin_path(name: &str, rest: &str) -> String {
    format!("/v1/plugins/{}{rest}", escaped(name))
}

/// A part of a path.
pub(crate) fn escaped(part: &str) -> String {
    let escaped: String = form_urlencoded::byte_serialize(part.as_bytes()).collect();
    // What forms write for a space means itself in a path.
    escaped.replace('+', "%20")
}

/// A path with what is asked for behind it.
pub(crate) fn with_query(path: &str, query: &[(&str, String)]) -> String {
    if query.is_empty() {
        return path.to_owned();
    }
    let mut written = form_urlencoded::Serializer::new(String::new());
    written.extend_pairs(query);
    format!("{path}?{}", written.finish())
}

/// Bytes to a host and back.
trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}

/// A connection, whatever it goes through.
struct Stream(Box<dyn ReadWrite>);

impl Stream {
    fn new(stream: impl ReadWrite + 'static) -> Self {
        Self(Box::new(stream))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut task::Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place_in_a_path() {
        assert_eq!(plugin_path("../x y/é", "/call"), "/v1/plugins/..%2Fx%20y%2F%C3%A9/call");
        assert_eq!(with_query("/v1/logs", &[("plugin", "a&b=c".to_owned())]), "/v1/logs?plugin=a%26b%3Dc");
    }
}
