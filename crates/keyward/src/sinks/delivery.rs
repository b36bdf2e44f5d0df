//! One sink at work: look whether there is something to send, take the lease, send batch after batch, and write down what became of
//! each. A failure ends the round; the row then says when the next may begin.

use std::time::Duration;

use keyward_core::time::Timestamp;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::SinkHealth;
use super::backoff::wait_after;
use super::batch::{Batch, GAP_NOTED, Step};
use super::cursor::{Cursor, CursorRow};
use super::record::Gap;
use super::transports::{Transport, Trouble};
use crate::audit::{Audit, Event, EventType, Head};
use crate::config::SinkSettings;
use crate::error::Result;
use crate::metrics::SinkMeter;
use crate::proofs::Proofs;

/// How often is looked without news: for events of other nodes, leases that ran out, waits that are over.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a batch may take to end when the node stops.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

pub struct Delivery {
    pub(super) settings: SinkSettings,
    pub(super) transport: Transport,
    pub(super) cursor: Cursor,
    pub(super) audit: Audit,
    pub(super) proofs: Proofs,
    /// The name of the book.
    pub(super) log: String,
    pub(super) meter: SinkMeter,
    pub(super) nudged: Notify,
}

/// What sending came to.
struct Sent {
    /// Lines that are settled: taken, or refused for ever.
    settled: usize,
    refused: Vec<(usize, String)>,
    /// Why it ended before the last line, and how long the sink wants to be left in peace.
    failed: Option<(String, Option<Duration>)>,
}

