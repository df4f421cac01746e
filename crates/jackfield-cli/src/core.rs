//! SHIM: what the host's core gives, until it is there. Nothing of this may stay.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jackfield::{Host, LogLine, UnknownPlugin};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CrashReport {
    pub(crate) plugin: String,
}
impl std::fmt::Display for CrashReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.plugin)
    }
}
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Quarantined {
    pub(crate) plugin: String,
    #[serde(with = "jackfield::rfc3339")]
    pub(crate) since: SystemTime,
    pub(crate) reason: String,
    pub(crate) evidence: Vec<String>,
    pub(crate) hash: Option<String>,
    pub(crate) host: String,
    pub(crate) lift: String,
}
#[derive(Clone, Debug)]
pub(crate) struct Reloaded {
    pub(crate) plugin: String,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) version: String,
    pub(crate) took: Duration,
}
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Died(Arc<CrashReport>),
    Removed { plugin: String },
}
impl Event {
    pub(crate) fn plugin(&self) -> &str {
        match self {
            Event::Died(report) => &report.plugin,
            Event::Removed { plugin } => plugin,
        }
    }
}
pub(crate) type ReloadError = UnknownPlugin;
pub(crate) type EnableError = UnknownPlugin;
#[derive(Clone, Debug, Default)]
pub(crate) struct Rescanned;

pub(crate) trait Core {
    async fn reload(&self, name: &str) -> Result<Reloaded, ReloadError>;
    async fn rescan(&self) -> Rescanned;
    async fn disable(&self, name: &str) -> Result<(), UnknownPlugin>;
    async fn enable(&self, name: &str) -> Result<(), EnableError>;
    async fn lift_quarantine(&self, name: &str) -> Result<(), EnableError>;
    fn quarantined(&self) -> Vec<Quarantined>;
    fn crashes(&self) -> Vec<Arc<CrashReport>>;
    fn events(&self) -> broadcast::Receiver<Event>;
    fn log_lines(&self) -> broadcast::Receiver<LogLine>;
}
impl Core for Host {
    async fn reload(&self, name: &str) -> Result<Reloaded, ReloadError> {
        Err(self.plugin(name).expect_err("SHIM"))
    }
    async fn rescan(&self) -> Rescanned {
        Rescanned
    }
    async fn disable(&self, name: &str) -> Result<(), UnknownPlugin> {
        self.plugin(name).map(drop)
    }
    async fn enable(&self, name: &str) -> Result<(), EnableError> {
        self.plugin(name).map(drop)
    }
    async fn lift_quarantine(&self, name: &str) -> Result<(), EnableError> {
        self.plugin(name).map(drop)
    }
    fn quarantined(&self) -> Vec<Quarantined> {
        Vec::new()
    }
    fn crashes(&self) -> Vec<Arc<CrashReport>> {
        Vec::new()
    }
    fn events(&self) -> broadcast::Receiver<Event> {
        broadcast::channel(1).1
    }
    fn log_lines(&self) -> broadcast::Receiver<LogLine> {
        broadcast::channel(1).1
    }
}
