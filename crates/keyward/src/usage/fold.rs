//! Adds written batches of counts to the sums. Few counts are added at once. Many wait up to a minute, so that a key is
//! added once for all of it; then they are gathered into parts, each added in a transaction of its own, with pauses that leave
//! the database and the processor to others. Whoever reads the sums folds first, so reports are never behind the batches.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::batch::{Batch, Entry, Group};
use super::gathered::Gathered;
use super::rollup::{ALL_KEYS, Level};
use super::{Usage, sql as statements};
use crate::aside::{self, Share, Turns};
use crate::db::{Bind as _, DbError, Json, Tx, row, sql};
use crate::error::{Error, Result};

/// Entries that are added at once.
const FEW: usize = 500;
/// Parts that are added at once: what all keys of the organizations have, and one of keys. With more, the sums would not be in order.
const FEW_PARTS: usize = 2;
/// Entries, and sums, that are made ready before others run: some tens of microseconds, and some two hundred.
const ENTRIES_AT_ONCE: usize = 16;
const SUMS_AT_ONCE: usize = 128;
/// How long many counts wait for more.
const PATIENCE_SECONDS: i64 = 60;
/// Batches that are gathered at a time.
const MOST_BATCHES: i64 = 4_096;
/// Batches that are read ahead of those that are being gathered.
const READ_AHEAD: usize = 2;
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

/// What stands in written batches, by keys.
struct Sorted {
    batches: Vec<Id<id::MeterBatch>>,
    parts: Vec<Batch>,
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

    /// Makes parts of the batches, and adds them right away where they are few. Nobody else waits while they are read and
    /// gathered; what another node has taken meanwhile is found out in the end.
    async fn sort(&self) -> Result<()> {
        while let Some(Sorted { batches, parts }) = self.gather().await? {
            let ids: Vec<String> = batches.iter().map(|id| id.uuid().simple().to_string()).collect();
            let mut tx = self.ground.db.begin().await?;
            let deleted = statements::DELETE_BATCHES.within(&tx).bind(Json(ids)).execute(&mut tx).await?;
            if deleted < batches.len() as u64 {
                // Rolled back: another node has sorted some of them.
                continue;
            }
            if parts.len() <= FEW_PARTS {
                for part in &parts {
                    add(&mut tx, part).await?;
                }
            } else {
                for part in parts {
                    let insert = sql(statements::INSERT_BATCH)
                        .bind(self.ground.new_id::<id::MeterBatch>())
                        .bind(self.ground.now())
                        .bind(part.len() as i64);
                    insert.bind(true).bind(part.to_bytes()).execute(&mut tx).await?;
                }
            }
            tx.commit().await?;
        }
        Ok(())
    }

    /// Reads the batches that wait, up to a bound. A hundred thousand counts take some hundred milliseconds to gather: aside.
    async fn gather(&self) -> Result<Option<Sorted>> {
        let db = &self.ground.db;
        let waiting: Vec<(Id<id::MeterBatch>,)> = sql(statements::WAITING_BATCHES).bind(MOST_BATCHES).all(db).await?;
        if waiting.is_empty() {
            return Ok(None);
        }
        let (read, arriving) = mpsc::channel(READ_AHEAD);
        let reading = async move {
            for (id,) in waiting {
                // Where another node was quicker there is none.
                let row: Option<BatchRow> = sql(statements::BATCH).bind(id).optional(db).await?;
                if let Some(row) = row
                    && read.send(row).await.is_err()
                {
                    break;
                }
            }
            Ok::<_, Error>(())
        };
        let gathering = async { aside::compute(Share::Quarter, || in_parts(arriving)).await? };
        let (sorted, ()) = tokio::try_join!(gathering, reading)?;
        Ok(Some(sorted))
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

/// Makes parts of the batches that arrive, until there are no more or enough.
fn in_parts(mut arriving: mpsc::Receiver<BatchRow>) -> Result<Sorted> {
    let (mut gathered, mut batches, mut turns) = (Gathered::default(), Vec::new(), Turns::begin());
    while !gathered.is_full()
        && let Some(row) = arriving.blocking_recv()
    {
        gathered.add(row.read()?, &mut turns);
        batches.push(row.id);
    }
    // Whoever reads ahead may stop.
    drop(arriving);
    Ok(Sorted { batches, parts: gathered.into_parts(&mut turns) })
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
            for place in places(group, entry, batch.is_of_keys) {
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

/// Hours tell secret and route, days and months the key, and everything the organization where it is not of the key alone.
fn places<'a>(group: &'a Group, entry: &Entry, is_of_key: bool) -> impl Iterator<Item = Place<'a>> + use<'a> {
    let at = Timestamp::from_micros(0).plus_seconds(group.minute * 60);
    let (organization, outcome, Entry { key, secret, .. }) = (group.organization, group.outcome.as_str(), *entry);
    let place = move |level: Level, key, secret, route| {
        (organization, level.as_str(), level.start_of(at), key, secret, outcome, route)
    };
    let of_all = Level::ALL.into_iter().map(move |level| place(level, ALL_KEYS, ALL_KEYS, ""));
    let of_key = [Level::Day, Level::Month].into_iter().map(move |level| place(level, key, ALL_KEYS, ""));
    let details =
        std::iter::once_with(move || place(Level::Hour, key, secret, group.route.as_deref().unwrap_or_default()));
    of_all.filter(move |_| !is_of_key).chain(of_key.chain(details).filter(move |_| key != ALL_KEYS))
}
