//! Reservations over HTTP: take what a call may cost, and settle it when the price is known.

use axum::Json as Answer;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use keyward::reservations::Settled;
use keyward_core::access::Permission::KeysVerify;
use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::caller::{Caller, Target};
use super::json::{self, Json};
use super::route::{Access::Needs, Route, post};
use super::verify::reach_of;
use crate::app::SharedApp;
use crate::hot::answer;
use crate::hot::verify::{LimitUseBody, VerifyBody, refuse_unknown_limit, with_request};
use crate::problem::Problem;

/// How long a reservation lives unless told.
const DEFAULT_TTL_SECONDS: u64 = 300;

pub fn routes() -> Vec<Route> {
    vec![
        post("/v1/usage/reservations", Needs(KeysVerify), "Verify a key and reserve what the call may cost", reserve)
            .takes::<ReserveBody<'static>>()
            .answers::<ReservedView>(201)
            .or(200),
        post("/v1/usage/reservations/{id}/commit", Needs(KeysVerify), "Settle a reservation at its real cost", commit)
            .takes::<CommitBody>()
            .answers::<SettledView>(200),
        post("/v1/usage/reservations/{id}/release", Needs(KeysVerify), "Give a reservation back", release)
            .answers::<SettledView>(200),
    ]
}

/// As for verify, with the time after which what nobody settled is given back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReserveBody<'a> {
    #[serde(borrow)]
    key: std::borrow::Cow<'a, str>,
    /// The most that the call may cost; 1 when absent.
    cost: Option<u64>,
    #[serde(borrow, default)]
    limits: Vec<LimitUseBody<'a>>,
    #[serde(borrow, default)]
    scopes: Vec<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    environment: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    ip: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    method: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    path: Option<std::borrow::Cow<'a, str>>,
    /// 1–86,400; 300 when absent.
    ttl_seconds: Option<u64>,
}

/// The verdict as verify tells it, with `id` before it: null when the key was refused and nothing was taken.
#[derive(Debug, Serialize, JsonSchema)]
struct ReservedView {
    id: Option<String>,
    valid: bool,
    code: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CommitBody {
    /// What the call cost; 0 gives everything back.
    cost: u64,
    /// What it cost of named limits, where that is not what was reserved.
    #[serde(default)]
    limits: Vec<NamedCost>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NamedCost {
    name: String,
    cost: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct SettledView {
    #[schemars(with = "String")]
    id: Id<id::Reservation>,
    /// What is counted in the end.
    cost: u64,
    /// What was given back; negative when the call cost more than was reserved.
    refunded: i64,
}

impl From<Settled> for SettledView {
    fn from(Settled { id, cost, refunded }: Settled) -> Self {
        Self { id, cost, refunded }
    }
}

async fn reserve(State(app): State<SharedApp>, caller: Caller, request: Request) -> Result<Response, Problem> {
    json::require_media_type(request.headers())?;
    let value = json::strict(&json::read_body(request, &app).await?)?;
    let body: ReserveBody<'_> = json::typed(&value)?;
    let ttl_seconds = body.ttl_seconds.unwrap_or(DEFAULT_TTL_SECONDS);
    let asked = body.into_verify();
    let reach = reach_of(&caller)?;
    let reserved = with_request(reach, &asked, async |request| {
        app.keyward.reservations.reserve(&asked.key, request, ttl_seconds).await.map_err(Problem::from)
    })
    .await?;
    refuse_unknown_limit(&reserved.verdict)?;
    let mut out = b"{\"id\":".to_vec();
    serde_json::to_writer(&mut out, &reserved.id).map_err(|_| Problem::plain(Code::Internal))?;
    let mut verdict = Vec::with_capacity(640);
    answer::write(&reserved.verdict, app.keyward.clock.now(), &mut verdict);
    out.push(b',');
    out.extend_from_slice(&verdict[1..]);
    let json = (header::CONTENT_TYPE, "application/json".to_owned());
    Ok(match reserved.id {
        Some(id) => {
            let location = (header::LOCATION, format!("/v1/usage/reservations/{id}"));
            (StatusCode::CREATED, [json, location], out).into_response()
        }
        None => (StatusCode::OK, [json], out).into_response(),
    })
}

async fn commit(
    State(app): State<SharedApp>,
    caller: Caller,
    Target(id): Target<id::Reservation>,
    Json(body): Json<CommitBody>,
) -> Result<Answer<SettledView>, Problem> {
    let limits: Vec<(String, u64)> = body.limits.into_iter().map(|named| (named.name, named.cost)).collect();
    Ok(Answer(app.keyward.reservations.commit(&caller.context, id, body.cost, &limits).await?.into()))
}

async fn release(
    State(app): State<SharedApp>,
    caller: Caller,
    Target(id): Target<id::Reservation>,
) -> Result<Answer<SettledView>, Problem> {
    Ok(Answer(app.keyward.reservations.release(&caller.context, id).await?.into()))
}

impl<'a> ReserveBody<'a> {
    fn into_verify(self) -> VerifyBody<'a> {
        let Self { key, cost, limits, scopes, environment, ip, method, path, .. } = self;
        VerifyBody { key, cost, limits, scopes, environment, ip, method, path, dry_run: false }
    }
}
