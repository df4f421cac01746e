//! Whom a command asks: a host of its own, for the time of the command, or one that runs. A verb cannot tell.

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use jackfield::{Address, CallOptions, Host, HostBuilder, TrustSpec};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::fault::Kind;
use crate::inspect::View;
use crate::list::Listing;
use crate::own::{Own, OwnAnswers, Said};
use crate::report::Told;
use crate::running::{self, Running};
use crate::token::Token;

/// Where plugins are looked for, as it was typed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Where {
    pub(crate) plugins: Vec<PathBuf>,
    pub(crate) host: Option<Address>,
    pub(crate) token_file: Option<PathBuf>,
    /// What is asked of plugins before they are loaded.
    pub(crate) trust: TrustSpec,
}

impl Where {
    /// The running host that is meant, for what only such a one can do: `verb`.
    pub(crate) fn must_run(&self, verb: &str) -> Result<Running> {
        let missing = || {
            Told::new(Kind::Internal, format!("`{verb}` needs a running host"))
                .hint("name one with `--host unix:PATH` or in JACKFIELD_HOST; `jackfield run` is one")
        };
        Ok(self.running()?.ok_or_else(missing)?)
    }

    /// The running host that is meant, if one is.
    pub(crate) fn running(&self) -> Result<Option<Running>> {
        let address = match (&self.host, self.plugins.is_empty()) {
            (Some(_), false) => {
                let text = "`--host` and `--plugins` exclude each other";
                return Err(Told::new(Kind::Internal, text)
                    .hint("a running host has its own plugin directories: leave out one of the two")
                    .into());
            }
            (Some(address), true) => Some(address.clone()),
            // What is typed goes before what is set.
            (None, false) => None,
            (None, true) => match env::var("JACKFIELD_HOST") {
                Ok(set) if !set.is_empty() => Some(set.parse().context("the variable JACKFIELD_HOST is wrong")?),
                _ => None,
            },
        };
        if address.is_some() && self.trust != TrustSpec::default() {
            let text = "a running host decides itself whom it trusts";
            return Err(Told::new(Kind::Internal, text)
                .hint("leave out `--locked`, `--signatures`, `--trusted-keys` and `--allow`; `[trust]` of its configuration says that")
                .into());
        }
        let token = self.token_file.as_deref().map(Token::read);
        let token = if address.is_some() { token.transpose()? } else { None };
        Ok(address.map(|address| Running::new(address, token)))
    }
}

/// The plugins that a command works with.
#[derive(Debug)]
pub(crate) enum Session {
    Own(Box<Own>),
    Running(Running),
}

impl Session {
    /// Works with a running host, if one is meant. Otherwise loads the plugins in the directories that were
    /// given, or else in `JACKFIELD_PLUGINS`, works, and stops them. With `only`, just the plugin of that name
    /// is started.
    pub(crate) fn with<T>(
        place: Where,
        only: Option<&str>,
        work: impl AsyncFnOnce(&Session) -> Result<T>,
    ) -> Result<T> {
        if let Some(running) = place.running()? {
            return asynchronously(work(&Session::Running(running)));
        }
        let dirs = plugin_dirs(place.plugins.clone())?;
        asynchronously(async {
            let builder = only.map_or_else(Host::builder, |name| Host::builder().only(name));
            let builder = trusting(builder, &place.trust);
            let builder = dirs.into_iter().fold(builder, |builder, dir| builder.plugin_dir(dir));
            let host = builder.build().await.context("cannot start the host")?;
            let session = Session::Own(Box::new(Own::new(host)));
            let done = work(&session).await;
            if let Session::Own(own) = &session {
                own.host().stop().await;
            }
            done
        })
    }

    pub(crate) async fn list(&self) -> Result<Listing> {
        match self {
            Session::Own(own) => Ok(own.list()),
            Session::Running(running) => running.list().await,
        }
    }

    pub(crate) async fn inspect(&self, name: &str) -> Result<View> {
        match self {
            Session::Own(own) => own.inspect(name),
            Session::Running(running) => running.inspect(name).await,
        }
    }

    pub(crate) async fn call(
        &self,
        plugin: &str,
        function: &str,
        arguments: Value,
        options: &CallOptions,
    ) -> Result<Said> {
        match self {
            Session::Own(own) => own.call(plugin, function, arguments, options).await,
            Session::Running(running) => running.call(plugin, function, &arguments, options).await,
        }
    }

    /// Calls a method of a service that streams.
    pub(crate) async fn stream(
        &self,
        plugin: &str,
        method: &str,
        messages: mpsc::Receiver<Value>,
        options: &CallOptions,
    ) -> Result<Answers> {
        Ok(match self {
            Session::Own(own) => Answers::Own(own.stream(plugin, method, messages, options)?),
            Session::Running(running) => Answers::Running(running.stream(plugin, method, messages, options).await?),
        })
    }
}

/// The messages that a method answers with.
#[derive(Debug)]
pub(crate) enum Answers {
    Own(OwnAnswers),
    Running(running::Answers),
}

impl Answers {
    pub(crate) async fn next(&mut self) -> Option<Result<Said>> {
        match self {
            Answers::Own(answers) => answers.next().await,
            Answers::Running(answers) => answers.next().await,
        }
    }
}

/// Does what has to wait for others.
pub(crate) fn asynchronously<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start")?.block_on(work)
}

/// A host that asks this of its plugins.
pub(crate) fn trusting(builder: HostBuilder, trust: &TrustSpec) -> HostBuilder {
    let builder = builder.locked(trust.locked.unwrap_or_default());
    let builder = builder.signatures(trust.signatures.unwrap_or_default());
    let builder = trust.trusted_keys.iter().fold(builder, |builder, file| builder.trusted_keys(file));
    trust.allow.iter().fold(builder, |builder, exposure| builder.allow(*exposure))
}

pub(crate) fn plugin_dirs(dirs: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    if !dirs.is_empty() {
        return Ok(dirs);
    }
    match dirs_of_environment() {
        listed if listed.is_empty() => Err(Told::new(Kind::Internal, "no plugin directory was given")
            .hint("give one with `--plugins DIR`, or list them in `JACKFIELD_PLUGINS`")
            .into()),
        listed => Ok(listed),
    }
}

/// The directories in `JACKFIELD_PLUGINS`.
pub(crate) fn dirs_of_environment() -> Vec<PathBuf> {
    let listed = env::var_os("JACKFIELD_PLUGINS").unwrap_or_default();
    env::split_paths(&listed).filter(|dir| !dir.as_os_str().is_empty()).collect()
}
