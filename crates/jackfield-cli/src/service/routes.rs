//! The routes, and what each of them answers at once.

use std::collections::BTreeMap;

use anyhow::Error;
use axum::Router;
use axum::extract::{Path, RawQuery, Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use http::{StatusCode, Uri};
use jackfield::{CallOptions, TraceContext, parse_duration, traced};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Entry, admit, answer, read, streams, with_status};
use crate::arguments::Exact;
use crate::fault::{Fault, Kind};

type Answer = Result<Response, Fault>;

/// Method, path and handler of every route. `docs/api.md` has each of them.
fn routes() -> Vec<(&'static str, &'static str, MethodRouter<Entry>)> {
    #[cfg_attr(not(feature = "metrics"), expect(unused_mut))]
    let mut routes: Vec<(_, _, MethodRouter<Entry>)> = vec![
        ("GET", "/v1/plugins", get(list)),
        ("GET", "/v1/plugins/{name}", get(inspect)),
        ("POST", "/v1/plugins/{name}/call", post(call)),
        ("POST", "/v1/plugins/{name}/stream", post(streams::stream)),
        ("POST", "/v1/plugins/{name}/reload", post(reload)),
        ("POST", "/v1/plugins/{name}/disable", post(disable)),
        ("POST", "/v1/plugins/{name}/enable", post(enable)),
        ("GET", "/v1/plugins/{name}/interfaces", get(interfaces)),
        ("GET", "/v1/refused", get(refused)),
        ("POST", "/v1/rescan", post(rescan)),
        ("GET", "/v1/quarantine", get(quarantine)),
        ("POST", "/v1/quarantine/{name}/lift", post(lift)),
        ("GET", "/v1/crashes", get(crashes)),
        ("GET", "/v1/logs", get(streams::logs)),
        ("GET", "/v1/events", get(streams::events)),
        ("GET", "/v1/health", get(health)),
    ];
    #[cfg(feature = "metrics")]
    routes.push(("GET", "/metrics", get(metrics)));
    routes
}

/// Everything that comes in by one listener.
pub(super) fn router(entry: Entry) -> Router {
    let router = routes().into_iter().fold(Router::new(), |router, (_, path, handler)| router.route(path, handler));
    let router = router.method_not_allowed_fallback(async |request: Request| {
        let what = format!("`{}` does not take {}", request.uri().path(), request.method());
        Fault::new(Kind::MethodNotAllowed, what)
    });
    let router =
        router.fallback(async |uri: Uri| Fault::new(Kind::UnknownRoute, format!("there is no route `{}`", uri.path())));
    // Last, so that it is asked before everything above.
    router.layer(from_fn_with_state(entry.clone(), admit)).with_state(entry)
}

async fn list(State(entry): State<Entry>) -> Response {
    answer(&entry.service.own.list())
}

async fn inspect(State(entry): State<Entry>, Path(name): Path<String>) -> Answer {
    Ok(answer(&entry.service.own.inspect(&name).map_err(fault)?))
}

async fn interfaces(State(entry): State<Entry>, Path(name): Path<String>) -> Answer {
    let view = entry.service.own.inspect(&name).map_err(fault)?;
    let described = view.interfaces.into_iter().filter_map(|offered| offered.description);
    Ok(answer(&json!({ "interfaces": described.collect::<Vec<_>>() })))
}

/// What `call` is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    function: String,
    #[serde(default)]
    arguments: Option<Exact>,
    #[serde(default)]
    timeout: Option<String>,
}

async fn call(State(entry): State<Entry>, Path(name): Path<String>, request: Request) -> Answer {
    let trace = trace_of(&request);
    let states = request.headers().get_all("tracestate").iter().filter_map(|state| state.to_str().ok());
    let state = states.collect::<Vec<_>>().join(",");
    let Call { function, arguments, timeout } = read(request).await?;
    let arguments = arguments.map_or_else(|| Value::Object(Default::default()), |Exact(arguments)| arguments);
    let options = options(timeout.as_deref())?;
    let call = entry.service.own.call(&name, &function, arguments, &options);
    let said = match trace {
        Some(trace) => traced(trace, call).with_state(&state).await,
        None => call.await,
    };
    Ok(answer(&said.map_err(fault)?))
}

/// The span that a request is made in. One that is not valid is none, as the standard has it.
pub(super) fn trace_of(request: &Request) -> Option<TraceContext> {
    TraceContext::parse(request.headers().get("traceparent")?.as_bytes())
}

async fn reload(State(entry): State<Entry>, Path(name): Path<String>) -> Answer {
    Ok(answer(&entry.service.own.reload(&name).await.map_err(fault)?))
}

