//! Partitions of the book: a month is there before its first event, whatever the partitions job has done.

use keyward_core::month::Month;

use super::leaves::EventRow;
use super::sql as statements;
use crate::db::{Tx, ddl, row, sql};
use crate::error::Result;

const TABLE: &str = "audit_event";
/// Whole months that should be there beyond the present one: with fewer, the next month's end comes too near.
pub(crate) const FEWEST_AHEAD: usize = 2;

row! {
    struct Partitions {
        covering: i64,
        present: i64,
    }
}

/// Makes the months in which the rows lie, where they are missing. A book that is new gets those ahead as well: until the first upkeep
/// it would lack them. Known months are not looked for again.
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
        let counts = sql(statements::PARTITIONS_AT).bind(month.start()).bind(month.end());
        match counts.one(&mut *tx).await? {
            Partitions { covering: 1.., .. } => {}
            Partitions { present: 0, .. } => make(tx, month, 1 + FEWEST_AHEAD).await?,
            _ => make(tx, month, 1).await?,
        }
        known.push(month);
    }
    Ok(())
}

/// So many months, from one on.
async fn make(tx: &mut Tx, first: Month, count: usize) -> Result<()> {
    for month in std::iter::successors(Some(first), |month| Some(Month::of(month.end()))).take(count) {
        let name = format!("{TABLE}_p{}", month.to_string().replace('-', ""));
        ddl("").partition(TABLE, &name, month.start(), month.end()).within(tx).await?;
    }
    Ok(())
}
