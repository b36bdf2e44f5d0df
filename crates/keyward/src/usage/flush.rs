//! Writes down what the meter counted, a batch a transaction. A batch whose commit was not answered is looked for in the
//! table `meter` before anything else is written: so no count is lost, and none is added twice.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use keyward_core::time::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::meter::{Counted, MAX_COUNTS};
use super::rollup::{ALL_KEYS, Level};
use super::{Usage, sql as statements};
use crate::db::{Json, sql};
use crate::error::Result;

/// Counts written in one transaction.
const BATCH: usize = 500;

/// Counts that were taken from the meter and are not known to be written.
#[derive(Default)]
pub(super) struct Waiting {
    counts: BTreeMap<Counted, i64>,
    /// A batch whose commit was begun, and its number.
    doubtful: Option<(i64, Vec<(Counted, i64)>)>,
    /// The number of the last batch that is known to be written.
    last: i64,
    /// The day of the last flush.
    day: Option<Timestamp>,
}

/// Where a count is added: level, time, key, secret, route.
type Place<'a> = (Uuid, &'static str, Timestamp, Uuid, Uuid, &'static str, &'a str);

impl Usage {
    /// Writes every count. What the database does not take is kept for the next time, up to a bound.
    pub async fn flush(&self) -> Result<()> {
        let meter = &*self.meter;
        let mut waiting = meter.waiting.lock().await;
        let flush = meter.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let day = Some(Level::Day.start_of(self.ground.now()));
        if waiting.day != day {
            waiting.day = day;
            meter.forget_routes();
        }
        meter.take(&mut waiting.counts);
        while waiting.counts.len() > MAX_COUNTS {
            let (_, calls) = waiting.counts.pop_last().expect("there are counts");
            meter.metrics.unmetered.inc_by(calls.unsigned_abs());
        }
        self.settle_doubts(&mut waiting).await?;
        while !waiting.counts.is_empty() {
            let number = waiting.last + 1;
            let mut batch = Vec::with_capacity(BATCH);
            while batch.len() < BATCH
                && let Some(count) = waiting.counts.pop_first()
            {
                batch.push(count);
            }
            waiting.doubtful = Some((number, batch));
            self.write_batch(&waiting).await?;
            waiting.doubtful = None;
            waiting.last = number;
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
        let mut tx = self.ground.db.begin().await?;
        let (written,): (i64,) = ask.one(&mut tx).await?;
        tx.commit().await?;
        let is_written = written == *number;
        waiting.last = written;
        for (counted, calls) in waiting.doubtful.take().into_iter().flat_map(|(_, batch)| batch) {
            if !is_written {
                *waiting.counts.entry(counted).or_default() += calls;
            }
        }
        Ok(())
    }

    async fn write_batch(&self, waiting: &Waiting) -> Result<()> {
        let Some((number, batch)) = &waiting.doubtful else { return Ok(()) };
        let mut sums: BTreeMap<Place<'_>, i64> = BTreeMap::new();
        for (counted, calls) in batch {
            for place in places(counted) {
                *sums.entry(place).or_default() += calls;
            }
        }
        let row = |((organization, level, at, key, secret, outcome, route), calls): (&Place<'_>, &i64)| {
            let id = |id: &Uuid| id.simple().to_string();
            json!([id(organization), level, at.as_micros(), id(key), id(secret), outcome, route, calls])
        };
        let rows: Vec<Value> = sums.iter().map(row).collect();
        let (node, now) = (self.meter.node, self.ground.now());
        let mut tx = self.ground.db.begin().await?;
        sql(statements::LAST_BATCH).bind(node).bind(now).one::<(i64,)>(&mut tx).await?;
        sql(statements::NOTE_BATCH).bind(node).bind(*number).bind(now).execute(&mut tx).await?;
        statements::ADD_COUNTS.within(&tx).bind(Json(rows)).execute(&mut tx).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Hours tell secret and route, days and months the key, and everything the organization.
fn places(counted: &Counted) -> impl Iterator<Item = Place<'_>> {
    let at = Timestamp::from_micros(0).plus_seconds(counted.minute * 60);
    let Counted { organization, key, secret, outcome, .. } = *counted;
    let nobody = key == ALL_KEYS;
    let place = move |level: Level, key, secret, route| {
        (organization, level.as_str(), level.start_of(at), key, secret, outcome, route)
    };
    let of_all = Level::ALL.into_iter().map(move |level| place(level, ALL_KEYS, ALL_KEYS, ""));
    let of_key = [Level::Day, Level::Month].into_iter().map(move |level| place(level, key, ALL_KEYS, ""));
    let details = std::iter::once_with(move || place(Level::Hour, key, secret, &counted.route));
    of_all.chain(of_key.chain(details).filter(move |_| !nobody))
}
