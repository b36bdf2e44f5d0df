//! Writes down what the meter counted: thousands of counts in a row, so that what has to be durable within a second costs little
//! however many keys there are, and a core that is shared is not held for long. A batch whose commit was not answered is looked
//! for in the table `meter` before anything else is written: so no count is lost, and none is written twice. Where metering is
//! strict, verdicts wait for this. `fold` adds the batches to the sums.

use std::sync::atomic::Ordering;

use keyward_core::id;
use keyward_core::time::Timestamp;

use super::batch::Batch;
use super::rollup::Level;
use super::{Usage, sql as statements};
use crate::db::sql;
use crate::error::Result;

/// Counts of one row, each some 25 bytes: its pages are written in one piece, which takes some 0.2 ms.
const WRITTEN_AT_ONCE: usize = 5_000;

/// Counts that were taken from the meter and are not known to be written.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) counts: Batch,
    /// A batch whose commit was begun, and its number.
    doubtful: Option<(i64, Batch)>,
    /// The number of the last batch that is known to be written.
    last: i64,
    /// The day of the last flush.
    day: Option<Timestamp>,
}

impl Usage {
    /// Writes every count. What the database does not take is kept for the next time, up to a bound. It is run to its end: whoever
    /// drops it loses counts, and their keys are counted apart from then on.
    pub async fn flush(&self) -> Result<()> {
        let meter = &*self.meter;
        let mut waiting = meter.waiting.lock().await;
        let flush = meter.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let day = Some(Level::Day.start_of(self.ground.now()));
        if waiting.day != day {
            waiting.day = day;
            meter.forget_routes();
        }
        meter.take(&mut waiting.counts).await;
        self.settle_doubts(&mut waiting).await?;
        let mut parts = std::mem::take(&mut waiting.counts).into_parts(WRITTEN_AT_ONCE);
        while let Some(part) = parts.next() {
            waiting.doubtful = Some((waiting.last + 1, part));
            if let Err(error) = self.write(&waiting).await {
                parts.for_each(|part| waiting.counts.append(part));
                return Err(error);
            }
            waiting.doubtful = None;
            waiting.last += 1;
        }
        meter.settled.send_replace(flush);
        Ok(())
    }

    /// Returns when a flush is wanted before its time.
    pub(crate) async fn flush_wanted(&self) {
        self.meter.flush_wanted().await;
    }

    /// Finds out whether the last batch was committed; if not, its counts wait again.
    async fn settle_doubts(&self, waiting: &mut Waiting) -> Result<()> {
        let Some((number, _)) = &waiting.doubtful else { return Ok(()) };
        // Writes its row as well, and so waits for a commit that is still under way.
        let ask = sql(statements::LAST_BATCH).bind(self.meter.node).bind(self.ground.now());
        let mut tx = self.ground.db.prompt().begin().await?;
        let (written,): (i64,) = ask.one(&mut tx).await?;
        tx.commit().await?;
        let is_written = written == *number;
        waiting.last = written;
        if let Some((_, batch)) = waiting.doubtful.take()
            && !is_written
        {
            waiting.counts.append(batch);
        }
        Ok(())
    }

    async fn write(&self, waiting: &Waiting) -> Result<()> {
        let Some((number, batch)) = &waiting.doubtful else { return Ok(()) };
        let (node, now) = (self.meter.node, self.ground.now());
        let counts = batch.to_bytes();
        let mut tx = self.ground.db.prompt().begin().await?;
        sql(statements::LAST_BATCH).bind(node).bind(now).one::<(i64,)>(&mut tx).await?;
        sql(statements::NOTE_BATCH).bind(node).bind(*number).bind(now).execute(&mut tx).await?;
        let insert = sql(statements::INSERT_BATCH)
            .bind(self.ground.new_id::<id::MeterBatch>())
            .bind(now)
            .bind(batch.len() as i64);
        insert.bind(false).bind(counts).execute(&mut tx).await?;
        tx.commit().await?;
        Ok(())
    }
}
