//! Organizations over HTTP.

use axum::Json as Answer;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{StatusCode, header};
use keyward::accounts::organizations::{Organization, OrganizationTerms};
use keyward_core::access::Permission::{OrganizationsManage, OrganizationsRead};
use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::caller::{Caller, Params, Target};
use super::json::{Json, given};
use super::page::{List, PageParams};
use super::route::{Access::Needs, Route, delete, get, patch, post};
use crate::app::SharedApp;
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    let (read, manage) = (Needs(OrganizationsRead), Needs(OrganizationsManage));
    vec![
        post("/v1/organizations", manage, "Create an organization", create)
            .takes::<NewOrganization>()
            .answers::<OrganizationView>(201),
        get("/v1/organizations", read, "List organizations", list)
            .query::<PageParams>()
            .answers::<List<OrganizationView>>(200),
        get("/v1/organizations/{id}", read, "Read an organization", show).answers::<OrganizationView>(200),
        patch("/v1/organizations/{id}", manage, "Change an organization", update)
            .takes::<OrganizationPatch>()
            .answers::<OrganizationView>(200),
        delete("/v1/organizations/{id}", manage, "Delete an organization", remove)
            .query::<DeleteParams>()
            .answers_nothing(),
        post("/v1/organizations/{id}/suspend", manage, "Stop every key of an organization", suspend)
            .answers::<OrganizationView>(200),
        post("/v1/organizations/{id}/activate", manage, "Resume every key of an organization", activate)
            .answers::<OrganizationView>(200),
    ]
}

/// An organization: a customer of the operator.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OrganizationView {
    #[schemars(with = "String")]
    id: Id<id::Organization>,
    name: String,
    slug: String,
    email: String,
    plan: String,
    status: String,
    timezone: String,
    #[schemars(with = "String")]
    created_at: Timestamp,
}

impl From<Organization> for OrganizationView {
    fn from(one: Organization) -> Self {
        let Organization { id, name, slug, email, plan, status, timezone, created_at, .. } = one;
        Self { id, name, slug, email, plan, status, timezone, created_at }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewOrganization {
    name: String,
    /// Made of the name when absent.
    slug: Option<String>,
    email: String,
    /// A plan's id or name; `free` when absent.
    plan: Option<String>,
    /// IANA name; UTC when absent.
    timezone: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OrganizationPatch {
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "String")]
    name: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "String")]
    slug: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "String")]
    email: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "String")]
    plan: Option<String>,
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "String")]
    timezone: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DeleteParams {
    /// Delete even while keys are active.
    #[serde(default)]
    cascade: bool,
}

async fn create(
    State(app): State<SharedApp>,
    caller: Caller,
    Json(new): Json<NewOrganization>,
) -> Result<impl IntoResponse, Problem> {
    let slug = match new.slug {
        Some(slug) => slug,
        None => app.keyward.organizations.slug_for(&new.name).await?,
    };
    let terms = OrganizationTerms {
        slug,
        name: new.name,
        email: new.email,
        plan: new.plan.unwrap_or_else(|| "free".to_owned()),
        timezone: new.timezone.unwrap_or_else(|| "UTC".to_owned()),
    };
    let made: OrganizationView = app.keyward.organizations.create(&caller.context, terms).await?.into();
    let location = [(header::LOCATION, format!("/v1/organizations/{}", made.id))];
    Ok((StatusCode::CREATED, location, Answer(made)))
}

async fn list(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(page): Params<PageParams>,
) -> Result<Answer<List<OrganizationView>>, Problem> {
    Ok(List::of(app.keyward.organizations.list(&caller.context, &page.read()?).await?, OrganizationView::from))
}

async fn show(
    State(app): State<SharedApp>,
    caller: Caller,
    Target(id): Target<id::Organization>,
) -> Result<Answer<OrganizationView>, Problem> {
    Ok(Answer(app.keyward.organizations.get(&caller.context, id).await?.into()))
}

async fn update(
    State(app): State<SharedApp>,
    caller: Caller,
    Target(id): Target<id::Organization>,
    Json(patch): Json<OrganizationPatch>,
) -> Result<Answer<OrganizationView>, Problem> {
    let edit = |terms: &mut OrganizationTerms| {
        let set = |field: &mut String, value: Option<String>| *field = value.unwrap_or_else(|| std::mem::take(field));
        set(&mut terms.name, patch.name);
        set(&mut terms.slug, patch.slug);
        set(&mut terms.email, patch.email);
        set(&mut terms.plan, patch.plan);
        set(&mut terms.timezone, patch.timezone);
    };
    Ok(Answer(app.keyward.organizations.update(&caller.context, id, edit).await?.into()))
}

async fn remove(
    State(app): State<SharedApp>,
    caller: Caller,
    Target(id): Target<id::Organization>,
    Params(params): Params<DeleteParams>,
) -> Result<StatusCode, Problem> {
    app.keyward.organizations.delete(&caller.context, id, params.cascade).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn suspend(
    State(app): State<SharedApp>,
    caller: Caller,
    Target(id): Target<id::Organization>,
) -> Result<Answer<OrganizationView>, Problem> {
    Ok(Answer(app.keyward.organizations.suspend(&caller.context, id).await?.into()))
}

async fn activate(
    State(app): State<SharedApp>,
    caller: Caller,
    Target(id): Target<id::Organization>,
) -> Result<Answer<OrganizationView>, Problem> {
    Ok(Answer(app.keyward.organizations.activate(&caller.context, id).await?.into()))
}
