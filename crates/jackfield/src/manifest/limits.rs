//! The `[limits]` of a manifest: what was written, before it is known whether it can hold.

use std::time::Duration;

use jackfield_protocol::runner::ProcessLimits;

use super::MechanismKind;
use super::document::{Keys, Named, Table};
use super::error::Fault;
use crate::limits::{Limits, OnTimeout, STACK_BYTES_MAX};

/// The limits a manifest sets. What is `None` keeps the host's value.
///
/// Durations are written `"250ms"`, `"5s"`, `"2m"` or `"1h"`; sizes `"16MiB"` (2^20), `"10MB"`
/// (10^6) or as an integer of bytes. [`Limits`] has the meaning and the default of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitsSpec {
    /// `start_timeout`; at least 1 ms. Not for `native`.
    pub start_timeout: Option<Duration>,
    /// `call_timeout`; at least 1 ms. Not for `native`.
    pub call_timeout: Option<Duration>,
    /// `stop_grace`; 0 kills without waiting. Not for `native`.
    pub stop_grace: Option<Duration>,
    /// `answer_bytes`; at least 1.
    pub answer_bytes: Option<u64>,
    /// `calls_in_flight`; at least 1. Not for `native`.
    pub calls_in_flight: Option<usize>,
    /// `call_bytes_in_flight`; at least 1. Not for `native`.
    pub call_bytes_in_flight: Option<usize>,
    /// `on_timeout`: `"cancel"` or `"kill"`. For `process`, `grpc` and isolated `native`.
    pub on_timeout: Option<OnTimeout>,
    /// `memory`; at least 1. Of the memories of an instance for `wasm`, of the process for a program and for
    /// a native plugin with `isolation = "process"`.
    pub memory: Option<u64>,
    /// `address_space`; at least 1. For `process`, `grpc` and isolated `native`, as are those up to `file_size`.
    pub address_space: Option<u64>,
    /// `cpu_time`; whole seconds, at least 1.
    pub cpu_time: Option<Duration>,
    /// `cpu_rate`: a share of one processor, `"50%"`; `"200%"` is two. In thousandths here.
    pub cpu_rate: Option<u64>,
    /// `processes`; at least 1.
    pub processes: Option<u64>,
    /// `files`; at least 8.
    pub files: Option<u64>,
    /// `file_size`; at least 1.
    pub file_size: Option<u64>,
    /// `table_elements`; at least 1. `wasm` only.
    pub table_elements: Option<u64>,
    /// `stack`; 1 to 64 MiB. `wasm` only.
    pub stack: Option<usize>,
    /// `fuel`; at least 1. `wasm` only.
    pub fuel: Option<u64>,
    /// `log_bytes`; at least 1. `wasm` only.
    pub log_bytes: Option<u64>,
    /// `module_bytes`; at least 1. `wasm` only.
    pub module_bytes: Option<u64>,
    /// `compile_timeout`; at least 1 ms. `wasm` only.
    pub compile_timeout: Option<Duration>,
}

/// The keys of `[limits]`.
const KEYS: [&str; 20] = [
    "start_timeout",
    "call_timeout",
    "stop_grace",
    "answer_bytes",
    "calls_in_flight",
    "call_bytes_in_flight",
    "on_timeout",
    "memory",
    "address_space",
    "cpu_time",
    "cpu_rate",
    "processes",
    "files",
    "file_size",
    "table_elements",
    "stack",
    "fuel",
    "log_bytes",
    "module_bytes",
    "compile_timeout",
];

/// A limit that was set and that the mechanism cannot enforce.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{limit}` is set, and {why}")]
pub struct LimitRefusal {
    /// The limit, as in the manifest.
    pub limit: &'static str,
    /// The mechanism that cannot enforce it.
    pub mechanism: MechanismKind,
    why: &'static str,
}

