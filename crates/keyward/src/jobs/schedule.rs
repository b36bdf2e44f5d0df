//! Work that comes at its time (UTC): the schedules, in one table, and the one step that makes a due job once, however
//! many nodes ask.

use keyward_core::time::Timestamp;
use serde_json::json;

use super::{JobKind, Jobs, add, event, sql as statements};
use crate::change::Change;
use crate::context::Context;
use crate::db::sql;
use crate::error::Result;

/// When something is due, in UTC.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    name: &'static str,
    kind: JobKind,
    /// 0 is Sunday; `None` every day.
    weekday: Option<i64>,
    hour: i64,
}

const SCHEDULES: &[Schedule] = &[
    Schedule { name: "daily upkeep", kind: JobKind::Partitions, weekday: None, hour: 2 },
    Schedule { name: "weekly vacuum", kind: JobKind::Vacuum, weekday: Some(0), hour: 3 },
];

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

impl Schedule {
    /// The first due instant after `now`.
    fn after(&self, now: Timestamp) -> Timestamp {
        let seconds = now.as_seconds();
        let mut day = seconds.div_euclid(DAY);
        if day * DAY + self.hour * HOUR <= seconds {
            day += 1;
        }
        if let Some(weekday) = self.weekday {
            // 1970-01-01 was a Thursday.
            day += (weekday - (day + 4)).rem_euclid(7);
        }
        Timestamp::from_micros((day * DAY + self.hour * HOUR) * 1_000_000)
    }
}

impl Jobs {
    /// Makes the jobs that are due. What was missed while no node ran is made up for once.
    pub(crate) async fn make_due(&self) -> Result<()> {
        for schedule in SCHEDULES {
            let now = self.ground.now();
            let next = schedule.after(now);
            let due = sql(statements::SCHEDULE).bind(schedule.name).optional::<(Timestamp,)>(&self.ground.db).await?;
            match due {
                None => {
                    let first = sql(statements::NEW_SCHEDULE).bind(schedule.name).bind(next);
                    first.execute(&self.ground.db).await?;
                }
                Some((due,)) if due <= now => self.make(schedule, due, next).await?,
                Some(_) => {}
            }
        }
        Ok(())
    }

    async fn make(&self, schedule: &Schedule, due: Timestamp, next: Timestamp) -> Result<()> {
        let context = Context::system("schedule");
        let mut change = Change::begin(&self.ground, &context).await?;
        let moved = sql(statements::MOVE_SCHEDULE).bind(schedule.name).bind(due).bind(next);
        if moved.execute(change.tx()).await? == 0 {
            return Ok(());
        }
        let now = change.now();
        let id = add(change.tx(), &self.ground, &context, schedule.kind, None, &json!({}), now).await?;
        let details = json!({ "schedule": schedule.name, "due_at": due });
        change.commit(event("job_started", schedule.kind.as_str(), id, None, details)).await?;
        self.nudge();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_on_the_hour_and_the_day_and_always_later() {
        let after = |schedule: &Schedule, now: &str| schedule.after(now.parse().unwrap()).to_string();
        let [daily, weekly] = SCHEDULES else { panic!("two schedules") };
        // 2026-11-20 is a Friday.
        assert_eq!(after(daily, "2026-11-20T01:59:59Z"), "2026-11-20T02:00:00Z");
        assert_eq!(after(daily, "2026-11-20T02:00:00Z"), "2026-11-21T02:00:00Z");
        assert_eq!(after(weekly, "2026-11-20T12:00:00Z"), "2026-11-22T03:00:00Z");
        assert_eq!(after(weekly, "2026-11-22T02:59:59Z"), "2026-11-22T03:00:00Z");
        assert_eq!(after(weekly, "2026-11-22T03:00:00Z"), "2026-11-29T03:00:00Z");
        assert_eq!(after(daily, "2026-12-31T23:00:00Z"), "2027-01-01T02:00:00Z");
    }
}
