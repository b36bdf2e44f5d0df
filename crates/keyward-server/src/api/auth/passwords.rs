//! Changing and resetting a password.

use axum::extract::State;
use http::StatusCode;
use keyward::limits::callers::Call::Authentication;
use keyward_core::secret::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{SIGNS_IN, Visitor, session_of};
use crate::api::caller::Caller;
use crate::api::json::Json;
use crate::api::route::{
    Access::{Open, Person},
    Route, post,
};
use crate::app::SharedApp;
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    vec![
        post("/v1/auth/password", Person, "Change one's own password", change)
            .takes::<ChangeBody>()
            .answers_nothing()
            .limited(Authentication),
        post("/v1/auth/password/forgot", Open(SIGNS_IN), "Ask for a link that resets the password", forgot)
            .takes::<ForgotBody>()
            .answers_nothing_yet()
            .limited(Authentication),
        post("/v1/auth/password/reset", Open(SIGNS_IN), "Set a new password by a link", reset)
            .takes::<ResetBody>()
            .answers_nothing()
            .limited(Authentication),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    current_password: String,
    new_password: String,
    /// Leave the other sessions as they are; they end otherwise.
    #[serde(default)]
    keep_sessions: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ForgotBody {
    email: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ResetBody {
    token: String,
    new_password: String,
}

async fn change(
    State(app): State<SharedApp>,
    caller: Caller,
    Json(body): Json<ChangeBody>,
) -> Result<StatusCode, Problem> {
    let (current, new) = (Secret::new(body.current_password), Secret::new(body.new_password));
    let sessions = &app.keyward.sessions;
    sessions.change_password(&caller.context, session_of(&caller)?, &current, &new, body.keep_sessions).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn forgot(
    State(app): State<SharedApp>,
    visitor: Visitor,
    Json(body): Json<ForgotBody>,
) -> Result<StatusCode, Problem> {
    app.keyward.sessions.ask_reset(&visitor.context, &body.email).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn reset(
    State(app): State<SharedApp>,
    visitor: Visitor,
    Json(body): Json<ResetBody>,
) -> Result<StatusCode, Problem> {
    app.keyward.sessions.reset_password(&visitor.context, &body.token, &Secret::new(body.new_password)).await?;
    Ok(StatusCode::NO_CONTENT)
}
