//! `jackfield call`.

use std::io;
use std::time::Instant;

use anyhow::Result;
use jackfield::{CallError, CallOptions, Plugin};
use serde_json::Value;

use crate::Outcome;
use crate::args;
use crate::arguments;
use crate::latency::Latency;
use crate::output::{self, Out};
use crate::session::Session;

pub(crate) async fn run(session: &Session, call: args::Call, out: &Out) -> Result<Outcome> {
    let plugin = session.plugin(&call.plugin)?;
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
        Err(CallError::Plugin(error)) => {
            output::say(&format!("plugin `{}` answered with its own error", plugin.name()));
            out.value(&error).map(|()| Outcome::PluginSaidNo)
        }
        Err(CallError::Failed(failure)) => Err(failure.into()),
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
