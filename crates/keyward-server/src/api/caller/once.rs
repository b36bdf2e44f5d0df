//! A request that is done once, however often it is sent under one Idempotency-Key.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use keyward::idempotency::Begin;
use keyward_core::problem::Code;

use super::Caller;
use crate::app::SharedApp;
use crate::problem::Problem;

pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Stands on answers that were kept, under the name that Stripe's clients know.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Does a request once: a repetition under the same Idempotency-Key gets the kept answer.
pub(super) async fn once(app: &SharedApp, caller: &Caller, request: Request, next: Next) -> Result<Response, Problem> {
    let key = request.headers()[IDEMPOTENCY_KEY].to_str().unwrap_or_default().to_owned();
    let (method, target) = (request.method().to_string(), request.uri().to_string());
    let (parts, body) = request.into_parts();
    let body = crate::api::json::read_body(Request::from_parts(parts.clone(), body), app).await?;
    let store = &app.keyward.idempotency;
    let name = caller.context.actor.id.clone();
    let begun = match store
        .begin(&name, caller.credential.expose(), &key, &[method.as_bytes(), target.as_bytes(), &body])
        .await?
    {
        Begin::New(begun) => begun,
        Begin::Done { status, body } => return replay(status, &body),
    };
    let response = next.run(Request::from_parts(parts, body.into())).await;
    if !response.status().is_success() {
        store.abandon(begun).await?;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.map_err(|_| Problem::plain(Code::Internal))?;
    let location = parts.headers.get(header::LOCATION).map_or(&b""[..], HeaderValue::as_bytes);
    store.end(begun, parts.status.as_u16(), &[location, b"\n", &body].concat()).await?;
    Ok(Response::from_parts(parts, body.into()))
}

fn replay(status: u16, kept: &[u8]) -> Result<Response, Problem> {
    let internal = || Problem::plain(Code::Internal);
    let end = kept.iter().position(|byte| *byte == b'\n').ok_or_else(internal)?;
    let (location, body) = (&kept[..end], kept[end + 1..].to_vec());
    let mut response = (StatusCode::from_u16(status).map_err(|_| internal())?, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    if !location.is_empty() {
        headers.insert(header::LOCATION, HeaderValue::from_bytes(location).map_err(|_| internal())?);
    }
    Ok(response)
}
