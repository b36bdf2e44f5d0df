//! Tokens: new ones for a refresh token, their end, what they say, and the keys that verify them.

use axum::Json as Answer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{SIGNS_IN, TokensView, Visitor, issued, session_of};
use crate::api::caller::Caller;
use crate::api::cookies;
use crate::api::json::{Json, OptionalJson};
use crate::api::route::{
    Access::{Open, Person},
    Route, get, post,
};
use crate::app::SharedApp;
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    let keys = "The public keys that verify access tokens (RFC 7517)";
    vec![
        post("/v1/auth/refresh", Open(SIGNS_IN), "New tokens for a refresh token", refresh)
            .may_take::<RefreshBody>()
            .answers::<TokensView>(200),
        post("/v1/auth/revoke", Open(SIGNS_IN), "End the session of a token (RFC 7009)", revoke).takes::<RevokeBody>(),
        get("/v1/auth/token-info", Person, "What the presented access token stands for", info)
            .answers::<TokenInfo>(200),
        get("/v1/auth/me", Person, "Who is signed in", info).answers::<TokenInfo>(200),
        get("/.well-known/jwks.json", Open("Everybody may verify our tokens"), keys, jwks).answers::<Value>(200),
    ]
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RefreshBody {
    /// Browsers send it as their cookie.
    refresh_token: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RevokeBody {
    token: String,
    /// Taken and not needed: Keyward tells its tokens apart by their form.
    #[allow(dead_code)]
    token_type_hint: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct RoleView {
    /// Null: at the instance.
    #[schemars(with = "Option<String>")]
    organization_id: Option<Id<id::Organization>>,
    role: &'static str,
}

/// A signed-in person and their session.
#[derive(Debug, Serialize, JsonSchema)]
struct TokenInfo {
    active: bool,
    #[schemars(with = "String")]
    user_id: Id<id::User>,
    email: String,
    name: String,
    #[schemars(with = "String")]
    session_id: Id<id::Session>,
    #[schemars(with = "Option<String>")]
    organization_id: Option<Id<id::Organization>>,
    roles: Vec<RoleView>,
    second_factor_enabled: bool,
    second_factor_required: bool,
    #[schemars(with = "String")]
    authenticated_at: Timestamp,
    #[schemars(with = "Option<String>")]
    second_factor_at: Option<Timestamp>,
    #[schemars(with = "String")]
    session_expires_at: Timestamp,
}

async fn refresh(
    State(app): State<SharedApp>,
    visitor: Visitor,
    OptionalJson(body): OptionalJson<RefreshBody>,
) -> Result<Response, Problem> {
    let cookie = cookies::read(&visitor.headers, cookies::REFRESH).filter(|_| visitor.client.browser);
    let token = body.refresh_token.as_deref().filter(|_| !visitor.client.browser).or(cookie);
    let token = token.ok_or_else(|| Problem::plain(Code::InvalidToken))?;
    let tokens = app.keyward.sessions.refresh(&visitor.context, &visitor.client, token).await?;
    Ok(issued(&visitor.client, &tokens))
}

async fn revoke(
    State(app): State<SharedApp>,
    visitor: Visitor,
    Json(body): Json<RevokeBody>,
) -> Result<Response, Problem> {
    app.keyward.sessions.revoke(&visitor.context, &body.token).await?;
    Ok(StatusCode::OK.into_response())
}

async fn info(caller: Caller) -> Result<Answer<TokenInfo>, Problem> {
    let present = session_of(&caller)?;
    let role = |(organization_id, role): &(Option<Id<id::Organization>>, keyward_core::access::Role)| RoleView {
        organization_id: *organization_id,
        role: role.as_str(),
    };
    Ok(Answer(TokenInfo {
        active: true,
        user_id: present.person,
        email: present.email.clone(),
        name: present.name.clone(),
        session_id: present.session,
        organization_id: present.roles.iter().find_map(|(organization, _)| *organization),
        roles: present.roles.iter().map(role).collect(),
        second_factor_enabled: present.has_factor,
        second_factor_required: present.must_enrol,
        authenticated_at: present.authenticated_at,
        second_factor_at: present.factor_at,
        session_expires_at: present.expires_at,
    }))
}

async fn jwks(State(app): State<SharedApp>) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "public, max-age=300")], Answer(app.keyward.sessions.tokens.jwks()))
}
