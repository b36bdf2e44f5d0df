//! The requests that are measured, as bytes with a gap for the key.

use std::net::SocketAddr;

/// A whole HTTP/1.1 request but for the key in it.
#[derive(Clone)]
pub struct Request {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Request {
    /// `POST /v1/api-keys/verify` with the key and one scope.
    pub fn verify(to: SocketAddr, service_key: &str, key_bytes: usize) -> Self {
        let (before, after) = (r#"{"key":""#, r#"","scopes":["invoices:read"]}"#);
        let length = before.len() + key_bytes + after.len();
        let head = format!(
            "POST /v1/api-keys/verify HTTP/1.1\r\nhost: {to}\r\nauthorization: Bearer {service_key}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        Self { before: [head.as_bytes(), before.as_bytes()].concat(), after: after.as_bytes().to_vec() }
    }

    /// `GET /v1/forward-auth` as a proxy sends it on.
    pub fn forward_auth(to: SocketAddr, service_key: &str) -> Self {
        let before = format!(
            "GET /v1/forward-auth HTTP/1.1\r\nhost: {to}\r\nx-keyward-service-key: {service_key}\r\nauthorization: Bearer "
        );
        Self { before: before.into_bytes(), after: b"\r\n\r\n".to_vec() }
    }

    /// `POST /v1/auth/login` with the password in place of the key.
    pub fn log_in(to: SocketAddr, email: &str, password_bytes: usize) -> Self {
        let (before, after) = (format!(r#"{{"email":"{email}","password":""#), r#""}"#);
        let length = before.len() + password_bytes + after.len();
        let head = format!(
            "POST /v1/auth/login HTTP/1.1\r\nhost: {to}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        Self { before: [head.as_bytes(), before.as_bytes()].concat(), after: after.as_bytes().to_vec() }
    }

    /// `GET` with a credential in place of the key.
    pub fn get(to: SocketAddr, path: &str) -> Self {
        let before = format!("GET {path} HTTP/1.1\r\nhost: {to}\r\nauthorization: Bearer ");
        Self { before: before.into_bytes(), after: b"\r\n\r\n".to_vec() }
    }

    /// The request for one key.
    pub fn with(&self, key: &[u8]) -> Vec<u8> {
        [&self.before, key, &self.after].concat()
    }

    /// Puts another key of the same length into a request that `with` made.
    pub fn replace(&self, request: &mut [u8], key: &[u8]) {
        request[self.before.len()..][..key.len()].copy_from_slice(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_key_is_as_if_it_had_been_there() {
        let request = Request::verify("127.0.0.1:1".parse().unwrap(), "kw_live_s", 4);
        let mut bytes = request.with(b"aaaa");
        request.replace(&mut bytes, b"bbbb");
        assert_eq!(bytes, request.with(b"bbbb"));
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"key":"bbbb","scopes":["invoices:read"]}"#);
        assert!(head.ends_with(&format!("content-length: {}", body.len())));
    }
}