async fn disable(State(entry): State<Entry>, Path(name): Path<String>) -> Answer {
    Ok(answer(&entry.service.own.disable(&name).await.map_err(fault)?))
}

async fn enable(State(entry): State<Entry>, Path(name): Path<String>) -> Answer {
    Ok(answer(&entry.service.own.enable(&name).await.map_err(fault)?))
}

async fn refused(State(entry): State<Entry>) -> Response {
    answer(&json!({ "refused": entry.service.own.list().refused }))
}

async fn rescan(State(entry): State<Entry>) -> Response {
    answer(&entry.service.own.rescan().await)
}

async fn quarantine(State(entry): State<Entry>) -> Response {
    answer(&entry.service.own.quarantine())
}

async fn lift(State(entry): State<Entry>, Path(name): Path<String>) -> Answer {
    Ok(answer(&entry.service.own.lift(&name).await.map_err(fault)?))
}

async fn crashes(State(entry): State<Entry>, RawQuery(query): RawQuery) -> Answer {
    let query = asked(query.as_deref(), &["plugin"])?;
    Ok(answer(&entry.service.own.crashes(query.get("plugin").map(String::as_str))))
}

async fn health(State(entry): State<Entry>) -> Response {
    let health = entry.service.own.health();
    let status = if health.well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    with_status(status, &health)
}

/// Where Prometheus looks by itself, and so without the version of our own routes. It gets protobuf only if it asks for
/// that first of all, as it does where it reads native histograms.
#[cfg(feature = "metrics")]
async fn metrics(State(entry): State<Entry>, headers: http::HeaderMap) -> Response {
    use jackfield::Metrics;
    let metrics = entry.service.own.host().metrics();
    let accept = headers.get(http::header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let (body, kind) = match accept.trim_start().starts_with("application/vnd.google.protobuf") {
        true => (metrics.protobuf().into(), Metrics::PROTOBUF_CONTENT_TYPE),
        false => (metrics.text().into(), Metrics::CONTENT_TYPE),
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

/// An error of the host's, as an answer.
pub(super) fn fault(error: Error) -> Fault {
    Fault::of(&error)
}

/// What stands behind the path. What nobody knows is refused, since what is passed over looks like what works.
pub(super) fn asked(query: Option<&str>, known: &[&str]) -> Result<BTreeMap<String, String>, Fault> {
    let mut asked = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if !known.contains(&&*name) {
            let what = format!("unknown parameter `{name}`; there are {}", known.join(", "));
            return Err(Fault::new(Kind::BadRequest, what));
        }
        if asked.insert(name.clone().into_owned(), value.into_owned()).is_some() {
            return Err(Fault::new(Kind::BadRequest, format!("parameter `{name}` is there twice")));
        }
    }
    Ok(asked)
}

pub(super) fn options(timeout: Option<&str>) -> Result<CallOptions, Fault> {
    let timeout = timeout.map(parse_duration).transpose();
    let timeout = timeout.map_err(|error| Fault::new(Kind::BadRequest, format!("`timeout`: {error}")))?;
    Ok(CallOptions { timeout })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_kind_and_limit_is_documented() {
        let text = include_str!("../../../../docs/api.md");
        for (method, path, _) in routes() {
            assert!(text.contains(&format!("`{method} {path}`")), "`{method} {path}` is not documented");
        }
        let documented = text.lines().filter(|line| line.starts_with("| `GET /") || line.starts_with("| `POST /"));
        assert_eq!(documented.count(), routes().len(), "what is documented is there");
        for (_, kind, status) in Kind::ALL {
            let row = format!("\n| `{kind}` | {} |", status.as_u16());
            assert!(text.contains(&row), "no row begins with {row:?}");
        }
        assert_eq!(super::super::BODY_BYTES_MAX, 16 << 20);
        for limit in ["16 MiB", "256 requests", "64 followers"] {
            assert!(text.contains(limit), "{limit}");
        }
        assert_eq!((super::super::REQUESTS_MAX, super::super::FOLLOWERS_MAX), (256, 64));
    }

    #[test]
    fn what_nobody_knows_is_not_passed_over() {
        let message = |query| asked(Some(query), &["plugin", "tail"]).map_err(|fault| fault.message);
        assert_eq!(message("plugin=a%20b").expect("known")["plugin"], "a b");
        assert_eq!(message("plugn=a").expect_err("unknown"), "unknown parameter `plugn`; there are plugin, tail");
        assert_eq!(message("tail=1&tail=2").expect_err("twice"), "parameter `tail` is there twice");
    }
}
