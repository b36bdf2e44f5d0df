//! `POST /v1/api-keys/verify`: who calls, what is presented, the verdict, and its JSON.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};
use hyper::body::Incoming;
use keyward::Familiar;
use keyward_core::limit::{MAX_COUNT, OUT_OF_COUNT};
use keyward_core::network::parse_address;
use keyward_core::problem::Code;
use keyward_core::scope;
use keyward_core::time::Timestamp;
use keyward_core::verdict::{self, LimitUse, Reach, Verdict};
use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::Fields;
use super::{Asked, Reply, VERIFY_PATH, answer, body, cannot_judge, credential, reach_of_caller, refuse};
use crate::api::caller::note_refusal_beneath;
use crate::api::json;
use crate::app::App;
use crate::problem::Problem;

/// Largest body of a verify call, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// Most scopes and limits of a call.
const MAX_LIST: usize = 100;

/// What is asked about a key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyBody<'a> {
    /// The presented key.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// All must be covered by the key's scopes.
    #[serde(borrow, default)]
    pub scopes: Vec<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub environment: Option<Cow<'a, str>>,
    /// What the call costs; 1 when absent.
    #[serde(default)]
    pub cost: Option<u64>,
    /// The client's address.
    #[serde(borrow, default)]
    pub ip: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub path: Option<Cow<'a, str>>,
    /// Named limits that the call draws on as well.
    #[serde(borrow, default)]
    pub limits: Vec<LimitUseBody<'a>>,
    /// Count nothing, and tell every rule's state.
    #[serde(default)]
    pub dry_run: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitUseBody<'a> {
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    #[serde(default)]
    pub cost: Option<u64>,
}

/// What a verdict is told with.
pub const FIELDS: [(HeaderName, HeaderValue); 2] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// The body that hyper reads, once the caller is known.
pub async fn body_of(app: &App, body: Incoming) -> Result<Bytes, Problem> {
    let time = Duration::from_secs(app.keyward.settings.server.read_timeout_seconds);
    body::read(body, MAX_BODY, time).await
}

/// Judges the key in `body`, which is not waited for before the caller is known; `out` is empty and takes the answer.
pub async fn answer<F: Fields, B: AsRef<[u8]>>(
    app: &App,
    asked: &Asked<'_, F>,
    familiar: &mut Familiar,
    body: impl Future<Output = Result<B, Problem>>,
    mut out: Vec<u8>,
) -> Reply<'static> {
    match judge(app, asked, familiar, body, &mut out).await {
        Ok(()) => Reply::Told(out),
        Err(problem) => {
            if problem.0.code == Code::Forbidden {
                let presented = credential(asked.fields).ok().flatten();
                let address = app.client_address(asked.peer.address.ip(), asked.fields);
                let headers = asked.fields.to_map();
                let call = (asked.method, VERIFY_PATH, &headers);
                // Boxed: what seldom happens is not carried by every call.
                Box::pin(note_refusal_beneath(app, presented, address, call, asked.request_id, &problem)).await;
            }
            Reply::Other(Box::new(refuse(app, &problem, asked.request_id)))
        }
    }
}

async fn judge<F: Fields, B: AsRef<[u8]>>(
    app: &App,
    asked: &Asked<'_, F>,
    familiar: &mut Familiar,
    body: impl Future<Output = Result<B, Problem>>,
    out: &mut Vec<u8>,
) -> Result<(), Problem> {
    let address = app.client_address(asked.peer.address.ip(), asked.fields);
    let reach = reach_of_caller(app, credential(asked.fields)?, address, asked.at, familiar).await?;
    json::require_media_type(asked.fields)?;
    let body = body.await?;
    let wanted: VerifyBody<'_> = match serde_json::from_slice(body.as_ref()) {
        Ok(wanted) if body.as_ref().trim_ascii_start().starts_with(b"{") => wanted,
        // Read again, slowly, to say what is wrong with it; a list of the fields' values is no body either.
        _ => return Err(fault_of(body.as_ref())),
    };
    // Not `asked.at`: a body may be long in coming.
    verify(app, reach, &wanted, app.keyward.clock.now(), out).await
}

