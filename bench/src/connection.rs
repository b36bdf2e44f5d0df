//! A keep-alive connection with at most one request in flight.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Interest, Poll, Token};

use crate::answer;
use crate::request::Request;

/// Longest answer, head included.
const MAX_ANSWER: usize = 16 * 1024;

/// What every answer of a run must be.
#[derive(Clone, Copy)]
pub struct Expected {
    pub status: u16,
    pub body_start: &'static str,
}

impl Expected {
    pub const VALID: Self = Self { status: 200, body_start: r#"{"valid":true,"code":"valid""# };
    pub const MALFORMED: Self = Self { status: 200, body_start: r#"{"valid":false,"code":"malformed""# };
    pub const SIGNED_IN: Self = Self { status: 200, body_start: r#"{"access_token":""# };
    pub const ADMITTED: Self = Self { status: 204, body_start: "" };
}

/// An answer that is complete.
pub struct Answer {
    /// When its request should have left.
    pub due: Instant,
    pub bytes: usize,
    pub is_expected: bool,
}

/// A connection and the one request that is sent over it again and again, each time with another key.
pub struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Box<[u8]>,
    filled: usize,
    due: Instant,
}

impl Connection {
    pub fn open(to: SocketAddr, poll: &Poll, token: usize, request: Vec<u8>) -> Result<Self> {
        let stream = std::net::TcpStream::connect(to)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(token), Interest::READABLE)?;
        Ok(Self { stream, request, answer: vec![0; MAX_ANSWER].into(), filled: 0, due: Instant::now() })
    }

    pub fn send(&mut self, request: &Request, key: &[u8], due: Instant) -> Result<()> {
        request.replace(&mut self.request, key);
        self.due = due;
        // The socket's buffer is empty whenever a request is sent, and far larger than one.
        let written = self.stream.write(&self.request)?;
        ensure!(written == self.request.len(), "a request was cut off");
        Ok(())
    }

    /// The answer, if it is complete.
    pub fn receive(&mut self, expected: &Expected) -> Result<Option<Answer>> {
        loop {
            let room = self.answer.len() - self.filled;
            match self.stream.read(&mut self.answer[self.filled..]) {
                Ok(0) if room == 0 => bail!("an answer is longer than {MAX_ANSWER} bytes"),
                Ok(0) => bail!("the server closed a connection"),
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            let received = &self.answer[..self.filled];
            let Some(head) = answer::head(received)? else { continue };
            let bytes = head.bytes + head.body_bytes;
            if received.len() < bytes {
                continue;
            }
            ensure!(received.len() == bytes, "more came than the answer");
            let is_expected =
                head.status == expected.status && received[head.bytes..].starts_with(expected.body_start.as_bytes());
            self.filled = 0;
            return Ok(Some(Answer { due: self.due, bytes, is_expected }));
        }
    }
}
