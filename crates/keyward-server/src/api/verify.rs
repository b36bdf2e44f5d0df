//! The batch form of verify. The single call is served beneath the framework (`hot::verify`); it stands in the table
//! here so that the reference and the permission matrix know it.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header;
use keyward_core::access::Permission::KeysVerify;
use keyward_core::problem::Code;
use keyward_core::verdict::Reach;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::caller::Caller;
use super::json;
use super::route::{Access::Needs, Access::Probe, Route, get, post};
use crate::app::SharedApp;
use crate::hot::verify::{VerifyBody, verify};
use crate::hot::{FORWARD_AUTH_PATH, VERIFY_PATH};
use crate::problem::Problem;

const MAX_ITEMS: usize = 100;

pub fn routes() -> Vec<Route> {
    let forward = "The service key of the proxy comes in X-Keyward-Service-Key, and is checked beneath the framework";
    vec![
        post(VERIFY_PATH, Needs(KeysVerify), "Verify a key", beneath)
            .takes::<VerifyBody<'static>>()
            .answers::<VerifyView>(200),
        post("/v1/api-keys/verify/batch", Needs(KeysVerify), "Verify up to 100 keys", batch)
            .takes::<Batch<'static>>()
            .answers::<BatchView>(200),
        get(FORWARD_AUTH_PATH, Probe(forward), "Verify the key of a proxied request (any method)", beneath)
            .answers_nothing(),
    ]
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    /// 1–100.
    #[serde(borrow)]
    items: Vec<VerifyBody<'a>>,
}

/// The verdict on a key. All but `valid`, `code`, `limits`, `quota` and `headers` are absent when no key was found.
#[derive(Debug, Serialize, JsonSchema)]
struct VerifyView {
    valid: bool,
    code: String,
    key_id: Option<String>,
    secret_id: Option<String>,
    organization_id: Option<String>,
    owner_id: Option<String>,
    external_id: Option<String>,
    name: Option<String>,
    environment: Option<String>,
    plan: Option<String>,
    scopes: Option<Vec<String>>,
    metadata: Option<Value>,
    expires_at: Option<String>,
    limits: Vec<Value>,
    quota: Option<Value>,
    headers: Value,
    /// Every rule's state, for a dry run only.
    checks: Option<Vec<Value>>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct BatchView {
    items: Vec<VerifyView>,
}

/// Never reached: `serve` answers these paths itself.
async fn beneath() -> Problem {
    Problem::plain(Code::NotFound)
}

/// Whose keys the caller may verify.
pub fn reach_of(caller: &Caller) -> Result<Reach, Problem> {
    let grant = caller.context.grant.as_ref().ok_or_else(|| Problem::plain(Code::Unauthenticated))?;
    Ok(if grant.at_instance(KeysVerify) { Reach::Instance } else { Reach::Organization(grant.organization) })
}

async fn batch(State(app): State<SharedApp>, caller: Caller, request: Request) -> Result<Response, Problem> {
    json::require_media_type(request.headers())?;
    let value = json::strict(&json::read_body(request, &app).await?)?;
    let batch: Batch<'_> = json::typed(&value)?;
    if batch.items.is_empty() || batch.items.len() > MAX_ITEMS {
        return Err(keyward::Error::field("/items", format!("needs between 1 and {MAX_ITEMS} items")).into());
    }
    let reach = reach_of(&caller)?;
    let mut out = b"{\"items\":[".to_vec();
    for (index, item) in batch.items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        verify(&app, reach, item, app.keyward.clock.now(), &mut out).await?;
    }
    out.extend_from_slice(b"]}");
    Ok(([(header::CONTENT_TYPE, "application/json")], out).into_response())
}
