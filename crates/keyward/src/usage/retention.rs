//! What is out of date is deleted, a bounded number of rows at a time, so that records get in between.

use keyward_core::time::Timestamp;

use super::rollup::Level;
use super::{Usage, sql as statements};
use crate::db::{Sql, sql};
use crate::error::Result;

/// Rows deleted in one transaction.
const STEP: i64 = 2_000;
/// Most transactions of one kind in a round; the next round goes on.
const MAX_STEPS: usize = 500;
/// A node that has not written for so long has ended, and its last batch is decided.
const METER_DAYS: i64 = 7;

impl Usage {
    /// Records before this instant are not kept, and not taken in.
    pub(super) fn oldest_record(&self, now: Timestamp) -> Timestamp {
        now.plus_days(-i64::from(self.settings.record_retention_days))
    }

    /// Deletes records and sums that are older than the settings keep them.
    pub async fn forget(&self) -> Result<()> {
        let now = self.ground.now();
        let oldest = self.oldest_record(now);
        self.delete(|| sql(statements::FORGET_RECORDS).bind(oldest).bind(STEP)).await?;
        for level in Level::ALL {
            let days = match level {
                Level::Minute => self.settings.minute_retention_days,
                Level::Hour => self.settings.hour_retention_days,
                Level::Day => self.settings.day_retention_days,
                Level::Month => self.settings.month_retention_days,
            };
            if days == 0 {
                continue;
            }
            let oldest = now.plus_days(-i64::from(days));
            for statement in [statements::FORGET_SUMS, statements::FORGET_COUNTS] {
                self.delete(|| sql(statement).bind(level.as_str()).bind(oldest).bind(STEP)).await?;
            }
            if level == Level::Day {
                self.delete(|| sql(statements::FORGET_ERRORS).bind(oldest).bind(STEP)).await?;
            }
        }
        sql(statements::FORGET_METERS).bind(now.plus_days(-METER_DAYS)).execute(&self.ground.db).await?;
        Ok(())
    }

    async fn delete(&self, statement: impl Fn() -> Sql) -> Result<()> {
        for _ in 0..MAX_STEPS {
            if statement().execute(&self.ground.db).await? < STEP as u64 {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}