impl Delivery {
    /// Delivers until told to stop; then ends its batch and gives the lease back.
    pub(super) async fn run(&self, mut stopped: watch::Receiver<bool>) {
        let mut grown = self.audit.watch();
        let mut timer = interval(LOOK_EVERY);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let nudged = tokio::select! {
                _ = timer.tick() => false,
                _ = grown.changed() => false,
                () = self.nudged.notified() => true,
                _ = stopped.changed() => break,
            };
            let mut last = stopped.clone();
            let looked = tokio::select! {
                looked = self.look(nudged, &stopped) => looked,
                () = async { last.changed().await.ok(); sleep(LAST_PATIENCE).await } => break,
            };
            if let Err(error) = looked {
                tracing::warn!(%error, sink = self.settings.name, "a sink's cursor could not be read or written; it is tried again");
            }
        }
        if let Err(error) = self.cursor.release().await {
            tracing::warn!(%error, sink = self.settings.name, "the lease of a sink could not be given back");
        }
    }

    async fn look(&self, nudged: bool, stopped: &watch::Receiver<bool>) -> Result<()> {
        let Some(head) = self.audit.head().await? else { return Ok(()) };
        let row = self.cursor.read(head.kept_from).await?;
        self.meter.lag.set((head.size - row.next_sequence).max(0));
        let rests = row.retry_at.is_some_and(|at| at > self.cursor.ground.now()) && !nudged;
        if rests || !self.has_work(&row, &head).await? {
            return Ok(());
        }
        let Some(row) = self.cursor.hold(row).await? else { return Ok(()) };
        tokio::select! {
            delivered = self.deliver(row, stopped) => delivered,
            () = self.cursor.keep() => {
                tracing::warn!(sink = self.settings.name, "another node has taken a sink over");
                Ok(())
            }
        }
    }

    async fn has_work(&self, row: &CursorRow, head: &Head) -> Result<bool> {
        if row.next_sequence < head.size || row.gap().is_some() {
            return Ok(true);
        }
        let latest = self.proofs.latest().await?.map_or(0, |latest| latest.checkpoint.size as i64);
        Ok(latest > row.checkpoint_size && latest <= row.next_sequence)
    }

    /// Sends until nothing is left, the sink fails, or the lease is lost.
    async fn deliver(&self, mut row: CursorRow, stopped: &watch::Receiver<bool>) -> Result<()> {
        while !*stopped.borrow() {
            if !self.pass_over_retired(&mut row).await? {
                return Ok(());
            }
            let batch = self.batch(&row).await?;
            if batch.lines.is_empty() && batch.next_sequence == row.next_sequence {
                return Ok(());
            }
            let sent = self.send(&batch).await;
            let has_failed = sent.failed.is_some();
            if !self.settle(&mut row, &batch, sent).await? || has_failed {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Events that retention took out of the book before they were sent are a gap. `false`: the lease was lost.
    async fn pass_over_retired(&self, row: &mut CursorRow) -> Result<bool> {
        let kept_from = self.audit.head().await?.map_or(0, |head| head.kept_from);
        let (from, count) = (row.next_sequence, kept_from - row.next_sequence);
        if count <= 0 {
            return Ok(true);
        }
        let reason = "retention took them out of the book before they were sent".to_owned();
        let gap = Gap { from, to: kept_from - 1, count, reason };
        row.next_sequence = kept_from;
        row.add_gap(gap.clone());
        self.cursor.save(row, Some(self.noted(&gap))).await
    }

    /// Sends a batch once. Where the sink refuses it as a whole, it is halved until the lines are found that it refuses.
    async fn send(&self, batch: &Batch) -> Sent {
        let mut sent = Sent { settled: 0, refused: Vec::new(), failed: None };
        let mut width = batch.lines.len();
        while sent.settled < batch.lines.len() {
            let from = sent.settled;
            let to = (from + width).min(batch.lines.len());
            match self.transport.send(&batch.lines[from..to]).await {
                Ok(taken) => {
                    sent.refused.extend(taken.refused.into_iter().map(|(place, why)| (from + place, why)));
                    sent.settled = to;
                    if let Some((place, why)) = taken.stopped {
                        sent.settled = from + place;
                        sent.failed = Some((why, None));
                        break;
                    }
                    width *= 2;
                }
                Err(Trouble::Refused(why)) if to - from == 1 => {
                    sent.refused.push((from, why));
                    sent.settled = to;
                }
                Err(Trouble::Refused(_)) => width = (to - from) / 2,
                Err(Trouble::Later(why, wait)) => {
                    sent.failed = Some((why, wait));
                    break;
                }
            }
        }
        sent
    }

    /// Moves the cursor behind what is settled. `false`: the lease was lost, and another node goes on from the old place.
    async fn settle(&self, row: &mut CursorRow, batch: &Batch, sent: Sent) -> Result<bool> {
        let now = self.cursor.ground.now();
        let mut events = 0;
        for step in &batch.steps[..sent.settled] {
            match *step {
                Step::Event { sequence, .. } => {
                    row.next_sequence = sequence + 1;
                    events += 1;
                }
                Step::Gap => row.set_gap(None),
                Step::Checkpoint { size } => (row.checkpoint_size, row.checkpoint_at) = (size, Some(now)),
            }
        }
        if sent.settled == batch.lines.len() {
            row.next_sequence = batch.next_sequence;
        }
        let gap = batch.gap_of(&sent.refused);
        let missing = gap.as_ref().map_or(0, |(gap, _)| gap.count);
        let delivered = events - missing;
        row.delivered_count += delivered;
        if let Some((_, why)) = sent.refused.first() {
            tracing::warn!(
                sink = self.settings.name,
                count = sent.refused.len(),
                why,
                "a sink refused records; they are passed over"
            );
            (row.failed_at, row.error) = (Some(now), Some(why.clone()));
        }
        self.note_outcome(row, &sent, now);
        let note = gap.and_then(|(gap, is_noted)| {
            row.add_gap(gap.clone());
            is_noted.then(|| self.noted(&gap))
        });
        let saved = self.cursor.save(row, note).await?;
        if saved {
            self.meter.delivered.inc_by(delivered.max(0) as u64);
        }
        Ok(saved)
    }

    fn note_outcome(&self, row: &mut CursorRow, sent: &Sent, now: Timestamp) {
        let Some((why, wait)) = &sent.failed else {
            (row.failure_count, row.retry_at, row.succeeded_at) = (0, None, Some(now));
            return;
        };
        // What moves on has not failed before.
        row.failure_count = if sent.settled > 0 { 1 } else { row.failure_count + 1 };
        let wait = wait_after(row.failure_count, *wait);
        row.retry_at = Some(Timestamp::from_micros(now.as_micros().saturating_add(wait.as_micros() as i64)));
        (row.failed_at, row.error) = (Some(now), Some(why.clone()));
        self.meter.failures.inc();
        tracing::warn!(
            sink = self.settings.name,
            why,
            failures = row.failure_count,
            ?wait,
            "a sink could not be delivered to"
        );
    }

    /// The line of the book about events that this sink does not get.
    fn noted(&self, gap: &Gap) -> Event {
        let details = json!({ "count": gap.count, "from": gap.from, "to": gap.to, "reason": gap.reason });
        Event::new(EventType::System, GAP_NOTED, "sink", &self.settings.name).details(details)
    }

    pub(super) async fn health(&self) -> Result<SinkHealth> {
        let (size, kept_from) = self.audit.head().await?.map_or((0, 0), |head| (head.size, head.kept_from));
        let row = self.cursor.read(kept_from).await?;
        Ok(SinkHealth {
            name: self.settings.name.clone(),
            kind: self.settings.kind.as_str(),
            format: self.settings.format.as_str(),
            next_sequence: row.next_sequence,
            lag: (size - row.next_sequence).max(0),
            delivered_count: row.delivered_count,
            failure_count: row.failure_count,
            checkpoint_size: row.checkpoint_size,
            succeeded_at: row.succeeded_at,
            failed_at: row.failed_at,
            error: row.error,
            retry_at: row.retry_at,
        })
    }
}
