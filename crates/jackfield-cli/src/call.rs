//! `jackfield call`.

use std::io;
use std::time::Instant;

use anyhow::{Result, bail};
use jackfield::{CallError, CallOptions, Plugin};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::Outcome;
use crate::args;
use crate::arguments;
use crate::latency::Latency;
use crate::output::{self, Out};
use crate::session::Session;

pub(crate) async fn run(session: &Session, call: args::Call, out: &Out) -> Result<Outcome> {
    let plugin = session.plugin(&call.plugin)?;
    match plugin.method(&call.function) {
        Some(method) if method.client_streaming || method.server_streaming => return stream(&plugin, call, out).await,
        _ => {}
    }
    let arguments = arguments::read(&call.arguments, io::stdin())?;
    let options = CallOptions { timeout: call.timeout };
    let answer = match call.repeat {
        None => plugin.call_with(&options, &call.function, arguments).await,
        Some(times) => match repeat(&plugin, &options, &call.function, &arguments, times).await {
            Ok(latency) if out.json => return out.value(&latency.json()).map(|()| Outcome::Done),
            Ok(latency) => return out.text(&latency.text()).map(|()| Outcome::Done),
            Err(error) => Err(error),
        },
    };
    match answer {
        Ok(answer) => out.value(&answer).map(|()| Outcome::Done),
        Err(error) => said(&plugin, error, out),
    }
}

/// Calls a method of a service that streams: a message a line, in both directions.
async fn stream(plugin: &Plugin, call: args::Call, out: &Out) -> Result<Outcome> {
    if call.repeat.is_some() {
        bail!("`--repeat` is for calls with one answer, and `{}` streams", call.function);
    }
    let (sender, messages) = mpsc::channel(16);
    // A thread: to wait for a line of stdin is to wait, and what was sent must be answered meanwhile.
    let reader = std::thread::spawn(move || {
        arguments::read_each(&call.arguments, io::stdin().lock(), |message| sender.blocking_send(message).is_ok())
    });
    let options = CallOptions { timeout: call.timeout };
    let mut answers = match plugin.stream(&options, &call.function, messages) {
        Ok(answers) => answers,
        Err(error) => return said(plugin, error, out),
    };
    let mut outcome = Outcome::Done;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(message) => out.line(&message)?,
            Err(error) => outcome = said(plugin, error, out)?,
        }
    }
    // One that still waits for a line is not waited for: the plugin wants no more of them.
    match reader.is_finished().then(|| reader.join()) {
        Some(Ok(read)) => read.map(|()| outcome),
        _ => Ok(outcome),
    }
}

/// What a call that gave no success comes to.
fn said(plugin: &Plugin, error: CallError<Value>, out: &Out) -> Result<Outcome> {
    match error {
        CallError::Plugin(error) => {
            output::say(&format!("plugin `{}` answered with its own error", plugin.name()));
            out.value(&error).map(|()| Outcome::PluginSaidNo)
        }
        CallError::Failed(failure) => Err(failure.into()),
    }
}

/// Makes the call `times` times, or until one gives no success.
async fn repeat(
    plugin: &Plugin,
    options: &CallOptions,
    function: &str,
    arguments: &Value,
    times: u32,
) -> Result<Latency, CallError<Value>> {
    let mut each = Vec::with_capacity(times as usize);
    let begun = Instant::now();
    for _ in 0..times {
        let arguments = arguments.clone();
        let call = Instant::now();
        plugin.call_with(options, function, arguments).await?;
        each.push(call.elapsed());
    }
    Ok(Latency::of(each, begun.elapsed()))
}
