//! Reading a request's body into memory, within a size and a time. A body that came with its headers takes no copy.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use keyward_core::problem::Code;

use crate::problem::Problem;

/// The whole body, at most `limit` bytes, complete within `time`.
pub async fn read(mut body: Incoming, limit: usize, time: Duration) -> Result<Bytes, Problem> {
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    match tokio::time::timeout(time, collect(&mut body, limit)).await {
        Ok(read) => read,
        Err(_) => Err(Problem::plain(Code::RequestTimeout)),
    }
}

async fn collect(body: &mut Incoming, limit: usize) -> Result<Bytes, Problem> {
    let unreadable =
        |error: hyper::Error| Problem::new(Code::MalformedRequest, format!("The body could not be read: {error}"));
    let mut whole: Option<BytesMut> = None;
    let mut first = Bytes::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(unreadable)?.into_data() else { continue };
        let so_far = whole.as_ref().map_or(first.len(), BytesMut::len);
        if so_far + data.len() > limit {
            return Err(too_large(limit));
        }
        match &mut whole {
            Some(whole) => whole.extend_from_slice(&data),
            None if first.is_empty() => first = data,
            None => {
                let mut joined = BytesMut::with_capacity(first.len() + data.len());
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&data);
                whole = Some(joined);
            }
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok(whole.map_or(first, BytesMut::freeze))
}

fn too_large(limit: usize) -> Problem {
    Problem::new(Code::TooLarge, format!("The body may have at most {limit} bytes."))
}
