//! A job at work: claimed under a lease that is kept by heart-beats, its progress written as it goes, its end written
//! with its line in the book. A node that dies lets the lease run out, and another node takes the job up.

use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::FutureExt;
use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::time::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{Job, JobKind, Jobs, event, sql as statements};
use crate::change::Change;
use crate::context::Context;
use crate::db::{DbError, Json, row, sql};
use crate::error::{Error, Result};

/// How long a job stays with a node that is not heard of.
const LEASE_SECONDS: i64 = 30;
const BEAT_EVERY: Duration = Duration::from_secs(8);
/// Progress is written at most this often.
const WRITE_EVERY: Duration = Duration::from_millis(200);

/// How far a job is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    pub done: i64,
    pub total: Option<i64>,
    pub unit: Option<&'static str>,
}

/// A job that this node runs.
pub struct Running {
    pub id: Id<id::Job>,
    pub kind: JobKind,
    pub organization: Option<Id<id::Organization>>,
    pub arguments: Value,
    attempt: i64,
    jobs: Jobs,
    progress: watch::Sender<Progress>,
    lines: Mutex<Vec<String>>,
    unwritten: Notify,
    cancel: watch::Receiver<bool>,
}

row! {
    struct KeptRow {
        cancel_asked_at: Option<Timestamp>,
    }
}

impl Jobs {
    /// Takes the oldest job that may run now.
    pub(crate) async fn claim(&self) -> Result<Option<Running>> {
        let now = self.ground.now();
        let (waiting,): (i64,) = sql(statements::WAITING).bind(self.node).bind(now).one(&self.ground.db).await?;
        if waiting == 0 {
            return Ok(None);
        }
        let mut tx = self.ground.db.begin().await?;
        let until = now.plus_seconds(LEASE_SECONDS);
        let claim = statements::CLAIM.within(&tx).bind(self.node).bind(now).bind(until);
        let job: Job = match claim.optional(&mut tx).await {
            Ok(Some(job)) => job,
            // Another node was faster in this lane.
            Ok(None) | Err(DbError::Taken { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        tx.commit().await?;
        self.tell_news();
        let running = self.running(job);
        match running {
            Ok(running) if running.attempt > running.kind.attempts() => {
                running.end(Err(Error::new(Code::Internal, "The nodes that ran it stopped before it ended."))).await?;
                Ok(None)
            }
            Ok(running) => Ok(Some(running)),
            Err(job) => {
                tracing::warn!(%job.id, job.kind, "a job of a kind that this node does not know; left to others");
                Ok(None)
            }
        }
    }

    fn running(&self, job: Job) -> Result<Running, Box<Job>> {
        let Some(kind) = JobKind::named(&job.kind) else { return Err(Box::new(job)) };
        let (asked, cancel) = watch::channel(job.cancel_asked_at.is_some());
        self.held.lock().expect("no one panics while holding").insert(job.id, asked);
        Ok(Running {
            id: job.id,
            kind,
            organization: job.organization_id,
            arguments: job.arguments.0,
            attempt: job.attempt,
            jobs: self.clone(),
            progress: watch::Sender::new(Progress::default()),
            lines: Mutex::default(),
            unwritten: Notify::new(),
            cancel,
        })
    }

    /// Returns when a job may be waiting.
    pub(crate) async fn work_wanted(&self) {
        self.queued.notified().await;
    }
}

impl Running {
    /// Tells how far the work is; written soon after.
    pub fn progress(&self, done: usize, total: usize, unit: &'static str) {
        self.progress.send_replace(Progress { done: done as i64, total: Some(total as i64), unit: Some(unit) });
        self.unwritten.notify_one();
    }

    /// A line for those who watch, and for the history.
    pub fn tell(&self, line: impl Into<String>) {
        self.lines.lock().expect("no one panics while telling").push(line.into());
        self.unwritten.notify_one();
    }

    pub fn is_cancelled(&self) -> bool {
        *self.cancel.borrow()
    }

    /// Returns when somebody asked for the job's end.
    pub async fn cancelled(&self) {
        let mut cancel = self.cancel.clone();
        if cancel.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The error with which work stops that was asked to.
    pub fn stop_if_cancelled(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::new(Code::Conflict, "The job was cancelled.")) } else { Ok(()) }
    }

    /// Does the work while the lease is kept, and writes its end. Work that loses its lease is dropped where it stands.
    pub(crate) async fn perform(self, work: impl AsyncFnOnce(&Self) -> Result<Value>) -> Result<()> {
        let outcome = {
            let work = AssertUnwindSafe(work(&self)).catch_unwind();
            tokio::select! {
                outcome = work => outcome.unwrap_or_else(|_| Err(Error::new(Code::Internal, "The work broke off."))),
                () = self.keep() => {
                    tracing::warn!(job = %self.id, "another node has taken a job over");
                    return Ok(());
                }
            }
        };
        self.end(outcome).await
    }

    /// Gives the job back unfinished, for another node.
    pub(crate) async fn release(jobs: &Jobs) -> Result<()> {
        let held: Vec<Id<id::Job>> =
            jobs.held.lock().expect("no one panics while holding").drain().map(|(id, _)| id).collect();
        for id in held {
            sql(statements::RELEASE).bind(id).bind(jobs.node).execute(&jobs.ground.db).await?;
        }
        Ok(())
    }

    /// Keeps the lease and writes progress until the job belongs to somebody else.
    async fn keep(&self) {
        let mut beat = interval(BEAT_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                () = self.unwritten.notified() => sleep(WRITE_EVERY).await,
            }
            match self.write().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!(%error, job = %self.id, "the progress of a job could not be written"),
            }
        }
    }

