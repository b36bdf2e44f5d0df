//! An answer as hyper would write it, byte for byte: the same fields in the same order. Each field begins with the end of the line
//! before it, which is a piece less to put.

use std::cell::RefCell;
use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderName, Response, StatusCode, header};
use http_body_util::BodyExt;
use keyward_core::time::Timestamp;

use crate::app::App;
use crate::fixed_headers::ALL;
use crate::gateway::forward_auth;
use crate::hot::text::put;
use crate::hot::{REQUEST_ID, Reply, verify};
use crate::serve::{Body, Peer, seal};

/// The beginning of a verdict's answer, up to its request's id.
static TOLD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut out = b"HTTP/1.1 200 OK".to_vec();
    verify::FIELDS.iter().for_each(|(name, value)| field(&mut out, name, value.as_bytes()));
    out.extend_from_slice(&ON_ALL);
    out
});
/// Fields that stand on every answer, up to its request's id.
static ON_ALL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut out = Vec::new();
    ALL.iter().for_each(|(name, value)| field(&mut out, name, value.as_bytes()));
    field(&mut out, &REQUEST_ID, b"");
    out
});

/// Appends an answer; `true` when it is the connection's last, as it is when `closing` asks for that.
pub async fn answer(
    app: &App,
    peer: Peer,
    reply: &mut Reply<'_>,
    request_id: &str,
    at: Timestamp,
    closing: bool,
    out: &mut Vec<u8>,
) -> bool {
    match reply {
        Reply::Told(body) => {
            out.extend_from_slice(&TOLD);
            put!(out, request_id);
            end(closing, Some(body), at, out);
            closing
        }
        Reply::Admitted(verdict) => {
            out.extend_from_slice(b"HTTP/1.1 204 No Content");
            forward_auth::tell(verdict, at, out);
            out.extend_from_slice(&ON_ALL);
            put!(out, request_id);
            end(closing, None, at, out);
            closing
        }
        Reply::Other(response) => {
            seal(app, peer, response, request_id);
            // Boxed: what seldom happens is not carried by every call.
            Box::pin(whole(response, closing, at, out)).await
        }
    }
}

/// Writes any answer whose body is in memory.
async fn whole(response: &mut Response<Body>, closing: bool, at: Timestamp, out: &mut Vec<u8>) -> bool {
    let status = response.status();
    out.extend_from_slice(format!("HTTP/1.1 {} {}", status.as_str(), reason(status)).as_bytes());
    for (name, value) in response.headers() {
        field(out, name, value.as_bytes());
    }
    let closes = response.headers().contains_key(header::CONNECTION);
    let body = response.body_mut().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    end(closing && !closes, Some(&body), at, out);
    closing || closes
}

fn reason(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("<none>")
}

fn field(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
}

/// What hyper adds of its own, and the body.
fn end(closing: bool, body: Option<&[u8]>, at: Timestamp, out: &mut Vec<u8>) {
    if closing {
        out.extend_from_slice(b"\r\nconnection: close");
    }
    if let Some(body) = body {
        put!(out, "\r\ncontent-length: ", body.len() as u64);
    }
    push_date(at, out);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body.unwrap_or_default());
}

/// The date's field, formatted once a second on each thread.
fn push_date(at: Timestamp, out: &mut Vec<u8>) {
    thread_local! {
        static LATEST: RefCell<(u64, Vec<u8>)> = const { RefCell::new((0, Vec::new())) };
    }
    let second = at.as_seconds().max(0).cast_unsigned();
    LATEST.with_borrow_mut(|(written, line)| {
        if *written != second || line.is_empty() {
            let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
            line.clear();
            field(line, &header::DATE, date.as_bytes());
            *written = second;
        }
        out.extend_from_slice(line);
    });
}
