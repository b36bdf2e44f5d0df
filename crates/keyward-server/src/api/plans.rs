//! Plans over HTTP.

use axum::Json as Answer;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{StatusCode, header};
use keyward::accounts::plans::{Plan, PlanTerms};
use keyward_core::access::Permission::{PlansManage, PlansRead};
use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    version: i64,
    #[schemars(with = "String")]
    created_at: Timestamp,
    #[schemars(with = "String")]
    updated_at: Timestamp,
}

impl From<Plan> for PlanView {
    fn from(plan: Plan) -> Self {
        let Plan { id, name, key_limit, requests_per_minute, quota_per_month, version, created_at, updated_at } = plan;
        Self { id, name, key_limit, requests_per_minute, quota_per_month, version, created_at, updated_at }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewPlan {
    name: String,
    key_limit: i64,
    requests_per_minute: i64,
    quota_per_month: i64,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PlanPatch {
    name: Option<String>,
    key_limit: Option<i64>,
    requests_per_minute: Option<i64>,
    quota_per_month: Option<i64>,
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
    let NewPlan { name, key_limit, requests_per_minute, quota_per_month } = new;
    let terms = PlanTerms { name, key_limit, requests_per_minute, quota_per_month };
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
    let edit = |terms: &mut PlanTerms| {
        terms.name = patch.name.unwrap_or_else(|| std::mem::take(&mut terms.name));
        terms.key_limit = patch.key_limit.unwrap_or(terms.key_limit);
        terms.requests_per_minute = patch.requests_per_minute.unwrap_or(terms.requests_per_minute);
        terms.quota_per_month = patch.quota_per_month.unwrap_or(terms.quota_per_month);
    };
    Ok(Answer(app.keyward.plans.update(&caller.context, &id, edit).await?.into()))
}

async fn remove(State(app): State<SharedApp>, caller: Caller, Named(id): Named) -> Result<StatusCode, Problem> {
    app.keyward.plans.delete(&caller.context, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
