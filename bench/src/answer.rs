//! As much of an HTTP/1.1 answer as a load generator has to understand: its status, and where it ends.

use anyhow::{Result, bail};

/// Most headers of an answer.
const MAX_HEADERS: usize = 32;

/// The head of an answer whose length is known.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    pub bytes: usize,
    pub body_bytes: usize,
    /// From `Retry-After`.
    pub retry_after_seconds: Option<u64>,
}

/// Reads the head, if all of it is there. Only answers with a length, or without a body, are understood.
pub fn head(bytes: &[u8]) -> Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(len) = response.parse(bytes)? else { return Ok(None) };
    let mut head =
        Head { status: response.code.unwrap_or_default(), bytes: len, body_bytes: 0, retry_after_seconds: None };
    for header in response.headers.iter() {
        let number = || std::str::from_utf8(header.value)?.trim().parse::<u64>().map_err(anyhow::Error::from);
        if header.name.eq_ignore_ascii_case("content-length") {
            head.body_bytes = number()? as usize;
        } else if header.name.eq_ignore_ascii_case("retry-after") {
            head.retry_after_seconds = number().ok();
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("an answer came in chunks");
        }
    }
    Ok(Some(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let expected = Head { status: 200, bytes: 38, body_bytes: 5, retry_after_seconds: None };
        assert_eq!(head(text).unwrap(), Some(expected));
        assert_eq!(head(&text[..30]).unwrap(), None);
        assert_eq!(head(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap().body_bytes, 0);
        assert!(head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(head(b"nonsense\r\n\r\n").is_err());
    }
}
