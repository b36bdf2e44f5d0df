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
use serde_json::{Value, json};

use super::caller::Caller;
use super::json;
use super::route::{Access::Needs, Access::Probe, Route, get, post};
use crate::app::SharedApp;
use crate::hot::verify::{VerifyBody, verify, with_request};
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
            .query::<ForwardAuthParams>()
            .answers_nothing(),
    ]
}

/// Read beneath the framework (`gateway::forward_auth`).
#[derive(Debug, JsonSchema)]
#[allow(dead_code, reason = "only its form is told")]
struct ForwardAuthParams {
    /// All must be covered by the key's scopes: `?scope=a&scope=b`.
    scope: Vec<String>,
    /// What the call costs; 1 when absent.
    cost: Option<u64>,
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
    /// In a batch, of an item that names a limit which neither the key nor its plan has: `code` is `invalid_field` then, and nothing
    /// was counted for it.
    errors: Option<Vec<Value>>,
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
    // All are looked at before the first is judged, so that no verdict that counted is lost to a fault in a later item.
    for (index, item) in batch.items.iter().enumerate() {
        with_request(reach, item, async |_| Ok(()))
            .await
            .map_err(|problem| problem.within(&format!("/items/{index}")))?;
    }
    let mut out = b"{\"items\":[".to_vec();
    for (index, item) in batch.items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match verify(&app, reach, item, app.keyward.clock.now(), &mut out).await {
            Err(problem) if problem.0.code == Code::InvalidField => write_fault(&problem, &mut out),
            judged => judged?,
        }
    }
    out.extend_from_slice(b"]}");
    Ok(([(header::CONTENT_TYPE, "application/json")], out).into_response())
}

/// In the place of a verdict: an item that names a limit which is none of its key, as only the key's record tells.
fn write_fault(problem: &Problem, out: &mut Vec<u8>) {
    let code = problem.0.code.as_str();
    let fault =
        json!({ "valid": false, "code": code, "limits": [], "quota": null, "headers": {}, "errors": problem.0.faults });
    out.extend_from_slice(fault.to_string().as_bytes());
}
