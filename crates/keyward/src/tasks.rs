//! The work beside the requests. Each task takes no input, may run at any time, and is run on a timer and on a nudge.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, timeout};

use crate::accounts::plans::Plans;
use crate::announce::nodes::{self, Follower, Hint};
use crate::audit::{Audit, Classes};
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
        let mut running = vec![
            tokio::spawn(write(verifier, limits.clone(), flush_every, stopped.clone())),
            tokio::spawn(meter(usage.clone(), meter_every, stopped.clone())),
            tokio::spawn(fold(usage.clone(), meter_every, stopped.clone())),
            tokio::spawn(add_up(usage.clone(), meter_every, stopped.clone())),
            tokio::spawn(share(limits.clone(), stopped.clone())),
            tokio::spawn(keep_times(plans, reservations, audit, flush_every, stopped.clone())),
            tokio::spawn(deliver(sessions.clone(), stopped.clone())),
            tokio::spawn(sign(proofs, checkpoint_every, stopped.clone())),
            tokio::spawn(work.sinks.run(stopped.clone())),
            tokio::spawn(sweep(ground.clone(), idempotency, limits, usage, jobs.clone(), sessions, stopped.clone())),
        ];
        for _ in 0..workers.max(1) {
            running.push(tokio::spawn(work_jobs(jobs.clone(), maintenance.clone(), stopped.clone())));
        }
        if work.classes.are_on() {
            running.push(tokio::spawn(note(work.classes, flush_every, stopped.clone())));
        }
        if ground.db.is_postgres() {
            let follower = Follower::join(ground.clone(), stale_bound).await?;
            running.push(tokio::spawn(follow(ground, follower, stale_bound, stopped)));
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

/// Writes what verifications left behind.
async fn write(verifier: Arc<Verifier>, limits: Arc<Limits>, every: Duration, mut stopped: watch::Receiver<bool>) {
    let mut timer = interval(every);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let last = tokio::select! {
            _ = timer.tick() => false,
            () = verifier.flush_wanted() => false,
            _ = stopped.changed() => true,
        };
        let flushed = flush(&limits, &verifier, if last { Haste::Yes } else { Haste::No }).await;
        if let Err(error) = &flushed {
            tracing::warn!(%error, "not everything could be written; it is kept");
        }
        while last && flushed.is_ok() && verifier.has_unwritten().await {
            if flush(&limits, &verifier, Haste::Yes).await.is_err() {
                return;
            }
        }
        if last {
            return;
        }
    }
}

/// Writes the counts of verifications.
async fn meter(usage: Usage, every: Duration, mut stopped: watch::Receiver<bool>) {
    let mut timer = interval(every);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let last = tokio::select! {
            _ = timer.tick() => false,
            () = usage.flush_wanted() => false,
            _ = stopped.changed() => true,
        };
        if let Err(error) = usage.flush().await {
            tracing::warn!(%error, "counts of verifications could not be written; they are kept");
        }
        if last {
            return;
        }
    }
}

/// Brings what verifications noted into the book.
async fn note(classes: Arc<Classes>, every: Duration, mut stopped: watch::Receiver<bool>) {
    let mut timer = interval(every);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let last = tokio::select! {
            _ = timer.tick() => false,
            () = classes.write_wanted() => false,
            _ = stopped.changed() => true,
        };
        if let Err(error) = classes.write().await {
            tracing::warn!(%error, "verifications could not be noted in the book; what has room is kept");
        }
        if last {
            return;
        }
    }
}

/// Adds written counts to the sums.
async fn fold(usage: Usage, every: Duration, mut stopped: watch::Receiver<bool>) {
    let mut timer = interval(every);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            _ = stopped.changed() => return,
        }
        // A part that is not added now is added later, by this node or another.
        tokio::select! {
            folded = usage.fold_slowly() => if let Err(error) = folded {
                tracing::warn!(%error, "counts of verifications could not be added up; it is tried again");
            },
            _ = stopped.changed() => return,
        }
    }
}

