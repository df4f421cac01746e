use rcgen::{BasicConstraints, IsCa, PKCS_ECDSA_P521_SHA512};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::*;

/// A certificate as plugins in Go make them.
fn go_identity() -> Identity {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).expect("a key");
    let mut params = CertificateParams::new([NAME.to_owned()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyAgreement,
        KeyUsagePurpose::KeyCertSign,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key).expect("a certificate");
    Identity::from_parts(&certificate.pem(), key.serialize_der()).expect("an identity")
}

fn identity() -> Identity {
    Identity::generate().expect("an identity")
}

/// Connects one side to the other; both say a word, and hear the other's. The server's result and the client's.
async fn meet(client: &Tls, server: &Tls) -> (io::Result<()>, io::Result<()>) {
    let (near, far) = duplex(64 * 1024);
    let serving = async {
        let mut stream = server.accept(Stream::new(far)).await?;
        stream.write_all(b"served").await?;
        stream.flush().await?;
        let mut word = [0; 6];
        stream.read_exact(&mut word).await.map(drop)
    };
    let asking = async {
        let mut stream = client.connect(Stream::new(near)).await?;
        assert!(stream.is_tls());
        stream.write_all(b"asking").await?;
        stream.flush().await?;
        let mut word = [0; 6];
        stream.read_exact(&mut word).await.map(drop)
    };
    tokio::join!(serving, asking)
}

fn tls(identity: &Identity, peer: &Identity) -> Tls {
    Tls::new(identity, peer.der()).expect("TLS")
}

#[tokio::test]
async fn two_sides_that_know_each_other_are_connected() {
    let (host, plugin) = (identity(), identity());
    let (served, asked) = meet(&tls(&host, &plugin), &tls(&plugin, &host)).await;
    served.expect("served");
    asked.expect("asked");
}

#[tokio::test]
async fn a_side_with_the_certificate_of_an_authority_on_p521_is_connected_in_both_directions() {
    let (ours, go) = (identity(), go_identity());
    for (client, server) in [(&ours, &go), (&go, &ours)] {
        let (served, asked) = meet(&tls(client, server), &tls(server, client)).await;
        served.expect("served");
        asked.expect("asked");
    }
}

#[tokio::test]
async fn a_client_with_another_certificate_is_refused() {
    let (host, plugin, stranger) = (identity(), identity(), identity());
    let (served, asked) = meet(&tls(&stranger, &plugin), &tls(&plugin, &host)).await;
    let served = served.expect_err("a stranger").to_string();
    assert!(served.contains("ApplicationVerificationFailure"), "{served}");
    asked.expect_err("nothing is heard");
}

#[tokio::test]
async fn a_server_with_another_certificate_is_refused() {
    let (host, plugin, stranger) = (identity(), identity(), identity());
    let (served, asked) = meet(&tls(&host, &plugin), &tls(&stranger, &host)).await;
    let asked = asked.expect_err("a stranger").to_string();
    assert!(asked.contains("ApplicationVerificationFailure"), "{asked}");
    served.expect_err("nothing is heard");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let (host, plugin) = (identity(), identity());
    let pinned = Arc::new(Pinned {
        certificate: CertificateDer::from(plugin.der().to_vec()),
        algorithms: aws_lc_rs::default_provider().signature_verification_algorithms,
    });
    let mut bare = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_no_client_auth();
    bare.alpn_protocols = vec![ALPN.to_vec()];
    let bare = Tls { client: Arc::new(bare), server: tls(&plugin, &host).server };
    let (served, asked) = meet(&bare, &tls(&plugin, &host)).await;
    let served = served.expect_err("nobody").to_string();
    assert!(served.contains("peer sent no certificates"), "{served}");
    asked.expect_err("nothing is heard");
}

/// The bytes of a certificate are public: whoever shows them has to have the key, too.
#[tokio::test]
async fn a_copied_certificate_without_its_key_is_refused() {
    let (host, plugin, stranger) = (identity(), identity(), identity());
    let thief =
        || Identity { certificate: host.certificate.clone(), key: stranger.key.clone_key(), pem: host.pem.clone() };
    // rustls itself refuses to use a key that is not the certificate's.
    assert!(matches!(Tls::new(&thief(), plugin.der()), Err(TlsError::Config(_))));
    let (served, asked) = meet(&careless(&thief(), &plugin), &tls(&plugin, &host)).await;
    served.expect_err("no key");
    asked.expect_err("nothing is heard");
}

/// TLS that shows a certificate without looking whether the key is its own.
fn careless(identity: &Identity, peer: &Identity) -> Tls {
    use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};

    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(identity.key.clone_key().into()).expect("a key");
    let shown = CertifiedKey::new(vec![identity.certificate.clone()], key);
    let pinned = Pinned {
        certificate: CertificateDer::from(peer.der().to_vec()),
        algorithms: provider.signature_verification_algorithms,
    };
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    client.alpn_protocols = vec![ALPN.to_vec()];
    Tls { client: Arc::new(client), server: tls(peer, peer).server }
}

#[test]
fn a_certificate_is_read_from_pem() {
    let host = identity();
    assert_eq!(certificate_from_pem(host.pem()).expect("PEM"), host.der());
    assert!(matches!(certificate_from_pem("-----BEGIN NONSENSE-----"), Err(TlsError::Pem { .. })));
}
