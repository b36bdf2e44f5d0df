//! The database over HTTP: its figures, its health, and the upkeep that can be asked for.

use axum::Json as Answer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use keyward::jobs::JobKind;
use keyward::maintenance::{Asked, Health, IndexStats, PartitionStats, Report, SlowQueries, UpkeepRequest};
use keyward_core::access::Permission::{SystemMaintain, SystemRead};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::caller::Caller;
use super::jobs::JobView;
use super::json::OptionalJson;
use super::route::{Access::Needs, Route, get, post};
use crate::app::SharedApp;
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    let (read, maintain) = (Needs(SystemRead), Needs(SystemMaintain));
    let started = |route: Route| route.may_take::<UpkeepBody>().answers::<JobView>(202);
    vec![
        get("/v1/admin/database/health", read, "How the database fares, and what to do", health).answers::<Value>(200),
        get("/v1/admin/database/report", read, "Everything that is known of the database", report)
            .answers::<Value>(200),
        get("/v1/admin/database/stats/partitions", read, "Sizes and rows of tables and partitions", partitions)
            .answers::<Value>(200),
        get("/v1/admin/database/stats/indexes", read, "Sizes and use of indexes", indexes).answers::<Value>(200),
        get("/v1/admin/database/slow-queries", read, "The slowest statements", slow_queries).answers::<Value>(200),
        started(post("/v1/admin/database/maintenance/vacuum", maintain, "Clean tables up", vacuum)),
        started(post("/v1/admin/database/maintenance/analyze", maintain, "Renew what the planner knows", analyze)),
        started(post("/v1/admin/database/maintenance/reindex", maintain, "Build indexes anew", reindex)),
        started(post(
            "/v1/admin/database/maintenance/partitions",
            maintain,
            "Make and mend partitions",
            look_after_partitions,
        )),
    ]
}

/// What to look after.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UpkeepBody {
    /// Tables by name; all when empty.
    #[serde(default)]
    tables: Vec<String>,
    /// Only tell the statements: answers 200 with `statements`.
    #[serde(default)]
    dry_run: bool,
}

async fn health(State(app): State<SharedApp>, caller: Caller) -> Result<Answer<Health>, Problem> {
    Ok(Answer(app.keyward.maintenance.health(&caller.context).await?))
}

async fn report(State(app): State<SharedApp>, caller: Caller) -> Result<Answer<Report>, Problem> {
    Ok(Answer(app.keyward.maintenance.report(&caller.context).await?))
}

async fn partitions(State(app): State<SharedApp>, caller: Caller) -> Result<Answer<PartitionStats>, Problem> {
    Ok(Answer(app.keyward.maintenance.partitions(&caller.context).await?))
}

async fn indexes(State(app): State<SharedApp>, caller: Caller) -> Result<Answer<IndexStats>, Problem> {
    Ok(Answer(app.keyward.maintenance.indexes(&caller.context).await?))
}

async fn slow_queries(State(app): State<SharedApp>, caller: Caller) -> Result<Answer<SlowQueries>, Problem> {
    Ok(Answer(app.keyward.maintenance.slow_queries(&caller.context).await?))
}

macro_rules! upkeeps {
    ($($function:ident $kind:ident;)*) => {$(
        async fn $function(State(app): State<SharedApp>, caller: Caller, body: OptionalJson<UpkeepBody>) -> Result<Response, Problem> {
            start(&app, &caller, JobKind::$kind, body.0).await
        }
    )*};
}

upkeeps! {
    vacuum Vacuum;
    analyze Analyze;
    reindex Reindex;
    look_after_partitions Partitions;
}

async fn start(app: &SharedApp, caller: &Caller, kind: JobKind, body: UpkeepBody) -> Result<Response, Problem> {
    let request = UpkeepRequest { tables: body.tables, dry_run: body.dry_run };
    Ok(match app.keyward.maintenance.start(&caller.context, kind, request).await? {
        Asked::Started(job) => {
            let location = [(header::LOCATION, format!("/v1/jobs/{}", job.id))];
            (StatusCode::ACCEPTED, location, Answer(JobView::from(*job))).into_response()
        }
        Asked::Planned(statements) => Answer(json!({ "dry_run": true, "statements": statements })).into_response(),
    })
}
