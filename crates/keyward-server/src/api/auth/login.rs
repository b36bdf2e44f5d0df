//! The two steps of a sign-in, and its end.

use axum::Json as Answer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use keyward::limits::callers::Call::Authentication;
use keyward::sessions::passkeys::Credential;
use keyward::sessions::{Credentials, SignedIn};
use keyward_core::id::{self, Id};
use keyward_core::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::proof::Shown;
use super::{SIGNS_IN, TokensView, Visitor, issued, session_of, signed_out, to_its_end};
use crate::api::caller::Caller;
use crate::api::cookies;
use crate::api::json::Json;
use crate::api::route::{
    Access::{Open, Person},
    Route, post,
};
use crate::app::SharedApp;
use crate::problem::Problem;

/// Thirty days.
const DEVICE_SECONDS: i64 = 30 * 86_400;

pub fn routes() -> Vec<Route> {
    vec![
        post("/v1/auth/login", Open(SIGNS_IN), "Sign in with a password", log_in)
            .takes::<LoginBody>()
            .answers::<LoginView>(200)
            .limited(Authentication),
        post("/v1/auth/login/second-factor", Open(SIGNS_IN), "Finish a sign-in with a second factor", second_factor)
            .takes::<SecondFactorBody>()
            .answers::<TokensView>(200)
            .limited(Authentication),
        post("/v1/auth/logout", Person, "End the session of this call", log_out).answers_nothing(),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LoginBody {
    email: String,
    password: String,
}

/// Tokens, or the second step that is still to be taken.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[allow(dead_code)]
enum LoginView {
    Done(TokensView),
    Pending(PendingView),
}

#[derive(Debug, Serialize, JsonSchema)]
struct PendingView {
    second_factor_required: bool,
    login_token: String,
    methods: Vec<&'static str>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SecondFactorBody {
    /// A browser that comes from the identity provider has it as a cookie.
    login_token: Option<String>,
    /// `totp`, `backup_code` or `passkey`.
    method: String,
    /// Of an authenticator, or a backup code.
    code: Option<String>,
    /// What `/v1/auth/passkeys/second-factor/begin` answered.
    #[schemars(with = "Option<String>")]
    challenge_id: Option<Id<id::Challenge>>,
    /// What `navigator.credentials.get()` gave, by `toJSON()` (WebAuthn Level 3, AuthenticationResponseJSON).
    #[schemars(with = "Option<Map<String, Value>>")]
    credential: Option<Credential>,
    /// Ask for no second factor on this device for thirty days (browsers only).
    #[serde(default)]
    trust_device: bool,
}

async fn log_in(
    State(app): State<SharedApp>,
    visitor: Visitor,
    Json(body): Json<LoginBody>,
) -> Result<Response, Problem> {
    let device = cookies::read(&visitor.headers, cookies::DEVICE).map(str::to_owned);
    let credentials = Credentials { email: body.email, password: Secret::new(body.password), device };
    let client = visitor.client.clone();
    let trying = async move { app.keyward.sessions.log_in(&visitor.context, &visitor.client, &credentials).await };
    Ok(match to_its_end(trying).await? {
        SignedIn::Done(tokens) => issued(&client, &tokens),
        SignedIn::Pending { login_token, methods } => {
            let view = PendingView { second_factor_required: true, login_token: login_token.expose().clone(), methods };
            ([(header::CACHE_CONTROL, "no-store")], Answer(view)).into_response()
        }
    })
}

async fn second_factor(
    State(app): State<SharedApp>,
    visitor: Visitor,
    Json(body): Json<SecondFactorBody>,
) -> Result<Response, Problem> {
    let SecondFactorBody { login_token, method, code, challenge_id, credential, trust_device } = body;
    let proof = Shown { method: &method, code, challenge_id, credential }.proof()?;
    let trust = trust_device && visitor.client.browser;
    let cookie = cookies::read(&visitor.headers, cookies::LOGIN).filter(|_| visitor.client.browser).map(str::to_owned);
    let (client, has_cookie) = (visitor.client.clone(), cookie.is_some());
    let login_token = login_token.or(cookie);
    let login_token = login_token.ok_or_else(|| keyward::Error::field("/login_token", "is required"))?;
    let trying = async move {
        let sessions = &app.keyward.sessions;
        sessions.log_in_with_factor(&visitor.context, &visitor.client, &login_token, &proof, trust).await
    };
    let (tokens, device) = to_its_end(trying).await?;
    let mut response = issued(&client, &tokens);
    if let Some(device) = device {
        let cookie = cookies::set(cookies::DEVICE, device.expose(), DEVICE_SECONDS);
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    if has_cookie {
        response.headers_mut().append(header::SET_COOKIE, cookies::clear(cookies::LOGIN));
    }
    Ok(response)
}

async fn log_out(State(app): State<SharedApp>, caller: Caller) -> Result<Response, Problem> {
    app.keyward.sessions.log_out(&caller.context, session_of(&caller)?).await?;
    Ok(signed_out())
}
