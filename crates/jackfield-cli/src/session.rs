//! A host for the time of one command: plugins loaded before it, stopped after it.

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use jackfield::{Host, Plugin, Refused};

use crate::report::Told;

/// The plugins that a command works with.
#[derive(Debug)]
pub(crate) struct Session {
    host: Host,
}

impl Session {
    /// Loads the plugins in `dirs`, or else in `JACKFIELD_PLUGINS`, works, and stops them. With `only`,
    /// just the plugin of that name is started.
    pub(crate) fn with<T>(
        dirs: Vec<PathBuf>,
        only: Option<&str>,
        work: impl AsyncFnOnce(&Session) -> Result<T>,
    ) -> Result<T> {
        let dirs = plugin_dirs(dirs)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("cannot start")?.block_on(async {
            let builder = only.map_or_else(Host::builder, |name| Host::builder().only(name));
            let builder = dirs.into_iter().fold(builder, |builder, dir| builder.plugin_dir(dir));
            let session = Session { host: builder.build().await.context("cannot start the host")? };
            let done = work(&session).await;
            session.host.stop().await;
            done
        })
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
        match self.host.refused().iter().find(|refused| refused.name == name) {
            Some(refused) => Err(was_refused(refused).into()),
            None => Err(unknown.into()),
        }
    }
}

fn was_refused(refused: &Refused) -> Told {
    let hint = Told::hint_for(&refused.reason, &refused.path);
    let text = format!("plugin `{}` was refused", refused.name);
    Told { text, hint, source: Some(Box::new(Told::copy_of(&refused.reason))) }
}

fn plugin_dirs(dirs: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    if !dirs.is_empty() {
        return Ok(dirs);
    }
    let listed = env::var_os("JACKFIELD_PLUGINS").unwrap_or_default();
    let listed: Vec<_> = env::split_paths(&listed).filter(|dir| !dir.as_os_str().is_empty()).collect();
    match listed.is_empty() {
        false => Ok(listed),
        true => Err(Told {
            text: "no plugin directory was given".to_owned(),
            hint: Some("give one with `--plugins DIR`, or list them in `JACKFIELD_PLUGINS`".to_owned()),
            source: None,
        }
        .into()),
    }
}
