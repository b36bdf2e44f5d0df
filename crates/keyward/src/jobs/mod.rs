//! Long work that outlives a request: asked for, waited for, watched, cancelled, and kept as history. Rows in the
//! database are the queue, so every node may take up a job, and that of a dead node is taken up again.
//!
//! What a job does is not known here: a kind's own slice does it, and `tasks` hands it the `Running` job.

pub mod kind;
mod run;
pub mod schedule;
mod sql;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::time::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch as channel};

use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::{Json, Tx, row, sql};
use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::page::{Page, PageRequest, Position};
pub use kind::JobKind;
use kind::{Lane, Scope};
pub use run::Running;
pub use watch::{JobNews, Line, Watched};

row! {
    /// A job as it stands.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Job {
        pub id: Id<id::Job>,
        pub kind: String,
        pub organization_id: Option<Id<id::Organization>>,
        /// `queued`, `running`, `succeeded`, `failed` or `cancelled`.
        pub status: String,
        pub arguments: Json<Value>,
        pub actor_type: String,
        pub actor_id: String,
        pub actor_name: Option<String>,
        pub done: i64,
        /// Absent while it is not known.
        pub total: Option<i64>,
        pub unit: Option<String>,
        pub attempt: i64,
        pub cancel_asked_at: Option<Timestamp>,
        pub error: Option<String>,
        pub result: Option<Json<Value>>,
        pub created_at: Timestamp,
        pub started_at: Option<Timestamp>,
        pub finished_at: Option<Timestamp>,
    }
}

impl Job {
    pub fn is_finished(&self) -> bool {
        self.finished_at.is_some()
    }
}

/// Which jobs are wanted; an absent field wants all.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    pub kind: Option<String>,
    pub status: Option<String>,
}

/// The queue and the history.
#[derive(Clone)]
pub struct Jobs {
    ground: Ground,
    retention_days: u32,
    /// Who holds the leases that this process takes.
    node: Id<id::Node>,
    /// Wakes the workers of this node.
    queued: Arc<Notify>,
    /// Moves with each change of a job on this node.
    news: Arc<channel::Sender<u64>>,
    /// The jobs that this node runs, each with its wish to be cancelled.
    held: Arc<Mutex<HashMap<Id<id::Job>, channel::Sender<bool>>>>,
}

impl Jobs {
    pub(crate) fn new(ground: Ground, retention_days: u32) -> Self {
        let node = ground.new_id();
        let news = Arc::new(channel::Sender::new(0));
        Self { ground, retention_days, node, queued: Arc::default(), news, held: Arc::default() }
    }

    /// Asks for a job; `arguments` are an object that the kind's slice has checked.
    pub async fn start(
        &self,
        context: &Context,
        kind: JobKind,
        organization: Option<Id<id::Organization>>,
        arguments: Value,
    ) -> Result<Job> {
        debug_assert_eq!(organization.is_some(), kind.scope() == Scope::Organization);
        require(context, organization, kind.run_by())?;
        let mut change = Change::begin(&self.ground, context).await?;
        let now = change.now();
        let id = add(change.tx(), &self.ground, context, kind, organization, &arguments, now).await?;
        change.commit(event("job_started", kind.as_str(), id, organization, arguments)).await?;
        self.nudge();
        self.row(id).await
    }

    /// Jobs that the caller may see, newest first: those of the organization and, for the operator's staff, the instance's.
    pub async fn list(
        &self,
        context: &Context,
        organization: Option<Id<id::Organization>>,
        filter: &JobFilter,
        page: &PageRequest,
    ) -> Result<Page<Job>> {
        let kinds = |scope| {
            let of_scope = JobKind::ALL.iter().filter(move |kind| kind.scope() == scope);
            let of = if scope == Scope::Instance { None } else { organization };
            let seen = of_scope.filter(|kind| require(context, of, kind.seen_by()).is_ok());
            seen.fold(",".to_owned(), |list, kind| format!("{list}{},", kind.as_str()))
        };
        let before = page.before();
        let rows: Vec<Job> = sql(sql::LIST)
            .bind(organization)
            .bind(kinds(Scope::Organization))
            .bind(kinds(Scope::Instance))
            .bind(&context.actor.id)
            .bind(filter.kind.clone())
            .bind(filter.status.clone())
            .bind(before.at)
            .bind(before.id)
            .bind(page.fetch())
            .all(&self.ground.db)
            .await?;
        Ok(page.page(rows, |job| Position { at: job.created_at, id: job.id.uuid() }))
    }

