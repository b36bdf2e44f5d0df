//! `POST /v1/oauth/introspect`: RFC 7662 for API keys and access tokens. What is not in force, unknown or another's is exactly
//! `{"active":false}`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header;
use keyward::sessions::Present;
use keyward_core::access::Permission;
use keyward_core::access::Permission::KeysVerify;
use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::record::KeyRecord;
use keyward_core::time::Timestamp;
use keyward_core::verdict::{self, Outcome, judge_but};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::caller::Caller;
use crate::api::json;
use crate::api::route::{Access::Needs, Route, post};
use crate::api::verify::reach_of;
use crate::app::SharedApp;
use crate::problem::Problem;

/// What cannot be judged without a call, and says nothing against the key itself.
const ABOUT_A_CALL: [Outcome; 3] = [Outcome::IpForbidden, Outcome::RouteForbidden, Outcome::CountryForbidden];

pub fn routes() -> Vec<Route> {
    let summary = "Introspect a key (RFC 7662; a form)";
    vec![
        post("/v1/oauth/introspect", Needs(KeysVerify), summary, introspect)
            .takes::<Form>()
            .answers::<Introspection>(200),
    ]
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Form {
    token: String,
    /// Taken and not needed: Keyward tells its tokens apart by their form.
    #[allow(dead_code)]
    token_type_hint: Option<String>,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
struct Introspection {
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    organization_id: Option<Id<id::Organization>>,
}

async fn introspect(State(app): State<SharedApp>, caller: Caller, request: Request) -> Result<Response, Problem> {
    let is_form = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().to_ascii_lowercase().starts_with(b"application/x-www-form-urlencoded"));
    if !is_form {
        return Err(Problem::plain(Code::UnsupportedMediaType));
    }
    let body = json::read_body(request, &app).await?;
    let form = format!("/?{}", std::str::from_utf8(&body).map_err(|_| Problem::plain(Code::MalformedRequest))?);
    let form = form.parse().ok().and_then(|uri| axum::extract::Query::<Form>::try_from_uri(&uri).ok());
    let Some(axum::extract::Query(form)) = form else {
        return Err(Problem::new(Code::MalformedRequest, "The form needs exactly one token."));
    };
    let reach = reach_of(&caller)?;
    // Only an access token has dots.
    if form.token.contains('.') {
        return of_person(&app, &caller, &form.token).await;
    }
    // Nothing is counted, and no limit asked: introspection asks about a key, it does not use it.
    let record = app.keyward.verifier.find_presented(&form.token, reach).await?;
    let now = app.keyward.clock.now();
    let is_in_force =
        |record: &Arc<KeyRecord>| judge_but(&ABOUT_A_CALL, record, &verdict::Request::default(), now).is_valid();
    let answer = match record.filter(is_in_force) {
        None => Introspection::default(),
        Some(record) => Introspection {
            active: true,
            scope: Some(record.scopes().to_owned()),
            client_id: Some(record.key_id.to_string()),
            token_type: Some("Bearer"),
            sub: Some(record.owner_id().map_or_else(|| record.key_id.to_string(), |owner| owner.to_string())),
            username: None,
            exp: (record.expires_at != Timestamp::NEVER).then(|| record.expires_at.as_seconds()),
            organization_id: Some(record.tenant.id),
        },
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(answer)).into_response())
}

/// What an access token stands for; of people beyond the caller's reach nothing is told.
async fn of_person(app: &SharedApp, caller: &Caller, token: &str) -> Result<Response, Problem> {
    let grant = caller.context.grant.as_ref().ok_or_else(|| Problem::plain(Code::Unauthenticated))?;
    let is_in_reach = |present: &Present| {
        grant.at_instance(KeysVerify) || present.roles.iter().any(|(place, _)| *place == Some(grant.organization))
    };
    let present = app.keyward.sessions.identify(token).await?.filter(|present| is_in_reach(present));
    let answer = match present {
        None => Introspection::default(),
        Some(present) => Introspection {
            active: true,
            scope: Some(
                Permission::ALL
                    .iter()
                    .filter(|one| present.grant.holds(**one))
                    .map(|one| one.as_str())
                    .collect::<Vec<_>>()
                    .join(" "),
            ),
            client_id: Some("keyward".to_owned()),
            token_type: Some("Bearer"),
            sub: Some(present.person.to_string()),
            username: Some(present.email.clone()),
            exp: app.keyward.sessions.tokens.expires_at(token).await?,
            organization_id: present.roles.iter().find_map(|(place, _)| *place),
        },
    };
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(answer)).into_response())
}
