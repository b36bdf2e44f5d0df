//! Plans over HTTP.

use axum::Json as Answer;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use http::{StatusCode, header};
use keyward::accounts::plans::{Effect, Plan, PlanTerms, PlanVersion};
use keyward_core::access::Permission::{PlansManage, PlansRead};
use keyward_core::id::{self, Id};
use keyward_core::limit::LimitRule;
use keyward_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::caller::{Caller, Named, Params};
use super::json::Json;
use super::page::{List, PageParams};
use super::route::{Access::Needs, Route, delete, get, patch, post};
use crate::app::SharedApp;
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    let (read, manage) = (Needs(PlansRead), Needs(PlansManage));
    vec![
        get("/v1/plans", read, "List plans", list).query::<PageParams>().answers::<List<PlanView>>(200),
        post("/v1/plans", manage, "Create a plan", create).takes::<NewPlan>().answers::<PlanView>(201),
        get("/v1/plans/{id}", read, "Read a plan, by id or name", show).answers::<PlanView>(200),
        patch("/v1/plans/{id}", manage, "Change a plan", update).takes::<PlanPatch>().answers::<PlanView>(200),
        post("/v1/plans/{id}/preview", manage, "Tell who is affected by a change of a plan", preview)
            .takes::<PlanPatch>()
            .answers::<PreviewView>(200),
        get("/v1/plans/{id}/versions", read, "List the versions of a plan", versions).answers::<List<VersionView>>(200),
        delete("/v1/plans/{id}/versions/{version}", manage, "Cancel a scheduled change of a plan", cancel)
            .answers_nothing(),
        delete("/v1/plans/{id}", manage, "Delete a plan that nobody is on", remove).answers_nothing(),
    ]
}

/// A plan: the limits of the organizations that are on it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlanView {
    #[schemars(with = "String")]
    id: Id<id::Plan>,
    name: String,
    key_limit: i64,
    requests_per_minute: i64,
    quota_per_month: i64,
    /// Beside the requests a minute.
    #[schemars(with = "Vec<Value>")]
    limits: Vec<LimitRule>,
    version: i64,
    #[schemars(with = "String")]
    created_at: Timestamp,
    #[schemars(with = "String")]
    updated_at: Timestamp,
}