    /// A job that the caller started, or may see by right. Others look absent.
    pub async fn get(&self, context: &Context, id: Id<id::Job>) -> Result<Job> {
        let job: Job = sql(sql::GET).bind(id).optional(&self.ground.db).await?.ok_or_else(Error::not_found)?;
        let kind = JobKind::named(&job.kind).ok_or_else(Error::not_found)?;
        let own = job.actor_id == context.actor.id && job.actor_type == context.actor.kind.as_str();
        if own || require(context, job.organization_id, kind.seen_by()).is_ok() {
            return Ok(job);
        }
        Err(Error::not_found())
    }

    /// Ends a job that waits, and asks a running one to stop; the job tells by its status when it has.
    pub async fn cancel(&self, context: &Context, id: Id<id::Job>) -> Result<Job> {
        let job = self.get(context, id).await?;
        let kind = JobKind::named(&job.kind).ok_or_else(Error::not_found)?;
        if kind.scope() == Scope::Instance || job.actor_id != context.actor.id {
            require(context, job.organization_id, kind.run_by())?;
        }
        let mut change = Change::begin(&self.ground, context).await?;
        let now = change.now();
        let mut touched = sql(sql::CANCEL_QUEUED).bind(id).bind(now).execute(change.tx()).await?;
        if touched == 0 {
            touched = sql(sql::CANCEL_RUNNING).bind(id).bind(now).execute(change.tx()).await?;
        }
        if touched == 0 {
            return Err(Error::new(Code::Conflict, "The job has ended already."));
        }
        change.commit(event("job_cancelled", &job.kind, id, job.organization_id, json!({}))).await?;
        if let Some(cancel) = self.held.lock().expect("no one panics while holding").get(&id) {
            cancel.send_replace(true);
        }
        self.tell_news();
        self.row(id).await
    }

    /// The newest job of a kind that succeeded.
    pub async fn last_success(&self, kind: JobKind) -> Result<Option<Job>> {
        Ok(sql(sql::LAST_SUCCESS).bind(kind.as_str()).optional(&self.ground.db).await?)
    }

    /// Drops what ended longer ago than the settings keep it.
    pub async fn forget(&self) -> Result<()> {
        let oldest = self.ground.now().plus_days(-i64::from(self.retention_days));
        sql(sql::FORGET).bind(oldest).execute(&self.ground.db).await?;
        Ok(())
    }

    async fn row(&self, id: Id<id::Job>) -> Result<Job> {
        Ok(sql(sql::GET).bind(id).one(&self.ground.db).await?)
    }

    fn nudge(&self) {
        self.queued.notify_one();
        self.tell_news();
    }

    fn tell_news(&self) {
        self.news.send_modify(|count| *count += 1);
    }
}

/// The right, in the organization or at the instance.
fn require(
    context: &Context,
    organization: Option<Id<id::Organization>>,
    permission: keyward_core::access::Permission,
) -> Result<()> {
    match organization {
        Some(organization) => context.require(organization, permission).map(drop),
        None => context.require_at_instance(permission),
    }
}

async fn add(
    tx: &mut Tx,
    ground: &Ground,
    context: &Context,
    kind: JobKind,
    organization: Option<Id<id::Organization>>,
    arguments: &Value,
    now: Timestamp,
) -> Result<Id<id::Job>> {
    let id: Id<id::Job> = ground.new_id();
    let lane = match kind.lane() {
        Lane::Shared(name) => name.to_owned(),
        Lane::Own => id.to_string(),
    };
    let row = sql(sql::ADD)
        .bind(id)
        .bind(kind.as_str())
        .bind(lane)
        .bind(organization)
        .bind(Json(arguments))
        .bind(context.actor.kind.as_str())
        .bind(&context.actor.id)
        .bind(context.actor.name.clone())
        .bind(now);
    row.execute(tx).await?;
    Ok(id)
}

fn event(
    action: &'static str,
    kind: &str,
    id: Id<id::Job>,
    organization: Option<Id<id::Organization>>,
    details: Value,
) -> Event {
    let event = Event::new(EventType::System, action, "job", id).named(kind).details(details);
    Event { organization, ..event }
}
