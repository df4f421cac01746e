//! What is said of plugins to who measures: every series, as it is at one moment.
//!
//! Names and labels are those of `docs/observability.md`, which a test compares with this list.
//!
//! Not here: the counting (`metrics/`), serving the page (`jackfield run`).

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use jackfield_protocol::Status;

use crate::breaker::BreakerState;
use crate::event::Records;
use crate::life::State;
use crate::mechanism::signal_name;
use crate::metrics::{Died, Family, Kind, Page, Samples, Series, TextPage};
use crate::plugin::{Glance, Plugin, Shared};
use crate::supervise::Reason;

/// Where series come from: a host.
pub(crate) trait Source: Send + Sync {
    /// The plugins, sorted, and what is recorded of them.
    fn look(&self) -> (Vec<Plugin>, &Records);
}

/// The series of a host. Cheap to clone; it does not keep the host.
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// let host = jackfield::Host::builder().plugin_dir("plugins").build().await?;
/// let metrics = host.metrics();
/// // In the handler of `GET /metrics`, with the content type `Metrics::CONTENT_TYPE`:
/// println!("{}", metrics.text());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Metrics {
    source: Weak<dyn Source>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// The content type of [`Metrics::text`].
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    pub(crate) fn new<S: Source + 'static>(source: &Arc<S>) -> Self {
        let source: Weak<S> = Arc::downgrade(source);
        Self { source }
    }

    /// All series as Prometheus reads them: OpenMetrics text, with exemplars where calls were traced.
    ///
    /// Reads `/proc` for plugins that have a process. It takes a few microseconds for each method and waits for
    /// nobody.
    pub fn text(&self) -> String {
        // Room at once: a large page would otherwise be moved a dozen times while it grows.
        let source = self.source.upgrade();
        let bytes = source.as_ref().map(|source| &source.look().1.page_bytes);
        let mut page = TextPage::with_capacity(bytes.map_or(0, |bytes| bytes.load(Ordering::Relaxed)));
        self.write(&mut page);
        let text = page.finish();
        if let Some(bytes) = bytes {
            bytes.store(text.len() + text.len() / 16, Ordering::Relaxed);
        }
        text
    }

    /// The content type of [`Metrics::protobuf`].
    #[cfg(feature = "metrics-protobuf")]
    pub const PROTOBUF_CONTENT_TYPE: &'static str =
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

    /// All series as Prometheus reads them where it reads native histograms: `MetricFamily` messages, each after its
    /// length. Without exemplars.
    #[cfg(feature = "metrics-protobuf")]
    pub fn protobuf(&self) -> Vec<u8> {
        let encoded = prometheus_client::encoding::prometheus_protobuf::encode_to_vec(&self.registry());
        // Only a value that refuses to be encoded is an error, and numbers do not.
        encoded.unwrap_or_default()
    }

    /// A registry of prometheus-client that has all series and nothing else.
    pub fn registry(&self) -> prometheus_client::registry::Registry {
        let mut registry = Default::default();
        self.register(&mut registry);
        registry
    }

    /// Adds all series to an application's own registry. They have no exemplars there; [`Metrics::text`] has them. They have native
    /// histograms, where [those are counted](crate::HostBuilder::native_histograms).
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    /// Makes an observable instrument of OpenTelemetry for each family, by the names of the page without `_total`, with
    /// its labels as attributes and the units `s` and `By`. Once for a meter. Each collection looks once at all plugins; when
    /// the host is gone, nothing is observed.
    ///
    /// OpenTelemetry's API has no observable histogram: of a histogram there are two counters, `_count` and `_sum`, and
    /// no buckets. Its SDK keeps 2,000 series of an instrument, unless a view says otherwise; what is beyond them is
    /// one series, `otel.metric.overflow`. Where it exports cumulative counts, it repeats those of a plugin that is gone.
    ///
    /// ```no_run
    /// # async fn example(provider: &dyn opentelemetry::metrics::MeterProvider) -> std::io::Result<()> {
    /// let host = jackfield::Host::builder().plugin_dir("plugins").build().await?;
    /// host.metrics().observe(&provider.meter("jackfield"));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "otel-metrics")]
    pub fn observe(&self, meter: &opentelemetry::metrics::Meter) {
        let metrics = self.clone();
        crate::metrics::observe(FAMILIES, meter, move |page| metrics.write(page));
    }

    pub(crate) fn write(&self, page: &mut dyn Page) {
        if let Some(source) = self.source.upgrade() {
            let (plugins, records) = source.look();
            let plugins: Vec<_> = plugins.iter().map(One::of).collect();
            write(&plugins, records, page);
        }
    }
}

