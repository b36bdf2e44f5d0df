//! A syslog server on loopback, by TCP or TLS: it reads frames (RFC 6587, 3.4.1) and messages (RFC 5424, 6) to the letter, and can be
//! ended and begun again on its port.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};

use super::Node;
use super::receiver::wait_for;

/// A message, taken apart.
#[derive(Debug, Clone)]
pub struct Message {
    pub priority: u8,
    pub host: String,
    pub id: String,
    pub parameters: BTreeMap<String, String>,
    pub line: Value,
}

pub struct Server {
    pub address: SocketAddr,
    tls: Option<TlsAcceptor>,
    kept: Arc<Kept>,
    running: Option<JoinHandle<()>>,
}

struct Kept {
    lines: watch::Sender<Vec<Value>>,
    messages: Mutex<Vec<Message>>,
    faults: Mutex<Vec<String>>,
    /// The connections after which it reads to the end; earlier ones it leaves after some bytes.
    leaves: Mutex<Vec<usize>>,
}

impl Server {
    pub async fn start(tls: Option<TlsAcceptor>) -> Self {
        let kept = Kept {
            lines: watch::channel(Vec::new()).0,
            messages: Mutex::default(),
            faults: Mutex::default(),
            leaves: Mutex::default(),
        };
        let address = "127.0.0.1:0".parse().expect("an address");
        let mut server = Self { address, tls, kept: Arc::new(kept), running: None };
        server.go_on();
        server
    }

    /// Listens, again on the same port.
    pub fn go_on(&mut self) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(self.address).expect("the port");
        let listener = socket.listen(16).expect("it listens");
        self.address = listener.local_addr().expect("an address");
        self.running = Some(tokio::spawn(listen(listener, self.tls.clone(), self.kept.clone())));
    }

    /// Ends it and all its connections.
    pub async fn end(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            running.await.ok();
        }
    }

    /// The next connections are left after so many bytes each, unread bytes and all.
    pub fn leave_after(&self, bytes: &[usize]) {
        self.kept.leaves.lock().expect("nobody panics").extend(bytes);
    }

    pub fn messages(&self) -> Vec<Message> {
        self.kept.messages.lock().expect("nobody panics").clone()
    }

    pub fn lines(&self) -> Vec<Value> {
        self.kept.lines.borrow().clone()
    }

    pub async fn get(&self, node: &Node, has: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let lines = wait_for(node, &self.kept.lines, has).await;
        assert_eq!(*self.kept.faults.lock().expect("nobody panics"), Vec::<String>::new());
        lines
    }
}

async fn listen(listener: TcpListener, tls: Option<TlsAcceptor>, kept: Arc<Kept>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (kept, tls) = (kept.clone(), tls.clone());
        connections.spawn(async move {
            match tls {
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        read(stream, &kept).await;
                    }
                }
                None => read(stream, &kept).await,
            }
        });
    }
}

/// Reads frames to the end; ours comes by letting go of the stream.
async fn read(mut stream: impl AsyncRead + Unpin, kept: &Kept) {
    let leave_after = {
        let mut leaves = kept.leaves.lock().expect("nobody panics");
        if leaves.is_empty() { usize::MAX } else { leaves.remove(0) }
    };
    let (mut bytes, mut chunk, mut total) = (Vec::new(), vec![0; 700], 0);
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        bytes.extend_from_slice(&chunk[..count]);
        total += count;
        while let Some((frame, rest)) = frame(&bytes) {
            match frame.and_then(message) {
                Ok(message) => {
                    let line = message.line.clone();
                    kept.messages.lock().expect("nobody panics").push(message);
                    kept.lines.send_modify(|lines| lines.push(line));
                }
                Err(fault) => return kept.faults.lock().expect("nobody panics").push(fault),
            }
            bytes.drain(..rest);
        }
        if total >= leave_after {
            return;
        }
    }
}

type Frame<'a> = Result<&'a str, String>;

/// The first whole frame and where the next begins: MSG-LEN SP SYSLOG-MSG.
fn frame(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let digits = std::str::from_utf8(&bytes[..space]).unwrap_or_default();
    let Some(length) = digits.parse::<usize>().ok().filter(|_| !digits.starts_with(['0', '+'])) else {
        return Some((Err(format!("no length: {digits:?}")), bytes.len()));
    };
    let message = bytes.get(space + 1..space + 1 + length)?;
    Some((std::str::from_utf8(message).map_err(|error| error.to_string()), space + 1 + length))
}

/// HEADER SP STRUCTURED-DATA SP MSG.
fn message(text: &str) -> Result<Message, String> {
    let fault = |what: &str| format!("{what}: {text}");
    let (priority, rest) = text.strip_prefix('<').and_then(|rest| rest.split_once('>')).ok_or(fault("no PRI"))?;
    let priority = priority.parse().ok().filter(|number| *number <= 191_u8).ok_or(fault("no PRI"))?;
    let fields: Vec<&str> = rest.splitn(7, ' ').collect();
    let [version, at, host, application, process, id, rest] = fields[..] else { return Err(fault("too short")) };
    let fraction = at.split_once('.').map_or(0, |(_, fraction)| fraction.len() - 1);
    let is_time = at.parse::<keyward_core::time::Timestamp>().is_ok() && at.ends_with('Z') && fraction <= 6;
    let is_field =
        |text: &str, most| !text.is_empty() && text.len() <= most && text.bytes().all(|b| b.is_ascii_graphic());
    let holds = version == "1"
        && is_time
        && is_field(host, 255)
        && is_field(id, 32)
        && (application, process) == ("keyward", "-");
    let (parameters, rest) = structured_data(rest).filter(|_| holds).ok_or(fault("no header or data"))?;
    let line = serde_json::from_str(rest).map_err(|error| fault(&error.to_string()))?;
    Ok(Message { priority, host: host.to_owned(), id: id.to_owned(), parameters, line })
}

/// `[SD-ID *(SP PARAM-NAME="PARAM-VALUE")]`, and the message behind it.
fn structured_data(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let end_of_id = text.find([' ', ']'])?;
    let id = text[..end_of_id].strip_prefix('[')?;
    id.split_once('@').filter(|(name, number)| !name.is_empty() && number.parse::<u32>().is_ok())?;
    let (mut rest, mut parameters) = (&text[end_of_id..], BTreeMap::new());
    while let Some(parameter) = rest.strip_prefix(' ') {
        let (name, quoted) = parameter.split_once("=\"")?;
        let (mut value, mut letters) = (String::new(), quoted.char_indices());
        let end = loop {
            match letters.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(letters.next().filter(|(_, letter)| "\"\\]".contains(*letter))?.1),
                (_, ']') => return None,
                (_, letter) => value.push(letter),
            }
        };
        parameters.insert(name.to_owned(), value);
        rest = &quoted[end + 1..];
    }
    Some((parameters, rest.strip_prefix("] ")?))
}

/// A server's end of TLS for 127.0.0.1, and the certificate of the authority that vouches for it, in PEM.
pub fn tls() -> (TlsAcceptor, String) {
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("a key");
    let pem = authority.self_signed(&authority_key).expect("a certificate").pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    let certificate = server.signed_by(&key, &issuer).expect("a certificate");
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("the key fits");
    (TlsAcceptor::from(Arc::new(config)), pem)
}
