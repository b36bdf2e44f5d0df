//! Finding what details contain, on SQLite: by the rarest of the terms that they must have, where few enough events have it, and by
//! looking at each event where they have no terms yet or where so many have them that some are soon found. Rows that may be meant are
//! decided by keyward-core, so that the answer is PostgreSQL's.

use keyward_core::contained::{contains, terms};
use keyward_core::time::Timestamp;
use serde_json::Value;

use super::search::Search;
use super::terms::{SEGMENT, stored};
use super::{Audit, EventRow, sql as statements};
use crate::db::{Json, parts, row, sql};
use crate::error::Result;

/// Of more terms than this, the first are tried: each is counted.
const TRIED_TERMS: usize = 8;
/// Rows that are read at a time once some that were read turned out not to be meant.
const FURTHER_ROWS: i64 = 500;

row! {
    struct PlacesRow { first: i64, last: i64 }
}

row! {
    struct TermRow { term: i64, events: i64 }
}

/// A part of the book: from the first of two places up to the other, by a term or event by event.
struct Stretch {
    term: Option<i64>,
    from: i64,
    to: i64,
}

impl Audit {
    /// At most so many events whose details contain what is wanted, before a place where the newest come first, else from it on.
    pub(super) async fn find_containing(
        &self,
        search: &Search<'_>,
        wanted: &Value,
        place: i64,
        most: i64,
    ) -> Result<Vec<EventRow>> {
        let mut found = Vec::new();
        for stretch in self.stretches(search, wanted, place, most).await? {
            self.walk(search, wanted, stretch, most, &mut found).await?;
        }
        Ok(found)
    }

    /// What is to be looked through, in the order of the search.
    async fn stretches(&self, search: &Search<'_>, wanted: &Value, place: i64, most: i64) -> Result<Vec<Stretch>> {
        let since = search.filter.from.unwrap_or(Timestamp::from_micros(i64::MIN));
        let until = search.filter.to.unwrap_or(Timestamp::from_micros(i64::MAX));
        let between = sql(statements::PLACES_BETWEEN).bind(since).bind(until);
        let PlacesRow { first, last } = between.one(&self.ground.db).await?;
        let (from, to) = if search.newest_first { (first, last.min(place)) } else { (first.max(place), last) };
        // What gets its terms from now on is looked through as if it had none.
        let indexed = self.indexed_until().await?.clamp(from, to.max(from));
        let Some(term) = self.rare_term(wanted, from, indexed, most).await? else {
            return Ok(vec![Stretch { term: None, from, to }]);
        };
        let mut both = vec![Stretch { term: Some(term), from, to: indexed }, Stretch { term: None, from: indexed, to }];
        if search.newest_first {
            both.reverse();
        }
        Ok(both)
    }

    /// The rarest term of what is wanted, if so few events have it that fetching all of them costs less than reading on until enough
    /// are found: where every n-th has it, that is after n times as many as are wanted.
    async fn rare_term(&self, wanted: &Value, from: i64, to: i64, most: i64) -> Result<Option<i64>> {
        let terms: Vec<i64> = terms(wanted).into_iter().take(TRIED_TERMS).map(stored).collect();
        if terms.is_empty() || from >= to {
            return Ok(None);
        }
        let common = most.saturating_mul(to - from).isqrt();
        let rarest = sql(statements::RAREST).bind(Json(terms)).bind(from / SEGMENT).bind((to - 1) / SEGMENT);
        let rarest: TermRow = rarest.bind(common).one(&self.ground.db).await?;
        Ok((rarest.events < common).then_some(rarest.term))
    }

    /// Looks through a stretch until enough is found.
    async fn walk(
        &self,
        search: &Search<'_>,
        wanted: &Value,
        mut stretch: Stretch,
        most: i64,
        found: &mut Vec<EventRow>,
    ) -> Result<()> {
        let mut fewest = 0;
        while stretch.from < stretch.to && (found.len() as i64) < most {
            let count = fewest.max(most - found.len() as i64);
            let rows = self.rows_of(search, &stretch, count).await?;
            let is_last = (rows.len() as i64) < count;
            match rows.last() {
                Some(row) if search.newest_first => stretch.to = row.sequence,
                Some(row) => stretch.from = row.sequence + 1,
                None => {}
            }
            found.extend(rows.into_iter().filter(|row| contains(&row.details.0, wanted)));
            if is_last {
                break;
            }
            fewest = FURTHER_ROWS;
        }
        found.truncate(most as usize);
        Ok(())
    }

    /// Rows of a stretch that may be meant.
    async fn rows_of(&self, search: &Search<'_>, stretch: &Stretch, count: i64) -> Result<Vec<EventRow>> {
        let (db, &Stretch { term, from, to }) = (&self.ground.db, stretch);
        let (list, newest, oldest) = match term {
            Some(term) => {
                let list = parts(statements::LIST_BY_TERM).with(statements::OF_TERM, term);
                let list = list.with(statements::AT_PLACE, SEGMENT).with(statements::FROM_SEGMENT, from / SEGMENT);
                let list = list.with(statements::UP_TO_SEGMENT, (to - 1) / SEGMENT).with(statements::AND_FROM, from);
                (list, statements::NEWEST_TERM_FIRST, statements::OLDEST_TERM_FIRST)
            }
            None => (
                parts(statements::LIST).with(statements::FROM_PLACE, from),
                statements::NEWEST_FIRST,
                statements::OLDEST_FIRST,
            ),
        };
        let list = search.narrow(list.with(statements::AND_BEFORE, to), db);
        let order = if search.newest_first { newest } else { oldest };
        Ok(list.with(order, count).end().all(db).await?)
    }
}
