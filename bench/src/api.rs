//! Calls of the management API, one connection each: only to prepare what is then measured.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::answer::{self, Head};

/// Longest time for an answer; an import of 1,000 keys on a loaded machine takes a while.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running Keyward and a service key for it.
pub struct Api {
    pub address: SocketAddr,
    pub service_key: String,
}

impl Api {
    pub fn get(&self, path: &str) -> Result<String> {
        let (head, body) = self.call("GET", path, "")?;
        ensure!(head.status == 200, "GET {path} answered {}: {body}", head.status);
        Ok(body)
    }

    /// Waits where the server says that it is asked too often.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.post_text(path, &body.to_string())
    }

    /// The same with a body that is written already.
    pub fn post_text(&self, path: &str, text: &str) -> Result<Value> {
        loop {
            let (head, answer) = self.call("POST", path, text)?;
            match (head.status, head.retry_after_seconds) {
                (200 | 201, _) => return serde_json::from_str(&answer).context("the answer is not JSON"),
                (429, Some(seconds)) => std::thread::sleep(Duration::from_secs(seconds.clamp(1, 60))),
                (status, _) => bail!("POST {path} answered {status}: {answer}"),
            }
        }
    }

    fn call(&self, method: &str, path: &str, body: &str) -> Result<(Head, String)> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            self.service_key,
            body.len()
        );
        exchange(self.address, request.as_bytes()).with_context(|| format!("{method} {path}"))
    }
}

/// Sends a request and reads its whole answer.
pub fn exchange(to: SocketAddr, request: &[u8]) -> Result<(Head, String)> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let (mut received, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let read = stream.read(&mut buffer)?;
        ensure!(read > 0, "the server closed the connection");
        received.extend_from_slice(&buffer[..read]);
        if let Some(head) = answer::head(&received)?
            && received.len() >= head.bytes + head.body_bytes
        {
            let body = String::from_utf8(received.split_off(head.bytes))?;
            return Ok((head, body));
        }
    }
}
