//! The work beside the requests. Each task takes no input, may run at any time, and is run on a timer and on a nudge.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use crate::accounts::plans::Plans;
use crate::announce::nodes::{self, Follower, Hint};
use crate::audit::{Audit, Classes};
use crate::db::Checkpointer;
use crate::error::Result;
use crate::ground::Ground;
use crate::idempotency::Idempotency;
use crate::jobs::{Jobs, Running};
use crate::limits::Limits;
use crate::maintenance::Maintenance;
use crate::proofs::Proofs;
use crate::reservations::Reservations;
use crate::sessions::Sessions;
use crate::sinks::Sinks;
use crate::usage::Usage;
use crate::verify::{Haste, Verifier};

/// How often the queue is looked at without a nudge: for schedules, and for jobs of other nodes.
const LOOK_FOR_JOBS_EVERY: Duration = Duration::from_secs(2);
/// How often mails are looked for without a nudge: those that were not taken, and those of other nodes.
const LOOK_FOR_MAILS_EVERY: Duration = Duration::from_secs(5);
/// How often details of events are indexed, on SQLite: seldom enough that those who write events do not feel it.
const INDEX_EVERY: Duration = Duration::from_secs(1);
/// So many events can as well be looked at one by one; an instance in which little happens need not index anything.
const WORTH_INDEXING: i64 = 1_000;
/// How often SQLite's log is moved into its file: often, since what has gathered goes to the disk in one piece, for which the kernel
/// keeps the core.
const CHECKPOINT_DATABASE_EVERY: Duration = Duration::from_secs(1);
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// What the tasks work for.
pub(crate) struct Work {
    pub ground: Ground,
    pub audit: Audit,
    pub classes: Arc<Classes>,
    pub proofs: Proofs,
    pub sinks: Sinks,
    pub checkpoint_every: Duration,
    pub verifier: Arc<Verifier>,
    pub limits: Arc<Limits>,
    pub plans: Plans,
    pub idempotency: Idempotency,
    pub reservations: Reservations,
    pub usage: Usage,
    pub jobs: Jobs,
    pub maintenance: Maintenance,
    pub workers: usize,
    pub sessions: Arc<Sessions>,
}

/// The running tasks.
pub struct Tasks {
    stop: watch::Sender<bool>,
    running: Vec<JoinHandle<()>>,
}

impl Tasks {
    pub(crate) async fn start(
        work: Work,
        flush_every: Duration,
        meter_every: Duration,
        stale_bound: Duration,
    ) -> Result<Self> {
        let Work { ground, audit, verifier, limits, plans, idempotency, reservations, usage, jobs, .. } = work;
        let (sessions, maintenance, workers) = (work.sessions, work.maintenance, work.workers);
        let (proofs, checkpoint_every) = (work.proofs, work.checkpoint_every);
        let (stop, stopped) = watch::channel(false);
        let rounds = |every| Rounds::every(every, stopped.clone());
        let mut running = vec![
            tokio::spawn(write(verifier.clone(), limits.clone(), rounds(flush_every).at(Eighth::Uses))),
            tokio::spawn(add_up(usage.clone(), rounds(meter_every).at(Eighth::AddUp))),
            tokio::spawn(meter(usage.clone(), rounds(meter_every).at(Eighth::Meter))),
            tokio::spawn(fold(usage.clone(), rounds(meter_every).at(Eighth::Fold))),
            tokio::spawn(keep_times(plans, reservations, audit.clone(), rounds(flush_every).at(Eighth::Times))),
            tokio::spawn(share(limits.clone(), stopped.clone())),
            tokio::spawn(deliver(sessions.clone(), rounds(LOOK_FOR_MAILS_EVERY))),
            tokio::spawn(sign(proofs, rounds(checkpoint_every).later())),
            tokio::spawn(work.sinks.run(stopped.clone())),
        ];
        let sweeping = sweep(ground.clone(), idempotency, limits, usage, jobs.clone(), sessions, rounds(SWEEP_EVERY));
        running.push(tokio::spawn(sweeping));
        for _ in 0..workers.max(1) {
            running.push(tokio::spawn(work_jobs(jobs.clone(), maintenance.clone(), rounds(LOOK_FOR_JOBS_EVERY))));
        }
        if work.classes.are_on() {
            running.push(tokio::spawn(note(work.classes, rounds(flush_every).at(Eighth::Notes))));
        }
        if ground.db.is_postgres() {
            let follower = Follower::join(ground.prompt(), stale_bound).await?;
            // What was imported since they were read, and before this node followed, is announced to nobody here.
            verifier.read_import_prefixes().await?;
            running.push(tokio::spawn(follow(ground, follower, stale_bound, rounds(stale_bound / 4))));
        } else {
            if let Some(checkpointer) = ground.db.checkpointer().await? {
                // Where somebody writes meanwhile, something is left in the log, and it grows.
                let rounds = rounds(CHECKPOINT_DATABASE_EVERY).at(Eighth::Checkpoint);
                running.push(tokio::spawn(checkpoint_database(checkpointer, rounds)));
            }
            running.push(tokio::spawn(index(audit, rounds(INDEX_EVERY).at(Eighth::Index))));
        }
        Ok(Self { stop, running })
    }

