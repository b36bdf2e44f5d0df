//! SQLite's index of what details contain, since it has none of its own: the terms of events (keyward-core, `contained`) in segments
//! of the book. They are written after the events, a few at a time; what has none yet is found without. Whoever takes details out of
//! the book takes their terms with them.

use keyward_core::contained;
use serde_json::Value as Details;

use super::leaves::Head;
use super::{Audit, sql as statements};
use crate::db::{Bind as _, Json, Tx, row, sql};
use crate::error::Result;

/// Events of a segment: its terms have room in the memory of a connection that writes them.
pub(super) const SEGMENT: i64 = 32_768;
/// Events that one transaction gives terms, and the terms after which it takes no further event: others wait to write meanwhile.
const BATCH: i64 = 500;
const MOST_TERMS: usize = 4_000;

row! {
    /// An event's details.
    pub(super) struct DetailsRow { pub(super) sequence: i64, pub(super) details: Json<Details> }
}

impl Audit {
    /// Events before this place have their terms.
    pub(super) async fn indexed_until(&self) -> Result<i64> {
        Ok(sql(statements::INDEXED_UNTIL).bind(SEGMENT).one::<(i64,)>(&self.ground.db).await?.0)
    }

    /// How many events have none yet.
    pub(crate) async fn unindexed(&self) -> Result<i64> {
        let Some(head) = self.head().await? else { return Ok(0) };
        Ok(head.size - self.indexed_until().await?.max(head.kept_from))
    }

    /// Gives the next events their terms; answers how many got theirs.
    pub(crate) async fn index_details(&self) -> Result<i64> {
        let mut tx = self.ground.db.begin().await?;
        let (until,): (i64,) = sql(statements::INDEXED_UNTIL).bind(SEGMENT).one(&mut tx).await?;
        let Head { size, kept_from, .. } = sql(statements::HEAD).one(&mut tx).await?;
        let from = until.max(kept_from);
        if from >= size {
            return Ok(0);
        }
        let segment = from / SEGMENT;
        let mut to = size.min(from + BATCH).min((segment + 1) * SEGMENT);
        // Read in the transaction: nothing is erased between that and the writing of its terms.
        let rows: Vec<DetailsRow> = sql(statements::DETAILS).bind(from).bind(to).all(&mut tx).await?;
        let mut terms = Vec::new();
        for row in &rows {
            if terms.len() >= MOST_TERMS {
                to = row.sequence;
                break;
            }
            terms.extend(row.keys());
        }
        // In the order in which they lie.
        terms.sort_unstable();
        let terms = terms.into_iter().map(|key| key.map(i64::into_value)).collect();
        statements::TERMS.insert(&mut tx, terms).await?;
        sql(statements::WRITE_SEGMENT).bind(segment).bind(to - segment * SEGMENT).execute(&mut tx).await?;
        tx.commit().await?;
        Ok(to - from)
    }
}

impl DetailsRow {
    /// Where its terms are: segment, term and place.
    fn keys(&self) -> impl Iterator<Item = [i64; 3]> {
        let (segment, place) = (self.sequence / SEGMENT, self.sequence % SEGMENT);
        contained::terms(&self.details.0).into_iter().map(move |term| [segment, stored(term), place])
    }
}

/// As SQLite keeps it: four bytes, with a sign.
pub(super) fn stored(term: u32) -> i64 {
    i64::from(term.cast_signed())
}

/// Takes the terms of events out, where they have any.
pub(super) async fn forget(tx: &mut Tx, rows: &[DetailsRow]) -> Result<()> {
    if let Tx::Sqlite(_) = tx {
        let keys: Vec<[i64; 3]> = rows.iter().flat_map(DetailsRow::keys).collect();
        sql(statements::DELETE_TERMS).bind(Json(keys)).execute(tx).await?;
    }
    Ok(())
}
