//! Where a sink stands, and who delivers: a row that only the holder of its lease may move. A node that dies lets the lease run out,
//! and another takes over.

use std::time::Duration;

use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;
use tokio::time::{MissedTickBehavior, interval};

use super::record::Gap;
use super::sql as statements;
use crate::audit::Event;
use crate::change::Change;
use crate::context::Context;
use crate::db::{Sql, row, sql};
use crate::error::Result;
use crate::ground::Ground;

const LEASE_SECONDS: i64 = 10;
/// A lease that ends sooner is taken anew before work begins.
const SPARE_SECONDS: i64 = 5;
const RENEW_EVERY: Duration = Duration::from_secs(3);

row! {
    pub struct CursorRow {
        pub next_sequence: i64,
        holder: Option<Id<id::Node>>,
        lease_until: Option<Timestamp>,
        pub checkpoint_size: i64,
        pub checkpoint_at: Option<Timestamp>,
        gap_from: Option<i64>,
        gap_to: Option<i64>,
        gap_count: Option<i64>,
        gap_reason: Option<String>,
        pub delivered_count: i64,
        pub failure_count: i64,
        pub retry_at: Option<Timestamp>,
        pub succeeded_at: Option<Timestamp>,
        pub failed_at: Option<Timestamp>,
        pub error: Option<String>,
    }
}

impl CursorRow {
    /// The gap of which the sink is still to be told.
    pub fn gap(&self) -> Option<Gap> {
        let (from, to, count) = (self.gap_from?, self.gap_to?, self.gap_count?);
        Some(Gap { from, to, count, reason: self.gap_reason.clone().unwrap_or_default() })
    }

    pub fn add_gap(&mut self, gap: Gap) {
        let gap = match self.gap() {
            Some(known) => known.with(gap),
            None => gap,
        };
        self.set_gap(Some(gap));
    }

    pub fn set_gap(&mut self, gap: Option<Gap>) {
        (self.gap_from, self.gap_to) = (gap.as_ref().map(|gap| gap.from), gap.as_ref().map(|gap| gap.to));
        (self.gap_count, self.gap_reason) = (gap.as_ref().map(|gap| gap.count), gap.map(|gap| gap.reason));
    }
}

/// A sink's row, as this node sees it.
pub struct Cursor {
    pub ground: Ground,
    pub name: String,
    pub node: Id<id::Node>,
}

impl Cursor {
    /// The row; a new sink begins with the first event that the book still has.
    pub async fn read(&self, kept_from: i64) -> Result<CursorRow> {
        if let Some(row) = sql(statements::GET).bind(&self.name).optional(&self.ground.db).await? {
            return Ok(row);
        }
        sql(statements::FIRST).bind(&self.name).bind(kept_from).execute(&self.ground.db).await?;
        Ok(sql(statements::GET).bind(&self.name).one(&self.ground.db).await?)
    }

    /// The row with the lease on it; `None` while another node holds that.
    pub async fn hold(&self, row: CursorRow) -> Result<Option<CursorRow>> {
        let now = self.ground.now();
        let lasts = row.lease_until.is_some_and(|until| until > now.plus_seconds(SPARE_SECONDS));
        if row.holder == Some(self.node) && lasts {
            return Ok(Some(row));
        }
        let mut tx = self.ground.db.begin().await?;
        let until = now.plus_seconds(LEASE_SECONDS);
        let claim = sql(statements::CLAIM).bind(&self.name).bind(self.node).bind(until).bind(now);
        let row = claim.optional(&mut tx).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Keeps the lease; returns when it is lost.
    pub async fn keep(&self) {
        let mut until = self.ground.now().plus_seconds(SPARE_SECONDS);
        let mut beat = interval(RENEW_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.tick().await;
        loop {
            beat.tick().await;
            let next = self.ground.now().plus_seconds(LEASE_SECONDS);
            let renew = sql(statements::RENEW).bind(&self.name).bind(self.node).bind(next);
            match renew.execute(&self.ground.db).await {
                Ok(0) => return,
                Ok(_) => until = next,
                Err(error) => {
                    tracing::warn!(%error, sink = self.name, "the lease of a sink could not be renewed");
                    if self.ground.now() >= until {
                        return;
                    }
                }
            }
        }
    }

    /// Lets another node deliver.
    pub async fn release(&self) -> Result<()> {
        sql(statements::RELEASE).bind(&self.name).bind(self.node).execute(&self.ground.db).await?;
        Ok(())
    }

    /// Writes the row, with a line in the book if there is something to note. `false`: the lease was lost.
    pub async fn save(&self, row: &CursorRow, event: Option<Event>) -> Result<bool> {
        let Some(event) = event else {
            return Ok(self.write(row).execute(&self.ground.db).await? > 0);
        };
        let context = Context::system("sinks");
        let mut change = Change::begin(&self.ground, &context).await?;
        let touched = self.write(row).execute(change.tx()).await?;
        if touched > 0 {
            change.commit(event).await?;
        }
        Ok(touched > 0)
    }

    fn write(&self, row: &CursorRow) -> Sql {
        sql(statements::SAVE)
            .bind(&self.name)
            .bind(self.node)
            .bind(row.next_sequence)
            .bind(row.checkpoint_size)
            .bind(row.checkpoint_at)
            .bind(row.gap_from)
            .bind(row.gap_to)
            .bind(row.gap_count)
            .bind(row.gap_reason.clone())
            .bind(row.delivered_count)
            .bind(row.failure_count)
            .bind(row.retry_at)
            .bind(row.succeeded_at)
            .bind(row.failed_at)
            .bind(row.error.clone())
    }
}
