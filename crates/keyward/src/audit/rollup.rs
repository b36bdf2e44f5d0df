//! The sums that reports read, written in the transaction of the events: how many by day and month, which actors.

use std::collections::{BTreeMap, HashMap, HashSet};

use keyward_core::distinct::Distinct;
use keyward_core::month::Month;
use keyward_core::time::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::leaves::EventRow;
use super::sql as statements;
use crate::db::{Json, Tx, sql};
use crate::error::Result;

pub(super) const DAY: &str = "day";
pub(super) const MONTH: &str = "month";

const MICROS_OF_HOUR: i64 = 3_600_000_000;
const MICROS_OF_DAY: i64 = 24 * MICROS_OF_HOUR;

/// Adds rows that have just been numbered.
pub(super) async fn add(tx: &mut Tx, rows: &[EventRow]) -> Result<()> {
    let mut counts: HashMap<(Uuid, i64, &str, &str, bool), i64> = HashMap::new();
    let mut actors: HashMap<(Uuid, i64, &str, &str), (i64, i64)> = HashMap::new();
    let mut seen: HashMap<(Uuid, i64), HashSet<(&str, &str)>> = HashMap::new();
    let mut hours: BTreeMap<i64, i64> = BTreeMap::new();
    let (mut day, mut month) = (i64::MIN, i64::MIN);
    for row in rows {
        let at = row.logged_at.as_micros();
        if at - at.rem_euclid(MICROS_OF_DAY) != day {
            day = at - at.rem_euclid(MICROS_OF_DAY);
            month = Month::of(row.logged_at).start().as_micros();
        }
        let organization = row.organization_id.map_or(Uuid::nil(), |id| id.uuid());
        let actor = (row.actor_type.as_str(), row.actor_id.as_str());
        *counts.entry((organization, day, &row.event_type, &row.action, row.success)).or_default() += 1;
        let sums = actors.entry((organization, month, actor.0, actor.1)).or_default();
        sums.0 += 1;
        sums.1 += i64::from(!row.success);
        seen.entry((organization, day)).or_default().insert(actor);
        hours.entry(at - at.rem_euclid(MICROS_OF_HOUR)).or_insert(row.sequence);
    }
    let mut sums: HashMap<(Uuid, &str, i64, &str, &str, bool), i64> = HashMap::new();
    for ((organization, day, event_type, action, success), events) in counts {
        let month = Month::of(Timestamp::from_micros(day)).start().as_micros();
        for (span, starts_at) in [(DAY, day), (MONTH, month)] {
            *sums.entry((organization, span, starts_at, event_type, action, success)).or_default() += events;
        }
    }
    let sums: Vec<_> = sums
        .into_iter()
        .map(|((organization, span, starts_at, event_type, action, success), events)| {
            json!([organization.simple().to_string(), span, starts_at, event_type, action, success, events])
        })
        .collect();
    let actors: Vec<_> = actors
        .into_iter()
        .map(|((organization, month, kind, id), (events, failures))| {
            json!([organization.simple().to_string(), month, kind, id, events, failures])
        })
        .collect();
    let hours: Vec<_> = hours.into_iter().collect();
    statements::ADD_COUNTS.within(tx).bind(Json(sums)).execute(&mut *tx).await?;
    statements::ADD_ACTORS.within(tx).bind(Json(&actors)).execute(&mut *tx).await?;
    if matches!(tx, Tx::Sqlite(_)) {
        sql(statements::LIST_ACTORS).bind(Json(actors)).execute(&mut *tx).await?;
    }
    statements::ADD_HOURS.within(tx).bind(Json(hours)).execute(&mut *tx).await?;
    for ((organization, day), actors) in seen {
        see(tx, organization, Timestamp::from_micros(day), &actors).await?;
    }
    Ok(())
}

/// Adds actors to a day's sketch; most are in it already.
async fn see(tx: &mut Tx, organization: Uuid, day: Timestamp, actors: &HashSet<(&str, &str)>) -> Result<()> {
    let stored = sql(statements::DISTINCT).bind(organization).bind(day).bind(day);
    let stored: Option<(Vec<u8>,)> = stored.optional(&mut *tx).await?;
    let before = stored.and_then(|(bytes,)| Distinct::from_bytes(&bytes));
    let mut after = before.clone().unwrap_or_default();
    actors.iter().for_each(|(kind, id)| after.add(&name(kind, id)));
    if before.as_ref() != Some(&after) {
        let write = sql(statements::WRITE_DISTINCT).bind(organization).bind(day).bind(after.to_bytes());
        write.execute(tx).await?;
    }
    Ok(())
}

/// Kinds have no NUL.
fn name(kind: &str, id: &str) -> Vec<u8> {
    [kind.as_bytes(), &[0], id.as_bytes()].concat()
}
