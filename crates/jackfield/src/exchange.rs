//! A call of a method of a plugin's service: messages out, messages back, as JSON.
//!
//! Not here: functions of interfaces (`call.rs`), which have one answer each.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jackfield_protocol::call::{CallError, Cause};
use jackfield_protocol::{Status, nearest};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::mechanism::{About, Exchange, Messages, MethodInfo, Told};
use crate::metrics::{Begun, Series};
use crate::plugin::{Lease, Shared};
use crate::spans::Span;

/// The messages that a plugin answers with, one after the other. Dropped before the last, it cancels the call.
pub struct ValueStream {
    messages: Box<dyn Messages>,
    method: String,
    shared: Arc<Shared>,
    series: Arc<Series>,
    begun: Begun,
    span: Span,
    over: bool,
    /// Held until the end: the session must not be stopped meanwhile.
    lease: Lease,
}

impl ValueStream {
    /// The next message. None after the last one, and after an error.
    pub async fn next(&mut self) -> Option<Result<Value, CallError<Value>>> {
        if self.over {
            return None;
        }
        let next = self.messages.next().await;
        match &next {
            Some(Ok(_)) => {}
            None => self.end(Status::Ok),
            Some(Err(Told::Own(_))) => self.end(Status::Error),
            Some(Err(Told::Failed(cause))) => self.end(cause.status()),
        }
        match next {
            Some(Ok(value)) => Some(Ok(value)),
            None => {
                self.shared.answered(&self.series, true);
                None
            }
            Some(Err(Told::Own(error))) => {
                self.shared.answered(&self.series, false);
                Some(Err(CallError::Plugin(error)))
            }
            Some(Err(Told::Failed(cause))) => {
                let failure = self.shared.failure_of(Some(&self.lease), &self.series, &self.method, cause);
                Some(Err(CallError::Failed(failure)))
            }
        }
    }
}

impl ValueStream {
    fn end(&mut self, status: Status) {
        self.over = true;
        self.series.took_in(&self.shared.meters, self.begun, self.span.context());
        self.span.end(&self.series, status);
    }
}

impl fmt::Debug for ValueStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValueStream").field("method", &self.method).finish_non_exhaustive()
    }
}

impl Drop for ValueStream {
    fn drop(&mut self) {
        if !self.over {
            self.end(Status::Cancelled);
            self.shared.record(&self.series, Status::Cancelled);
        }
    }
}

/// A method, by positions.
#[derive(Clone, Copy)]
pub(crate) struct Method {
    service: usize,
    method: usize,
}

impl Method {
    pub(crate) fn info(self, about: &About) -> &MethodInfo {
        &about.services[self.service].methods[self.method]
    }
}

/// Finds `proto.KV/Get`, `KV/Get` or `Get`, with a dot in place of the slash if you like. None if there is
/// none of this name, or more than one.
pub(crate) fn find(about: &About, written: &str) -> Option<Method> {
    let written = written.replace('/', ".");
    let fits = |service: &str, method: &str| {
        let full = format!("{service}.{method}");
        full == written || full.strip_suffix(&*written).is_some_and(|rest| rest.ends_with('.'))
    };
    let mut found = None;
    for (service, info) in about.services.iter().enumerate() {
        for (method, _) in info.methods.iter().enumerate().filter(|(_, method)| fits(&info.name, &method.name)) {
            if found.replace(Method { service, method }).is_some() {
                return None;
            }
        }
    }
    found
}

/// Why [`find`] found nothing.
pub(crate) fn unknown(about: &About, written: &str) -> Cause {
    let names = about
        .services
        .iter()
        .flat_map(|service| service.methods.iter().map(|method| format!("{}/{}", service.name, method.name)));
    let names: Vec<_> = names.collect();
    // Who wrote a short name meant one.
    let parts = |name: &str| name.split(['/', '.']).count();
    let end = |name: &str| {
        let missing = parts(name).saturating_sub(parts(written));
        name.split_inclusive(['/', '.']).skip(missing).collect::<String>()
    };
    let ends: Vec<_> = names.iter().map(|name| end(name)).collect();
    let near = nearest(written, ends.iter().map(String::as_str));
    let hint = match near.and_then(|near| ends.iter().position(|end| *end == near)) {
        Some(near) => format!("; did you mean `{}`?", names[near]),
        None if names.is_empty() => "; it has no services".to_owned(),
        None => format!("; it has {}", names.join(", ")),
    };
    Cause::Unimplemented { hint }
}

/// Begins a call.
pub(crate) fn begin(
    shared: &Arc<Shared>,
    lease: Lease,
    timeout: Duration,
    written: &str,
    Method { service, method }: Method,
    messages: mpsc::Receiver<Value>,
) -> Result<ValueStream, CallError<Value>> {
    let series = {
        let service = &lease.about.services[service];
        shared.meters.method(&format!("{}/{}", service.name, service.methods[method].name))
    };
    let (begun, span) = (shared.meters.begin(), shared.recorder.begin());
    span.at(lease.log.recorder());
    let trace = span.context();
    let made = lease.session.exchange(Exchange { service, method, messages, timeout, trace });
    let failed = |cause: Cause| {
        span.end(&series, cause.status());
        CallError::Failed(shared.failure_of(Some(&lease), &series, written, cause))
    };
    let messages = made.map_err(failed)?;
    let (method, shared) = (written.to_owned(), Arc::clone(shared));
    Ok(ValueStream { messages, method, shared, series, begun, span, over: false, lease })
}

/// A call with one message, answered by one.
pub(crate) async fn one(
    shared: &Arc<Shared>,
    lease: Lease,
    timeout: Duration,
    written: &str,
    found: Method,
    message: Value,
) -> Result<Value, CallError<Value>> {
    let info = found.info(&lease.about);
    if info.client_streaming || info.server_streaming {
        let why = format!("`{}` streams its messages: it is called as a stream", info.name);
        return Err(CallError::Failed(shared.failure(None, written, Cause::Refused { why })));
    }
    let (sender, messages) = mpsc::channel(1);
    let message = if message.is_null() { Value::Object(Default::default()) } else { message };
    // There is room for one.
    let _ = sender.try_send(message);
    drop(sender);
    let mut answers = begin(shared, lease, timeout, written, found, messages)?;
    let answer = answers.next().await;
    let missing = || {
        let what = "it ended the call without an answer".to_owned();
        CallError::Failed(shared.failure(None, written, Cause::Protocol { what }))
    };
    let answer = answer.unwrap_or_else(|| Err(missing()))?;
    // The end of the call, with its status, comes after the message.
    match answers.next().await {
        None => Ok(answer),
        Some(Err(error)) => Err(error),
        Some(Ok(_)) => {
            let what = format!("it answered `{written}` twice");
            Err(CallError::Failed(shared.failure(None, written, Cause::Protocol { what })))
        }
    }
}