impl MechanismKind {
    /// The limits that the mechanism cannot enforce, by their names in a manifest, each with the reason.
    pub const fn unenforced(self) -> &'static [(&'static str, &'static str)] {
        match self {
            MechanismKind::Wasm => &[
                ("on_timeout", "the instance whose call took too long is thrown away anyhow"),
                ("address_space", "`memory` is all that a guest can address"),
                ("cpu_time", "`fuel` and `call_timeout` bound what a guest computes"),
                ("cpu_rate", "`fuel` and `call_timeout` bound what a guest computes"),
                ("processes", "a guest starts none"),
                ("files", "a guest opens only what `[sandbox]` grants, and is not counted"),
                ("file_size", "what a guest writes to granted directories is not counted"),
            ],
            // Its peer in the process of its own is a program, too.
            MechanismKind::Process | MechanismKind::Grpc => &[
                ("table_elements", "a program has no tables"),
                ("stack", "the operating system decides on the stack of a program"),
                ("fuel", "the instructions of a program are not counted"),
                ("log_bytes", "the lines of a program do not say which call they belong to"),
                ("module_bytes", "a program is started by the operating system, however large it is"),
                ("compile_timeout", "a program is not compiled by its host"),
            ],
            MechanismKind::Native => &[
                ("start_timeout", "the operating system cannot be interrupted while it loads a native plugin"),
                ("call_timeout", "a native plugin cannot be stopped in the middle of a call"),
                ("stop_grace", "a native plugin stays in memory, so that nothing waits for its end"),
                ("calls_in_flight", "a native plugin is called on its callers' threads, however many they are"),
                ("call_bytes_in_flight", "a native plugin reads its arguments from its callers' memory"),
                ("on_timeout", "a native plugin cannot be killed without its host"),
                ("memory", "a native plugin allocates in the memory of its host"),
                ("address_space", "a native plugin shares the address space of its host"),
                ("cpu_time", "a native plugin computes on the threads of its host"),
                ("cpu_rate", "a native plugin computes on the threads of its host"),
                ("processes", "the processes of a native plugin are its host's"),
                ("files", "the open files of a native plugin are its host's"),
                ("file_size", "a native plugin writes as its host"),
                ("table_elements", "a native plugin has no tables"),
                ("stack", "a native plugin is called on the stacks of its callers"),
                ("fuel", "the instructions of a native plugin are not counted"),
                ("log_bytes", "the lines of a native plugin do not say which call they belong to"),
                ("module_bytes", "a native plugin is loaded by the operating system, however large it is"),
                ("compile_timeout", "a native plugin is not compiled by its host"),
            ],
        }
    }
}

impl LimitsSpec {
    /// The limits set here that `mechanism` cannot enforce, each with the reason.
    ///
    /// ```
    /// # use jackfield::{LimitsSpec, MechanismKind};
    /// let mut limits = LimitsSpec::default();
    /// limits.call_timeout = Some(std::time::Duration::from_secs(5));
    /// assert!(limits.refusals(MechanismKind::Process).is_empty());
    /// assert_eq!(
    ///     limits.refusals(MechanismKind::Native)[0].to_string(),
    ///     "`call_timeout` is set, and a native plugin cannot be stopped in the middle of a call",
    /// );
    /// ```
    pub fn refusals(&self, mechanism: MechanismKind) -> Vec<LimitRefusal> {
        let is_set = |limit: &str| match limit {
            "start_timeout" => self.start_timeout.is_some(),
            "call_timeout" => self.call_timeout.is_some(),
            "stop_grace" => self.stop_grace.is_some(),
            "answer_bytes" => self.answer_bytes.is_some(),
            "calls_in_flight" => self.calls_in_flight.is_some(),
            "call_bytes_in_flight" => self.call_bytes_in_flight.is_some(),
            "on_timeout" => self.on_timeout.is_some(),
            "memory" => self.memory.is_some(),
            "address_space" => self.address_space.is_some(),
            "cpu_time" => self.cpu_time.is_some(),
            "cpu_rate" => self.cpu_rate.is_some(),
            "processes" => self.processes.is_some(),
            "files" => self.files.is_some(),
            "file_size" => self.file_size.is_some(),
            "table_elements" => self.table_elements.is_some(),
            "stack" => self.stack.is_some(),
            "fuel" => self.fuel.is_some(),
            "log_bytes" => self.log_bytes.is_some(),
            "module_bytes" => self.module_bytes.is_some(),
            _ => self.compile_timeout.is_some(),
        };
        let refused = mechanism.unenforced().iter().filter(|(limit, _)| is_set(limit));
        refused.map(|&(limit, why)| LimitRefusal { limit, mechanism, why }).collect()
    }

    /// `limits` with what is set here in place of what is there.
    pub fn apply(&self, limits: &Limits) -> Limits {
        let bytes_in_flight = self.call_bytes_in_flight;
        let stack = self.stack.unwrap_or(limits.stack_bytes_max);
        let mut applied = limits.clone();
        applied.start_timeout = self.start_timeout.unwrap_or(limits.start_timeout);
        applied.call_timeout = self.call_timeout.unwrap_or(limits.call_timeout);
        applied.stop_grace = self.stop_grace.unwrap_or(limits.stop_grace);
        applied.answer_bytes_max = self.answer_bytes.unwrap_or(limits.answer_bytes_max);
        applied.calls_in_flight_max = self.calls_in_flight.unwrap_or(limits.calls_in_flight_max);
        applied.call_bytes_in_flight_max = bytes_in_flight.unwrap_or(limits.call_bytes_in_flight_max);
        applied.on_timeout = self.on_timeout.unwrap_or(limits.on_timeout);
        applied.memory_bytes_max = self.memory.unwrap_or(limits.memory_bytes_max);
        let cpu_time = self.cpu_time.map(|time| time.as_secs());
        applied.process = ProcessLimits {
            memory: self.memory.or(limits.process.memory),
            address_space: self.address_space.or(limits.process.address_space),
            cpu_time: cpu_time.or(limits.process.cpu_time),
            cpu_rate: self.cpu_rate.or(limits.process.cpu_rate),
            processes: self.processes.or(limits.process.processes),
            files: self.files.or(limits.process.files),
            file_size: self.file_size.or(limits.process.file_size),
        };
        applied.table_elements_max = self.table_elements.unwrap_or(limits.table_elements_max);
        // What a manifest says was checked; what the host says is here.
        applied.stack_bytes_max = stack.min(STACK_BYTES_MAX);
        applied.fuel_max = self.fuel.or(limits.fuel_max);
        applied.log_bytes_max = self.log_bytes.unwrap_or(limits.log_bytes_max);
        applied.module_bytes_max = self.module_bytes.unwrap_or(limits.module_bytes_max);
        applied.compile_timeout = self.compile_timeout.unwrap_or(limits.compile_timeout);
        applied
    }