impl prometheus_client::collector::Collector for Metrics {
    fn encode(&self, encoder: prometheus_client::encoding::DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = crate::metrics::RegistryPage::new(encoder);
        self.write(&mut page);
        page.finish()
    }
}

/// A plugin at the moment of a scrape.
struct One {
    shared: Arc<Shared>,
    at: Glance,
    series: Vec<Arc<Series>>,
    process: Option<Usage>,
}

impl One {
    fn of(plugin: &Plugin) -> Self {
        let (shared, at) = (Arc::clone(&plugin.shared), plugin.shared.glance());
        let running = matches!(at.state, State::Ready | State::Draining);
        let process = at.last.as_ref().filter(|_| running).and_then(|last| usage(last.session.process()?));
        if let (Some(usage), Some(last)) = (&process, &at.last) {
            shared.meters.used(last.number, usage.cpu_seconds);
        }
        let series = shared.meters.series();
        Self { shared, at, series, process }
    }

    fn name(&self) -> &str {
        &self.shared.name
    }
}

/// What a process uses.
struct Usage {
    memory_bytes: u64,
    cpu_seconds: f64,
}

/// What `/proc` says of a process. None where there is none.
fn usage(process: u32) -> Option<Usage> {
    let statm = std::fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Resident pages are the second value. 4 KiB is the page of every x86-64, and of most others.
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    // After the name, which may have anything in it: user and system time, in hundredths of a second.
    let mut values = stat.rsplit(") ").next()?.split(' ').skip(11);
    let ticks = values.next()?.parse::<u64>().ok()? + values.next()?.parse::<u64>().ok()?;
    Some(Usage { memory_bytes: pages * PAGE_BYTES, cpu_seconds: ticks as f64 / 100.0 })
}

const PAGE_BYTES: u64 = if cfg!(all(target_os = "macos", target_arch = "aarch64")) { 16_384 } else { 4_096 };

macro_rules! families {
    ($($family:ident: $kind:ident, $name:literal, $unit:expr, $help:literal;)*) => {
        $(static $family: Family = Family { name: $name, help: $help, kind: Kind::$kind, unit: $unit };)*

        /// All families, in their order on the page.
        #[cfg(any(test, feature = "otel-metrics"))]
        static FAMILIES: &[&Family] = &[$(&$family),*];
    };
}