impl From<Plan> for PlanView {
    fn from(plan: Plan) -> Self {
        Self {
            id: plan.id,
            name: plan.name,
            key_limit: plan.key_limit,
            requests_per_minute: plan.requests_per_minute,
            quota_per_month: plan.quota_per_month,
            limits: plan.limits.0,
            version: plan.version,
            created_at: plan.created_at,
            updated_at: plan.updated_at,
        }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewPlan {
    name: String,
    key_limit: i64,
    requests_per_minute: i64,
    quota_per_month: i64,
    #[serde(default)]
    #[schemars(with = "Vec<Value>")]
    limits: Vec<LimitRule>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PlanPatch {
    name: Option<String>,
    key_limit: Option<i64>,
    requests_per_minute: Option<i64>,
    quota_per_month: Option<i64>,
    #[schemars(with = "Option<Vec<Value>>")]
    limits: Option<Vec<LimitRule>>,
    /// When the change takes effect; at once when absent.
    #[schemars(with = "Option<String>")]
    effective_at: Option<Timestamp>,
    /// Whether organizations that are on the plan by then stay on the version that they have.
    #[serde(default)]
    grandfather: bool,
}

/// A version of a plan.
#[derive(Debug, Serialize, JsonSchema)]
struct VersionView {
    version: i64,
    key_limit: i64,
    requests_per_minute: i64,
    quota_per_month: i64,
    #[schemars(with = "Vec<Value>")]
    limits: Vec<LimitRule>,
    #[schemars(with = "String")]
    effective_at: Timestamp,
    /// Whether it waits for `effective_at`.
    scheduled: bool,
    grandfather: bool,
    /// Organizations that are on it.
    organizations: i64,
    #[schemars(with = "String")]
    created_at: Timestamp,
}

/// Who is affected by a change of a plan.
#[derive(Debug, Serialize, JsonSchema)]
struct PreviewView {
    /// Organizations on the present version.
    organizations: usize,
    /// Those that use more than the new terms allow.
    over: usize,
    /// At most 200, those above the new terms first.
    items: Vec<AffectedView>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct AffectedView {
    #[schemars(with = "String")]
    organization_id: Id<id::Organization>,
    name: String,
    active_keys: i64,
    used_this_month: i64,
    /// Names of the terms that it is above.
    over: Vec<&'static str>,
}

async fn list(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(page): Params<PageParams>,
) -> Result<Answer<List<PlanView>>, Problem> {
    Ok(List::of(app.keyward.plans.list(&caller.context, &page.read()?).await?, PlanView::from))
}

async fn create(
    State(app): State<SharedApp>,
    caller: Caller,
    Json(new): Json<NewPlan>,
) -> Result<impl IntoResponse, Problem> {
    let NewPlan { name, key_limit, requests_per_minute, quota_per_month, limits } = new;
    let terms = PlanTerms { name, key_limit, requests_per_minute, quota_per_month, limits };
    let made: PlanView = app.keyward.plans.create(&caller.context, terms).await?.into();
    let location = [(header::LOCATION, format!("/v1/plans/{}", made.id))];
    Ok((StatusCode::CREATED, location, Answer(made)))
}

async fn show(State(app): State<SharedApp>, caller: Caller, Named(id): Named) -> Result<Answer<PlanView>, Problem> {
    Ok(Answer(app.keyward.plans.get(&caller.context, &id).await?.into()))
}

async fn update(
    State(app): State<SharedApp>,
    caller: Caller,
    Named(id): Named,
    Json(patch): Json<PlanPatch>,
) -> Result<Answer<PlanView>, Problem> {
    let effect = patch.effect(app.keyward.clock.now())?;
    Ok(Answer(app.keyward.plans.update(&caller.context, &id, effect, |terms| patch.apply(terms)).await?.into()))
}

async fn preview(
    State(app): State<SharedApp>,
    caller: Caller,
    Named(id): Named,
    Json(patch): Json<PlanPatch>,
) -> Result<Answer<PreviewView>, Problem> {
    let preview = app.keyward.plans.preview(&caller.context, &id, |terms| patch.apply(terms)).await?;
    let items = preview.items.into_iter().map(|item| AffectedView {
        organization_id: item.organization,
        name: item.name,
        active_keys: item.active_keys,
        used_this_month: item.used_this_month,
        over: item.over,
    });
    Ok(Answer(PreviewView { organizations: preview.organizations, over: preview.over, items: items.collect() }))
}

async fn versions(
    State(app): State<SharedApp>,
    caller: Caller,
    Named(id): Named,
) -> Result<Answer<List<VersionView>>, Problem> {
    let versions = app.keyward.plans.versions(&caller.context, &id).await?;
    Ok(List::whole(versions, VersionView::from))
}

async fn cancel(
    State(app): State<SharedApp>,
    caller: Caller,
    Path((id, version)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let version = version.parse().map_err(|_| keyward::Error::not_found())?;
    app.keyward.plans.cancel(&caller.context, &id, version).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl PlanPatch {
    fn effect(&self, now: Timestamp) -> Result<Option<Effect>, Problem> {
        match self.effective_at {
            Some(at) if at <= now => Err(keyward::Error::field("/effective_at", "is not in the future").into()),
            at => Ok(Some(Effect { at: at.unwrap_or(now), grandfathers: self.grandfather })),
        }
    }

    fn apply(self, terms: &mut PlanTerms) {
        terms.name = self.name.unwrap_or_else(|| std::mem::take(&mut terms.name));
        terms.key_limit = self.key_limit.unwrap_or(terms.key_limit);
        terms.requests_per_minute = self.requests_per_minute.unwrap_or(terms.requests_per_minute);
        terms.quota_per_month = self.quota_per_month.unwrap_or(terms.quota_per_month);
        terms.limits = self.limits.unwrap_or_else(|| std::mem::take(&mut terms.limits));
    }
}

impl From<PlanVersion> for VersionView {
    fn from(version: PlanVersion) -> Self {
        Self {
            version: version.version,
            key_limit: version.key_limit,
            requests_per_minute: version.requests_per_minute,
            quota_per_month: version.quota_per_month,
            limits: version.limits.0,
            effective_at: version.effective_at,
            scheduled: version.scheduled,
            grandfather: version.grandfathers,
            organizations: version.organizations,
            created_at: version.created_at,
        }
    }
}

async fn remove(State(app): State<SharedApp>, caller: Caller, Named(id): Named) -> Result<StatusCode, Problem> {
    app.keyward.plans.delete(&caller.context, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
