//! Sums by minute, hour, day and month: which are kept is one table, `GRAINS`. Batches are summed up in memory first; then
//! the stored sums they touch are read, added to, and written back under one lock.

use std::borrow::Cow;
use std::collections::HashMap;

use keyward_core::id::{self, Id};
use keyward_core::month::Month;
use keyward_core::time::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::record::Record;
use super::sql as statements;
use super::totals::{RollupRow, Totals};
use crate::db::{Bind as _, Json, Tx, sql};
use crate::error::Result;

/// How long the time is that one sum covers; times are UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Level {
    Minute,
    Hour,
    Day,
    Month,
}

/// What one sum is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    Organization,
    Key,
    Route,
}

/// Every kind of sum that is kept. Calls are added to the first level of each, which the others are made of. Reports read days
/// and months only; minutes and hours are for what happened just now.
const GRAINS: [(About, &[Level]); 3] = [
    (About::Organization, &[Level::Minute, Level::Hour, Level::Day, Level::Month]),
    (About::Key, &[Level::Day, Level::Month]),
    (About::Route, &[Level::Day, Level::Month]),
];

/// Most routes of an organization that have sums of their own in a day or a month.
const MAX_ROUTES: usize = 1_000;
/// Where the calls of further routes are summed up.
pub(super) const OTHER_ROUTES: &str = "* other";
/// Sums written in one statement.
const CHUNK: usize = 1_000;

/// Stands for all keys of an organization.
pub(super) const ALL_KEYS: Uuid = Uuid::nil();

impl Level {
    pub(super) const ALL: [Self; 4] = [Self::Minute, Self::Hour, Self::Day, Self::Month];

    pub(super) fn as_str(self) -> &'static str {
        ["minute", "hour", "day", "month"][self as usize]
    }

    /// The first instant of the minute, hour, day or month in which `at` lies.
    pub(super) fn start_of(self, at: Timestamp) -> Timestamp {
        let seconds = match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Month => return Month::of(at).start(),
        };
        Timestamp::from_micros(0).plus_seconds(at.as_seconds().div_euclid(seconds) * seconds)
    }
}

/// Where one sum stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot<'a> {
    pub level: Level,
    pub starts_at: Timestamp,
    pub key: Uuid,
    /// Empty for all routes.
    pub route: Cow<'a, str>,
}

/// Which failed calls of a day one line counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ErrorLine<'a> {
    pub day: Timestamp,
    pub key: Uuid,
    pub status: i64,
    /// The reported text; empty where there was none.
    pub error: Cow<'a, str>,
}

impl Slot<'_> {
    fn of_row(row: &RollupRow) -> Option<Slot<'static>> {
        let level = Level::ALL.into_iter().find(|level| level.as_str() == row.level)?;
        Some(Slot { level, starts_at: row.starts_at, key: row.key_id, route: Cow::Owned(row.route.clone()) })
    }

    /// Where the same calls are summed up over longer times.
    fn coarser(&self) -> impl Iterator<Item = Self> {
        let about = match self {
            slot if !slot.route.is_empty() => About::Route,
            slot if slot.key != ALL_KEYS => About::Key,
            _ => About::Organization,
        };
        let made_of = GRAINS.iter().filter(move |(of, levels)| *of == about && levels[0] == self.level);
        let levels = made_of.flat_map(|(_, levels)| &levels[1..]);
        levels.map(|level| Self { level: *level, starts_at: level.start_of(self.starts_at), ..self.clone() })
    }

    fn others(&self) -> Self {
        Self { route: Cow::Borrowed(OTHER_ROUTES), ..self.clone() }
    }

    fn name(&self) -> Value {
        json!([self.level.as_str(), self.starts_at.as_micros(), self.key.simple().to_string(), self.route])
    }
}

/// Sums of one organization that are to be added to the stored ones.
#[derive(Default)]
pub(super) struct Rollup<'a> {
    pub(super) sums: HashMap<Slot<'a>, Totals>,
    pub(super) errors: HashMap<ErrorLine<'a>, i64>,
}

impl<'a> Rollup<'a> {
    pub(super) fn of(records: &'a [Record]) -> Self {
        let mut rollup = Self::default();
        records.iter().for_each(|record| rollup.add(record));
        rollup
    }

    fn add(&mut self, record: &'a Record) {
        for (about, levels) in GRAINS {
            let (key, route) = match about {
                About::Organization => (ALL_KEYS, ""),
                About::Key => (record.key.uuid(), ""),
                About::Route => (ALL_KEYS, record.route.as_str()),
            };
            let starts_at = levels[0].start_of(record.occurred_at);
            let slot = Slot { level: levels[0], starts_at, key, route: Cow::Borrowed(route) };
            self.sums.entry(slot).or_default().add(record);
        }
        if record.status >= 400 || record.error.is_some() {
            let (day, key) = (Level::Day.start_of(record.occurred_at), record.key.uuid());
            let error = Cow::Borrowed(record.error.as_deref().unwrap_or_default());
            *self.errors.entry(ErrorLine { day, key, status: record.status, error }).or_default() += 1;
        }
    }

    /// How many sums and lines it holds.
    pub(super) fn len(&self) -> usize {
        self.sums.len() + self.errors.len()
    }

    /// Makes the sums over longer times of those that calls were added to.
    fn raise(&mut self) {
        let mut raised: HashMap<Slot<'a>, Totals> = HashMap::new();
        for (slot, totals) in &self.sums {
            for slot in slot.coarser() {
                raised.entry(slot).or_default().merge(totals);
            }
        }
        for (slot, totals) in raised {
            self.sums.entry(slot).or_default().merge(&totals);
        }
    }

