//! A collector: OTLP over gRPC, and over HTTP with protobuf. It keeps what it is sent.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as PointValue;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::Status;

/// A span, as far as tests look.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// `service.name` and `service.version` of the resource.
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) state: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) failed: bool,
    pub(crate) attributes: BTreeMap<String, String>,
}

/// A metric of the latest export, as far as tests look.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// `service.name` of the resource.
    pub(crate) service: String,
    pub(crate) unit: String,
    /// `sum` if it only grows and is cumulative, or `gauge`.
    pub(crate) kind: &'static str,
    pub(crate) points: Vec<(BTreeMap<String, String>, f64)>,
}

/// What came: spans, and the metrics of the latest export by name.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Span>>>, Arc<Mutex<BTreeMap<String, Measured>>>);

pub(crate) struct Collector {
    kept: Kept,
    address: SocketAddr,
    _runtime: Runtime,
}

impl Collector {
    pub(crate) fn grpc() -> Self {
        Self::serving(async |listener, kept| {
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(kept.clone()));
            let server = server.add_service(MetricsServiceServer::new(kept));
            server.serve_with_incoming(incoming).await.expect("it serves");
        })
    }

    pub(crate) fn http() -> Self {
        Self::serving(async |listener, kept| {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let kept = kept.clone();
                tokio::spawn(async move {
                    let answer = service_fn(|request| answer(request, &kept));
                    // The host may close it at any time.
                    let _ =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        })
    }

    fn serving<F: Future<Output = ()> + Send + 'static>(serve: impl FnOnce(TcpListener, Kept) -> F) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let (kept, address) = (Kept::default(), listener.local_addr().expect("it has one"));
        runtime.spawn(serve(listener, kept.clone()));
        Self { kept, address, _runtime: runtime }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.kept.0.lock().expect("unharmed").clone()
    }

    /// The metrics of the latest export.
    pub(crate) fn measured(&self) -> BTreeMap<String, Measured> {
        self.kept.1.lock().expect("unharmed").clone()
    }

    /// The spans of a trace.
    pub(crate) fn of(&self, trace: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.trace == trace).collect()
    }
}

async fn answer(request: Request<Incoming>, kept: &Kept) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.method().as_str(), "POST");
    assert_eq!(request.headers()["content-type"], "application/x-protobuf");
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let answer = match &*path {
        "/v1/traces" => {
            kept.keep(ExportTraceServiceRequest::decode(body).expect("spans"));
            ExportTraceServiceResponse::default().encode_to_vec()
        }
        "/v1/metrics" => {
            kept.keep_metrics(ExportMetricsServiceRequest::decode(body).expect("metrics"));
            ExportMetricsServiceResponse::default().encode_to_vec()
        }
        other => panic!("{other}"),
    };
    Ok(Response::new(Full::new(answer.into())))
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        self.keep(request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Kept {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, Status> {
        self.keep_metrics(request.into_inner());
        Ok(tonic::Response::new(ExportMetricsServiceResponse::default()))
    }
}

impl Kept {
    fn keep_metrics(&self, request: ExportMetricsServiceRequest) {
        let mut latest = BTreeMap::new();
        for of_resource in request.resource_metrics {
            let resource = attributes(of_resource.resource.unwrap_or_default().attributes);
            for metric in of_resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                let (kind, points) = match metric.data {
                    // 2 is cumulative.
                    Some(Data::Sum(sum)) if sum.is_monotonic && sum.aggregation_temporality == 2 => {
                        ("sum", sum.data_points)
                    }
                    Some(Data::Gauge(gauge)) => ("gauge", gauge.data_points),
                    other => panic!("{}: {other:?}", metric.name),
                };
                let points = points.into_iter().map(|point| {
                    let value = match point.value.expect("a value") {
                        PointValue::AsDouble(value) => value,
                        PointValue::AsInt(value) => value as f64,
                    };
                    (attributes(point.attributes), value)
                });
                let service = resource["service.name"].clone();
                let one = Measured { service, unit: metric.unit, kind, points: points.collect() };
                assert!(latest.insert(metric.name.clone(), one).is_none(), "{} is there twice", metric.name);
            }
        }
        *self.1.lock().expect("unharmed") = latest;
    }

    fn keep(&self, request: ExportTraceServiceRequest) {
        let mut kept = self.0.lock().expect("unharmed");
        for of_resource in request.resource_spans {
            let resource = attributes(of_resource.resource.unwrap_or_default().attributes);
            let of = |name: &str| resource.get(name).map_or("", String::as_str);
            let service = format!("{} {}", of("service.name"), of("service.version")).trim_end().to_owned();
            for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                kept.push(Span {
                    service: service.clone(),
                    kind: span.kind(),
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    state: span.trace_state,
                    start: span.start_time_unix_nano,
                    end: span.end_time_unix_nano,
                    // 2 is an error.
                    failed: span.status.is_some_and(|status| status.code == 2),
                    name: span.name,
                    attributes: attributes(span.attributes),
                });
            }
        }
    }
}

fn attributes(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.into_iter().map(|attribute| (attribute.key, text(attribute.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
