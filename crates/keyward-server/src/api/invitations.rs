//! Invitations over HTTP.

use axum::Json as Answer;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{StatusCode, header};
use keyward::accounts::invitations::{Acceptance, Invitation};
use keyward::limits::callers::Call::Authentication;
use keyward_core::access::Permission::{MembersManage, MembersRead};
use keyward_core::id::{self, Id};
use keyward_core::secret::Secret;
use keyward_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::auth::Visitor;
use super::caller::{Caller, In, Params, Target};
use super::json::Json;
use super::members::role;
use super::page::{List, PageParams};
use super::route::{
    Access::{Needs, Open},
    Route, delete, get, post,
};
use crate::app::SharedApp;
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    vec![
        post("/invitations", Needs(MembersManage), "Invite somebody; the answer holds the link once", invite)
            .takes::<NewInvitation>()
            .answers::<IssuedView>(201),
        get("/invitations", Needs(MembersRead), "List open invitations", list)
            .query::<PageParams>()
            .answers::<List<InvitationView>>(200),
        delete("/invitations/{id}", Needs(MembersManage), "Revoke an invitation", revoke).answers_nothing(),
        post(
            "/v1/auth/invitations/accept",
            Open("Whoever was invited has no account yet; the link is the credential"),
            "Accept an invitation",
            accept,
        )
        .takes::<AcceptBody>()
        .answers::<AcceptedView>(200)
        .limited(Authentication),
    ]
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewInvitation {
    email: String,
    /// `owner`, `admin`, `developer`, `auditor` or `viewer`.
    role: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct InvitationView {
    #[schemars(with = "String")]
    id: Id<id::Invitation>,
    email: String,
    role: String,
    #[schemars(with = "String")]
    created_at: Timestamp,
    #[schemars(with = "String")]
    expires_at: Timestamp,
}

impl From<Invitation> for InvitationView {
    fn from(one: Invitation) -> Self {
        let Invitation { id, email, role, created_at, expires_at, .. } = one;
        Self { id, email, role, created_at, expires_at }
    }
}

/// An invitation with its token, once.
#[derive(Debug, Serialize, JsonSchema)]
struct IssuedView {
    #[serde(flatten)]
    invitation: InvitationView,
    token: String,
    link: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AcceptBody {
    token: String,
    name: Option<String>,
    /// Needed by whoever has no account yet.
    password: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct AcceptedView {
    #[schemars(with = "String")]
    user_id: Id<id::User>,
    #[schemars(with = "Option<String>")]
    organization_id: Option<Id<id::Organization>>,
    role: String,
}

async fn invite(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Json(body): Json<NewInvitation>,
) -> Result<impl IntoResponse, Problem> {
    let role = role(&body.role)?;
    let (people, sessions) = (&app.keyward.people, &app.keyward.sessions);
    let (invitation, token, link) = sessions.invite(people, &caller.context, organization, &body.email, role).await?;
    let link = link.expose().clone();
    let location = format!("/v1/organizations/{organization}/invitations/{}", invitation.id);
    let view = IssuedView { invitation: invitation.into(), token: token.expose().clone(), link };
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Answer(view)))
}

async fn list(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Params(page): Params<PageParams>,
) -> Result<Answer<List<InvitationView>>, Problem> {
    let invitations = app.keyward.people.invitations(&caller.context, organization, &page.read()?).await?;
    Ok(List::of(invitations, InvitationView::from))
}

async fn revoke(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Target(invitation): Target<id::Invitation>,
) -> Result<StatusCode, Problem> {
    app.keyward.people.revoke_invitation(&caller.context, organization, invitation).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn accept(
    State(app): State<SharedApp>,
    visitor: Visitor,
    Json(body): Json<AcceptBody>,
) -> Result<Answer<AcceptedView>, Problem> {
    let acceptance = Acceptance { token: body.token, name: body.name, password: body.password.map(Secret::new) };
    let accepted = app.keyward.people.accept(&visitor.context, &acceptance).await?;
    Ok(Answer(AcceptedView { user_id: accepted.person, organization_id: accepted.organization, role: accepted.role }))
}