families! {
    CALLS: Counter, "plugin_calls", None, "Calls that ended, by how they did.";
    CALL_DURATION: Histogram, "plugin_call_duration_seconds", Some("seconds"), "Time from a call to its answer, for calls that the plugin was asked.";
    IN_FLIGHT: Gauge, "plugin_calls_in_flight", None, "Calls that are under way, or wait for the plugin.";
    QUEUE: Histogram, "plugin_queue_seconds", Some("seconds"), "Time for which calls waited for room or for the plugin, for those that did.";
    UP: Gauge, "plugin_up", None, "Whether the plugin takes calls.";
    INFO: Gauge, "plugin_info", None, "What the plugin is, as labels.";
    GENERATIONS: Gauge, "plugin_generations", None, "Sessions of the plugin that are alive.";
    RESTARTS: Counter, "plugin_restarts", None, "Times that the plugin was started again after it died, by what it died of.";
    RESTART_FAILURES: Counter, "plugin_restart_failures", None, "Times that the plugin was to be started again and did not start.";
    CRASHES: Counter, "plugin_crashes", None, "Deaths of the plugin, by signal.";
    RELOADS: Counter, "plugin_reloads", None, "Reloads, by result.";
    RELOAD_DURATION: Histogram, "plugin_reload_duration_seconds", Some("seconds"), "Time from the wish for a reload to the first call that the new build could take.";
    LOAD_FAILURES: Counter, "plugin_load_failures", None, "Plugins that were not loaded, by the step that failed.";
    BREAKER: Gauge, "plugin_breaker_state", None, "0 if the breaker lets every call through, 1 if one at a time, 2 if none.";
    QUARANTINED: Gauge, "plugin_quarantined", None, "Whether the plugin is set aside.";
    QUARANTINES: Counter, "plugin_quarantines", None, "Times that the plugin was set aside.";
    LIMIT_HITS: Counter, "plugin_limit_hits", None, "Calls that a limit ended, by limit.";
    LOG_LINES: Counter, "plugin_log_lines", None, "Lines that the plugin wrote, by level.";
    LOG_DROPPED: Counter, "plugin_log_lines_dropped", None, "Lines that were passed over, since the plugin wrote too many.";
    NOISE: Counter, "plugin_protocol_noise", None, "Lines on stdout that are no messages.";
    TELEMETRY_DROPPED: Counter, "plugin_telemetry_dropped", None, "Spans of the plugin's calls, and of its own, that were not exported, by reason.";
    MEMORY: Gauge, "plugin_process_resident_memory_bytes", Some("bytes"), "Memory of the plugin's process.";
    CPU: Counter, "plugin_process_cpu_seconds", Some("seconds"), "Processor time that the plugin's processes have used.";
}

