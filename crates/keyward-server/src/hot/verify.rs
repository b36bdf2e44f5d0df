//! `POST /v1/api-keys/verify`: who calls, what is presented, the verdict, and its JSON.

use std::borrow::Cow;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use keyward_core::limit::MAX_COUNT;
use keyward_core::network::parse_address;
use keyward_core::problem::Code;
use keyward_core::scope;
use keyward_core::verdict::{self, LimitUse, Reach, Verdict};
use keyward_core::verify::Verify;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{answer, body, cannot_judge, credential, reach_of_caller, refuse, whole};
use crate::api::caller::note_refusal_beneath;
use crate::api::json;
use crate::app::App;
use crate::problem::Problem;
use crate::serve::{Body, Peer};

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

pub async fn answer(app: &App, peer: Peer, request: Request<Incoming>, request_id: &str) -> Response<Body> {
    let (parts, body) = request.into_parts();
    match judge(app, peer, &parts, body).await {
        Ok(body) => {
            let mut response = whole(StatusCode::OK, body.into());
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(problem) => {
            if problem.0.code == Code::Forbidden {
                let presented = credential(&parts.headers).ok().flatten();
                let address = app.client_address(peer.address.ip(), &parts.headers);
                // Boxed: what seldom happens is not carried by every call.
                Box::pin(note_refusal_beneath(app, presented, address, &parts, request_id, &problem)).await;
            }
            refuse(app, &problem, request_id)
        }
    }
}

async fn judge(app: &App, peer: Peer, parts: &Parts, body: Incoming) -> Result<Vec<u8>, Problem> {
    let address = app.client_address(peer.address.ip(), &parts.headers);
    let reach = reach_of_caller(app, credential(&parts.headers)?, address).await?;
    json::require_media_type(&parts.headers)?;
    let time = Duration::from_secs(app.keyward.settings.server.read_timeout_seconds);
    let bytes = body::read(body, MAX_BODY, time).await?;
    let mut out = Vec::with_capacity(640);
    let asked: VerifyBody<'_> = match serde_json::from_slice(&bytes) {
        Ok(asked) => asked,
        // Read again, slowly, to say what is wrong with it.
        Err(_) => return Err(fault_of(&bytes)),
    };
    verify(app, reach, &asked, &mut out).await?;
    Ok(out)
}

#[cold]
fn fault_of(bytes: &[u8]) -> Problem {
    let read = json::strict(bytes).and_then(|value| json::typed::<VerifyBody<'_>>(&value).map(drop));
    read.err().unwrap_or_else(|| Problem::plain(Code::MalformedRequest))
}

/// Judges one body and writes its answer; also each item of a batch.
pub async fn verify(app: &App, reach: Reach, asked: &VerifyBody<'_>, out: &mut Vec<u8>) -> Result<(), Problem> {
    let verdict = with_request(reach, asked, async |request| {
        app.keyward.verifier.verify(&asked.key, request).await.map_err(cannot_judge)
    })
    .await?;
    refuse_unknown_limit(&verdict)?;
    answer::write(&verdict, app.keyward.clock.now(), out);
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
        return Err(fault("/cost", "must be at least 1"));
    }
    for (index, used) in request.limits.iter().enumerate() {
        if !(1..=MAX_COUNT).contains(&used.cost) {
            return Err(fault(format!("/limits/{index}/cost"), "must be at least 1"));
        }
        if request.limits[..index].iter().any(|other| other.name == used.name) {
            return Err(fault(format!("/limits/{index}/name"), "was named before"));
        }
    }
    Ok(())
}
