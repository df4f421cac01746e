//! `instances`: how many instances of a WebAssembly plugin there are, and how long each lives.

use std::num::NonZero;
use std::time::Duration;

use super::document::{Keys, Named, Value};
use super::error::{Fault, ManifestProblem, did_you_mean};

/// Which instance of a plugin a call gets. What it keeps in memory, the next call of it finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Instances {
    /// `"shared"`: the only one. Calls come one after the other, and see what earlier ones left.
    #[default]
    Shared,
    /// `"fresh"`: a new one for each call, which sees nothing of the others.
    Fresh,
    /// `{ pool = { … } }`: one that is idle, or a new one. Calls run side by side, and see what the
    /// earlier calls of the same instance left, whichever that is.
    Pool(PoolSpec),
}

/// `{ pool = { max = 8, idle = "60s", max_calls = 10000 } }`, each of the three with a default.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolSpec {
    /// `max`: instances at the same time; further calls wait. Default: the number of processors that
    /// this process may use.
    pub max: usize,
    /// `idle`: time without a call after which an instance is dropped. Default: 60 s.
    pub idle: Duration,
    /// `max_calls`: calls after which an instance is dropped. Default: no end.
    pub max_calls: Option<u64>,
}

impl Default for PoolSpec {
    fn default() -> Self {
        let max = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self { max, idle: Duration::from_secs(60), max_calls: None }
    }
}

impl Instances {
    pub(super) fn read(written: Named) -> Result<Self, Fault> {
        match &written.value.value {
            Value::Text(text) => match &**text {
                "shared" => Ok(Instances::Shared),
                "fresh" => Ok(Instances::Fresh),
                "pool" => Err(written.bad("a pool is written `{ pool = {} }`")),
                _ => {
                    let hint = did_you_mean("", text, ["shared", "fresh"]);
                    Err(written
                        .bad(format_args!("{text:?} is neither `shared` nor `fresh` nor a table with `pool`{hint}")))
                }
            },
            Value::Table(_) => {
                let at = written.value.at;
                let mut keys = Keys::new("instances.", written.table()?, &["pool"])?;
                let pool = keys.take("pool");
                let pool = pool.ok_or_else(|| Fault::at(at, ManifestProblem::Missing { key: "instances.pool" }))?;
                Ok(Instances::Pool(PoolSpec::read(pool)?))
            }
            _ => Err(written.wrong_type("\"shared\", \"fresh\" or a table with `pool`")),
        }
    }
}

impl PoolSpec {
    fn read(written: Named) -> Result<Self, Fault> {
        let mut keys = Keys::new("instances.pool.", written.table()?, &["max", "idle", "max_calls"])?;
        let mut pool = Self::default();
        if let Some(max) = keys.take("max") {
            pool.max = max.count("instances")?;
        }
        if let Some(idle) = keys.take("idle") {
            pool.idle = idle.duration()?;
        }
        if let Some(calls) = keys.take("max_calls") {
            pool.max_calls = Some(calls.count("calls")?);
        }
        Ok(pool)
    }
}
