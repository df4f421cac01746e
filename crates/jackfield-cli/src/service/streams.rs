//! The routes that answer line by line: logs, events, and calls that stream.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::Response;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use jackfield::traced_blocking;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::routes::{asked, fault, options, trace_of};
use super::{BODY_BYTES_MAX, Entry, FOLLOWERS_MAX, Service, busy};
use crate::arguments::Exact;
use crate::body::{Lines, Pieces, Piecewise};
use crate::events::Happened;
use crate::fault::{self, Fault, Kind};

/// Calls a method that streams: a message a line, in both directions.
pub(super) async fn stream(
    State(entry): State<Entry>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Fault> {
    let query = asked(query.as_deref(), &["function", "timeout"])?;
    let Some(function) = query.get("function") else {
        return Err(Fault::new(Kind::BadRequest, "parameter `function` is missing"));
    };
    let options = options(query.get("timeout").map(String::as_str))?;
    let (sender, messages) = mpsc::channel(16);
    let begin = || entry.service.own.stream(&name, function, messages, &options);
    let mut answers = match trace_of(&request) {
        Some(trace) => traced_blocking(trace, begin),
        None => begin(),
    }
    .map_err(fault)?;
    let (broken, mut break_off) = oneshot::channel();
    let reading = tokio::spawn(async move {
        let mut lines = Lines::new(request.into_body(), BODY_BYTES_MAX);
        for number in 1.. {
            let line = match lines.next().await {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(error) => return drop(broken.send(Fault::new(Kind::BadRequest, format!("{error:#}")))),
            };
            match serde_json::from_slice(&line) {
                Ok(Exact(message)) => match sender.send(message).await {
                    Ok(()) => {}
                    // The plugin wants no more of them.
                    Err(_) => break,
                },
                Err(error) => {
                    let message = format!("message {number} of the body is not JSON: {error}");
                    return drop(broken.send(Fault::new(Kind::BadRequest, message)));
                }
            }
        }
        // The end of what is sent. Nothing is broken, and nothing more comes from here.
        drop(sender);
        std::future::pending::<()>().await;
        drop(broken);
    });
    let (pieces, body) = Piecewise::new();
    tokio::spawn(async move {
        loop {
            let line = tokio::select! {
                answer = answers.next() => match answer {
                    Some(Ok(said)) => pieces.line(&said).await,
                    Some(Err(error)) => pieces.line(&fault::Body { error: fault(error) }).await,
                    None => break,
                },
                Ok(error) = &mut break_off => {
                    pieces.line(&fault::Body { error }).await;
                    break;
                }
                () = pieces.closed() => break,
            };
            if !line {
                break;
            }
        }
        reading.abort();
    });
    Ok(ndjson(body))
}

/// What plugins said, and say.
pub(super) async fn logs(State(entry): State<Entry>, RawQuery(query): RawQuery) -> Result<Response, Fault> {
    let query = asked(query.as_deref(), &["plugin", "follow", "tail"])?;
    let plugin = query.get("plugin").cloned();
    let follow = boolean(&query, "follow")?;
    let tail = query.get("tail").map(|tail| tail.parse().map_err(|_| bad("tail", tail, "a number"))).transpose()?;
    if let Some(plugin) = &plugin {
        entry.service.own.plugin(plugin).map_err(fault)?;
    }
    let permit = match follow {
        true => match follower(&entry.service) {
            Ok(permit) => Some(permit),
            Err(response) => return Ok(*response),
        },
        false => None,
    };
    // Listening begins before the look back, so that no line is missed.
    let mut live = entry.service.own.log_lines();
    let kept = entry.service.own.kept_lines(plugin.as_deref(), tail.unwrap_or(usize::MAX));
    let (pieces, body) = Piecewise::new();
    tokio::spawn(async move {
        let _permit = permit;
        let mut sent = HashSet::new();
        for line in kept {
            sent.insert(line.number);
            if !pieces.line(&line).await {
                return;
            }
        }
        if !follow {
            return;
        }
        let is_wanted = |of: &str| plugin.as_ref().is_none_or(|plugin| plugin == of);
        while let Some(next) = next(&entry.service, &pieces, &mut live).await {
            let more = match next {
                Ok(line) if !is_wanted(&line.plugin) || sent.remove(&line.number) => true,
                Ok(line) => pieces.line(&line).await,
                Err(lost) => pieces.line(&json!({ "lost": lost })).await,
            };
            if !more {
                return;
            }
        }
    });
    Ok(ndjson(body))
}

/// What happens to plugins.
pub(super) async fn events(State(entry): State<Entry>, RawQuery(query): RawQuery) -> Result<Response, Fault> {
    asked(query.as_deref(), &[])?;
    let permit = match follower(&entry.service) {
        Ok(permit) => permit,
        Err(response) => return Ok(*response),
    };
    let mut live = entry.service.own.events();
    let (pieces, body) = Piecewise::new();
    tokio::spawn(async move {
        let _permit = permit;
        while let Some(next) = next(&entry.service, &pieces, &mut live).await {
            let more = match next {
                Ok(event) => pieces.line(&Happened::of(&event)).await,
                Err(lost) => pieces.line(&json!({ "lost": lost })).await,
            };
            if !more {
                return;
            }
        }
    });
    Ok(ndjson(body))
}

/// What comes next, or how much was lost. None when nobody listens any more, or nothing more can come.
async fn next<T: Clone>(
    service: &Service,
    pieces: &Pieces,
    live: &mut tokio::sync::broadcast::Receiver<T>,
) -> Option<Result<T, u64>> {
    tokio::select! {
        next = live.recv() => match next {
            Ok(next) => Some(Ok(next)),
            Err(RecvError::Lagged(lost)) => Some(Err(lost)),
            Err(RecvError::Closed) => None,
        },
        () = pieces.closed() => None,
        () = service.stopped() => None,
    }
}

fn follower(service: &Service) -> Result<OwnedSemaphorePermit, Box<Response>> {
    let permit = Arc::clone(&service.followers).try_acquire_owned();
    permit.map_err(|_| Box::new(busy(format!("{FOLLOWERS_MAX} followers are there, which is the most"))))
}

fn boolean(query: &BTreeMap<String, String>, name: &str) -> Result<bool, Fault> {
    match query.get(name).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(bad(name, other, "`true` or `false`")),
    }
}

fn bad(name: &str, got: &str, wanted: &str) -> Fault {
    Fault::new(Kind::BadRequest, format!("parameter `{name}` is {wanted}, got {got:?}"))
}

fn ndjson(body: Piecewise) -> Response {
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}