    /// Writes lease, progress and lines. `false`: the job is no longer ours.
    async fn write(&self) -> Result<bool> {
        let ground = &self.jobs.ground;
        let now = ground.now();
        let Progress { done, total, unit } = self.progress.borrow().clone();
        let mut tx = ground.db.begin().await?;
        let kept: Option<KeptRow> = sql(statements::KEEP)
            .bind(self.id)
            .bind(self.jobs.node)
            .bind(self.attempt)
            .bind(now.plus_seconds(LEASE_SECONDS))
            .bind(done)
            .bind(total)
            .bind(unit)
            .optional(&mut tx)
            .await?;
        let Some(kept) = kept else { return Ok(false) };
        let lines = std::mem::take(&mut *self.lines.lock().expect("no one panics while telling"));
        for line in lines {
            sql(statements::TELL).bind(self.id).bind(now).bind(line).execute(&mut tx).await?;
        }
        tx.commit().await?;
        if kept.cancel_asked_at.is_some()
            && let Some(cancel) = self.jobs.held.lock().expect("no one panics while holding").get(&self.id)
        {
            cancel.send_replace(true);
        }
        self.jobs.tell_news();
        Ok(true)
    }

    async fn end(self, outcome: Result<Value>) -> Result<()> {
        let ended = self.write_end(outcome).await;
        self.jobs.held.lock().expect("no one panics while holding").remove(&self.id);
        self.jobs.nudge();
        ended
    }

    async fn write_end(&self, outcome: Result<Value>) -> Result<()> {
        self.write().await?;
        let context = Context::system("jobs");
        let (status, error, result) = match outcome {
            Ok(result) => ("succeeded", None, Some(result)),
            Err(_) if self.is_cancelled() => ("cancelled", None, None),
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(job = %self.id, kind = self.kind.as_str(), source, "a job failed: {}", error.detail);
                ("failed", Some(error.detail), None)
            }
        };
        let Progress { done, total, unit } = self.progress.borrow().clone();
        let mut change = Change::begin(&self.jobs.ground, &context).await?;
        let touched = sql(statements::END)
            .bind(self.id)
            .bind(self.jobs.node)
            .bind(self.attempt)
            .bind(status)
            .bind(error.clone())
            .bind(result.clone().map(Json))
            .bind(change.now())
            .bind(done)
            .bind(total)
            .bind(unit)
            .execute(change.tx())
            .await?;
        if touched == 0 {
            return Ok(());
        }
        let details = json!({ "status": status, "attempt": self.attempt, "result": result });
        let mut event = event("job_ended", self.kind.as_str(), self.id, self.organization, details);
        event.failure = error;
        change.commit(event).await?;
        Ok(())
    }
}
