//! The connection to a collector: TCP, and TLS over it where the collector's address begins with `https`.
//!
//! Both of OpenTelemetry's exporters go over it, the one for gRPC and the one for HTTP. TLS is rustls, with the provider
//! that gRPC plugins have. Whom it trusts is what the variables name, or else the authorities that browsers trust.
//!
//! What is wrong with a certificate is said here: exporters do not say more than that there is no connection.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tower_service::Service;

use crate::fault::Kind;
use crate::report::Told;

/// A file that a variable names, and the variable.
pub(crate) type Named = (String, String);

/// Whom TLS trusts, and who we are.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Files {
    /// Certificates of authorities, as PEM. Without it those that browsers trust.
    pub(crate) authorities: Option<Named>,
    /// Our own certificate and its key, as PEM.
    pub(crate) own: Option<(Named, Named)>,
}

/// Connects to a collector.
#[derive(Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector,
    tls: TlsConnector,
    /// The last handshake failed, and that was said.
    failing: Arc<AtomicBool>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl Connector {
    /// `protocol` is what is to be spoken over TLS, as it is agreed upon.
    pub(crate) fn new(files: &Files, protocol: &[u8]) -> Result<Self> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.context("no TLS")?.with_root_certificates(files.trusted()?);
        let mut config = match &files.own {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let private = PrivateKeyDer::from_pem_slice(&pem(key)?).map_err(|why| useless(key, why))?;
                let with = config.with_client_auth_cert(certificates(certificate)?, private);
                with.map_err(|why| useless(certificate, format!("with the key `{}`: {why}", key.1)))?
            }
        };
        config.alpn_protocols = vec![protocol.to_owned()];
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Ok(Self { tcp, tls: Arc::new(config).into(), failing: Arc::default() })
    }
}

impl Files {
    fn trusted(&self) -> Result<RootCertStore> {
        let Some(named) = &self.authorities else {
            return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(named)? {
            roots.add(certificate).map_err(|why| useless(named, why))?;
        }
        Ok(roots)
    }
}

/// The certificates of a file. At least one.
fn certificates(named: &Named) -> Result<Vec<CertificateDer<'static>>> {
    let all: Vec<_> =
        CertificateDer::pem_slice_iter(&pem(named)?).collect::<Result<_, _>>().map_err(|why| useless(named, why))?;
    if all.is_empty() {
        return Err(useless(named, "there is no certificate in it").into());
    }
    Ok(all)
}

/// Longest file of certificates, in bytes.
const PEM_BYTES_MAX: u64 = 4 << 20;

/// The bytes of a file: a regular one, since a pipe would be waited for and a device need not end.
fn pem(named: &Named) -> Result<Vec<u8>> {
    let file = std::fs::metadata(&named.1).map_err(|why| useless(named, why))?;
    if !file.is_file() {
        return Err(useless(named, "it is not a regular file").into());
    }
    if file.len() > PEM_BYTES_MAX {
        return Err(useless(named, format!("it has {} bytes of {PEM_BYTES_MAX} allowed", file.len())).into());
    }
    Ok(std::fs::read(&named.1).map_err(|why| useless(named, why))?)
}

fn useless((variable, file): &Named, why: impl fmt::Display) -> Told {
    Told::new(Kind::Internal, format!("{variable} is {file:?}, which cannot be used: {why}"))
}

impl Service<Uri> for Connector {
    type Response = Io;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Io, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, at: Uri) -> Self::Future {
        let (tls, failing) = (self.tls.clone(), Arc::clone(&self.failing));
        let secret = at.scheme_str() == Some("https");
        // Brackets around an address are the URI's.
        let name = at.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let tcp = self.tcp.call(at);
        Box::pin(async move {
            let tcp = tcp.await?.into_inner();
            if !secret {
                return Ok(Io(TokioIo::new(Box::new(tcp))));
            }
            let done = tls.connect(ServerName::try_from(name.clone())?, tcp).await;
            match (&done, failing.swap(done.is_err(), Ordering::Relaxed)) {
                (Err(why), false) => tracing::warn!("no TLS with the collector at `{name}`: {why}"),
                (Ok(_), true) => tracing::info!("TLS with the collector at `{name}` again"),
                _ => {}
            }
            Ok(Io(TokioIo::new(Box::new(done?))))
        })
    }
}

/// A connection of either kind.
pub(crate) struct Io(TokioIo<Box<dyn Stream>>);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Connection for Io {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Io {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buf)
    }
}

impl Write for Io {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
