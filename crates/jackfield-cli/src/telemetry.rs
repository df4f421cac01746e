//! Spans and measurements of `jackfield run`, exported to an OpenTelemetry collector as its standard variables say.
//!
//! No span is recorded unless one of them names a collector, or `OTEL_TRACES_EXPORTER` is `otlp`; measurements are
//! exported if `OTEL_METRICS_EXPORTER` is. A variable that says what cannot be is an error at the start: whoever wants
//! spans wants to know.
//!
//! Not here: how a collector is connected to (`connector.rs`), what is recorded, and what becomes of it when nobody takes it (`jackfield`).

use std::future::poll_fn;
use std::pin::pin;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use jackfield::{Metrics, Sampling, Spans, SpansBuilder};
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
    WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{Instrument, PeriodicReader, SdkMeterProvider, Stream, Temporality};
use tokio::runtime::Handle;
use tonic::transport::{Channel, Endpoint};

use crate::connector::{Connector, Files};
use crate::fault::Kind;
use crate::report::Told;

/// What the variables say of spans.
#[derive(Debug, PartialEq)]
struct Settings {
    collector: Collector,
    sampling: Sampling,
    queue_spans_max: usize,
    batch_spans_max: usize,
    batch_delay: Duration,
    export_timeout: Duration,
}

/// What they say of measurements.
#[derive(Debug, PartialEq)]
struct MeterSettings {
    collector: Collector,
    interval: Duration,
    export_timeout: Duration,
}

/// Where a signal goes.
#[derive(Debug, PartialEq)]
struct Collector {
    wire: Wire,
    /// Where it is, if they say.
    endpoint: Option<String>,
    timeout: Duration,
    /// Whether gRPC goes without TLS where the scheme is left out.
    insecure: bool,
    /// For TLS.
    files: Files,
    /// Whether they name the host.
    named: bool,
}

/// How a signal goes to the collector.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wire {
    Grpc,
    Http,
}

/// Where a collector listens for gRPC, if nothing is said.
const GRPC: &str = "http://localhost:4317";

/// Most series of an instrument: methods of all plugins. Beyond them, the SDK makes all the rest one series.
const SERIES_MAX: usize = 20_000;

/// Records and exports spans, if the environment says so.
pub(crate) fn spans() -> Result<Option<Spans>> {
    match Settings::read(&environment)? {
        Some(settings) => settings.build().map(Some),
        None => Ok(None),
    }
}

