//! Jobs over HTTP: what waits, runs and ran; its news over a WebSocket.

mod socket;

use axum::Json as Answer;
use axum::extract::State;
use keyward::jobs::{Job, JobFilter, Line};
use keyward::page::PageRequest;
use keyward_core::access::Permission::SystemRead;
use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::atomic::Ordering;

use super::caller::{Caller, Params, Target};
use super::page::List;
use super::route::{Access::Known, Access::Needs, Route, delete, get};
use crate::app::SharedApp;
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    let known =
        Known("Each kind of job has its own permission; callers see their own jobs and those that they may see");
    vec![
        get("/v1/jobs", known, "List jobs, newest first", list).query::<JobParams>().answers::<List<JobView>>(200),
        get("/v1/jobs/{id}", known, "Read a job and what it told", show).answers::<JobWithLog>(200),
        delete("/v1/jobs/{id}", known, "Cancel a job", cancel).answers::<JobView>(200),
        get("/v1/jobs/{id}/events", known, "Watch a job over a WebSocket", socket::watch),
        get("/v1/connections/stats", Needs(SystemRead), "Open connections of this node", connections)
            .answers::<ConnectionStats>(200),
    ]
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JobParams {
    limit: Option<u32>,
    cursor: Option<String>,
    kind: Option<String>,
    /// `queued`, `running`, `succeeded`, `failed` or `cancelled`.
    status: Option<String>,
}

/// Long work.
#[derive(Debug, Serialize, JsonSchema)]
pub struct JobView {
    #[schemars(with = "String")]
    pub id: Id<id::Job>,
    kind: String,
    status: String,
    progress: ProgressView,
    #[schemars(with = "Option<String>")]
    organization_id: Option<Id<id::Organization>>,
    /// What it was asked to do.
    arguments: Value,
    actor: ActorView,
    /// How often it was taken up.
    attempt: i64,
    cancel_requested: bool,
    #[schemars(with = "String")]
    created_at: Timestamp,
    #[schemars(with = "Option<String>")]
    started_at: Option<Timestamp>,
    #[schemars(with = "Option<String>")]
    finished_at: Option<Timestamp>,
    error: Option<String>,
    result: Option<Value>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ProgressView {
    done: i64,
    /// Null while it is not known.
    total: Option<i64>,
    unit: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ActorView {
    r#type: String,
    id: String,
    name: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct JobWithLog {
    #[serde(flatten)]
    job: JobView,
    log: Vec<LineView>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct LineView {
    #[schemars(with = "String")]
    at: Timestamp,
    message: String,
}

/// Connections of the node that answers.
#[derive(Debug, Serialize, JsonSchema)]
struct ConnectionStats {
    http: u64,
    websockets: u64,
    /// Since the node started.
    websockets_opened: u64,
    messages_sent: u64,
    /// Nodes that serve from this database.
    live_nodes: u32,
}

impl From<Job> for JobView {
    fn from(job: Job) -> Self {
        Self {
            id: job.id,
            kind: job.kind,
            status: job.status,
            progress: ProgressView { done: job.done, total: job.total, unit: job.unit },
            organization_id: job.organization_id,
            arguments: job.arguments.0,
            actor: ActorView { r#type: job.actor_type, id: job.actor_id, name: job.actor_name },
            attempt: job.attempt,
            cancel_requested: job.cancel_asked_at.is_some(),
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            error: job.error,
            result: job.result.map(|result| result.0),
        }
    }
}

impl From<Line> for LineView {
    fn from(line: Line) -> Self {
        Self { at: line.told_at, message: line.message }
    }
}

async fn list(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(params): Params<JobParams>,
) -> Result<Answer<List<JobView>>, Problem> {
    let page = PageRequest::new(params.limit, params.cursor.as_deref())?;
    let organization = caller.context.grant.as_ref().map(|grant| grant.organization);
    let filter = JobFilter { kind: params.kind, status: params.status };
    Ok(List::of(app.keyward.jobs.list(&caller.context, organization, &filter, &page).await?, JobView::from))
}

async fn show(
    State(app): State<SharedApp>,
    caller: Caller,
    Target(id): Target<id::Job>,
) -> Result<Answer<JobWithLog>, Problem> {
    let job = app.keyward.jobs.get(&caller.context, id).await?;
    let log = app.keyward.jobs.log(&caller.context, id).await?;
    Ok(Answer(JobWithLog { job: job.into(), log: log.into_iter().map(LineView::from).collect() }))
}

async fn cancel(
    State(app): State<SharedApp>,
    caller: Caller,
    Target(id): Target<id::Job>,
) -> Result<Answer<JobView>, Problem> {
    Ok(Answer(app.keyward.jobs.cancel(&caller.context, id).await?.into()))
}

async fn connections(State(app): State<SharedApp>, caller: Caller) -> Result<Answer<ConnectionStats>, Problem> {
    caller.context.require_at_instance(SystemRead)?;
    let connections = &app.connections;
    Ok(Answer(ConnectionStats {
        http: connections.http_count(),
        websockets: connections.socket_count(),
        websockets_opened: connections.sockets_opened.load(Ordering::Relaxed),
        messages_sent: connections.messages_sent.load(Ordering::Relaxed),
        live_nodes: app.keyward.live_nodes(),
    }))
}
