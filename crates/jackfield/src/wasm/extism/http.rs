//! HTTP for Extism plugins: to the hosts that the manifest grants, and nowhere else.
//!
//! A redirect is followed if where it leads is granted, too. A request runs on a thread of its own, and has
//! the time that is left of the call: a slow server keeps no thread of the application's.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jackfield_protocol::call::Cause;
use serde::Deserialize;
use tokio::sync::oneshot;
use ureq::http::header::{AUTHORIZATION, COOKIE, LOCATION};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use super::super::guest::DeadlineReached;
use super::Broke;
use crate::manifest::Grants;
use crate::mechanism::Spec;

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 10;

/// Bytes of a response's headers.
const HEADER_BYTES_MAX: usize = 64 << 10;

/// What a guest asks for.
#[derive(Clone, Debug)]
pub(super) struct Request {
    url: Uri,
    method: Method,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
}

/// Makes the requests of one plugin.
#[derive(Default)]
pub(super) struct Agent {
    grants: Arc<Grants>,
    body_bytes_max: u64,
    /// Made when it is first asked for.
    connections: OnceLock<ureq::Agent>,
}

/// Status, headers as a JSON object, and body.
type Response = (u16, Vec<u8>, Vec<u8>);

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error("the request cannot be read: {0}")]
    Unreadable(String),
    #[error("it may not reach `{0}`: grant it in the manifest by `net.hosts` in `[sandbox]`")]
    NotGranted(String),
    #[error("{method} {url}: {source}")]
    Failed { method: Method, url: Uri, source: ureq::Error },
    #[error("{method} {url}: more than {REDIRECTS_MAX} redirects")]
    Redirects { method: Method, url: Uri },
    #[error("the response is longer than {0} bytes")]
    TooLarge(u64),
    #[error("the time of the call is over")]
    Late,
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

impl Request {
    /// Reads `{"url", "headers", "method"}`.
    pub(super) fn read(json: &[u8], body: Option<Vec<u8>>) -> wasmtime::Result<Self> {
        #[derive(Deserialize)]
        struct Written {
            url: String,
            #[serde(default, alias = "header")]
            headers: BTreeMap<String, String>,
            method: Option<String>,
        }
        let read = || {
            let written: Written = serde_json::from_slice(json).map_err(|error| error.to_string())?;
            let url: Uri = written.url.parse().map_err(|error| format!("{:?}: {error}", written.url))?;
            let method = written.method.as_deref().unwrap_or("GET").to_ascii_uppercase();
            let method: Method = method.parse().map_err(|_| format!("{method:?} is not a method"))?;
            let mut headers = HeaderMap::new();
            for (name, value) in &written.headers {
                let wrong = || format!("header {name:?}: {value:?}");
                let name: HeaderName = name.parse().map_err(|_| wrong())?;
                headers.append(name, HeaderValue::from_str(value).map_err(|_| wrong())?);
            }
            Ok(Self { url, method, headers, body })
        };
        read().map_err(|why| HttpError::Unreadable(why).into_error())
    }

    /// The request that a redirect asks for; none if it asks for none.
    fn redirected(&self, status: StatusCode, location: Option<&HeaderValue>) -> Option<Self> {
        let location = location?.to_str().ok()?;
        let url = resolve(&self.url, location)?;
        let mut next = Self { url, ..self.clone() };
        match status {
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => {
                next.body = None;
                if next.method != Method::HEAD {
                    next.method = Method::GET;
                }
                next.headers.remove(ureq::http::header::CONTENT_TYPE);
                next.headers.remove(ureq::http::header::CONTENT_LENGTH);
            }
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {}
            _ => return None,
        }
        if next.url.authority() != self.url.authority() || next.url.scheme() != self.url.scheme() {
            // They were for the other host.
            next.headers.remove(AUTHORIZATION);
            next.headers.remove(COOKIE);
            next.headers.remove(ureq::http::header::HOST);
        }
        Some(next)
    }
}

impl Agent {
    pub(super) fn new(spec: &Spec) -> Self {
        let grants = Arc::new(spec.wasm.grants.clone());
        Self { grants, body_bytes_max: spec.limits.answer_bytes_max, connections: OnceLock::new() }
    }

    /// Makes a request, by `until`.
    pub(super) async fn fetch(&self, request: Request, until: Option<Instant>) -> wasmtime::Result<Response> {
        let agent = self.connections.get_or_init(connections).clone();
        let (grants, bytes_max) = (Arc::clone(&self.grants), self.body_bytes_max);
        let granted = move |url: &Uri| {
            let (host, port) =
                host_and_port(url).ok_or_else(|| HttpError::Unreadable(format!("`{url}` has no host")))?;
            match grants.reaches(host, port) {
                true => Ok(()),
                false => Err(HttpError::NotGranted(format!("{host}:{port}"))),
            }
        };
        // Before a thread is made: a guest that may reach nothing costs nothing.
        granted(&request.url).map_err(HttpError::into_error)?;
        let (answer, answered) = oneshot::channel();
        // Not a thread of the runtime's pool, which an application has uses of its own for, and whose end
        // would wait for it. There is one at most for each instance that runs.
        let begun = std::thread::Builder::new().name("jackfield-http".to_owned()).spawn(move || {
            // If nobody waits any more, nobody wants it.
            let _ = answer.send(follow(&agent, request, granted, until, bytes_max));
        });
        begun.map_err(|error| HttpError::Thread(error).into_error())?;
        answered.await.unwrap_or(Err(HttpError::Late)).map_err(HttpError::into_error)
    }
}