/// How measurements are exported, if the environment says so.
pub(crate) fn meters() -> Result<Option<Meters>> {
    let Some(settings) = MeterSettings::read(&environment)? else { return Ok(None) };
    let connector = settings.collector.connector()?;
    Ok(Some(Meters { settings, connector }))
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The first that is set, and its name.
fn one_of<const N: usize>(variable: Variable<'_>, names: [String; N]) -> Option<(String, String)> {
    names.into_iter().find_map(|name| variable(&name).map(|value| (name, value)))
}

fn millis<const N: usize>(variable: Variable<'_>, names: [String; N], default: Duration) -> Result<Duration> {
    one_of(variable, names).map_or(Ok(default), |(name, value)| number(&name, &value).map(Duration::from_millis))
}

impl Collector {
    /// Of a signal, `TRACES` or `METRICS`. None if it is not exported; `by_endpoint` if an endpoint is enough for it to be.
    fn read(variable: Variable<'_>, signal: &str, by_endpoint: bool) -> Result<Option<Self>> {
        let of = |what: &str| [format!("OTEL_EXPORTER_OTLP_{signal}_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")];
        let exporter = format!("OTEL_{signal}_EXPORTER");
        let endpoint = one_of(variable, of("ENDPOINT"));
        let wanted = match variable(&exporter).as_deref() {
            Some("otlp") => true,
            Some("none") => false,
            Some(other) => return Err(wrong(&exporter, other, "`otlp` or `none`").into()),
            None => by_endpoint && endpoint.is_some(),
        };
        let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|disabled| disabled.eq_ignore_ascii_case("true"));
        if !wanted || disabled {
            return Ok(None);
        }
        let own = match (one_of(variable, of("CLIENT_CERTIFICATE")), one_of(variable, of("CLIENT_KEY"))) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some((name, file)), None) => {
                return Err(wrong(&name, &file, "given together with a `…_CLIENT_KEY`").into());
            }
            (None, Some((name, file))) => {
                return Err(wrong(&name, &file, "given together with a `…_CLIENT_CERTIFICATE`").into());
            }
        };
        let files = Files { authorities: one_of(variable, of("CERTIFICATE")), own };
        let wire = match one_of(variable, of("PROTOCOL")) {
            None => Wire::Http,
            Some((_, wire)) if wire == "http/protobuf" => Wire::Http,
            Some((_, wire)) if wire == "grpc" => Wire::Grpc,
            Some((name, wire)) => return Err(wrong(&name, &wire, "`grpc` or `http/protobuf`").into()),
        };
        let insecure = match one_of(variable, of("INSECURE")) {
            None => false,
            Some((_, said)) if said.eq_ignore_ascii_case("true") => true,
            Some((_, said)) if said.eq_ignore_ascii_case("false") => false,
            Some((name, said)) => return Err(wrong(&name, &said, "`true` or `false`").into()),
        };
        let attributes = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        Ok(Some(Self {
            wire,
            endpoint: endpoint.map(|(_, endpoint)| endpoint),
            timeout: millis(variable, of("TIMEOUT"), Duration::from_secs(10))?,
            insecure,
            files,
            named: variable("OTEL_SERVICE_NAME").is_some()
                || attributes.split(',').any(|attribute| attribute.trim_start().starts_with("service.name=")),
        }))
    }

    fn resource(&self) -> Resource {
        let resource = Resource::builder();
        let resource = if self.named { resource } else { resource.with_service_name("jackfield") };
        resource.build()
    }

    /// A connection for gRPC, which is made when it is needed.
    fn channel(&self, connector: Connector) -> Result<Channel> {
        let endpoint = self.endpoint.clone().unwrap_or_else(|| GRPC.to_owned());
        let endpoint = self.with_scheme(endpoint);
        let at = Endpoint::from_shared(endpoint.clone());
        let at = at.with_context(|| format!("`{endpoint}` is no address of a collector"))?;
        Ok(at.timeout(self.timeout).connect_timeout(self.timeout).connect_with_connector_lazy(connector))
    }

    /// An address whose scheme is left out is one to speak TLS with, unless it is said to be insecure.
    fn with_scheme(&self, endpoint: String) -> String {
        match (endpoint.contains("://"), self.insecure) {
            (true, _) => endpoint,
            (false, true) => format!("http://{endpoint}"),
            (false, false) => format!("https://{endpoint}"),
        }
    }

    /// A client for HTTP, whose clones share its connections.
    fn client(&self, connector: Connector) -> HyperClient<Connector> {
        HyperClient::new(connector, self.timeout, None)
    }

    /// Reads the files, even where none is needed: whoever names one wants to know.
    fn connector(&self) -> Result<Connector> {
        let protocol: &[u8] = match self.wire {
            Wire::Grpc => b"h2",
            Wire::Http => b"http/1.1",
        };
        Connector::new(&self.files, protocol)
    }
}

impl Settings {
    fn read(variable: Variable<'_>) -> Result<Option<Self>> {
        let Some(collector) = Collector::read(variable, "TRACES", true)? else { return Ok(None) };
        let sampling = match (variable("OTEL_TRACES_SAMPLER"), variable("OTEL_TRACES_SAMPLER_ARG")) {
            (None, _) => Sampling::default(),
            (Some(sampler), Some(ratio)) if sampler.ends_with("traceidratio") => {
                format!("{sampler}:{ratio}").parse()?
            }
            (Some(sampler), _) => sampler.parse().context("OTEL_TRACES_SAMPLER")?,
        };
        let count = |name: &'static str, default: usize| {
            variable(name).map_or(Ok(default), |value| number(name, &value).map(|count: usize| count.max(1)))
        };
        let named = |name: &str| [name.to_owned()];
        Ok(Some(Self {
            collector,
            sampling,
            queue_spans_max: count("OTEL_BSP_MAX_QUEUE_SIZE", 2048)?,
            batch_spans_max: count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)?,
            batch_delay: millis(variable, named("OTEL_BSP_SCHEDULE_DELAY"), Duration::from_secs(5))?,
            export_timeout: millis(variable, named("OTEL_BSP_EXPORT_TIMEOUT"), Duration::from_secs(30))?,
        }))
    }

    fn build(self) -> Result<Spans> {
        let spans = self.spans().resource(self.collector.resource());
        let collector = self.collector;
        let connector = collector.connector()?;
        let made = match collector.wire {
            Wire::Grpc => {
                let mut channel = None;
                spans.export(move || -> Result<_, anyhow::Error> {
                    let channel = match &channel {
                        Some(channel) => Channel::clone(channel),
                        None => channel.insert(collector.channel(connector.clone())?).clone(),
                    };
                    let exporter = SpanExporter::builder().with_tonic().with_channel(channel);
                    Ok(exporter.with_timeout(collector.timeout).build()?)
                })
            }
            Wire::Http => {
                // One for all, so that their connections are shared.
                let client = collector.client(connector);
                spans.export(move || -> Result<_, ExporterBuildError> {
                    let exporter = SpanExporter::builder().with_http().with_http_client(client.clone());
                    exporter.with_protocol(Protocol::HttpBinary).with_timeout(collector.timeout).build()
                })
            }
        };
        made.context("what OpenTelemetry's variables say cannot be done")
    }

    fn spans(&self) -> SpansBuilder {
        Spans::builder()
            .sampling(self.sampling)
            .queue_spans_max(self.queue_spans_max)
            .batch_spans_max(self.batch_spans_max)
            .batch_delay(self.batch_delay)
            .export_timeout(self.export_timeout)
    }
}

