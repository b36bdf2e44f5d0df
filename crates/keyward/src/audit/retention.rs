//! Events that leave the book: what is still kept, and the way out. Who may go, and where their archive is, is not decided here.

use keyward_core::time::Timestamp;

use super::terms::{self, DetailsRow, SEGMENT};
use super::{Audit, EventRow, ExportedEvent, sql as statements};
use crate::db::{Tx, sql};
use crate::error::Result;

impl Audit {
    /// The first event that was logged at an instant or later; the end of the book where none was.
    pub(crate) async fn first_since(&self, at: Timestamp) -> Result<i64> {
        let first: Option<(i64,)> = sql(statements::FIRST_SINCE).bind(at).optional(&self.ground.db).await?;
        match first {
            Some((sequence,)) => Ok(sequence),
            None => Ok(self.head().await?.map_or(0, |head| head.size)),
        }
    }

    /// The first event that is kept.
    pub(crate) async fn kept_from(&self) -> Result<i64> {
        Ok(self.head().await?.map_or(0, |head| head.kept_from))
    }

    /// Events before an instant count as retired from now on.
    pub(crate) async fn retire_until(&self, tx: &mut Tx, until: Timestamp) -> Result<()> {
        let end = self.first_since(until).await?;
        sql(statements::KEEP_FROM).bind(end).execute(tx).await?;
        Ok(())
    }

    /// Deletes some of what was retired, with its terms; answers how many events.
    pub(crate) async fn delete_retired(&self, before: i64, most: i64) -> Result<i64> {
        let mut tx = self.ground.db.begin().await?;
        let rows: Vec<DetailsRow> = sql(statements::RETIRED_DETAILS).bind(before).bind(most).all(&mut tx).await?;
        terms::forget(&mut tx, &rows).await?;
        let deleted = sql(statements::DELETE_RETIRED).bind(before).bind(most).execute(&mut tx).await?;
        if let Some(last) = rows.last() {
            let segment = (last.sequence + 1) / SEGMENT;
            sql(statements::DELETE_RETIRED_SEGMENTS).bind(segment).execute(&mut tx).await?;
        }
        tx.commit().await?;
        Ok(deleted as i64)
    }

    /// Events of a range, as they leave the book.
    pub(crate) async fn records(&self, from: i64, to: i64) -> Result<Vec<ExportedEvent>> {
        let log = self.head().await?.map(|head| head.log_id).unwrap_or_default();
        let rows: Vec<EventRow> = sql(statements::EVENTS_FROM).bind(from).bind(to).all(&self.ground.db).await?;
        rows.into_iter().map(|row| ExportedEvent::of(row, log)).collect()
    }
}
