//! Certificates of an authority that lives as long as its test, and a client that shows what it is answered with.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Signs for 127.0.0.1, and keeps the files of one pair.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// A certificate with that of its authority, and its key.
pub struct Pair {
    pub certificate: String,
    pub key: String,
    pub leaf: CertificateDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"));
        Self { issuer: issuer.expect("a certificate"), folder: TempDir::new().expect("a temporary folder") }
    }

    pub fn pair(&self) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
        let leaf = params.signed_by(&key, &self.issuer).expect("a certificate");
        let certificate = format!("{}{}", leaf.pem(), self.issuer.as_ref().pem());
        Pair { certificate, key: key.serialize_pem(), leaf: leaf.der().clone() }
    }

    /// Where the certificate and its key are read from.
    pub fn files(&self) -> [PathBuf; 2] {
        ["certificate.pem", "key.pem"].map(|name| self.folder.path().join(name))
    }

    pub fn write(&self, certificate: &str, key: &str) {
        for (file, text) in self.files().iter().zip([certificate, key]) {
            std::fs::write(file, text).expect("a file");
        }
    }

    /// A new pair, written.
    pub fn renew(&self) -> Pair {
        let pair = self.pair();
        self.write(&pair.certificate, &pair.key);
        pair
    }

    /// A connection to a node that speaks TLS in these versions.
    pub async fn connect(&self, url: &str, versions: &[&'static SupportedProtocolVersion]) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.as_ref().der().clone()).expect("a root");
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let config = config.with_protocol_versions(versions).expect("versions");
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = TcpStream::connect(url.trim_start_matches("https://")).await.expect("it listens");
        let name = "127.0.0.1".try_into().expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake")
    }
}

/// What a node shows to whoever connects.
pub fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().expect("a certificate")[0].clone().into_owned()
}

/// Asks whether the node lives on a connection that stays open; answers the head and the body.
pub async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: keyward\r\n\r\n").await.expect("an open connection");
    let (mut answer, mut part) = (String::new(), [0; 4096]);
    while !answer.contains("\r\n\r\n") {
        let count = stream.read(&mut part).await.expect("an answer");
        assert_ne!(count, 0, "the connection was closed: {answer}");
        answer.push_str(&String::from_utf8_lossy(&part[..count]));
    }
    answer
}