impl MeterSettings {
    fn read(variable: Variable<'_>) -> Result<Option<Self>> {
        let Some(collector) = Collector::read(variable, "METRICS", false)? else { return Ok(None) };
        let preference = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        // The exporter reads it itself, and passes over what it does not know.
        if let Some(temporality) = variable(preference)
            && !["cumulative", "delta", "lowmemory"].contains(&&*temporality.to_ascii_lowercase())
        {
            return Err(wrong(preference, &temporality, "`cumulative`, `delta` or `lowmemory`").into());
        }
        let named = |name: &str| [name.to_owned()];
        let interval = millis(variable, named("OTEL_METRIC_EXPORT_INTERVAL"), Duration::from_secs(60))?;
        if interval.is_zero() {
            return Err(wrong("OTEL_METRIC_EXPORT_INTERVAL", "0", "at least 1").into());
        }
        let export_timeout = millis(variable, named("OTEL_METRIC_EXPORT_TIMEOUT"), Duration::from_secs(30))?;
        Ok(Some(Self { collector, interval, export_timeout }))
    }
}

/// Measurements that are to be exported, once there is a host.
pub(crate) struct Meters {
    settings: MeterSettings,
    connector: Connector,
}

impl Meters {
    /// Exports them until the end, on a thread of its own. The collector is spoken to in the runtime that this is called in.
    pub(crate) fn export(self, metrics: &Metrics) -> Result<Exported> {
        let Self { settings: MeterSettings { collector, interval, export_timeout }, connector } = self;
        let exporter = match collector.wire {
            Wire::Grpc => MetricExporter::builder()
                .with_tonic()
                .with_channel(collector.channel(connector)?)
                .with_timeout(collector.timeout)
                .build(),
            Wire::Http => MetricExporter::builder()
                .with_http()
                .with_http_client(collector.client(connector))
                .with_protocol(Protocol::HttpBinary)
                .with_timeout(collector.timeout)
                .build(),
        };
        let exporter = Saying {
            exporter: exporter.context("what OpenTelemetry's variables say cannot be done")?,
            runtime: Handle::current(),
            timeout: export_timeout,
            failing: AtomicBool::new(false),
        };
        let reader = PeriodicReader::builder(exporter).with_interval(interval).build();
        let provider = SdkMeterProvider::builder().with_resource(collector.resource()).with_reader(reader);
        let provider =
            provider.with_view(|_: &Instrument| Stream::builder().with_cardinality_limit(SERIES_MAX).build().ok());
        let provider = provider.build();
        metrics.observe(&provider.meter("jackfield"));
        Ok(Exported(provider))
    }
}

/// Measurements that are exported.
pub(crate) struct Exported(SdkMeterProvider);

impl Exported {
    /// Exports them a last time. Blocks, for 5 s at most.
    pub(crate) fn end(self) {
        // What went wrong was said by the exporter.
        let _ = self.0.shutdown();
    }
}

/// An exporter that says when it fails, and when it does no more; within a runtime, although the SDK's thread has none.
struct Saying<E> {
    exporter: E,
    runtime: Handle,
    timeout: Duration,
    /// The last export failed, and that was said.
    failing: AtomicBool,
}

