//! Members of an organization over HTTP.

use axum::Json as Answer;
use axum::extract::State;
use http::StatusCode;
use keyward::accounts::members::Member;
use keyward_core::access::Permission::{MembersManage, MembersRead, RolesAssign, SessionsManage};
use keyward_core::access::Role;
use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::identities::{IdentityView, IssuerParams, identities_of};
use super::caller::{Caller, In, Params, Target};
use super::json::Json;
use super::page::{List, PageParams};
use super::route::{Access::Needs, Route, delete, get, patch, post};
use crate::app::SharedApp;
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    let manage = Needs(MembersManage);
    vec![
        get("/members", Needs(MembersRead), "List members", list)
            .query::<PageParams>()
            .answers::<List<MemberView>>(200),
        get("/members/{id}", Needs(MembersRead), "Read a member", show).answers::<MemberView>(200),
        patch("/members/{id}", Needs(RolesAssign), "Change a member's role", update)
            .takes::<MemberPatch>()
            .answers::<MemberView>(200),
        delete("/members/{id}", manage, "Remove a member", remove).answers_nothing(),
        post("/members/{id}/disable", manage, "Close a member's account", disable).answers::<MemberView>(200),
        post("/members/{id}/enable", manage, "Open a member's account again", enable).answers::<MemberView>(200),
        delete("/members/{id}/sessions", Needs(SessionsManage), "End every session of a member", end_sessions)
            .answers_nothing(),
        post("/members/{id}/reset-factors", manage, "Take a member's second factors away", reset_factors)
            .answers_nothing(),
        post("/members/{id}/reset-password", manage, "Mail a member a link that resets the password", reset_password)
            .answers_nothing_yet(),
        get(
            "/members/{id}/identities",
            Needs(MembersRead),
            "List the identity providers that know a member",
            identities,
        )
        .answers::<List<IdentityView>>(200),
        delete("/members/{id}/identities", manage, "Unlink an identity provider from a member's account", unlink)
            .query::<IssuerParams>()
            .answers_nothing(),
    ]
}

/// A person with a role in the organization.
#[derive(Debug, Serialize, JsonSchema)]
struct MemberView {
    #[schemars(with = "String")]
    id: Id<id::User>,
    #[schemars(with = "String")]
    user_id: Id<id::User>,
    email: String,
    name: String,
    role: String,
    /// `active` or `disabled`.
    status: &'static str,
    second_factor_enabled: bool,
    #[schemars(with = "String")]
    joined_at: Timestamp,
}

impl From<Member> for MemberView {
    fn from(one: Member) -> Self {
        let status = if one.disabled_at.is_some() { "disabled" } else { "active" };
        let Member { id, email, name, role, joined_at, has_factor, .. } = one;
        Self { id, user_id: id, email, name, role, status, second_factor_enabled: has_factor, joined_at }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MemberPatch {
    /// `owner`, `admin`, `developer`, `auditor` or `viewer`.
    role: String,
}

/// Reads a role.
pub fn role(text: &str) -> Result<Role, Problem> {
    let roles = "must be owner, admin, developer, auditor or viewer";
    text.parse().map_err(|()| keyward::Error::field("/role", roles).into())
}

async fn list(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Params(page): Params<PageParams>,
) -> Result<Answer<List<MemberView>>, Problem> {
    let members = app.keyward.people.members(&caller.context, organization, &page.read()?).await?;
    Ok(List::of(members, MemberView::from))
}

async fn show(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Target(person): Target<id::User>,
) -> Result<Answer<MemberView>, Problem> {
    Ok(Answer(app.keyward.people.member(&caller.context, organization, person).await?.into()))
}

async fn update(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Target(person): Target<id::User>,
    Json(body): Json<MemberPatch>,
) -> Result<Answer<MemberView>, Problem> {
    let (people, role) = (&app.keyward.people, role(&body.role)?);
    people.member(&caller.context, organization, person).await?;
    people.assign_role(&caller.context, person, Some(organization), role).await?;
    Ok(Answer(people.member(&caller.context, organization, person).await?.into()))
}

async fn remove(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Target(person): Target<id::User>,
) -> Result<StatusCode, Problem> {
    app.keyward.people.remove_role(&caller.context, person, Some(organization)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn disable(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Target(person): Target<id::User>,
) -> Result<Answer<MemberView>, Problem> {
    Ok(Answer(app.keyward.people.set_disabled(&caller.context, organization, person, true).await?.into()))
}

async fn enable(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Target(person): Target<id::User>,
) -> Result<Answer<MemberView>, Problem> {
    Ok(Answer(app.keyward.people.set_disabled(&caller.context, organization, person, false).await?.into()))
}

async fn reset_factors(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Target(person): Target<id::User>,
) -> Result<StatusCode, Problem> {
    app.keyward.people.require_whole(&caller.context, organization, person).await?;
    app.keyward.sessions.reset_factor(&caller.context, person).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn end_sessions(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Target(person): Target<id::User>,
) -> Result<StatusCode, Problem> {
    caller.context.require(organization, SessionsManage)?;
    let member = app.keyward.people.member(&caller.context, organization, person).await?;
    app.keyward.sessions.end_others(&caller.context, member.id, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn identities(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Target(person): Target<id::User>,
) -> Result<Answer<List<IdentityView>>, Problem> {
    let member = app.keyward.people.member(&caller.context, organization, person).await?;
    identities_of(&app, member.id).await
}

async fn unlink(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Target(person): Target<id::User>,
    Params(IssuerParams { issuer }): Params<IssuerParams>,
) -> Result<StatusCode, Problem> {
    app.keyward.people.require_whole(&caller.context, organization, person).await?;
    app.keyward.sessions.unlink(&caller.context, person, &issuer, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An administrator can begin a reset; the password itself is only ever set by its owner (statement A-10).
async fn reset_password(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Target(person): Target<id::User>,
) -> Result<StatusCode, Problem> {
    let member = app.keyward.people.require_whole(&caller.context, organization, person).await?;
    app.keyward.sessions.ask_reset(&caller.context, &member.email).await?;
    Ok(StatusCode::ACCEPTED)
}
