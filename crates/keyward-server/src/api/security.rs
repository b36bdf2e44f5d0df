//! What concerns one's own security: tokens against forged requests, the headers and the policy of this instance, and one's
//! own security events.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json as Answer};
use http::{HeaderMap, header};
use keyward::audit::EventFilter;
use keyward::sessions::{CSRF_SECONDS, FRESH_SECONDS};
use keyward_core::access::Permission::{OrganizationsRead, SettingsManage};
use keyward_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::audit::EventView;
use super::auth::session_of;
use super::caller::{Caller, In, Params};
use super::json::Json;
use super::page::{List, PageParams};
use super::route::{
    Access::{Needs, Open, Person},
    Route, get, patch, post,
};
use super::{cookies, origin};
use crate::app::SharedApp;
use crate::fixed_headers;
use crate::problem::Problem;
use crate::serve::Peer;

pub fn routes() -> Vec<Route> {
    let refresh = "A new token; the old one stays good for its time";
    vec![
        get("/v1/security/csrf-token", Person, "A token for requests that carry cookies", csrf_token)
            .answers::<CsrfToken>(200),
        post("/v1/security/csrf-verify", Person, "Whether a token is good for this session", csrf_verify)
            .takes::<CsrfBody>()
            .answers::<CsrfVerdict>(200),
        post("/v1/security/csrf-refresh", Person, refresh, csrf_token).answers::<CsrfToken>(200),
        get(
            "/v1/security/headers",
            Open("They stand on every answer"),
            "The security headers of every answer",
            headers,
        )
        .answers::<Value>(200),
        get("/v1/security/policy", Needs(OrganizationsRead), "How people sign in to this organization", policy)
            .answers::<PolicyView>(200),
        patch("/v1/security/policy", Needs(SettingsManage), "Ask every member for a second factor", set_policy)
            .takes::<PolicyPatch>()
            .answers::<PolicyView>(200),
        get("/v1/security/audit-log", Person, "One's own security events, newest first", audit_log)
            .query::<PageParams>()
            .answers::<List<EventView>>(200),
    ]
}

#[derive(Debug, Serialize, JsonSchema)]
struct CsrfToken {
    csrf_token: String,
    expires_in: i64,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CsrfBody {
    csrf_token: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct CsrfVerdict {
    valid: bool,
    #[schemars(with = "Option<String>")]
    expires_at: Option<Timestamp>,
}

/// How people sign in.
#[derive(Debug, Serialize, JsonSchema)]
struct PolicyView {
    /// In this organization, or everywhere.
    second_factor_required: bool,
    password_min_length: u32,
    password_min_length_with_second_factor: u32,
    access_token_seconds: u32,
    refresh_idle_seconds: u32,
    session_seconds: u32,
    fresh_second_factor_seconds: i64,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PolicyPatch {
    second_factor_required: bool,
}

async fn csrf_token(State(app): State<SharedApp>, caller: Caller) -> Result<Response, Problem> {
    let token = app.keyward.sessions.csrf_token(session_of(&caller)?.session);
    let cookie = cookies::set(cookies::CSRF, &token, CSRF_SECONDS);
    let view = CsrfToken { csrf_token: token, expires_in: CSRF_SECONDS };
    Ok(([(header::SET_COOKIE, cookie)], Answer(view)).into_response())
}

async fn csrf_verify(
    State(app): State<SharedApp>,
    caller: Caller,
    Json(body): Json<CsrfBody>,
) -> Result<Answer<CsrfVerdict>, Problem> {
    let until = app.keyward.sessions.check_csrf(session_of(&caller)?.session, &body.csrf_token);
    Ok(Answer(CsrfVerdict { valid: until.is_some(), expires_at: until }))
}

async fn headers(State(app): State<SharedApp>, Extension(peer): Extension<Peer>, sent: HeaderMap) -> Answer<Value> {
    let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let mut told: Map<String, Value> =
        fixed_headers::ALL.iter().map(|(name, value)| (name.to_string(), json!(text(value)))).collect();
    let is_https = peer.is_https || app.trusts(peer.address.ip()) && fixed_headers::is_https(&sent);
    if is_https {
        told.insert(header::STRICT_TRANSPORT_SECURITY.to_string(), json!(text(&app.hsts)));
    }
    Answer(json!({ "headers": told, "csrf_header": origin::CSRF_TOKEN.as_str(), "https": is_https }))
}

async fn policy(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
) -> Result<Answer<PolicyView>, Problem> {
    let required = app.keyward.people.factor_policy(&caller.context, organization).await?;
    let settings = &app.keyward.settings.people;
    Ok(Answer(PolicyView {
        second_factor_required: required || settings.second_factor_required,
        password_min_length: 15,
        password_min_length_with_second_factor: 8,
        access_token_seconds: settings.access_token_seconds,
        refresh_idle_seconds: settings.refresh_idle_seconds,
        session_seconds: settings.session_seconds,
        fresh_second_factor_seconds: FRESH_SECONDS,
    }))
}

async fn set_policy(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Json(body): Json<PolicyPatch>,
) -> Result<Answer<PolicyView>, Problem> {
    let people = &app.keyward.people;
    people.set_factor_policy(&caller.context, organization, body.second_factor_required).await?;
    policy(State(app), caller, In(organization)).await
}

async fn audit_log(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(page): Params<PageParams>,
) -> Result<Answer<List<EventView>>, Problem> {
    let person = session_of(&caller)?.person;
    let filter = EventFilter { event_type: Some("SECURITY".to_owned()), ..EventFilter::default() };
    let events = app.keyward.audit.list_of_person(person, &filter, &page.read()?).await?;
    Ok(List::of(events, EventView::from))
}