    /// Ends every task after its present round; the last flush has been written when this returns.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for task in self.running {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task did not end well");
            }
        }
    }
}

/// Where in a round each task that writes has its time: together they would keep a core from what is asked.
#[derive(Clone, Copy)]
enum Eighth {
    Uses,
    AddUp,
    Meter,
    Fold,
    Checkpoint,
    Times,
    Notes,
    Index,
}

/// When a task has its next round: on its timer, sooner when it is nudged, and no more when the node stops.
struct Rounds {
    timer: Interval,
    stopped: watch::Receiver<bool>,
}

impl Rounds {
    /// The first at once. A round that takes long puts off those that follow.
    fn every(every: Duration, stopped: watch::Receiver<bool>) -> Self {
        let mut timer = interval(every);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { timer, stopped }
    }

    /// The first not before its time.
    fn later(mut self) -> Self {
        self.timer.reset();
        self
    }

    fn at(mut self, eighth: Eighth) -> Self {
        self.timer.reset_after(self.timer.period() * eighth as u32 / 8);
        self
    }

    /// Waits for the next round; `false`: the node stops.
    async fn next(&mut self) -> bool {
        self.next_or(pending()).await
    }

    /// The same, sooner when something is wanted.
    async fn next_or(&mut self, wanted: impl Future<Output = ()>) -> bool {
        tokio::select! {
            _ = self.timer.tick() => true,
            () = wanted => true,
            _ = self.stopped.changed() => false,
        }
    }

    /// What the work comes to; `None`: the node stops, and the work was left where it was.
    async fn unless_stopped<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            _ = self.stopped.changed() => None,
        }
    }
}

/// Nobody waits for a task's answer: the log is told what became of it instead.
fn tell<T>(done: Result<T>, otherwise: &str) {
    if let Err(error) = done {
        tracing::warn!(%error, "{otherwise}");
    }
}

/// Writes what is held in memory: the use of quotas, warnings, last uses. Every part is tried, whatever becomes of the
/// others; the first error is answered.
pub(crate) async fn flush(limits: &Limits, verifier: &Verifier, haste: Haste) -> Result<()> {
    let outcomes = [limits.save().await, limits.tell().await, verifier.flush(haste).await];
    outcomes.into_iter().collect()
}

/// Does what is due at its time: scheduled changes of plans, reservations that nobody settled.
pub(crate) async fn settle_due(plans: &Plans, reservations: &Reservations) -> Result<()> {
    let outcomes = [plans.apply_due().await, reservations.expire().await];
    outcomes.into_iter().collect()
}

/// Writes what verifications left behind, the last time when the node stops.
async fn write(verifier: Arc<Verifier>, limits: Arc<Limits>, mut rounds: Rounds) {
    loop {
        let last = !rounds.next_or(verifier.flush_wanted()).await;
        let flushed = flush(&limits, &verifier, if last { Haste::Yes } else { Haste::No }).await;
        while last && flushed.is_ok() && verifier.has_unwritten().await {
            if flush(&limits, &verifier, Haste::Yes).await.is_err() {
                return;
            }
        }
        tell(flushed, "not everything could be written; it is kept");
        if last {
            return;
        }
    }
}

/// Writes the counts of verifications, the last time when the node stops.
async fn meter(usage: Usage, mut rounds: Rounds) {
    loop {
        let last = !rounds.next_or(usage.flush_wanted()).await;
        tell(usage.flush().await, "counts of verifications could not be written; they are kept");
        if last {
            return;
        }
    }
}

/// Brings what verifications noted into the book, the last time when the node stops.
async fn note(classes: Arc<Classes>, mut rounds: Rounds) {
    loop {
        let last = !rounds.next_or(classes.write_wanted()).await;
        tell(classes.write().await, "verifications could not be noted in the book; what has room is kept");
        if last {
            return;
        }
    }
}

/// Adds written counts to the sums. A part that is not added now is added later, by this node or another.
async fn fold(usage: Usage, mut rounds: Rounds) {
    while rounds.next().await {
        let Some(folded) = rounds.unless_stopped(usage.fold_slowly()).await else { return };
        tell(folded, "counts of verifications could not be added up; it is tried again");
    }
}