    /// Adds the sums of days to those of their months.
    pub(super) fn add_day(&mut self, row: &RollupRow) -> Result<()> {
        let starts_at = Level::Month.start_of(row.starts_at);
        let slot = Slot { level: Level::Month, starts_at, key: row.key_id, route: Cow::Owned(row.route.clone()) };
        self.sums.entry(slot).or_default().merge(&row.totals()?);
        Ok(())
    }

    /// Adds everything to the stored sums.
    pub(super) async fn add_to(mut self, tx: &mut Tx, organization: Id<id::Organization>) -> Result<()> {
        lock(tx, organization).await?;
        self.raise();
        let others: Vec<Slot<'_>> = self.sums.keys().filter(|slot| !slot.route.is_empty()).map(Slot::others).collect();
        let wanted: Vec<Value> = self.sums.keys().chain(&others).map(Slot::name).collect();
        let rows: Vec<RollupRow> =
            statements::ROLLUPS.within(tx).bind(organization).bind(Json(wanted)).all(&mut *tx).await?;
        let mut stored = HashMap::with_capacity(rows.len());
        for row in rows {
            if let Some(slot) = Slot::of_row(&row) {
                stored.insert(slot, row.totals()?);
            }
        }
        self.fold_routes_beyond_the_bound(&stored, tx, organization).await?;
        for (slot, totals) in &mut self.sums {
            if let Some(before) = stored.get(slot) {
                totals.merge(before);
            }
        }
        self.write(tx, organization).await
    }

    /// Routes that are new where there are too many already are summed up as one.
    async fn fold_routes_beyond_the_bound(
        &mut self,
        stored: &HashMap<Slot<'static>, Totals>,
        tx: &mut Tx,
        organization: Id<id::Organization>,
    ) -> Result<()> {
        let is_new = |slot: &&Slot<'a>| !slot.route.is_empty() && !stored.contains_key(*slot);
        let mut new: Vec<Slot<'a>> = self.sums.keys().filter(is_new).cloned().collect();
        new.sort_unstable();
        for new in new.chunk_by(|one, next| (one.level, one.starts_at) == (next.level, next.starts_at)) {
            let count = sql(statements::COUNT_ROUTES).bind(organization).bind(new[0].level.as_str());
            let (known,): (i64,) = count.bind(new[0].starts_at).bind(ALL_KEYS).one(&mut *tx).await?;
            for slot in new.iter().skip(MAX_ROUTES.saturating_sub(known as usize)) {
                if let Some(totals) = self.sums.remove(slot) {
                    self.sums.entry(slot.others()).or_default().merge(&totals);
                }
            }
        }
        Ok(())
    }

    /// Writes the sums as they stand, and adds the errors to the stored ones.
    async fn write(self, tx: &mut Tx, organization: Id<id::Organization>) -> Result<()> {
        let mut sums: Vec<(Slot<'a>, Totals)> = self.sums.into_iter().collect();
        sums.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        for chunk in sums.chunks(CHUNK) {
            let row = |(slot, totals): &(Slot<'a>, Totals)| {
                [
                    organization.into_value(),
                    slot.level.as_str().into_value(),
                    slot.starts_at.into_value(),
                    slot.key.into_value(),
                    (*slot.route).into_value(),
                    totals.calls.into_value(),
                    totals.client_errors.into_value(),
                    totals.server_errors.into_value(),
                    totals.request_bytes.into_value(),
                    totals.response_bytes.into_value(),
                    totals.tokens_in.into_value(),
                    totals.tokens_out.into_value(),
                    totals.cost.as_nanos().into_value(),
                    totals.durations.to_bytes().into_value(),
                ]
            };
            statements::WRITE_ROLLUPS.write(tx, chunk.iter().map(row).collect()).await?;
        }
        let mut errors: Vec<(ErrorLine<'a>, i64)> = self.errors.into_iter().collect();
        errors.sort_unstable();
        for chunk in errors.chunks(CHUNK) {
            let row = |(line, calls): &(ErrorLine<'a>, i64)| {
                let (key, status, error) =
                    (line.key.into_value(), line.status.into_value(), (*line.error).into_value());
                [organization.into_value(), line.day.into_value(), key, status, error, calls.into_value()]
            };
            statements::ADD_ERRORS.write(tx, chunk.iter().map(row).collect()).await?;
        }
        Ok(())
    }
}

/// Holds the sums of an organization until the transaction ends: they are read, added to, and written back.
pub(super) async fn lock(tx: &mut Tx, organization: Id<id::Organization>) -> Result<()> {
    statements::LOCK_SUMS.within(tx).bind(mark(organization)).execute(tx).await?;
    Ok(())
}

/// Names an organization's records to the locks of its writers.
pub(super) fn mark_of_records(organization: Id<id::Organization>) -> i64 {
    !mark(organization)
}

/// Half of the id tells organizations apart well enough; two that share it only wait for each other.
fn mark(organization: Id<id::Organization>) -> i64 {
    organization.uuid().as_u128() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_belong_to_the_part_in_which_they_lie() {
        let at: Timestamp = "2026-11-30T23:59:59.999999Z".parse().unwrap();
        let starts = Level::ALL.map(|level| level.start_of(at).to_string());
        assert_eq!(
            starts,
            ["2026-11-30T23:59:00Z", "2026-11-30T23:00:00Z", "2026-11-30T00:00:00Z", "2026-11-01T00:00:00Z"]
        );
    }
}
