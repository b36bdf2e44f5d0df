//! A connection for one batch, by TCP or TLS, that knows what arrived. Syslog has no acknowledgement; but who closes a connection
//! with bytes unread resets it. So we say that we are done and wait for the receiver's own end: an orderly one means that it has
//! read everything. A receiver that leaves the connection open is believed once its system has acknowledged all bytes, which the
//! socket's user timeout (RFC 5482) watches over.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, crypto};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::http::unusable;
use crate::config::SinkSettings;
use crate::error::Result;

/// Longest times to connect, and to write a batch.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// How long the receiver's end is awaited; longer than bytes may stay without acknowledgement.
const END_PATIENCE: Duration = Duration::from_secs(6);
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

pub struct Connector {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Connector {
    pub fn open(settings: &SinkSettings) -> Result<Self> {
        let url = Url::parse(&settings.url).map_err(|error| unusable(settings, error))?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let tls = match url.scheme() {
            "tls" => {
                let name = ServerName::try_from(host.clone()).map_err(|error| unusable(settings, error))?;
                Some((TlsConnector::from(Arc::new(client_config(settings)?)), name))
            }
            _ => None,
        };
        Ok(Self { host, port: url.port().unwrap_or_default(), tls })
    }

    /// Returns when the receiver has the bytes; else says why it may not have them.
    pub async fn deliver(&self, bytes: &[u8]) -> Result<(), String> {
        let told = |what: &str, error: std::io::Error| format!("{what}: {error}");
        let connected = timeout(CONNECT_PATIENCE, self.connect());
        let stream = connected.await.map_err(|_| "it does not answer".to_owned())?;
        let stream = stream.map_err(|error| told("it could not be reached", error))?;
        match &self.tls {
            None => send(stream, bytes).await,
            Some((connector, name)) => {
                let shaken = timeout(CONNECT_PATIENCE, connector.connect(name.clone(), stream));
                let stream = shaken.await.map_err(|_| "it does not answer in TLS".to_owned())?;
                send(stream.map_err(|error| told("TLS failed", error))?, bytes).await
            }
        }
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        #[cfg(target_os = "linux")]
        socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
        Ok(stream)
    }
}

async fn send(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> Result<(), String> {
    let broke = |error: std::io::Error| format!("the connection broke: {error}");
    let write = async {
        stream.write_all(bytes).await?;
        stream.flush().await?;
        stream.shutdown().await
    };
    timeout(WRITE_PATIENCE, write).await.map_err(|_| "it does not read".to_owned())?.map_err(broke)?;
    let mut unread = [0; 1024];
    let end = async {
        loop {
            match stream.read(&mut unread).await {
                Ok(0) => return Ok(()),
                // Receivers have nothing to say.
                Ok(_) => {}
                // TLS that ends without a farewell; the bytes arrived all the same.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    };
    // Time that runs out: all is acknowledged, and the receiver keeps its end open.
    timeout(END_PATIENCE, end).await.unwrap_or(Ok(())).map_err(broke)
}

fn client_config(settings: &SinkSettings) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if settings.ca_file.as_os_str().is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        let file = CertificateDer::pem_file_iter(&settings.ca_file).map_err(|error| unusable(settings, error))?;
        for certificate in file {
            let certificate = certificate.map_err(|error| unusable(settings, error))?;
            roots.add(certificate).map_err(|error| unusable(settings, error))?;
        }
        if roots.is_empty() {
            return Err(unusable(settings, "ca_file holds no certificate"));
        }
    }
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.map_err(|error| unusable(settings, error))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
