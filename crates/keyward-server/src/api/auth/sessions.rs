//! One's own sessions: seen, and ended.

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use keyward::sessions::SessionRow;
use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::session_of;
use crate::api::caller::{Caller, Target};
use crate::api::page::List;
use crate::api::route::{Access::Person, Route, delete, get};
use crate::app::SharedApp;
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    vec![
        get("/v1/auth/sessions", Person, "List one's own sessions", list).answers::<List<SessionView>>(200),
        delete("/v1/auth/sessions", Person, "End every session but this one", end_others).answers_nothing(),
        delete("/v1/auth/sessions/{id}", Person, "End one of one's own sessions", end).answers_nothing(),
    ]
}

#[derive(Debug, Serialize, JsonSchema)]
struct SessionView {
    #[schemars(with = "String")]
    id: Id<id::Session>,
    /// Whether it is the session of this call.
    current: bool,
    ip_address: Option<String>,
    user_agent: Option<String>,
    browser: bool,
    #[schemars(with = "String")]
    created_at: Timestamp,
    #[schemars(with = "String")]
    last_seen_at: Timestamp,
    #[schemars(with = "String")]
    expires_at: Timestamp,
}

async fn list(State(app): State<SharedApp>, caller: Caller) -> Result<Answer<List<SessionView>>, Problem> {
    let present = session_of(&caller)?;
    let view = |row: SessionRow| SessionView {
        current: row.id == present.session,
        id: row.id,
        ip_address: row.ip_address,
        user_agent: row.user_agent,
        browser: row.browser,
        created_at: row.created_at,
        last_seen_at: row.last_seen_at,
        expires_at: row.expires_at,
    };
    let rows = app.keyward.sessions.list(present.person).await?;
    Ok(Answer(List { items: rows.into_iter().map(view).collect(), next_cursor: None }))
}

async fn end(
    State(app): State<SharedApp>,
    caller: Caller,
    Target(session): Target<id::Session>,
) -> Result<StatusCode, Problem> {
    app.keyward.sessions.end(&caller.context, session_of(&caller)?.person, session).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn end_others(State(app): State<SharedApp>, caller: Caller) -> Result<StatusCode, Problem> {
    let present = session_of(&caller)?;
    app.keyward.sessions.end_others(&caller.context, present.person, Some(present.session)).await?;
    Ok(StatusCode::NO_CONTENT)
}
