//! Adds written batches of counts to the sums. Few counts are added at once. Many wait up to a minute, so that a key is
//! added once for all of it; then they are sorted into parts, each added in a transaction of its own, with pauses that leave
//! the database and the processor to others. Whoever reads the sums folds first, so reports are never behind the batches.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;
use uuid::Uuid;

use super::batch::{Batch, Entry, Group};
use super::rollup::{ALL_KEYS, Level};
use super::{Usage, sql as statements};
use crate::aside::{self, Share};
use crate::db::{Bind as _, DbError, Tx, row, sql};
use crate::error::Result;

/// Entries that are added at once.
const FEW: usize = 500;
/// Keys whose entries are added in one transaction when there are many: enough that the commit is not the most of it, few enough that
/// other writers do not wait long. What waited for several minutes adds to hardly more sums than one minute of the same keys: so a
/// fold that falls behind does not fall further behind for that.
const KEYS_OF_PART: usize = 128;
/// Entries of those keys.
const ENTRIES_OF_PART: usize = 1_024;
/// Entries, and sums, that are made ready before others run: some tens of microseconds, and some two hundred.
const ENTRIES_AT_ONCE: usize = 16;
const SUMS_AT_ONCE: usize = 128;
/// How long many counts wait for more.
const PATIENCE_SECONDS: i64 = 60;
/// Batches of which one transaction makes parts.
const MAX_BATCHES: usize = 4_096;
/// After each part, the fold rests for so many times the time that it took: one part in thirty of the processor.
const REST: u32 = 29;

/// Where a count is added: organization, level, time, key, secret, outcome, route.
type Place<'a> = (Uuid, &'static str, Timestamp, Uuid, Uuid, &'static str, &'a str);

row! {
    struct PendingRow {
        entry_count: i64,
        oldest: Option<Timestamp>,
        has_parts: i64,
    }
}

row! {
    struct BatchRow {
        id: Id<id::MeterBatch>,
        counts: Vec<u8>,
    }
}

impl BatchRow {
    fn read(&self) -> Result<Batch> {
        let batch = Batch::from_bytes(&self.counts);
        batch.ok_or_else(|| DbError::Unreadable(format!("the counts of batch {}", self.id)).into())
    }
}

impl Usage {
    /// Adds everything that is written to the sums, counts and records.
    pub async fn fold(&self) -> Result<()> {
        self.fold_counts().await?;
        self.add_up_all().await
    }

    /// Adds the written counts.
    pub(super) async fn fold_counts(&self) -> Result<()> {
        let pending: PendingRow = sql(statements::PENDING).one(&self.ground.db).await?;
        if pending.entry_count == 0 && pending.has_parts == 0 {
            return Ok(());
        }
        let _one_at_a_time = self.folding.lock().await;
        self.sort().await?;
        while self.add_part().await? {}
        Ok(())
    }

    /// The same on a timer: many counts only when their time has come, and slowly.
    pub(crate) async fn fold_slowly(&self) -> Result<()> {
        let PendingRow { entry_count, oldest, has_parts } = sql(statements::PENDING).one(&self.ground.db).await?;
        let due = self.ground.now().plus_seconds(-PATIENCE_SECONDS);
        let is_due = entry_count <= FEW as i64 || oldest.is_some_and(|oldest| oldest <= due);
        if has_parts == 0 && (entry_count == 0 || !is_due) {
            return Ok(());
        }
        if is_due {
            let _one_at_a_time = self.folding.lock().await;
            self.sort().await?;
        }
        loop {
            let start = Instant::now();
            let is_more = {
                let _one_at_a_time = self.folding.lock().await;
                self.add_part().await?
            };
            if !is_more {
                return Ok(());
            }
            tokio::time::sleep((start.elapsed() * REST).min(Duration::from_secs(1))).await;
        }
    }

