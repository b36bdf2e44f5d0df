//! Reports of days and months, from the sums that are written with the events. Days and months are UTC, by when an event was logged.

use std::collections::BTreeMap;

use keyward_core::access::Permission;
use keyward_core::distinct::Distinct;
use keyward_core::id::{self, Id};
use keyward_core::month::Month;
use keyward_core::time::Timestamp;

use super::rollup::{DAY, MONTH};
use super::{Audit, sql as statements};
use crate::context::{Context, Whose};
use crate::db::{row, sql};
use crate::error::Result;

/// Actors that a monthly report names.
const TOP: i64 = 10;

row! {
    struct CountRow { starts_at: Timestamp, event_type: String, action: String, success: bool, events: i64 }
}

row! {
    struct DistinctRow { starts_at: Timestamp, actors: Vec<u8> }
}

row! {
    /// What an actor did in a month.
    #[derive(Debug, Clone)]
    pub struct TopActor { pub actor_type: String, pub actor_id: String, pub events: i64, pub failures: i64 }
}

/// How many events there were of one type and action.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeCount {
    pub event_type: String,
    pub action: String,
    pub events: i64,
    pub failures: i64,
}

#[derive(Debug, Clone)]
pub struct DayReport {
    /// `2026-11-20`.
    pub date: String,
    pub events: i64,
    pub failures: i64,
    /// Estimated, within `distinct::RELATIVE_ERROR` as a rule.
    pub distinct_actors: u64,
    pub counts: Vec<TypeCount>,
}

#[derive(Debug, Clone)]
pub struct MonthReport {
    pub month: Month,
    pub events: i64,
    pub failures: i64,
    pub distinct_actors: u64,
    pub counts: Vec<TypeCount>,
    pub top_actors: Vec<TopActor>,
}

impl Audit {
    /// Each day of a month, also those on which nothing happened. Who sees only what they did is told of that alone.
    pub async fn daily_report(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        month: Month,
    ) -> Result<Vec<DayReport>> {
        let whose = context.require(organization, Permission::AuditRead)?;
        self.sequence().await?;
        if let Whose::Only(user) = whose {
            let mut days = Vec::new();
            for (day, date) in month.days() {
                let rows = self.own_counts(organization, user, day, day.plus_days(1)).await?;
                let (counts, events, failures) = summed(rows);
                days.push(DayReport { date, events, failures, distinct_actors: u64::from(events > 0), counts });
            }
            return Ok(days);
        }
        let (rows, sketches) =
            tokio::try_join!(self.counts(organization, DAY, month), self.sketches(organization, month))?;
        let mut counts: BTreeMap<Timestamp, Vec<CountRow>> = BTreeMap::new();
        for row in rows {
            counts.entry(row.starts_at).or_default().push(row);
        }
        let report = |(day, date): (Timestamp, String)| {
            let (counts, events, failures) = summed(counts.remove(&day).unwrap_or_default());
            let distinct_actors = sketches.get(&day).map_or(0, Distinct::estimate);
            DayReport { date, events, failures, distinct_actors, counts }
        };
        Ok(month.days().map(report).collect())
    }

    pub async fn monthly_report(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        month: Month,
    ) -> Result<MonthReport> {
        let whose = context.require(organization, Permission::AuditRead)?;
        self.sequence().await?;
        if let Whose::Only(user) = whose {
            let rows = self.own_counts(organization, user, month.start(), month.end()).await?;
            let (counts, events, failures) = summed(rows);
            let top = TopActor { actor_type: "user".to_owned(), actor_id: user.to_string(), events, failures };
            let top_actors = if events > 0 { vec![top] } else { Vec::new() };
            return Ok(MonthReport {
                month,
                events,
                failures,
                distinct_actors: u64::from(events > 0),
                counts,
                top_actors,
            });
        }
        let (rows, sketches, top_actors) = tokio::try_join!(
            self.counts(organization, MONTH, month),
            self.sketches(organization, month),
            self.top_actors(organization, month)
        )?;
        let (counts, events, failures) = summed(rows);
        let mut actors = Distinct::default();
        sketches.values().for_each(|day| actors.merge(day));
        Ok(MonthReport { month, events, failures, distinct_actors: actors.estimate(), counts, top_actors })
    }

    /// Counted from the events themselves: those of one person are few.
    async fn own_counts(
        &self,
        organization: Id<id::Organization>,
        user: Id<id::User>,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<CountRow>> {
        let counts =
            statements::OWN_COUNTS.on(&self.ground.db).bind(organization).bind(user.to_string()).bind(from).bind(to);
        Ok(counts.all(&self.ground.db).await?)
    }

    async fn counts(&self, organization: Id<id::Organization>, span: &str, month: Month) -> Result<Vec<CountRow>> {
        let counts = sql(statements::COUNTS).bind(organization).bind(span).bind(month.start()).bind(month.end());
        Ok(counts.all(&self.ground.db).await?)
    }

    async fn top_actors(&self, organization: Id<id::Organization>, month: Month) -> Result<Vec<TopActor>> {
        let top = sql(statements::TOP_ACTORS).bind(organization).bind(month.start()).bind(TOP);
        Ok(top.all(&self.ground.db).await?)
    }

    async fn sketches(
        &self,
        organization: Id<id::Organization>,
        month: Month,
    ) -> Result<BTreeMap<Timestamp, Distinct>> {
        let stored = sql(statements::DISTINCTS).bind(organization).bind(month.start()).bind(month.end());
        let rows: Vec<DistinctRow> = stored.all(&self.ground.db).await?;
        let read = |row: DistinctRow| Some((row.starts_at, Distinct::from_bytes(&row.actors)?));
        Ok(rows.into_iter().filter_map(read).collect())
    }
}

/// By type and action, with the totals of events and failures.
fn summed(rows: Vec<CountRow>) -> (Vec<TypeCount>, i64, i64) {
    let mut counts: Vec<TypeCount> = Vec::new();
    let (mut events, mut failures) = (0, 0);
    for row in rows {
        let failed = if row.success { 0 } else { row.events };
        events += row.events;
        failures += failed;
        match counts.last_mut().filter(|last| last.event_type == row.event_type && last.action == row.action) {
            Some(last) => {
                last.events += row.events;
                last.failures += failed;
            }
            None => {
                let CountRow { event_type, action, events, .. } = row;
                counts.push(TypeCount { event_type, action, events, failures: failed });
            }
        }
    }
    (counts, events, failures)
}