fn connections() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_response_header_size(HEADER_BYTES_MAX)
        .allow_non_standard_methods(true)
        .user_agent(crate::HOST)
        .build()
        .into()
}

fn follow(
    agent: &ureq::Agent,
    mut request: Request,
    granted: impl Fn(&Uri) -> Result<(), HttpError>,
    until: Option<Instant>,
    bytes_max: u64,
) -> Result<Response, HttpError> {
    for _ in 0..=REDIRECTS_MAX {
        granted(&request.url)?;
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let mut response = send(agent, &request, left)?;
        if let Some(next) = request.redirected(response.status(), response.headers().get(LOCATION)) {
            request = next;
            continue;
        }
        let body = response.body_mut().with_config().limit(bytes_max).read_to_vec();
        let body = body.map_err(|source| match source {
            ureq::Error::BodyExceedsLimit(max) => HttpError::TooLarge(max),
            source => failed(&request, source),
        })?;
        return Ok((response.status().as_u16(), headers(response.headers()), body));
    }
    Err(HttpError::Redirects { method: request.method, url: request.url })
}

fn send(
    agent: &ureq::Agent,
    request: &Request,
    left: Option<Duration>,
) -> Result<ureq::http::Response<ureq::Body>, HttpError> {
    if left == Some(Duration::ZERO) {
        return Err(HttpError::Late);
    }
    let mut asked = ureq::http::Request::builder().method(request.method.clone()).uri(request.url.clone());
    if let Some(headers) = asked.headers_mut() {
        headers.clone_from(&request.headers);
    }
    let unreadable = |error: ureq::http::Error| HttpError::Unreadable(error.to_string());
    let sent = match &request.body {
        Some(body) => {
            let asked = asked.body(&body[..]).map_err(unreadable)?;
            agent.run(agent.configure_request(asked).timeout_global(left).build())
        }
        None => {
            let asked = asked.body(()).map_err(unreadable)?;
            agent.run(agent.configure_request(asked).timeout_global(left).build())
        }
    };
    sent.map_err(|source| failed(request, source))
}

fn failed(request: &Request, source: ureq::Error) -> HttpError {
    match source {
        ureq::Error::Timeout(_) => HttpError::Late,
        source => HttpError::Failed { method: request.method.clone(), url: request.url.clone(), source },
    }
}

/// A JSON object; values of one name are joined by `, `.
fn headers(headers: &HeaderMap) -> Vec<u8> {
    let mut joined: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        match joined.get_mut(name.as_str()) {
            Some(known) => {
                known.push_str(", ");
                known.push_str(&value);
            }
            None => {
                joined.insert(name.as_str(), value.into_owned());
            }
        }
    }
    serde_json::to_vec(&joined).unwrap_or_default()
}

fn host_and_port(url: &Uri) -> Option<(&str, u16)> {
    let port = url.port_u16().or(match url.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    });
    Some((url.host().filter(|host| !host.is_empty())?, port?))
}

/// Where a `Location` leads: a whole URL, or a path on the same host.
fn resolve(from: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next()?;
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    let whole = match location {
        whole if whole.contains("://") => whole.to_owned(),
        other_host if other_host.starts_with("//") => format!("{scheme}:{other_host}"),
        path if path.starts_with('/') => format!("{scheme}://{authority}{path}"),
        query if query.starts_with('?') => format!("{scheme}://{authority}{}{query}", from.path()),
        relative => {
            let directory = from.path().rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{scheme}://{authority}{directory}/{relative}")
        }
    };
    whole.parse().ok()
}

impl HttpError {
    /// As the end of the call that asked.
    fn into_error(self) -> wasmtime::Error {
        match self {
            HttpError::Late => DeadlineReached.into(),
            HttpError::TooLarge(_) => Broke(Cause::Limit { limit: "answer_bytes", what: self.to_string() }).into(),
            _ => Broke(Cause::Refused { why: self.to_string() }).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_relative_to_where_it_came_from() {
        let from: Uri = "http://a.example:81/x/y?z".parse().expect("a url");
        for (location, expected) in [
            ("https://b.example/q#part", Some("https://b.example/q")),
            ("//b.example/q", Some("http://b.example/q")),
            ("/q", Some("http://a.example:81/q")),
            ("q", Some("http://a.example:81/x/q")),
            ("?q", Some("http://a.example:81/x/y?q")),
            ("http://", None),
        ] {
            let url = resolve(&from, location);
            assert_eq!(url.map(|url| url.to_string()).as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn the_port_is_known_by_the_scheme() {
        let of = |url: &str| {
            let url: Uri = url.parse().expect("a url");
            host_and_port(&url).map(|(host, port)| (host.to_owned(), port))
        };
        assert_eq!(of("https://a.example/x"), Some(("a.example".to_owned(), 443)));
        assert_eq!(of("http://[::1]:8080"), Some(("[::1]".to_owned(), 8080)));
        assert_eq!((of("/x"), of("ftp://a.example")), (None, None));
        // What stands before an `@` is no host.
        assert_eq!(of("http://granted.example@evil.example/"), Some(("evil.example".to_owned(), 80)));
    }
}