    /// Makes parts of the batches, and adds them right away where they are few.
    async fn sort(&self) -> Result<()> {
        loop {
            let mut tx = self.ground.db.begin().await?;
            let (all, is_last) = take_batches(&mut tx).await?;
            if all.is_empty() {
                return Ok(());
            }
            if all.len() <= KEYS_OF_PART {
                add(&mut tx, &all).await?;
            } else {
                for (entries, counts) in by_keys(all).await? {
                    let insert = sql(statements::INSERT_BATCH)
                        .bind(self.ground.new_id::<id::MeterBatch>())
                        .bind(self.ground.now());
                    insert.bind(entries as i64).bind(true).bind(counts).execute(&mut tx).await?;
                }
            }
            tx.commit().await?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Adds one part; answers whether there was one.
    async fn add_part(&self) -> Result<bool> {
        let mut tx = self.ground.db.begin().await?;
        let row: Option<BatchRow> = statements::NEXT_PART.within(&tx).optional(&mut tx).await?;
        let Some(row) = row else { return Ok(false) };
        add(&mut tx, &row.read()?).await?;
        sql(statements::DELETE_BATCH).bind(row.id).execute(&mut tx).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// Takes written batches as one, and answers whether they were the last. One after the other, since keys return from batch to
/// batch: memory holds each but a few times.
async fn take_batches(tx: &mut Tx) -> Result<(Batch, bool)> {
    let (mut all, mut compacted) = (Batch::default(), FEW);
    let mut is_last = false;
    for _ in 0..MAX_BATCHES {
        let row: Option<BatchRow> = statements::NEXT_BATCH.within(tx).optional(&mut *tx).await?;
        let Some(row) = row else {
            is_last = true;
            break;
        };
        all.append(row.read()?);
        sql(statements::DELETE_BATCH).bind(row.id).execute(&mut *tx).await?;
        if all.len() > 2 * compacted {
            all = compact(all).await?;
            compacted = all.len().max(FEW);
        }
    }
    Ok((compact(all).await?, is_last))
}

/// Aside where it takes long: sorting a hundred thousand takes some ten milliseconds.
async fn compact(mut batch: Batch) -> Result<Batch> {
    if batch.len() <= FEW {
        batch.compact();
        return Ok(batch);
    }
    let work = move || {
        batch.compact();
        batch
    };
    aside::compute(Share::Quarter, work).await
}

/// In parts as they are written, each with how many entries it has; also made aside.
async fn by_keys(batch: Batch) -> Result<Vec<(usize, Vec<u8>)>> {
    let work = move || {
        let parts = batch.by_keys(KEYS_OF_PART, ENTRIES_OF_PART);
        parts.map(|part| (part.len(), part.to_bytes())).collect()
    };
    aside::compute(Share::Quarter, work).await
}

/// Adds the counts to the sums, in the order of the sums: so two nodes do not wait for each other.
async fn add(tx: &mut Tx, batch: &Batch) -> Result<()> {
    let mut sums: BTreeMap<Place<'_>, u64> = BTreeMap::new();
    let mut taken = 0;
    for (group, entries) in &batch.groups {
        for entry in entries {
            taken += 1;
            if taken % ENTRIES_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
            for place in places(group, entry) {
                *sums.entry(place).or_default() += entry.calls;
            }
        }
    }
    let row = |((organization, level, at, key, secret, outcome, route), calls): (Place<'_>, u64)| {
        let calls = i64::try_from(calls).unwrap_or(i64::MAX);
        [
            organization.into_value(),
            level.into_value(),
            at.into_value(),
            key.into_value(),
            secret.into_value(),
            outcome.into_value(),
            route.into_value(),
            calls.into_value(),
        ]
    };
    let mut sums = sums.into_iter();
    loop {
        let rows: Vec<_> = sums.by_ref().take(SUMS_AT_ONCE).map(row).collect();
        if rows.is_empty() {
            return Ok(());
        }
        statements::ADD_COUNTS.write(tx, rows).await?;
    }
}

/// Hours tell secret and route, days and months the key, and everything the organization.
fn places<'a>(group: &'a Group, entry: &Entry) -> impl Iterator<Item = Place<'a>> + use<'a> {
    let at = Timestamp::from_micros(0).plus_seconds(group.minute * 60);
    let (organization, outcome, Entry { key, secret, .. }) = (group.organization, group.outcome.as_str(), *entry);
    let place = move |level: Level, key, secret, route| {
        (organization, level.as_str(), level.start_of(at), key, secret, outcome, route)
    };
    let of_all = Level::ALL.into_iter().map(move |level| place(level, ALL_KEYS, ALL_KEYS, ""));
    let of_key = [Level::Day, Level::Month].into_iter().map(move |level| place(level, key, ALL_KEYS, ""));
    let details =
        std::iter::once_with(move || place(Level::Hour, key, secret, group.route.as_deref().unwrap_or_default()));
    of_all.chain(of_key.chain(details).filter(move |_| key != ALL_KEYS))
}