impl<E: PushMetricExporter> PushMetricExporter for Saying<E> {
    async fn export(&self, measured: &ResourceMetrics) -> OTelSdkResult {
        let export = async { tokio::time::timeout(self.timeout, self.exporter.export(measured)).await };
        let mut export = pin!(export);
        let done = poll_fn(|context| {
            let _inside = self.runtime.enter();
            export.as_mut().poll(context)
        });
        let done = done.await.unwrap_or(Err(OTelSdkError::Timeout(self.timeout)));
        match (&done, self.failing.swap(done.is_err(), Ordering::Relaxed)) {
            (Err(why), false) => tracing::warn!("measurements cannot be exported: {why}"),
            (Ok(()), true) => tracing::info!("measurements are exported again"),
            _ => {}
        }
        done
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T> {
    Ok(value.trim().parse().map_err(|_| wrong(name, value, "a number"))?)
}

fn wrong(name: &str, value: &str, wanted: &str) -> Told {
    Told::new(Kind::Internal, format!("{name} is {value:?}, and should be {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>> {
        Settings::read(&|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned()).filter(|value| !value.is_empty())
        })
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:9");

    #[test]
    fn nothing_is_recorded_unless_a_variable_says_so() {
        for variables in [
            &[][..],
            &[("OTEL_SERVICE_NAME", "x"), ("OTEL_TRACES_SAMPLER", "always_on")],
            &[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")],
            &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
        ] {
            assert_eq!(read(variables).expect("understood"), None, "{variables:?}");
        }
        let otlp = read(&[("OTEL_TRACES_EXPORTER", "otlp")]).expect("understood").expect("wanted");
        let Collector { wire, endpoint, named, .. } = otlp.collector;
        assert_eq!((wire, endpoint, named), (Wire::Http, None, false));
        assert_eq!((otlp.queue_spans_max, otlp.batch_delay), (2048, Duration::from_secs(5)));
    }

    #[test]
    fn what_is_said_of_traces_goes_before_what_is_said_of_all() {
        let settings = read(&[
            ENDPOINT,
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "localhost:4317"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b, service.name=x"),
        ]);
        let settings = settings.expect("understood").expect("wanted");
        let Collector { wire, endpoint, timeout, named, .. } = settings.collector;
        assert_eq!((wire, endpoint.as_deref(), named), (Wire::Grpc, Some("localhost:4317"), true));
        assert_eq!(timeout, Duration::from_millis(250));
        assert_eq!(settings.sampling, "parentbased_traceidratio:0.5".parse().expect("a sampler"));
        assert_eq!(settings.queue_spans_max, 1);
    }

    #[test]
    fn an_address_without_a_scheme_is_one_for_tls_unless_it_is_insecure() {
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        for (variables, expected) in [
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "o:4317")][..], "https://o:4317"),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "o:4317"), ("OTEL_EXPORTER_OTLP_INSECURE", "true")], "http://o:4317"),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://o"), ("OTEL_EXPORTER_OTLP_INSECURE", "true")], "https://o"),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://o"), ("OTEL_EXPORTER_OTLP_INSECURE", "False")], "http://o"),
            (
                &[
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "o:4317"),
                    ("OTEL_EXPORTER_OTLP_INSECURE", "false"),
                    ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "true"),
                ],
                "http://o:4317",
            ),
        ] {
            let variables: Vec<_> = variables.iter().copied().chain([grpc]).collect();
            let collector = read(&variables).expect("understood").expect("wanted").collector;
            let endpoint = collector.endpoint.clone().expect("an endpoint");
            assert_eq!(collector.with_scheme(endpoint), expected, "{variables:?}");
        }
    }

    #[test]
    fn measurements_are_exported_if_a_variable_says_so_and_not_for_an_endpoint_alone() {
        let read = |variables: &[(&str, &str)]| {
            MeterSettings::read(&|name| {
                variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let otlp = ("OTEL_METRICS_EXPORTER", "otlp");
        assert_eq!(read(&[ENDPOINT]).expect("understood"), None);
        assert_eq!(read(&[otlp, ("OTEL_SDK_DISABLED", "true")]).expect("understood"), None);
        let settings = read(&[
            otlp,
            ENDPOINT,
            ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "250"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "Delta"),
        ]);
        let settings = settings.expect("understood").expect("wanted");
        let Collector { wire, endpoint, .. } = settings.collector;
        assert_eq!((wire, endpoint.as_deref()), (Wire::Grpc, Some(ENDPOINT.1)));
        assert_eq!((settings.interval, settings.export_timeout), (Duration::from_millis(250), Duration::from_secs(30)));
        for (variable, value) in [
            ("OTEL_METRICS_EXPORTER", "prometheus"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
            ("OTEL_METRIC_EXPORT_TIMEOUT", "1s"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "monotonic"),
        ] {
            let error = read(&[(variable, value), otlp]).expect_err(variable).to_string();
            assert!(error.contains(variable) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_is_an_error_that_names_the_variable() {
        for (variable, value) in [
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1s"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
            ("OTEL_EXPORTER_OTLP_INSECURE", "yes"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "key.pem"),
            ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "own.pem"),
        ] {
            let error = read(&[ENDPOINT, (variable, value)]).expect_err(variable);
            let said = format!("{error:#}");
            assert!(said.contains(variable) && said.contains(value), "{said}");
        }
    }
}
