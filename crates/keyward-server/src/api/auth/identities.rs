//! The identity providers that know somebody: one's own, and (from `members`) a member's.

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use keyward::sessions::IdentityRow;
use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::session_of;
use crate::api::caller::{Caller, Params};
use crate::api::page::List;
use crate::api::route::{Access::Person, Route, delete, get};
use crate::app::{App, SharedApp};
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    vec![
        get("/v1/auth/identities", Person, "List the identity providers that one's own account is linked to", list)
            .answers::<List<IdentityView>>(200),
        delete("/v1/auth/identities", Person, "Unlink an identity provider from one's own account", unlink)
            .query::<IssuerParams>()
            .answers_nothing(),
    ]
}

/// Somebody as an identity provider knows them.
#[derive(Debug, Serialize, JsonSchema)]
pub struct IdentityView {
    issuer: String,
    subject: String,
    /// Whether people can sign in by that provider now: `oidc.issuer` names it.
    enabled: bool,
    #[schemars(with = "String")]
    created_at: Timestamp,
    #[schemars(with = "String")]
    last_used_at: Timestamp,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuerParams {
    /// As the list has it.
    pub issuer: String,
}

/// Whoever asks may see this person.
pub async fn identities_of(app: &App, person: Id<id::User>) -> Result<Answer<List<IdentityView>>, Problem> {
    let sessions = &app.keyward.sessions;
    let view = |row: IdentityRow| {
        let enabled = sessions.is_in_use(&row.issuer);
        let IdentityRow { issuer, subject, created_at, last_used_at } = row;
        IdentityView { issuer, subject, enabled, created_at, last_used_at }
    };
    let rows = sessions.identities(person).await?;
    Ok(Answer(List { items: rows.into_iter().map(view).collect(), next_cursor: None }))
}

async fn list(State(app): State<SharedApp>, caller: Caller) -> Result<Answer<List<IdentityView>>, Problem> {
    identities_of(&app, session_of(&caller)?.person).await
}

async fn unlink(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(IssuerParams { issuer }): Params<IssuerParams>,
) -> Result<StatusCode, Problem> {
    app.keyward.sessions.unlink_own(&caller.context, session_of(&caller)?, &issuer).await?;
    Ok(StatusCode::NO_CONTENT)
}
