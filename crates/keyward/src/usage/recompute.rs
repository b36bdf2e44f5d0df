//! Making the sums anew from the records: for an operator who doubts them, and for the tests that hold them true. Days
//! are summed up from records, months from days.

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::month::Month;
use keyward_core::problem::Code;
use keyward_core::sketch::Bucket;
use keyward_core::time::Timestamp;
use keyward_core::usd::Usd;

use super::record::{Record, route_of};
use super::rollup::{self, Level, Rollup};
use super::totals::RollupRow;
use super::{Usage, add_up, sql as statements};
use crate::context::Context;
use crate::db::{Tx, row, sql};
use crate::error::{Error, Result};

/// Records read at once.
const PAGE: usize = 10_000;

row! {
    struct RecordRow {
        record_id: String,
        key_id: Id<id::Key>,
        occurred_at: Timestamp,
        endpoint: String,
        method: String,
        status: i64,
        duration_micros: Option<i64>,
        request_bytes: i64,
        response_bytes: i64,
        tokens_in: i64,
        tokens_out: i64,
        cost_nanos: i64,
        error: Option<String>,
    }
}

impl From<RecordRow> for Record {
    fn from(row: RecordRow) -> Self {
        Self {
            index: 0,
            route: route_of(&row.method, &row.endpoint),
            duration_bucket: row.duration_micros.map(|micros| Bucket::of(micros.unsigned_abs())),
            id: row.record_id,
            key: row.key_id,
            occurred_at: row.occurred_at,
            endpoint: row.endpoint,
            method: row.method,
            status: row.status,
            duration_micros: row.duration_micros,
            request_bytes: row.request_bytes,
            response_bytes: row.response_bytes,
            tokens_in: row.tokens_in,
            tokens_out: row.tokens_out,
            cost: Usd::from_nanos(row.cost_nanos),
            ip: None,
            user_agent: None,
            error: row.error,
        }
    }
}

impl Usage {
    /// Makes the sums of whole days (UTC) between two instants anew, and those of their months. The days must be ones
    /// whose records are all still kept.
    pub async fn recompute(&self, context: &Context, from: Timestamp, to: Timestamp) -> Result<()> {
        context.require_at_instance(Permission::SystemMaintain)?;
        let (from, to) = (Level::Day.start_of(from), Level::Day.start_of(to));
        if from < self.oldest_record(self.ground.now()) {
            return Err(Error::new(Code::Conflict, "Not all records of that time are still kept."));
        }
        let organizations: Vec<(Id<id::Organization>,)> =
            sql(statements::ORGANIZATIONS_WITH_SUMS).bind(from).bind(to).all(&self.ground.db).await?;
        for (organization,) in organizations {
            let mut day = from;
            while day < to {
                self.recompute_day(organization, day).await?;
                day = day.plus_days(1);
            }
        }
        Ok(())
    }

    /// One transaction: nobody sees a day without its month, and records that arrive meanwhile wait for it.
    async fn recompute_day(&self, organization: Id<id::Organization>, day: Timestamp) -> Result<()> {
        let next = day.plus_days(1);
        let mut tx = self.ground.db.begin().await?;
        // First what waits is added: these records are among those that are read below.
        let hold = statements::HOLD_RECORDS.within(&tx).bind(rollup::mark_of_records(organization));
        hold.execute(&mut tx).await?;
        rollup::lock(&mut tx, organization).await?;
        while let Some(newest) = add_up::newest(&mut tx, organization).await? {
            add_up::take(&mut tx, organization, newest).await?.add_to(&mut tx, organization).await?;
        }
        for level in [Level::Minute, Level::Hour, Level::Day] {
            clear(&mut tx, organization, level, day, next).await?;
        }
        sql(statements::CLEAR_ERRORS).bind(organization).bind(day).bind(next).execute(&mut tx).await?;
        let mut after = String::new();
        loop {
            let page = sql(statements::RECORDS).bind(organization).bind(day).bind(next).bind(&after).bind(PAGE as i64);
            let rows: Vec<RecordRow> = page.all(&mut tx).await?;
            let records: Vec<Record> = rows.into_iter().map(Record::from).collect();
            let Some(last) = records.last() else { break };
            after.clone_from(&last.id);
            Rollup::of(&records).add_to(&mut tx, organization).await?;
        }
        let month = Month::of(day);
        clear(&mut tx, organization, Level::Month, month.start(), month.end()).await?;
        let days = sql(statements::DAYS).bind(organization).bind(month.start()).bind(month.end());
        let mut sums = Rollup::default();
        for row in days.all::<RollupRow>(&mut tx).await? {
            sums.add_day(&row)?;
        }
        sums.add_to(&mut tx, organization).await?;
        tx.commit().await?;
        Ok(())
    }
}

async fn clear(
    tx: &mut Tx,
    organization: Id<id::Organization>,
    level: Level,
    from: Timestamp,
    to: Timestamp,
) -> Result<()> {
    let clear = sql(statements::CLEAR_SUMS).bind(organization).bind(level.as_str()).bind(from).bind(to);
    clear.execute(tx).await?;
    Ok(())
}