/// Adds what records left behind to the sums.
async fn add_up(usage: Usage, mut rounds: Rounds) {
    while rounds.next().await {
        tell(usage.add_up_all().await, "what records add to the sums waits; it is tried again");
    }
}

/// Makes due jobs and does what waits, one at a time. A node that stops gives back what it has not ended.
async fn work_jobs(jobs: Jobs, maintenance: Maintenance, mut rounds: Rounds) {
    while rounds.next_or(jobs.work_wanted()).await {
        let Some(worked) = rounds.unless_stopped(work_off(&jobs, &maintenance)).await else {
            return tell(
                Running::release(&jobs).await,
                "a job could not be given back; it waits for its lease to run out",
            );
        };
        tell(worked, "the queue of jobs could not be worked off; it is tried again");
    }
}

/// Does every job that may run now.
pub(crate) async fn work_off(jobs: &Jobs, maintenance: &Maintenance) -> Result<()> {
    jobs.make_due().await?;
    while let Some(job) = jobs.claim().await? {
        job.perform(async |job| maintenance.perform(job).await).await?;
    }
    Ok(())
}

/// Shares limits with other nodes.
async fn share(limits: Arc<Limits>, mut stopped: watch::Receiver<bool>) {
    tokio::select! {
        () = limits.run() => {}
        _ = stopped.changed() => {}
    }
}

/// Does on a timer what is due, and numbers the events of the book.
async fn keep_times(plans: Plans, reservations: Reservations, audit: Audit, mut rounds: Rounds) {
    while rounds.next().await {
        let settled = settle_due(&plans, &reservations).await;
        tell(settled, "not everything that is due could be done; it is tried again");
        tell(audit.sequence().await, "the events of the book could not be numbered; it is tried again");
    }
}

/// Indexes some of what came into the book. The daily upkeep does the rest.
async fn index(audit: Audit, mut rounds: Rounds) {
    while rounds.next().await {
        let indexed = async {
            match audit.unindexed().await? {
                ..WORTH_INDEXING => Ok(0),
                _ => audit.index_details().await,
            }
        };
        tell(indexed.await, "details of events could not be indexed; it is tried again");
    }
}

/// Moves SQLite's log into its file. What is left when the node stops, closing the database moves.
async fn checkpoint_database(mut checkpointer: Checkpointer, mut rounds: Rounds) {
    let otherwise = "the database's log could not be moved into its file; it is tried again";
    while rounds.next().await {
        tell(checkpointer.run().await.map_err(Into::into), otherwise);
    }
    tell(checkpointer.close().await.map_err(Into::into), otherwise);
}

/// Signs the book as it grows, the last time when the node stops.
async fn sign(proofs: Proofs, mut rounds: Rounds) {
    loop {
        let last = !rounds.next().await;
        tell(proofs.sign_new().await, "the audit log could not be signed; it is tried again");
        if last {
            return;
        }
    }
}

/// Re-reads what other nodes announced, several times within the bound, at once when told.
async fn follow(ground: Ground, mut follower: Follower, stale_bound: Duration, mut rounds: Rounds) {
    let mut hint = Hint::listen(&ground.db).await;
    let mut rounds_without = 0u32;
    while rounds.next_or(hint.next()).await {
        // A re-read that hangs must not keep the next one from being tried.
        match timeout(stale_bound, follower.read()).await {
            Ok(read) => tell(read, "the announcements could not be read"),
            Err(_) => tracing::warn!("the announcements could not be read in time"),
        }
        if !hint.is_heard() {
            rounds_without += 1;
            if rounds_without.is_multiple_of(20)
                && let Ok(again) = timeout(stale_bound, Hint::listen(&ground.db)).await
            {
                hint = again;
            }
        }
    }
    follower.leave().await;
}

/// Sends the mails that wait. What is not sent now is due again, for this node or another.
async fn deliver(sessions: Arc<Sessions>, mut rounds: Rounds) {
    while rounds.next_or(sessions.delivery_wanted()).await {
        let Some(delivered) = rounds.unless_stopped(sessions.deliver()).await else { return };
        tell(delivered, "mails could not be looked for; it is tried again");
    }
}

/// Drops what is out of date.
async fn sweep(
    ground: Ground,
    idempotency: Idempotency,
    limits: Arc<Limits>,
    usage: Usage,
    jobs: Jobs,
    sessions: Arc<Sessions>,
    mut rounds: Rounds,
) {
    while rounds.next().await {
        for swept in [
            idempotency.forget().await,
            nodes::forget(&ground).await,
            limits.sweep().await,
            usage.forget().await,
            jobs.forget().await,
            sessions.sweep().await,
        ] {
            tell(swept, "a sweep failed");
        }
    }
}
