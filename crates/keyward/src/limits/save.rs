//! Quotas survive: what was counted is added to the database in batches, and read back when a node first needs it.
//! Nodes on one database add to the same rows, and learn the others' use with each flush.

use std::collections::HashMap;
use std::sync::Arc;

use keyward_core::limit::Withheld;
use keyward_core::quota::{QuotaCounter, Unit};
use keyward_core::record::KeyRecord;
use keyward_core::time::Timestamp;
use uuid::Uuid;

use super::{Limits, sql as statements};
use crate::db::{Bind as _, row, sql};
use crate::error::Result;

/// Quotas saved in one statement.
const BATCH: usize = 1_000;
/// How long the use of past days and months is kept, in days.
const KEEP_DAYS: i64 = 100;
const KEEP_MONTHS: i64 = 800;

row! {
    struct SavedUse { start: Timestamp, used: i64 }
}

row! {
    struct AddedUse { subject: Uuid, unit: String, start: Timestamp, used: i64 }
}

impl Limits {
    /// Reads the saved use of every quota of the record that is not known for this period.
    pub(crate) async fn load(&self, record: &KeyRecord, now: Timestamp) -> Result<()> {
        let _alone = self.storing.lock().await;
        for quota in record.quotas() {
            if quota.counter.lock().bucket(now).is_none() {
                self.load_quota(quota, now).await?;
            }
        }
        Ok(())
    }

    async fn load_quota(&self, quota: &Withheld, now: Timestamp) -> Result<()> {
        let (bucket, since) = (quota.calendar.bucket(now), quota.calendar.since(now));
        let read = sql(statements::QUOTA_USE).bind(quota.counter.subject).bind(quota.counter.unit.as_str()).bind(since);
        let rows: Vec<SavedUse> = read.all(&self.ground.db).await?;
        let sum = |wanted: bool| -> u64 {
            let rows = rows.iter().filter(|row| (row.start == bucket.start) == wanted);
            rows.map(|row| u64::try_from(row.used).unwrap_or(0)).sum()
        };
        quota.counter.lock().load(bucket, since, sum(false), sum(true));
        Ok(())
    }

    /// Adds what was counted since the last time to the database. What it does not take stays and is tried again.
    pub(crate) async fn save(&self) -> Result<()> {
        let _alone = self.storing.lock().await;
        let mut dirty = std::mem::take(&mut *self.dirty.lock().expect("no one panics while noting"));
        // In one order on every node, so that two of them never wait for each other's rows.
        dirty.sort_by_key(|counter| (counter.subject, counter.unit));
        let mut left = dirty.as_slice();
        while !left.is_empty() {
            let (batch, rest) = left.split_at(left.len().min(BATCH));
            if let Err(error) = self.save_batch(batch).await {
                self.dirty.lock().expect("no one panics while noting").extend(left.iter().cloned());
                return Err(error);
            }
            left = rest;
        }
        Ok(())
    }

    async fn save_batch(&self, batch: &[Arc<QuotaCounter>]) -> Result<()> {
        let counts: Vec<(&Arc<QuotaCounter>, Timestamp, i64)> = batch
            .iter()
            .flat_map(|counter| {
                let unsaved = counter.lock().unsaved().to_vec();
                unsaved.into_iter().map(move |(start, count)| (counter, start, count))
            })
            .collect();
        let row = |(counter, start, count): &(&Arc<QuotaCounter>, Timestamp, i64)| {
            let subject = counter.subject.into_value();
            [subject, counter.unit.as_str().into_value(), start.into_value(), count.into_value()]
        };
        let mut tx = self.ground.db.begin().await?;
        let added: Vec<AddedUse> = statements::ADD_USE.tell(&mut tx, counts.iter().map(row).collect()).await?;
        tx.commit().await?;
        let stands = |row: &AddedUse| ((row.subject, row.start, row.unit == Unit::Day.as_str()), row.used);
        let stands: HashMap<_, _> = added.iter().map(stands).collect();
        for (counter, start, count) in counts {
            let total = stands.get(&(counter.subject, start, counter.unit == Unit::Day));
            let total = total.map_or(0, |used| u64::try_from(*used).unwrap_or(0));
            let mut used = counter.lock();
            used.saved(start, count, total);
            if !used.unsaved().is_empty() {
                // Counted while it was being saved.
                self.dirty.lock().expect("no one panics while noting").push(counter.clone());
            }
        }
        Ok(())
    }

    /// Gives back, or takes after the fact, of a quota's bucket.
    pub(crate) fn adjust(&self, subject: Uuid, unit: Unit, bucket: Timestamp, count: i64) {
        let counter = self.counters.find_or_new_quota(subject, unit);
        if counter.lock().add(bucket, count) {
            self.dirty.lock().expect("no one panics while noting").push(counter);
        }
    }

    /// Drops counters that nobody needs and the use of periods long past.
    pub(crate) async fn sweep(&self) -> Result<()> {
        let now = self.ground.now();
        self.counters.sweep(now);
        for (unit, days) in [(Unit::Day, KEEP_DAYS), (Unit::Month, KEEP_MONTHS)] {
            let forget = sql(statements::FORGET_USE).bind(unit.as_str()).bind(now.plus_days(-days));
            forget.execute(&self.ground.db).await?;
        }
        Ok(())
    }
}
