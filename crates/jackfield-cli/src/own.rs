//! What is asked of a host, in the data that verbs print and the HTTP API sends.
//!
//! Both go through here: a command with a host of its own, and `jackfield run`. So they say the same.

use anyhow::Result;
use jackfield::{CallError, CallOptions, Event, Host, LogLine, Plugin, Refused, ValueStream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{broadcast, mpsc};

use crate::crashes::Crashed;
use crate::fault::Kind;
use crate::health::Health;
use crate::inspect::View;
use crate::lifecycle::{Now, Rescan, Swap};
use crate::list::Listing;
use crate::quarantine::SetAside;
use crate::report::Told;

/// What a plugin answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", content = "answer", rename_all = "lowercase")]
pub(crate) enum Said {
    /// A success.
    Ok(Value),
    /// Its own error.
    Error(Value),
}

impl Said {
    fn of(answer: Result<Value, CallError<Value>>) -> Result<Self> {
        match answer {
            Ok(answer) => Ok(Said::Ok(answer)),
            Err(CallError::Plugin(error)) => Ok(Said::Error(error)),
            Err(CallError::Failed(failure)) => Err(failure.into()),
        }
    }
}

/// A host in this process.
#[derive(Debug)]
pub(crate) struct Own {
    host: Host,
}

impl Own {
    pub(crate) fn new(host: Host) -> Self {
        Self { host }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// The plugin of this name, or the reason why there is none.
    pub(crate) fn plugin(&self, name: &str) -> Result<Plugin> {
        let unknown = match self.host.plugin(name) {
            Ok(plugin) => return Ok(plugin),
            Err(unknown) => unknown,
        };
        let refused = self.host.refused();
        match refused.iter().find(|refused| refused.name == name) {
            Some(refused) => Err(was_refused(refused).into()),
            None => Err(unknown.into()),
        }
    }

    pub(crate) fn list(&self) -> Listing {
        Listing::of(&self.host)
    }

    pub(crate) fn inspect(&self, name: &str) -> Result<View> {
        Ok(View::of(&self.plugin(name)?.info()))
    }

    pub(crate) async fn call(
        &self,
        plugin: &str,
        function: &str,
        arguments: Value,
        options: &CallOptions,
    ) -> Result<Said> {
        Said::of(self.plugin(plugin)?.call_with(options, function, arguments).await)
    }

    pub(crate) fn stream(
        &self,
        plugin: &str,
        method: &str,
        messages: mpsc::Receiver<Value>,
        options: &CallOptions,
    ) -> Result<OwnAnswers> {
        match self.plugin(plugin)?.stream(options, method, messages) {
            Ok(answers) => Ok(OwnAnswers::Stream(answers)),
            Err(error) => Ok(OwnAnswers::One(Some(Said::of(Err(error))?))),
        }
    }

    pub(crate) async fn reload(&self, name: &str) -> Result<Swap> {
        Ok(Swap::of(&self.host.reload(name).await?))
    }

    pub(crate) async fn disable(&self, name: &str) -> Result<Now> {
        self.host.disable(name).await?;
        self.now(name)
    }

    pub(crate) async fn enable(&self, name: &str) -> Result<Now> {
        self.host.enable(name).await?;
        self.now(name)
    }

    pub(crate) async fn lift(&self, name: &str) -> Result<Now> {
        self.host.lift_quarantine(name).await?;
        self.now(name)
    }

    fn now(&self, name: &str) -> Result<Now> {
        Ok(Now::of(&self.plugin(name)?.info()))
    }

    pub(crate) async fn rescan(&self) -> Rescan {
        Rescan::of(&self.host.rescan().await)
    }

    pub(crate) fn quarantine(&self) -> SetAside {
        SetAside { quarantined: self.host.quarantined() }
    }

    pub(crate) fn crashes(&self, plugin: Option<&str>) -> Crashed {
        Crashed::of(&self.host.crashes(), plugin)
    }

    pub(crate) fn health(&self) -> Health {
        Health::of(&self.host)
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.host.events()
    }

    pub(crate) fn log_lines(&self) -> broadcast::Receiver<LogLine> {
        self.host.log_lines()
    }

    /// The last lines of every plugin, or of one, as far as they are kept: together at most `count`.
    pub(crate) fn kept_lines(&self, plugin: Option<&str>, count: usize) -> Vec<LogLine> {
        let plugins = self.host.plugins();
        let wanted = plugins.iter().filter(|other| plugin.is_none_or(|name| name == other.name()));
        let mut lines: Vec<_> = wanted.flat_map(|plugin| plugin.log_lines(count)).collect();
        lines.sort_by_key(|line| line.number);
        lines.split_off(lines.len().saturating_sub(count))
    }
}

/// The messages that a method answers with.
#[derive(Debug)]
pub(crate) enum OwnAnswers {
    Stream(ValueStream),
    /// It said no before the first.
    One(Option<Said>),
}

impl OwnAnswers {
    pub(crate) async fn next(&mut self) -> Option<Result<Said>> {
        match self {
            OwnAnswers::Stream(answers) => answers.next().await.map(Said::of),
            OwnAnswers::One(said) => said.take().map(Ok),
        }
    }
}

fn was_refused(refused: &Refused) -> Told {
    let hint = Told::hint_for(&refused.reason, &refused.path);
    let source = Some(Box::new(Told::copy_of(&refused.reason)));
    Told { hint, source, ..Told::new(Kind::PluginRefused, format!("plugin `{}` was refused", refused.name)) }
}
