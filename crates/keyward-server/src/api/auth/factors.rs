//! Second factors: set up, confirmed, taken away; and the step-up within a session.

use axum::Json as Answer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use keyward::limits::callers::Call::Authentication;
use keyward::sessions::Client;
use keyward::sessions::passkeys::Credential;
use keyward_core::id::{self, Id};
use keyward_core::secret::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::proof::Shown;
use super::{TokensView, issued, session_of};
use crate::api::caller::Caller;
use crate::api::json::Json;
use crate::api::route::{Access::Person, Route, get, post};
use crate::app::SharedApp;
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    vec![
        post("/v1/auth/totp/enroll", Person, "Begin to set up an authenticator", enroll).answers::<EnrolmentView>(200),
        post("/v1/auth/totp/confirm", Person, "Confirm the authenticator with its first code", confirm)
            .takes::<CodeBody>()
            .answers::<BackupCodes>(200)
            .limited(Authentication),
        post("/v1/auth/totp/disable", Person, "Take the authenticator away", disable).answers_nothing(),
        get("/v1/auth/backup-codes", Person, "How many backup codes are left", left).answers::<CodesLeft>(200),
        post("/v1/auth/backup-codes", Person, "Ten new backup codes; the old ones end", renew)
            .answers::<BackupCodes>(200),
        post("/v1/auth/step-up", Person, "Prove identity anew; the session goes on with new tokens", step_up)
            .takes::<StepUpBody>()
            .answers::<TokensView>(200)
            .limited(Authentication),
    ]
}

/// What an authenticator needs, once.
#[derive(Debug, Serialize, JsonSchema)]
struct EnrolmentView {
    /// Base 32.
    secret: String,
    otpauth_uri: String,
    qr_svg: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CodeBody {
    code: String,
}

/// Each opens the account once, in place of the authenticator.
#[derive(Debug, Serialize, JsonSchema)]
struct BackupCodes {
    backup_codes: Vec<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct CodesLeft {
    remaining: i64,
}

/// The password, the second factor, or both.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StepUpBody {
    password: Option<String>,
    /// `totp`, `backup_code` or `passkey`; `totp` when absent.
    method: Option<String>,
    /// Of an authenticator, or a backup code.
    code: Option<String>,
    /// What `/v1/auth/passkeys/step-up/begin` answered.
    #[schemars(with = "Option<String>")]
    challenge_id: Option<Id<id::Challenge>>,
    /// What `navigator.credentials.get()` gave, by `toJSON()` (WebAuthn Level 3, AuthenticationResponseJSON).
    #[schemars(with = "Option<Map<String, Value>>")]
    credential: Option<Credential>,
}

const NO_STORE: [(header::HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

async fn enroll(State(app): State<SharedApp>, caller: Caller) -> Result<impl IntoResponse, Problem> {
    let made = app.keyward.sessions.enroll(&caller.context, session_of(&caller)?).await?;
    let view = EnrolmentView {
        secret: made.secret.expose().clone(),
        otpauth_uri: made.uri.expose().clone(),
        qr_svg: made.qr_svg.expose().clone(),
    };
    Ok((NO_STORE, Answer(view)))
}

async fn confirm(
    State(app): State<SharedApp>,
    caller: Caller,
    Json(body): Json<CodeBody>,
) -> Result<impl IntoResponse, Problem> {
    let codes = app.keyward.sessions.confirm(&caller.context, session_of(&caller)?, &body.code).await?;
    Ok((NO_STORE, Answer(BackupCodes { backup_codes: codes })))
}

async fn disable(State(app): State<SharedApp>, caller: Caller) -> Result<StatusCode, Problem> {
    app.keyward.sessions.disable_factor(&caller.context, session_of(&caller)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn left(State(app): State<SharedApp>, caller: Caller) -> Result<Answer<CodesLeft>, Problem> {
    Ok(Answer(CodesLeft { remaining: app.keyward.sessions.backup_codes_left(session_of(&caller)?.person).await? }))
}

async fn renew(State(app): State<SharedApp>, caller: Caller) -> Result<impl IntoResponse, Problem> {
    let codes = app.keyward.sessions.renew_backup_codes(&caller.context, session_of(&caller)?).await?;
    Ok((NO_STORE, Answer(BackupCodes { backup_codes: codes })))
}

async fn step_up(
    State(app): State<SharedApp>,
    caller: Caller,
    Json(body): Json<StepUpBody>,
) -> Result<Response, Problem> {
    let StepUpBody { password, method, code, challenge_id, credential } = body;
    let shows_factor = method.is_some() || code.is_some() || challenge_id.is_some() || credential.is_some();
    if password.is_none() && !shows_factor {
        return Err(keyward::Error::field("/code", "is required, or a password").into());
    }
    let password = password.map(Secret::new);
    let shown = Shown { method: method.as_deref().unwrap_or("totp"), code, challenge_id, credential };
    let proof = if shows_factor { Some(shown.proof()?) } else { None };
    let (present, context) = (session_of(&caller)?, &caller.context);
    let ip = context.ip.map(|address| address.to_string());
    let client = Client { ip, user_agent: context.user_agent.clone(), browser: present.browser };
    let sessions = &app.keyward.sessions;
    let tokens = sessions.step_up(context, present, &client, password.as_ref(), proof.as_ref()).await?;
    Ok(issued(&client, &tokens))
}
