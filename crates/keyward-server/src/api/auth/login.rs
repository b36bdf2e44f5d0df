//! The two steps of a sign-in, and its end.

use axum::Json as Answer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use keyward::limits::callers::Call::Authentication;
use keyward::sessions::{Credentials, SignedIn};
use keyward_core::problem::Code;
use keyward_core::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SIGNS_IN, TokensView, Visitor, issued, proof, session_of, signed_out};
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
    login_token: String,
    /// `totp` or `backup_code`.
    method: String,
    code: String,
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
    let (proof, trust) = (proof(&body.method, body.code)?, body.trust_device && visitor.client.browser);
    let client = visitor.client.clone();
    let trying = async move {
        let (sessions, token) = (&app.keyward.sessions, &body.login_token);
        sessions.log_in_with_factor(&visitor.context, &visitor.client, token, &proof, trust).await
    };
    let (tokens, device) = to_its_end(trying).await?;
    let mut response = issued(&client, &tokens);
    if let Some(device) = device {
        let cookie = cookies::set(cookies::DEVICE, device.expose(), DEVICE_SECONDS);
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// A try is counted and noted also when whoever made it does not wait for the answer (statement B-06).
async fn to_its_end<T: Send + 'static>(
    trying: impl Future<Output = keyward::Result<T>> + Send + 'static,
) -> Result<T, Problem> {
    let tried = tokio::spawn(trying).await.map_err(|_| Problem::plain(Code::Internal))?;
    Ok(tried?)
}

async fn log_out(State(app): State<SharedApp>, caller: Caller) -> Result<Response, Problem> {
    app.keyward.sessions.log_out(&caller.context, session_of(&caller)?).await?;
    Ok(signed_out())
}
