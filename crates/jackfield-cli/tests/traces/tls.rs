//! Export over TLS, to a collector whose certificate is signed by an authority of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::collector::Collector;
use super::service::{Place, Service, until};
use super::{call, page, tree, variables};

const ADA: &str = r#"{"name":"Ada"}"#;

/// Who signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate for the name `localhost`.
    fn sign(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        (params.signed_by(&key, &self.issuer).expect("signed"), key)
    }
}

/// Ends TLS before a collector.
struct Front {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Front {
    /// With a certificate that `authority` signs; `clients` are asked for one that this authority has signed.
    fn new(collector: &Collector, authority: &Authority, clients: Option<&Authority>) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let config = config.expect("versions");
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.certificate.der().clone()).expect("an authority");
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
                config.with_client_cert_verifier(verifier.expect("a verifier"))
            }
        };
        let (certificate, key) = authority.sign();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = config.with_single_cert(vec![certificate.der().clone()], key.into());
        let mut config = config.expect("a certificate");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let (address, to) = (listener.local_addr().expect("it has one"), collector.address());
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Whoever does not like it goes away.
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut plain = TcpStream::connect(to).await.expect("the collector is there");
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut plain).await;
                });
            }
        });
        Self { address, _runtime: runtime }
    }

    /// Variables by which a host exports spans and measurements to it.
    fn variables(&self, wire: &str, files: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        let more = [
            ("OTEL_METRICS_EXPORTER", "otlp".to_owned()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "100".to_owned()),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000".to_owned()),
        ];
        let files = files.iter().map(|(variable, file)| (*variable, (*file).to_owned()));
        let endpoint = format!("https://localhost:{}", self.address.port());
        variables(&endpoint, wire).into_iter().chain(more).chain(files).collect()
    }
}

/// A collector that listens for a wire.
fn collector(wire: &str) -> Collector {
    if wire == "grpc" { Collector::grpc() } else { Collector::http() }
}

const WIRES: [&str; 2] = ["grpc", "http/protobuf"];

#[test]
fn spans_and_measurements_go_over_tls_to_whom_the_named_authority_has_signed_for() {
    let (authority, clients) = (Authority::new("ours"), Authority::new("clients"));
    for wire in WIRES {
        let collector = collector(wire);
        let place = Place::new();
        place.link("english-process");
        place.write("ca.pem", &authority.certificate.pem());
        let (own, key) = clients.sign();
        place.write("own.pem", &own.pem());
        place.write("key.pem", &key.serialize_pem());
        // With a certificate of the host's own, which the collector asks for.
        let front = Front::new(&collector, &authority, Some(&clients));
        let files = [
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "own.pem"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "key.pem"),
        ];
        let mut service = Service::start_in(&place, &front.variables(wire, &files));
        assert_eq!(call(&place, 1, "english-process", "greet", ADA), "200 ok");
        tree(&collector, 1, true);
        until("measurements have come", || collector.measured().contains_key("plugin_calls"));
        service.signal("TERM");
        assert_eq!(service.wait(), 0);
    }
}

#[test]
fn who_is_not_signed_for_gets_nothing_and_the_log_says_why() {
    let (authority, other) = (Authority::new("ours"), Authority::new("another"));
    for wire in WIRES {
        // By what is wrong: the host trusts somebody else; it trusts browsers' authorities alone; it has no certificate
        // although one is asked for.
        for (trusted, clients, why) in [
            (Some(&other), None, Some("invalid peer certificate")),
            (None, None, Some("invalid peer certificate: UnknownIssuer")),
            (Some(&authority), Some(&other), None),
        ] {
            let collector = collector(wire);
            let place = Place::new();
            place.link("english");
            let front = Front::new(&collector, &authority, clients);
            let mut files = vec![("OTEL_BSP_EXPORT_TIMEOUT", "3000")];
            if let Some(trusted) = trusted {
                place.write("ca.pem", &trusted.certificate.pem());
                files.push(("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.pem"));
            }
            let mut service = Service::start_in(&place, &front.variables(wire, &files));
            match why {
                // The collector ends a connection that stands: there is no more to say than that nothing goes over it.
                None => _ = service.line_with("cannot be exported"),
                Some(why) => {
                    let line = service.line_with("no TLS with the collector at `localhost`");
                    assert!(line.contains(why), "{wire}: {line}");
                }
            }
            let run = service.run(&["call", "english", "greet", ADA, "--repeat", "100", "--json"]);
            assert_eq!(run.json()["calls"], 100);
            let series = "plugin_telemetry_dropped_total{plugin=\"english\",reason=\"export\"} ";
            until("spans are dropped and counted", || {
                let page = page(&place);
                let line = page.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("{page}"));
                line.parse::<f64>().expect("a number") >= 200.0
            });
            service.signal("TERM");
            assert_eq!(service.wait(), 0);
            assert!(collector.spans().is_empty() && collector.measured().is_empty(), "{wire}");
        }
    }
}

#[test]
fn a_file_of_no_use_is_an_error_at_the_start() {
    let place = Place::new();
    place.write("none.pem", "nothing\n");
    let (own, _) = Authority::new("one").sign();
    let (_, key) = Authority::new("another").sign();
    place.write("own.pem", &own.pem());
    place.write("key.pem", &key.serialize_pem());
    let own = ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "own.pem");
    for (files, why) in [
        (vec![("OTEL_EXPORTER_OTLP_CERTIFICATE", "gone.pem")], "OTEL_EXPORTER_OTLP_CERTIFICATE is \"gone.pem\""),
        (vec![("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "none.pem")], "there is no certificate in it"),
        // What never ends, or is waited for.
        (vec![("OTEL_EXPORTER_OTLP_CERTIFICATE", "/dev/zero")], "it is not a regular file"),
        (vec![own], "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE is \"own.pem\""),
        (vec![own, ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "none.pem")], "OTEL_EXPORTER_OTLP_CLIENT_KEY is \"none.pem\""),
        (vec![own, ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "key.pem")], "with the key `key.pem`"),
    ] {
        let files = files.iter().map(|(variable, file)| (*variable, (*file).to_owned()));
        let variables: Vec<_> = variables("https://localhost:4318", "grpc").into_iter().chain(files).collect();
        let run = place.run_in(&["run", "--plugins", "plugins", "--listen", "unix:host.sock"], &variables);
        assert_eq!(run.code, 2, "{}", run.stdout);
        assert!(run.stderr.contains(why), "{why}: {}", run.stderr);
    }
}