/// Adds what records left behind to the sums.
async fn add_up(usage: Usage, every: Duration, mut stopped: watch::Receiver<bool>) {
    let mut timer = interval(every);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            _ = stopped.changed() => return,
        }
        if let Err(error) = usage.add_up_all().await {
            tracing::warn!(%error, "what records add to the sums waits; it is tried again");
        }
    }
}

/// Makes due jobs and does what waits, one at a time. A node that stops gives back what it has not ended.
async fn work_jobs(jobs: Jobs, maintenance: Maintenance, mut stopped: watch::Receiver<bool>) {
    let mut timer = interval(LOOK_FOR_JOBS_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            () = jobs.work_wanted() => {}
            _ = stopped.changed() => return,
        }
        tokio::select! {
            worked = work_off(&jobs, &maintenance) => {
                if let Err(error) = worked {
                    tracing::warn!(%error, "the queue of jobs could not be worked off; it is tried again");
                }
            }
            _ = stopped.changed() => {
                if let Err(error) = Running::release(&jobs).await {
                    tracing::warn!(%error, "a job could not be given back; it waits for its lease to run out");
                }
                return;
            }
        }
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
async fn keep_times(
    plans: Plans,
    reservations: Reservations,
    audit: Audit,
    every: Duration,
    mut stopped: watch::Receiver<bool>,
) {
    let mut timer = interval(every);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            _ = stopped.changed() => return,
        }
        if let Err(error) = settle_due(&plans, &reservations).await {
            tracing::warn!(%error, "not everything that is due could be done; it is tried again");
        }
        if let Err(error) = audit.sequence().await {
            tracing::warn!(%error, "the events of the book could not be numbered; it is tried again");
        }
    }
}

/// Signs the book as it grows, the last time when the node stops.
async fn sign(proofs: Proofs, every: Duration, mut stopped: watch::Receiver<bool>) {
    let mut timer = interval_at(Instant::now() + every, every);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let last = tokio::select! {
            _ = timer.tick() => false,
            _ = stopped.changed() => true,
        };
        if let Err(error) = proofs.sign_new().await {
            tracing::warn!(%error, "the audit log could not be signed; it is tried again");
        }
        if last {
            return;
        }
    }
}

/// Re-reads what other nodes announced, several times within the bound, at once when told.
async fn follow(ground: Ground, mut follower: Follower, stale_bound: Duration, mut stopped: watch::Receiver<bool>) {
    let mut timer = interval(stale_bound / 4);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut hint = Hint::listen(&ground.db).await;
    let mut rounds_without = 0u32;
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            () = hint.next() => {}
            _ = stopped.changed() => return follower.leave().await,
        }
        // A re-read that hangs must not keep the next one from being tried.
        match timeout(stale_bound, follower.read()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the announcements could not be read"),
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
}

/// Sends the mails that wait.
async fn deliver(sessions: Arc<Sessions>, mut stopped: watch::Receiver<bool>) {
    let mut timer = interval(LOOK_FOR_MAILS_EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            () = sessions.delivery_wanted() => {}
            _ = stopped.changed() => return,
        }
        // What is not sent now is due again, for this node or another.
        tokio::select! {
            delivered = sessions.deliver() => if let Err(error) = delivered {
                tracing::warn!(%error, "mails could not be looked for; it is tried again");
            },
            _ = stopped.changed() => return,
        }
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
    mut stopped: watch::Receiver<bool>,
) {
    let mut timer = interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            _ = stopped.changed() => return,
        }
        for swept in [
            idempotency.forget().await,
            nodes::forget(&ground).await,
            limits.sweep().await,
            usage.forget().await,
            jobs.forget().await,
            sessions.sweep().await,
        ] {
            if let Err(error) = swept {
                tracing::warn!(%error, "a sweep failed");
            }
        }
    }
}
