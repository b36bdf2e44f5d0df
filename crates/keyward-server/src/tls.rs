//! HTTPS: the certificate and its key, read at the start and again whenever their files change, while connections go on. A
//! new pair that is not good is told in the log and leaves the old one in force. TLS 1.2 and 1.3, HTTP/1.1 only.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use keyward::config::ServerSettings;
use keyward::metrics::Metrics;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{Error as TlsError, ServerConfig};
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

const CERTIFICATE: &str = "tls_certificate_file";
const KEY: &str = "tls_key_file";

/// What every handshake needs. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    pub acceptor: TlsAcceptor,
    files: Arc<Files>,
    present: Arc<Present>,
    first: Arc<Pair>,
}

/// Where the pair stands.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
}

/// The pair in force.
#[derive(Debug)]
struct Present(RwLock<Arc<CertifiedKey>>);

/// The pair cannot be used; says which file and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

impl Tls {
    /// Reads the pair that the settings name; `None` where they name none.
    pub fn read(settings: &ServerSettings) -> Result<Option<Self>, Unusable> {
        let (certificate, key) = (&settings.tls_certificate_file, &settings.tls_key_file);
        let (certificate, key) = match (certificate.as_os_str().is_empty(), key.as_os_str().is_empty()) {
            (true, true) => return Ok(None),
            (false, false) => (certificate.clone(), key.clone()),
            _ => {
                let sentence = "server.tls_certificate_file and server.tls_key_file: set both, or neither";
                return Err(Unusable(sentence.to_owned()));
            }
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let files = Arc::new(Files { certificate, key, provider: provider.clone() });
        let first = Arc::new(files.read()?);
        let present = Arc::new(Present(RwLock::new(files.certified(&first)?)));
        let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12]);
        let config = config.expect("the provider has suites for both versions").with_no_client_auth();
        let mut config = config.with_cert_resolver(present.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Self { acceptor: TlsAcceptor::from(Arc::new(config)), files, present, first }))
    }

    /// Looks at the files from time to time, and takes a new pair. Runs until it is dropped.
    pub async fn follow(self, metrics: Arc<Metrics>) {
        let mut seen = Ok(self.first);
        let mut timer = tokio::time::interval(LOOK_EVERY);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            let files = self.files.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || files.read().map(Arc::new)).await else { continue };
            // A pair is judged once, a bad one too: the log tells each change, not each look.
            if read == seen {
                continue;
            }
            seen = read;
            match seen.clone().and_then(|pair| self.files.certified(&pair)) {
                Ok(certified) => {
                    *self.present.0.write().expect("no one panics while changing the pair") = certified;
                    metrics.tls_reloads.inc();
                    tracing::info!("the new certificate is in force");
                }
                Err(error) => {
                    metrics.failed_tls_reloads.inc();
                    tracing::error!(%error, "the new certificate cannot be used; the old one stays in force");
                }
            }
        }
    }
}

impl ResolvesServerCert for Present {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().expect("no one panics while changing the pair").clone())
    }
}

/// What stands in the two files. They are compared as they are: dates say too little of files that are replaced.
#[derive(PartialEq, Eq)]
struct Pair {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Files {
    fn read(&self) -> Result<Pair, Unusable> {
        let read = |path: &Path, setting| std::fs::read(path).map_err(|error| unusable(setting, path, &error));
        let (certificate, key) = (read(&self.certificate, CERTIFICATE)?, read(&self.key, KEY)?);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| unusable(CERTIFICATE, &self.certificate, &"holds no certificate in PEM"))?;
        let why = "holds no private key in PEM, or one that is sealed by a password";
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| unusable(KEY, &self.key, &why))?;
        Ok(Pair { chain, key })
    }

    fn certified(&self, pair: &Pair) -> Result<Arc<CertifiedKey>, Unusable> {
        let certified = CertifiedKey::from_der(pair.chain.clone(), pair.key.clone_key(), &self.provider);
        certified.map(Arc::new).map_err(|error| match error {
            TlsError::InconsistentKeys(_) => {
                let why = format!("is not the key of the certificate in {}", self.certificate.display());
                unusable(KEY, &self.key, &why)
            }
            TlsError::InvalidCertificate(error) => unusable(CERTIFICATE, &self.certificate, &error),
            error => unusable(KEY, &self.key, &error),
        })
    }
}

fn unusable(setting: &str, file: &Path, why: &dyn std::fmt::Display) -> Unusable {
    Unusable(format!("server.{setting}: {}: {why}", file.display()))
}
