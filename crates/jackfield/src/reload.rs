//! Reload: replace a running plugin by a newer build without losing a call.
//!
//! The new build is started beside the old one and must be what is wanted, be well, and answer its canary call
//! before it gets any other; only then do calls go to it, and the old one ends those it has. A step that fails
//! leaves the old one as it is. Order: find, trust, start, check, health, canary, state, swap; drain old, stop old.
//!
//! Not here: noticing the change (`watch.rs`), when this is done and what happens afterwards (`supervise.rs`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jackfield_protocol::call::Cause;
use jackfield_protocol::{Comparison, InterfaceId, compare};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::call::ask;
use crate::discover::Found;
use crate::error::{LoadError, ReloadStep, in_full};
use crate::lifecycle::ReloadSpec;
use crate::mechanism::{About, Boxed};
use crate::plugin::{Generation, Shared};

/// Starts sessions of a plugin. The host's; in tests, one without programs.
pub(crate) trait Starter: Send + Sync {
    /// What lies at `source` now.
    fn find(&self, name: &str, source: &Path) -> Result<Found, LoadError>;

    /// Starts it as the generation of this number, and believes what it says of itself, or not.
    fn start(&self, found: Found, number: u64) -> Boxed<'static, Result<Arc<Generation>, LoadError>>;
}

/// A step that failed, and why.
pub(crate) type Stopped = (ReloadStep, LoadError);

/// What failed, in a word, and why.
pub(crate) fn in_a_word((step, error): &Stopped) -> (&'static str, String) {
    (step.as_str(), in_full(error))
}

/// Proves that `new` can take calls, in place of `old` if there is one.
pub(crate) async fn prove(old: Option<&Generation>, new: &Generation) -> Result<(), Stopped> {
    let spec = &new.identity.lifecycle.reload;
    if let Some(old) = old {
        replaces(&old.about, &new.about).map_err(|what| (ReloadStep::Check, LoadError::Replaces { what }))?;
    }
    well(new, spec.health_timeout).await.map_err(|why| (ReloadStep::Health, LoadError::Unhealthy { why }))?;
    canary(new, spec).await.map_err(|why| (ReloadStep::Canary, LoadError::Unhealthy { why }))
}

/// Whether `new` offers what `old` does: clients of the old one go on with the new one.
fn replaces(old: &About, new: &About) -> Result<(), String> {
    for wanted in &old.interfaces {
        let same = |id: &InterfaceId| id.same_name(&wanted.id) && id.same_major(&wanted.id);
        let Some(offered) = new.interfaces.iter().find(|offered| same(&offered.id)) else {
            let offered: Vec<_> = new.interfaces.iter().map(|offered| format!("`{}`", offered.id)).collect();
            return Err(format!("the old one offers `{}`, the new one {}", wanted.id, offered.join(", ")));
        };
        if let (Some(wanted), Some(offered)) = (&wanted.description, &offered.description)
            && let Comparison::Incompatible { mismatches } = compare(wanted, offered, &[])
        {
            let list: Vec<_> = mismatches
                .iter()
                .map(|differs| {
                    format!(
                        "at `{}` the old one has `{}`, the new one `{}`",
                        differs.path, differs.host, differs.plugin
                    )
                })
                .collect();
            return Err(format!("`{}`: {}", wanted.id, list.join("; ")));
        }
    }
    let missing = old.services.iter().find(|old| new.services.iter().all(|new| new.name != old.name));
    missing.map_or(Ok(()), |service| {
        Err(format!("the old one offers the service `{}`, the new one does not", service.name))
    })
}

/// Whether it says that it is well. One that says nothing of that is: it has just answered.
async fn well(generation: &Generation, within: Duration) -> Result<(), String> {
    let silent = |_| format!("no answer after {within:?}");
    if !offers_life(generation) {
        return Ok(());
    }
    match timeout(within, ask(generation, HEALTH, &json!({}), within)).await.map_err(silent)? {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(own)) => Err(in_words(own)),
        Err(cause) => Err(cause.to_string()),
    }
}

/// Its first call.
async fn canary(new: &Generation, spec: &ReloadSpec) -> Result<(), String> {
    let Some(canary) = &spec.canary else { return Ok(()) };
    let within = spec.health_timeout;
    let call = |what: String| format!("`{}`: {what}", canary.function);
    match timeout(within, ask(new, &canary.function, &canary.arguments, within)).await {
        Ok(Ok(Ok(_))) => Ok(()),
        Ok(Ok(Err(own))) => Err(call(format!("it answered with its own error: {own}"))),
        Ok(Err(cause)) => Err(call(cause.to_string())),
        Err(_) => Err(call(format!("no answer after {within:?}"))),
    }
}

/// The interface by which a plugin speaks of its own life.
const LIFE: &str = "jackfield:plugin/life";
const HEALTH: &str = "jackfield:plugin/life.health";
const EXPORT_STATE: &str = "jackfield:plugin/life.export-state";
const IMPORT_STATE: &str = "jackfield:plugin/life.import-state";

fn offers_life(generation: &Generation) -> bool {
    generation.about.interfaces.iter().any(|offered| offered.id.unversioned() == LIFE)
}

/// A text of its own as it is, anything else as JSON.
fn in_words(own: Value) -> String {
    match own {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// Gives calls to `new` instead of `old`, with the old one's state if that is wanted. Afterwards the old one takes
/// no calls and still has those it had.
pub(crate) async fn swap(shared: &Shared, old: Option<&Arc<Generation>>, new: &Arc<Generation>) -> Result<(), Stopped> {
    let spec = &new.identity.lifecycle.reload;
    if let Some(old) = old.filter(|old| spec.state && offers_life(old) && offers_life(new)) {
        shared.transit(|life| life.hand_over());
        old.close();
        if let Err(why) = hand_over(old, new, spec).await {
            old.reopen();
            shared.transit(|life| life.ready(Arc::clone(old)));
            return Err((ReloadStep::State, LoadError::Unhealthy { why }));
        }
    }
    shared.transit(|life| life.ready(Arc::clone(new)));
    if let Some(old) = old {
        old.close();
    }
    Ok(())
}

/// Hands the state on, once no call can change it any more.
async fn hand_over(old: &Generation, new: &Generation, spec: &ReloadSpec) -> Result<(), String> {
    let busy = |_| format!("calls of the old build did not end within {:?}", spec.drain_timeout);
    timeout(spec.drain_timeout, old.drained()).await.map_err(busy)?;
    let within = spec.health_timeout;
    let asked = async |generation: &Generation, function: &str, arguments: Value| -> Result<Value, String> {
        let silent = |_| format!("`{function}`: no answer after {within:?}");
        match timeout(within, ask(generation, function, &arguments, within)).await.map_err(silent)? {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(own)) => Err(format!("`{function}`: {}", in_words(own))),
            Err(cause) => Err(format!("`{function}`: {cause}")),
        }
    };
    match asked(old, EXPORT_STATE, json!({})).await? {
        // It has none.
        Value::Null => Ok(()),
        state => asked(new, IMPORT_STATE, json!({ "state": state })).await.map(drop),
    }
}

/// Waits for a generation's calls, ends those that take longer, and the generation with them.
pub(crate) async fn drain(old: Arc<Generation>) {
    let spec = &old.identity.lifecycle.reload;
    let drained = timeout(spec.drain_timeout, old.drained()).await.is_ok();
    if !drained {
        let why = format!("a newer build took its place, and this call took longer than {:?}", spec.drain_timeout);
        old.session.kill(Cause::Unavailable { why });
    }
    old.session.stop(drained).await;
}
