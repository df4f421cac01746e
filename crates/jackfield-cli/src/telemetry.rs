//! Spans of `jackfield run`, exported to an OpenTelemetry collector as its standard variables say.
//!
//! Nothing is recorded unless one of them names a collector, or `OTEL_TRACES_EXPORTER` is `otlp`. A variable that says
//! what cannot be is an error at the start: whoever wants spans wants to know.
//!
//! There is no TLS: a collector is reached on the same machine or in the same private network, and goes on from there.
//!
//! Not here: what is recorded, and what becomes of it when nobody takes it (`jackfield`).

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jackfield::{Sampling, Spans, SpansBuilder};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use tonic::transport::Endpoint;

use crate::fault::Kind;
use crate::report::Told;

/// What the variables say.
#[derive(Debug, PartialEq)]
struct Settings {
    wire: Wire,
    /// Where the collector is, if they say.
    endpoint: Option<String>,
    timeout: Duration,
    sampling: Sampling,
    queue_spans_max: usize,
    batch_spans_max: usize,
    batch_delay: Duration,
    export_timeout: Duration,
    named: bool,
}

/// How spans go to the collector.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wire {
    Grpc,
    Http,
}

/// Where a collector listens for gRPC, if nothing is said.
const GRPC: &str = "http://localhost:4317";

/// Records and exports spans, if the environment says so.
pub(crate) fn spans() -> Result<Option<Spans>> {
    match Settings::read(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))? {
        Some(settings) => settings.build().map(Some),
        None => Ok(None),
    }
}

impl Settings {
    fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let one_of = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, variable(name)?)));
        let exporter = variable("OTEL_TRACES_EXPORTER");
        let endpoint = one_of(["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]);
        let wanted = match exporter.as_deref() {
            Some("otlp") => true,
            Some("none") => false,
            Some(other) => return Err(wrong("OTEL_TRACES_EXPORTER", other, "`otlp` or `none`").into()),
            None => endpoint.is_some(),
        };
        let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|disabled| disabled.eq_ignore_ascii_case("true"));
        if !wanted || disabled {
            return Ok(None);
        }
        if let Some((name, endpoint)) = &endpoint
            && endpoint.starts_with("https:")
        {
            return Err(wrong(name, endpoint, "an address that begins with `http://`")
                .hint("run a collector beside the host, and let that one go on over TLS")
                .into());
        }
        let wire = match one_of(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]) {
            None => Wire::Http,
            Some((_, wire)) if wire == "http/protobuf" => Wire::Http,
            Some((_, wire)) if wire == "grpc" => Wire::Grpc,
            Some((name, wire)) => return Err(wrong(name, &wire, "`grpc` or `http/protobuf`").into()),
        };
        let sampling = match (variable("OTEL_TRACES_SAMPLER"), variable("OTEL_TRACES_SAMPLER_ARG")) {
            (None, _) => Sampling::default(),
            (Some(sampler), Some(ratio)) if sampler.ends_with("traceidratio") => {
                format!("{sampler}:{ratio}").parse()?
            }
            (Some(sampler), _) => sampler.parse().context("OTEL_TRACES_SAMPLER")?,
        };
        let millis = |names: [&'static str; 2], default| {
            one_of(names).map_or(Ok(default), |(name, value)| number(name, &value).map(Duration::from_millis))
        };
        let count = |name: &'static str, default: usize| {
            variable(name).map_or(Ok(default), |value| number(name, &value).map(|count: usize| count.max(1)))
        };
        let attributes = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        Ok(Some(Self {
            wire,
            endpoint: endpoint.map(|(_, endpoint)| endpoint),
            timeout: millis(
                ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"],
                Duration::from_secs(10),
            )?,
            sampling,
            queue_spans_max: count("OTEL_BSP_MAX_QUEUE_SIZE", 2048)?,
            batch_spans_max: count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)?,
            batch_delay: millis(["OTEL_BSP_SCHEDULE_DELAY"; 2], Duration::from_secs(5))?,
            export_timeout: millis(["OTEL_BSP_EXPORT_TIMEOUT"; 2], Duration::from_secs(30))?,
            named: variable("OTEL_SERVICE_NAME").is_some()
                || attributes.split(',').any(|attribute| attribute.trim_start().starts_with("service.name=")),
        }))
    }

    fn build(self) -> Result<Spans> {
        let resource = Resource::builder();
        let resource = if self.named { resource } else { resource.with_service_name("jackfield") };
        let spans = self.spans().resource(resource.build());
        let made = match self.wire {
            Wire::Grpc => {
                let endpoint = self.endpoint.clone().unwrap_or_else(|| GRPC.to_owned());
                // The scheme may be left out, which means TLS only for who has it.
                let endpoint = if endpoint.contains("://") { endpoint } else { format!("http://{endpoint}") };
                let mut channel = None;
                spans.export(move || -> Result<_, anyhow::Error> {
                    if channel.is_none() {
                        let endpoint = Endpoint::from_shared(endpoint.clone())
                            .with_context(|| format!("`{endpoint}` is no address of a collector"))?;
                        channel = Some(endpoint.timeout(self.timeout).connect_timeout(self.timeout).connect_lazy());
                    }
                    let exporter = SpanExporter::builder().with_tonic();
                    let exporter = match &channel {
                        Some(channel) => exporter.with_channel(channel.clone()),
                        None => exporter,
                    };
                    Ok(exporter.with_timeout(self.timeout).build()?)
                })
            }
            Wire::Http => {
                // One for all, so that their connections are shared.
                let client = HyperClient::with_default_connector(self.timeout, None);
                spans.export(move || -> Result<_, ExporterBuildError> {
                    let exporter = SpanExporter::builder().with_http().with_http_client(client.clone());
                    exporter.with_protocol(Protocol::HttpBinary).with_timeout(self.timeout).build()
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
        assert_eq!((otlp.wire, otlp.endpoint, otlp.named), (Wire::Http, None, false));
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
        assert_eq!((settings.wire, settings.endpoint.as_deref()), (Wire::Grpc, Some("localhost:4317")));
        assert_eq!(settings.timeout, Duration::from_millis(250));
        assert_eq!(settings.sampling, "parentbased_traceidratio:0.5".parse().expect("a sampler"));
        assert_eq!((settings.queue_spans_max, settings.named), (1, true));
    }

    #[test]
    fn what_cannot_be_is_an_error_that_names_the_variable() {
        for (variable, value) in [
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1s"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector:4318"),
        ] {
            let error = read(&[ENDPOINT, (variable, value)]).expect_err(variable);
            let said = format!("{error:#}");
            assert!(said.contains(variable) && said.contains(value), "{said}");
        }
    }
}