    /// Reads the table, and refuses where it stands what `mechanism` cannot enforce.
    pub(super) fn read(table: Table, mechanism: MechanismKind) -> Result<Self, Fault> {
        let (spec, written) = Self::read_keys(table)?;
        if let Some(refusal) = spec.refusals(mechanism).into_iter().next() {
            let written = KEYS.iter().zip(&written).find(|(key, _)| **key == refusal.limit);
            let place = written.and_then(|(_, named)| named.as_ref()).map_or(0, |named| named.value.at);
            return Err(Fault::at(place, refusal));
        }
        Ok(spec)
    }

    /// Reads the table of a host, for plugins of every mechanism: none of them is asked whether it can.
    pub(super) fn read_for_all(table: Table) -> Result<Self, Fault> {
        Self::read_keys(table).map(|(spec, _)| spec)
    }

    fn read_keys(table: Table) -> Result<(Self, [Option<Named>; KEYS.len()]), Fault> {
        let mut keys = Keys::new("limits.", table, &KEYS)?;
        let written = KEYS.map(|key| keys.take(key));
        let value = |key| written[KEYS.iter().position(|known| *known == key)?].as_ref();
        let spec = Self {
            start_timeout: value("start_timeout").map(Named::duration_above_zero).transpose()?,
            call_timeout: value("call_timeout").map(Named::duration_above_zero).transpose()?,
            stop_grace: value("stop_grace").map(Named::duration).transpose()?,
            answer_bytes: value("answer_bytes").map(Named::size).transpose()?,
            calls_in_flight: value("calls_in_flight").map(|calls| calls.count("calls")).transpose()?,
            call_bytes_in_flight: value("call_bytes_in_flight").map(Named::memory_size).transpose()?,
            on_timeout: value("on_timeout").map(Named::parsed).transpose()?,
            memory: value("memory").map(Named::size).transpose()?,
            address_space: value("address_space").map(Named::size).transpose()?,
            cpu_time: value("cpu_time").map(cpu_time).transpose()?,
            cpu_rate: value("cpu_rate").map(cpu_rate).transpose()?,
            processes: value("processes").map(|processes| processes.count("processes")).transpose()?,
            files: value("files").map(files).transpose()?,
            file_size: value("file_size").map(Named::size).transpose()?,
            table_elements: value("table_elements").map(|elements| elements.count("elements")).transpose()?,
            stack: value("stack").map(stack_size).transpose()?,
            fuel: value("fuel").map(|fuel| fuel.count("units")).transpose()?,
            log_bytes: value("log_bytes").map(Named::size).transpose()?,
            module_bytes: value("module_bytes").map(Named::size).transpose()?,
            compile_timeout: value("compile_timeout").map(Named::duration_above_zero).transpose()?,
        };
        Ok((spec, written))
    }
}

fn stack_size(written: &Named) -> Result<usize, Fault> {
    match written.memory_size()? {
        bytes if bytes > STACK_BYTES_MAX => {
            Err(written.bad(format_args!("{bytes} bytes; the most is {} MiB", STACK_BYTES_MAX >> 20)))
        }
        bytes => Ok(bytes),
    }
}

/// The operating system counts processor time in whole seconds.
fn cpu_time(written: &Named) -> Result<Duration, Fault> {
    match written.duration()? {
        time if time.as_secs() == 0 || time.subsec_nanos() > 0 => {
            Err(written.bad(format_args!("{time:?} is not a whole number of seconds, which processor time is kept in")))
        }
        time => Ok(time),
    }
}

fn cpu_rate(written: &Named) -> Result<u64, Fault> {
    let text = written.text()?;
    let percent = text.strip_suffix('%').and_then(|percent| percent.trim().parse::<u64>().ok());
    match percent.filter(|percent| (1..=100_000).contains(percent)) {
        Some(percent) => Ok(percent * 10),
        None => Err(written.bad(format_args!("{text:?} is not a share of a processor, as in \"50%\""))),
    }
}

/// stdin, stdout, stderr, and what it takes to load a library.
const FILES_MIN: u64 = 8;

fn files(written: &Named) -> Result<u64, Fault> {
    match written.count("files")? {
        files if files < FILES_MIN => {
            Err(written.bad(format_args!("{files} files; no program runs with fewer than {FILES_MIN}")))
        }
        files => Ok(files),
    }
}
