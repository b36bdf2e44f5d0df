//! Signing in over HTTP: what programs get as JSON, and browsers as cookies.

mod factors;
pub mod identities;
mod login;
mod oidc;
mod passkeys;
mod passwords;
mod proof;
mod sessions;
mod tokens;

use axum::Json as Answer;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, header};
use keyward::context::{Actor, ActorKind, Context};
use keyward::sessions::{Client, IssuedTokens};
use keyward_core::problem::Code;
use schemars::JsonSchema;
use serde::Serialize;

use super::caller::{Caller, address_of, user_agent_of};
use super::cookies;
use super::route::Route;
use crate::app::SharedApp;
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    let signing_in =
        [login::routes(), oidc::routes(), tokens::routes(), sessions::routes(), identities::routes()].concat();
    [signing_in, factors::routes(), passkeys::routes(), passwords::routes()].concat()
}

/// Why a route is open: it is where a credential comes from.
const SIGNS_IN: &str = "It is where people show who they are";

/// Somebody who is not known yet, and where they come from.
pub struct Visitor {
    pub context: Context,
    pub client: Client,
    pub headers: HeaderMap,
}

impl FromRequestParts<SharedApp> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &SharedApp) -> Result<Self, Problem> {
        let address = address_of(app, parts)?;
        let user_agent = user_agent_of(&parts.headers);
        let actor = Actor { kind: ActorKind::External, id: "visitor".to_owned(), name: None };
        let context = Context {
            actor,
            ip: Some(address),
            user_agent: user_agent.clone(),
            request_id: parts.extensions.get().copied(),
            ..Context::system("visitor")
        };
        let client = Client { ip: Some(address.to_string()), user_agent, browser: cookies::is_browser(&parts.headers) };
        Ok(Self { context, client, headers: parts.headers.clone() })
    }
}

/// The tokens of a session, once.
#[derive(Debug, Serialize, JsonSchema)]
struct TokensView {
    access_token: String,
    token_type: &'static str,
    expires_in: i64,
    refresh_token: String,
    refresh_expires_in: i64,
}

/// What a browser is told; its tokens are in cookies.
#[derive(Debug, Serialize, JsonSchema)]
struct SignedInView {
    signed_in: bool,
    expires_in: i64,
    refresh_expires_in: i64,
}

/// Tokens as JSON, or as cookies for a browser.
fn issued(client: &Client, tokens: &IssuedTokens) -> Response {
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    if !client.browser {
        let view = TokensView {
            access_token: tokens.access.expose().clone(),
            token_type: "Bearer",
            expires_in: tokens.access_seconds,
            refresh_token: tokens.refresh.expose().clone(),
            refresh_expires_in: tokens.refresh_seconds,
        };
        return (no_store, Answer(view)).into_response();
    }
    let (expires_in, refresh_expires_in) = (tokens.access_seconds, tokens.refresh_seconds);
    let mut response =
        (no_store, Answer(SignedInView { signed_in: true, expires_in, refresh_expires_in })).into_response();
    keep(&mut response, tokens);
    response
}

/// Hands the tokens of a session to a browser, as cookies.
pub fn keep(response: &mut Response, tokens: &IssuedTokens) {
    let access = cookies::set(cookies::ACCESS, tokens.access.expose(), tokens.access_seconds);
    let refresh = cookies::set(cookies::REFRESH, tokens.refresh.expose(), tokens.refresh_seconds);
    response.headers_mut().append(header::SET_COOKIE, access);
    response.headers_mut().append(header::SET_COOKIE, refresh);
}

/// A try is counted and noted also when whoever made it does not wait for the answer (statement B-06).
async fn to_its_end<T: Send + 'static>(
    trying: impl Future<Output = keyward::Result<T>> + Send + 'static,
) -> Result<T, Problem> {
    let tried = tokio::spawn(trying).await.map_err(|_| Problem::plain(Code::Internal))?;
    Ok(tried?)
}

/// Ends the cookies of a session.
fn signed_out() -> Response {
    let mut response = http::StatusCode::NO_CONTENT.into_response();
    for name in [cookies::ACCESS, cookies::REFRESH, cookies::CSRF] {
        response.headers_mut().append(header::SET_COOKIE, cookies::clear(name));
    }
    response
}

/// The session of the call.
pub fn session_of(caller: &Caller) -> Result<&keyward::sessions::Present, Problem> {
    caller.session.as_deref().ok_or_else(|| Problem::plain(Code::Unauthenticated))
}
