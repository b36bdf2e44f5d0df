//! Partitions of the book: a month is there before its first event, whatever the partitions job has done.

use keyward_core::month::Month;

use super::leaves::EventRow;
use super::sql as statements;
use crate::db::{Tx, ddl, sql};
use crate::error::Result;

const TABLE: &str = "audit_event";

/// Makes the months in which the rows lie, where they are missing. Known months are not looked for again.
pub(super) async fn ensure(tx: &mut Tx, known: &mut Vec<Month>, rows: &[EventRow]) -> Result<()> {
    if !matches!(tx, Tx::Postgres(_)) {
        return Ok(());
    }
    // Rows are in the order of their instants.
    let mut months: Vec<Month> = rows.iter().map(|row| Month::of(row.logged_at)).collect();
    months.dedup();
    for month in months {
        if known.contains(&month) {
            continue;
        }
        let present = sql(statements::PARTITION_AT).bind(month.start()).bind(month.end());
        if present.one::<(i64,)>(&mut *tx).await?.0 == 0 {
            let name = format!("{TABLE}_p{}", month.to_string().replace('-', ""));
            ddl("").partition(TABLE, &name, month.start(), month.end()).within(tx).await?;
        }
        known.push(month);
    }
    Ok(())
}
