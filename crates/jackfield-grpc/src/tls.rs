//! Mutual TLS between two sides that know each other's certificate beforehand.
//!
//! Each side makes a certificate of its own for each start of a plugin, tells the other, and then takes that
//! one certificate of the other and no other: the very same bytes, and a signature that its key made. There
//! is no authority, and neither names nor dates mean anything.
//!
//! Chains are not looked at because they cannot be: Go plugins mark the certificate that they serve with as
//! one of an authority, which verifiers of chains refuse.

use std::fmt;
use std::io;
use std::sync::Arc;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{Resumption, danger};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::server::NoServerSessionStorage;
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName as Subject, Error, ServerConfig,
    SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::net::Stream;

/// The name that both sides are known by to each other.
const NAME: &str = "localhost";

/// What gRPC is called when TLS is agreed upon. Peers in Go refuse connections without it.
const ALPN: &[u8] = b"h2";

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// No certificate could be made.
    #[error("cannot make a certificate")]
    Generate(#[source] rcgen::Error),
    /// The certificate and key are of no use.
    #[error("cannot use the certificate")]
    Config(#[source] Error),
    /// The other side's certificate is none.
    #[error("the other side's certificate is not PEM: {why}")]
    Pem {
        /// What is wrong.
        why: String,
    },
}

/// A certificate, and the key that never leaves this process.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
    pem: String,
}

impl Identity {
    /// Makes one: ECDSA on P-256, signed by itself, for the name `localhost`.
    ///
    /// Takes well below a millisecond. P-521, which Go plugins use, takes tens of them.
    pub fn generate() -> Result<Self, TlsError> {
        let made = || {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let mut params = CertificateParams::new([NAME.to_owned()])?;
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::OrganizationName, "Jackfield");
            params.distinguished_name.push(DnType::CommonName, NAME);
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
            // The dates stay at rcgen's default, from 1975 to 4096: the certificate ends with the process.
            let certificate = params.self_signed(&key)?;
            Ok(Self {
                pem: certificate.pem(),
                certificate: certificate.into(),
                key: PrivatePkcs8KeyDer::from(key.serialize_der()),
            })
        };
        made().map_err(TlsError::Generate)
    }

    /// Uses a certificate that was made elsewhere.
    pub fn from_parts(certificate_pem: &str, key_pkcs8: Vec<u8>) -> Result<Self, TlsError> {
        let certificate = certificate_from_pem(certificate_pem)?;
        Ok(Self { certificate: certificate.into(), key: key_pkcs8.into(), pem: certificate_pem.to_owned() })
    }

    /// The certificate as PEM: for a plugin's environment.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The certificate as DER: for a handshake.
    pub fn der(&self) -> &[u8] {
        &self.certificate
    }
}

impl fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} bytes of certificate)", self.certificate.len())
    }
}

/// The first certificate in a text, as DER.
pub fn certificate_from_pem(pem: &str) -> Result<Vec<u8>, TlsError> {
    let why = |error: String| TlsError::Pem { why: error };
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| why(error.to_string()))?;
    // What is no certificate would be taken for one that nobody has, and every peer refused.
    ParsedCertificate::try_from(&der).map_err(|error| why(error.to_string()))?;
    Ok(der.to_vec())
}

/// Mutual TLS with one other side, in both directions.
#[derive(Clone)]
pub struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Tls {
    /// TLS with whoever has the certificate `peer`, in DER.
    pub fn new(identity: &Identity, peer: &[u8]) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let pinned = Arc::new(Pinned {
            certificate: CertificateDer::from(peer.to_vec()),
            algorithms: provider.signature_verification_algorithms,
        });
        let chain = vec![identity.certificate.clone()];
        let key = || PrivateKeyDer::from(identity.key.clone_key());
        Ok(Self {
            client: Arc::new(client(provider.clone(), pinned.clone(), chain.clone(), key()).map_err(TlsError::Config)?),
            server: Arc::new(server(provider, pinned, chain, key()).map_err(TlsError::Config)?),
        })
    }

    /// Secures a connection that this side opened.
    pub async fn connect(&self, stream: Stream) -> io::Result<Stream> {
        let name = ServerName::try_from(NAME).expect("a name");
        let secured = TlsConnector::from(self.client.clone()).connect(name, stream).await?;
        Ok(TlsStream::Client(secured).into())
    }

    /// Secures a connection that the other side opened.
    ///
    /// Of a refused client this side knows here. A client that was refused may know only when it reads.
    pub async fn accept(&self, stream: Stream) -> io::Result<Stream> {
        let secured = TlsAcceptor::from(self.server.clone()).accept(stream).await?;
        Ok(TlsStream::Server(secured).into())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

fn client(
    provider: Arc<CryptoProvider>,
    pinned: Arc<Pinned>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // There is one connection; no later one is quicker for what this one learned.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn server(
    provider: Arc<CryptoProvider>,
    pinned: Arc<Pinned>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_client_cert_verifier(pinned)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Takes one certificate.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn check(&self, seen: &CertificateDer<'_>) -> Result<(), Error> {
        if *seen == self.certificate {
            Ok(())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        seen: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(seen).map(|()| danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Pinned {
    /// None: a client that is asked for a certificate of certain authorities would not send its own.
    fn root_hint_subjects(&self) -> &[Subject] {
        &[]
    }

    fn verify_client_cert(
        &self,
        seen: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(seen).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