#[cold]
fn fault_of(bytes: &[u8]) -> Problem {
    let read = json::strict(bytes).and_then(|value| json::typed::<VerifyBody<'_>>(&value).map(drop));
    read.err().unwrap_or_else(|| Problem::plain(Code::MalformedRequest))
}

/// Judges one body and writes its answer; also each item of a batch.
pub async fn verify(
    app: &App,
    reach: Reach,
    asked: &VerifyBody<'_>,
    at: Timestamp,
    out: &mut Vec<u8>,
) -> Result<(), Problem> {
    let verifier = &app.keyward.verifier;
    // The record comes near while the rest of the body is looked at.
    let sought = verifier.seek(&asked.key);
    let mut verdict = Verdict::default();
    let judge = async |request: &verdict::Request<'_>| {
        verifier.verify_sought(&sought, request, at, &mut verdict).await.map_err(cannot_judge)
    };
    with_request(reach, asked, judge).await?;
    refuse_unknown_limit(&verdict)?;
    answer::write(&verdict, at, out);
    Ok(())
}

/// Reads what a body asks, refuses what is not valid, and hands the rest to `judge`.
pub async fn with_request<T>(
    reach: Reach,
    asked: &VerifyBody<'_>,
    judge: impl AsyncFnOnce(&verdict::Request<'_>) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let scopes: Vec<&str> = asked.scopes.iter().map(AsRef::as_ref).collect();
    let limits: Vec<LimitUse<'_>> =
        asked.limits.iter().map(|used| LimitUse { name: &used.name, cost: used.cost.unwrap_or(1) }).collect();
    let request = verdict::Request {
        reach,
        scopes: &scopes,
        environment: asked.environment.as_deref(),
        cost: asked.cost.unwrap_or(1),
        limits: &limits,
        ip: asked
            .ip
            .as_deref()
            .map(|text| parse_address(text).ok_or_else(|| fault("/ip", "is not an address")))
            .transpose()?,
        country: None,
        method: asked.method.as_deref(),
        path: asked.path.as_deref(),
        dry_run: asked.dry_run,
    };
    check(&request)?;
    judge(&request).await
}

/// A limit that the call names and nobody has set is the caller's mistake.
pub fn refuse_unknown_limit(verdict: &Verdict) -> Result<(), Problem> {
    match verdict.unknown_limit {
        Some(index) => Err(fault(format!("/limits/{index}/name"), "is not a limit of the key or its plan")),
        None => Ok(()),
    }
}

fn fault(pointer: impl Into<String>, detail: &str) -> Problem {
    keyward::Error::field(pointer, detail).into()
}

fn check(request: &verdict::Request<'_>) -> Result<(), Problem> {
    if let Some(index) = request.scopes.iter().position(|text| !scope::is_valid(text)) {
        return Err(fault(format!("/scopes/{index}"), "is not a scope such as invoices:read"));
    }
    for (pointer, len) in [("/scopes", request.scopes.len()), ("/limits", request.limits.len())] {
        if len > MAX_LIST {
            return Err(fault(pointer, "has more than 100 entries"));
        }
    }
    if !(1..=MAX_COUNT).contains(&request.cost) {
        return Err(fault("/cost", OUT_OF_COUNT));
    }
    for (index, used) in request.limits.iter().enumerate() {
        if !(1..=MAX_COUNT).contains(&used.cost) {
            return Err(fault(format!("/limits/{index}/cost"), OUT_OF_COUNT));
        }
        if request.limits[..index].iter().any(|other| other.name == used.name) {
            return Err(fault(format!("/limits/{index}/name"), "was named before"));
        }
    }
    Ok(())
}
