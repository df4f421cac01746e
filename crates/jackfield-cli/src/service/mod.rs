//! The HTTP API of a host that runs as a service: what `docs/api.md` describes.
//!
//! Every request is bounded: in its head by the server, in its body, in its number, and in the time it may take to
//! arrive. What is asked for is answered by `own.rs`, as for a command with a host of its own.
//!
//! Not here: when a service begins and ends (`run.rs`).

mod routes;
mod serve;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, watch};

use crate::fault::{self, Fault, Kind};
use crate::own::Own;
use crate::token::Token;

pub(crate) use serve::{Listener, serve};

/// Most bytes of a body, or of a line of one that is sent line by line.
pub(crate) const BODY_BYTES_MAX: usize = 16 << 20;

/// Time for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Requests that are answered at once, followed logs and events apart.
const REQUESTS_MAX: usize = 256;

/// Logs and events that are followed at once.
const FOLLOWERS_MAX: usize = 64;

/// A host, and what bounds its use.
#[derive(Debug)]
pub(crate) struct Service {
    own: Own,
    requests: Semaphore,
    followers: Arc<Semaphore>,
    stopping: watch::Sender<bool>,
}

impl Service {
    pub(crate) fn new(own: Own) -> Self {
        Self {
            own,
            requests: Semaphore::new(REQUESTS_MAX),
            followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
            stopping: watch::Sender::new(false),
        }
    }

    pub(crate) fn own(&self) -> &Own {
        &self.own
    }

    /// Takes no more requests. Those under way go on, what is followed ends.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Ends when the service takes no more requests.
    async fn stopped(&self) {
        // The sender is here; it cannot be gone.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }
}

/// How requests come in by one listener.
#[derive(Clone, Debug)]
struct Entry {
    service: Arc<Service>,
    /// What each of them must carry.
    token: Option<Token>,
}

/// Lets a request in, or says why not. First of all whether it may know anything.
async fn admit(State(entry): State<Entry>, request: Request, next: Next) -> Response {
    if let Some(token) = &entry.token
        && !token.admits(request.headers().get(AUTHORIZATION))
    {
        let fault = Fault::new(Kind::Unauthorized, "the token is missing or wrong");
        let mut response = fault.into_response();
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    if *entry.service.stopping.borrow() {
        return Fault::new(Kind::Stopping, "the host is stopping").into_response();
    }
    match entry.service.requests.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => busy(format!("{REQUESTS_MAX} requests are being answered, which is the most")),
    }
}

fn busy(why: String) -> Response {
    let mut response = Fault::new(Kind::Busy, why).into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        with_status(self.kind.status(), &fault::Body { error: self })
    }
}

/// Data, as an answer.
fn answer(data: &impl Serialize) -> Response {
    with_status(StatusCode::OK, data)
}

fn with_status(status: StatusCode, data: &impl Serialize) -> Response {
    let (status, body) = match serde_json::to_vec(data) {
        Ok(body) => (status, body),
        // Nothing of ours has such a form.
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes()),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Reads a body as JSON.
async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Fault> {
    let body = whole(request).await?;
    serde_json::from_slice(&body).map_err(|error| Fault {
        chain: vec![error.to_string()],
        ..Fault::new(Kind::BadRequest, "the body is not what this route takes")
    })
}

async fn whole(request: Request) -> Result<Bytes, Fault> {
    let too_large = || Fault::new(Kind::BodyTooLarge, format!("the body is longer than {BODY_BYTES_MAX} bytes"));
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
    let late = |_| Fault::new(Kind::BadRequest, format!("the body did not arrive within {BODY_TIMEOUT:?}"));
    match tokio::time::timeout(BODY_TIMEOUT, body).await.map_err(late)? {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(Fault::new(Kind::BadRequest, format!("the body broke off: {error}"))),
    }
}
