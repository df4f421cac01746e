//! `jackfield call`.

use std::io;
use std::time::Instant;

use anyhow::{Result, bail};
use jackfield::CallOptions;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::Outcome;
use crate::args;
use crate::arguments;
use crate::latency::Latency;
use crate::output::{self, Out};
use crate::own::Said;
use crate::session::Session;

pub(crate) async fn run(session: &Session, call: args::Call, out: &Out) -> Result<Outcome> {
    if session.inspect(&call.plugin).await?.streams(&call.function) {
        return stream(session, call, out).await;
    }
    let arguments = arguments::read(&call.arguments, io::stdin())?;
    let options = CallOptions { timeout: call.timeout };
    match call.repeat {
        None => said(&call.plugin, session.call(&call.plugin, &call.function, arguments, &options).await?, out),
        Some(times) => match repeat(session, &options, &call, &arguments, times).await? {
            Repeated::All(latency) if out.json => out.value(&latency.json()).map(|()| Outcome::Done),
            Repeated::All(latency) => out.text(&latency.text()).map(|()| Outcome::Done),
            Repeated::Until(answer) => said(&call.plugin, answer, out),
        },
    }
}

/// Calls a method of a service that streams: a message a line, in both directions.
async fn stream(session: &Session, call: args::Call, out: &Out) -> Result<Outcome> {
    if call.repeat.is_some() {
        bail!("`--repeat` is for calls with one answer, and `{}` streams", call.function);
    }
    let (sender, messages) = mpsc::channel(16);
    // A thread: to wait for a line of stdin is to wait, and what was sent must be answered meanwhile.
    let reader = std::thread::spawn(move || {
        arguments::read_each(&call.arguments, io::stdin().lock(), |message| sender.blocking_send(message).is_ok())
    });
    let options = CallOptions { timeout: call.timeout };
    let mut answers = session.stream(&call.plugin, &call.function, messages, &options).await?;
    let mut outcome = Outcome::Done;
    while let Some(answer) = answers.next().await {
        match answer? {
            Said::Ok(message) => out.line(&message)?,
            error => outcome = said(&call.plugin, error, out)?,
        }
    }
    // One that still waits for a line is not waited for: the plugin wants no more of them.
    match reader.is_finished().then(|| reader.join()) {
        Some(Ok(read)) => read.map(|()| outcome),
        _ => Ok(outcome),
    }
}

/// What an answer comes to.
fn said(plugin: &str, answer: Said, out: &Out) -> Result<Outcome> {
    match answer {
        Said::Ok(answer) => out.value(&answer).map(|()| Outcome::Done),
        Said::Error(error) => {
            output::say(&format!("plugin `{plugin}` answered with its own error"));
            out.value(&error).map(|()| Outcome::PluginSaidNo)
        }
    }
}

/// How a series of calls ended.
enum Repeated {
    All(Latency),
    /// With this answer, which is no success.
    Until(Said),
}

/// Makes the call `times` times, or until one gives no success.
async fn repeat(
    session: &Session,
    options: &CallOptions,
    call: &args::Call,
    arguments: &Value,
    times: u32,
) -> Result<Repeated> {
    let mut each = Vec::with_capacity(times as usize);
    let begun = Instant::now();
    for _ in 0..times {
        let arguments = arguments.clone();
        let one = Instant::now();
        match session.call(&call.plugin, &call.function, arguments, options).await? {
            Said::Ok(_) => each.push(one.elapsed()),
            error => return Ok(Repeated::Until(error)),
        }
    }
    Ok(Repeated::All(Latency::of(each, begun.elapsed())))
}
