//! Whether every event still says what it said when it was numbered. Finds what was altered, taken out or put in; that the end
//! of the book was cut off together with its numbers, only a signed head told to others could show.

use std::collections::HashMap;

use keyward_core::id::{self, Id};

use super::{Audit, EventRow, sql as statements};
use crate::db::{row, sql};
use crate::error::Result;

/// Events that are compared at a time.
const BATCH: i64 = 1_000;

row! {
    struct LeafRow { sequence: i64, event_id: Id<id::Event>, hash: Vec<u8> }
}

/// The first place at which the book is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The event says something else than when it was numbered.
    Altered { sequence: i64, event: Id<id::Event> },
    /// The event is gone, its number is there.
    Missing { sequence: i64, event: Id<id::Event> },
    /// No event has this number, later ones have theirs.
    Gap { sequence: i64 },
    /// The event came in beside the book: it has no number and awaits none.
    Unnumbered { event: Id<id::Event> },
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Altered { sequence, event } => write!(f, "event {sequence} ({event}) was altered"),
            Self::Missing { sequence, event } => write!(f, "event {sequence} ({event}) is missing"),
            Self::Gap { sequence } => write!(f, "number {sequence} is missing"),
            Self::Unnumbered { event } => write!(f, "event {event} was put in beside the book"),
        }
    }
}

impl Audit {
    /// Compares every event with the hash that was taken of it; `progress` is told how many were compared. Answers how many
    /// are numbered and the first fault.
    pub async fn verify(&self, mut progress: impl FnMut(i64)) -> Result<(i64, Option<Fault>)> {
        let mut next = 0;
        loop {
            let leaves: Vec<LeafRow> = sql(statements::LEAVES).bind(next).bind(BATCH).all(&self.ground.db).await?;
            let Some(last) = leaves.last().map(|leaf| leaf.sequence) else { break };
            let rows: Vec<EventRow> =
                sql(statements::EVENTS_OF_LEAVES).bind(next).bind(last).all(&self.ground.db).await?;
            let events: HashMap<Id<id::Event>, EventRow> = rows.into_iter().map(|row| (row.id, row)).collect();
            for LeafRow { sequence, event_id: event, hash } in leaves {
                let fault = match events.get(&event) {
                    _ if sequence != next => Some(Fault::Gap { sequence: next }),
                    None => Some(Fault::Missing { sequence, event }),
                    Some(row) => (row.leaf_hash().as_slice() != hash).then_some(Fault::Altered { sequence, event }),
                };
                if fault.is_some() {
                    return Ok((next, fault));
                }
                next += 1;
            }
            progress(next);
        }
        let beside: Option<(Id<id::Event>,)> = sql(statements::UNNUMBERED).optional(&self.ground.db).await?;
        Ok((next, beside.map(|(event,)| Fault::Unnumbered { event })))
    }
}