/// Writes every family.
fn write(plugins: &[One], records: &Records, page: &mut dyn Page) {
    use Ordering::Relaxed;

    page.family(&CALLS, &mut |samples| {
        for one in plugins {
            for series in &one.series {
                calls(one, series, samples);
            }
        }
    });
    page.family(&CALL_DURATION, &mut |samples| {
        for one in plugins {
            for series in &one.series {
                samples.times(&[("plugin", one.name()), ("method", &series.method)], &series.times());
            }
        }
    });
    let mut each = |family, number: &dyn Fn(&One) -> f64| {
        page.family(family, &mut |samples| {
            plugins.iter().for_each(|one| samples.number(&[("plugin", one.name())], number(one).into()));
        });
    };
    each(&IN_FLIGHT, &|one| one.shared.in_flight() as f64);
    each(&UP, &|one| f64::from(one.at.state == State::Ready));
    each(&GENERATIONS, &|one| one.shared.generations_live.load(Relaxed) as f64);
    each(&BREAKER, &|one| match one.shared.breaker.state() {
        BreakerState::Closed => 0.0,
        BreakerState::HalfOpen => 1.0,
        BreakerState::Open => 2.0,
    });
    each(&QUARANTINED, &|one| f64::from(matches!(one.at.state, State::Quarantined { .. })));
    page.family(&QUEUE, &mut |samples| {
        plugins.iter().for_each(|one| samples.times(&[("plugin", one.name())], &one.shared.meters.queue.read()));
    });
    page.family(&INFO, &mut |samples| plugins.iter().for_each(|one| info(one, samples)));
    let mut count = |family, number: &dyn Fn(&One) -> u64| {
        page.family(family, &mut |samples| {
            plugins.iter().for_each(|one| samples.number(&[("plugin", one.name())], number(one).into()));
        });
    };
    let tally = &records.tally;
    count(&RESTART_FAILURES, &|one| tally.look(one.name(), |totals| totals.not_started));
    count(&QUARANTINES, &|one| tally.look(one.name(), |totals| totals.quarantined));
    count(&LOG_DROPPED, &|one| one.shared.meters.lines_dropped.load(Relaxed));
    count(&NOISE, &|one| one.shared.meters.noise.load(Relaxed));
    page.family(&CRASHES, &mut |samples| {
        for one in plugins {
            let died = tally.look(one.name(), |totals| totals.died.clone());
            for (how, times) in died {
                let number;
                let signal = match how {
                    Died::Signal(signal) => match signal_name(signal) {
                        Some(name) => name,
                        None => {
                            number = signal.to_string();
                            &*number
                        }
                    },
                    Died::Exit => "none",
                    Died::Unknown => "unknown",
                };
                samples.number(&[("plugin", one.name()), ("signal", signal)], times.into());
            }
        }
    });
    page.family(&RESTARTS, &mut |samples| {
        for one in plugins {
            let restarted = tally.look(one.name(), |totals| totals.restarted.clone());
            // All from the beginning, so that the first is seen as growth.
            for reason in Reason::ALL.map(Reason::as_str) {
                let times = restarted.get(reason).copied().unwrap_or(0);
                samples.number(&[("plugin", one.name()), ("reason", reason)], times.into());
            }
        }
    });
    page.family(&RELOADS, &mut |samples| {
        for one in plugins {
            let results = tally.look(one.name(), |totals| {
                [("ok", totals.reloaded), ("failed", totals.reload_failed), ("swapped-back", totals.swapped_back)]
            });
            for (result, times) in results {
                samples.number(&[("plugin", one.name()), ("result", result)], times.into());
            }
        }
    });
    page.family(&RELOAD_DURATION, &mut |samples| {
        for one in plugins {
            let taken = tally.look(one.name(), |totals| totals.reload_took.read());
            samples.times(&[("plugin", one.name())], &taken);
        }
    });
    page.family(&LOAD_FAILURES, &mut |samples| {
        let failures = tally.load_failures();
        failures.into_iter().for_each(|(step, times)| samples.number(&[("reason", step)], times.into()));
    });
    page.family(&LIMIT_HITS, &mut |samples| {
        for one in plugins {
            for (limit, times) in one.shared.meters.limit_hits() {
                samples.number(&[("plugin", one.name()), ("limit", limit)], times.into());
            }
        }
    });
    page.family(&LOG_LINES, &mut |samples| {
        for one in plugins {
            for (level, lines) in one.shared.meters.lines() {
                samples.number(&[("plugin", one.name()), ("level", level)], lines.into());
            }
        }
    });
    page.family(&TELEMETRY_DROPPED, &mut |samples| {
        for one in plugins {
            for (reason, spans) in one.shared.meters.spans_lost() {
                samples.number(&[("plugin", one.name()), ("reason", reason)], spans.into());
            }
        }
    });
    let processes = || plugins.iter().filter_map(|one| Some((one, one.process.as_ref()?)));
    page.family(&MEMORY, &mut |samples| {
        processes().for_each(|(one, usage)| samples.number(&[("plugin", one.name())], usage.memory_bytes.into()));
    });
    page.family(&CPU, &mut |samples| {
        for one in plugins {
            if let Some(seconds) = one.shared.meters.cpu_seconds() {
                samples.number(&[("plugin", one.name())], seconds.into());
            }
        }
    });
}

/// How often a method's calls ended in which way. `ok` is there from the beginning, so that its first calls are
/// seen as growth; the others when they have happened.
fn calls(one: &One, series: &Series, samples: &mut dyn Samples) {
    let ends = series.ends();
    for status in Status::ALL {
        let times = ends[status as usize];
        if times > 0 || status == Status::Ok {
            let labels = [("plugin", one.name()), ("method", &*series.method), ("status", status.as_str())];
            samples.number(&labels, times.into());
        }
    }
}

fn info(one: &One, samples: &mut dyn Samples) {
    let last = one.at.last.as_deref();
    let number = last.map_or(0, |last| last.number).to_string();
    let labels = [
        ("plugin", one.name()),
        ("version", last.map_or("", |last| &last.about.version)),
        ("mechanism", one.at.mechanism.as_str()),
        ("hash", last.and_then(|last| last.hash.known()).unwrap_or_default()),
        ("generation", &number),
    ];
    samples.number(&labels, 1u64.into());
}

#[cfg(test)]
mod tests;
