//! A range of the book, read and hashed again: the part of a verification that costs time, so it runs beside others.

use keyward_core::id::Id;
use keyward_core::leaf::{Actor, Leaf, Object, Seal};
use keyward_core::problem::Code;
use keyward_core::tree::{Hash, Span, TILE_WIDTH, Tile};
use serde_json::Value;
use uuid::Uuid;

use super::verify::Fault;
use super::{Audit, details, sql as statements, tiles};
use crate::db::{Fields, Scanned};
use crate::error::{Error, Result};

/// What became of a range.
pub(super) struct Hashed {
    /// The leaves, up to the fault.
    pub hashes: Vec<Hash>,
    pub compared: u64,
    pub erased: u64,
    pub fault: Option<Fault>,
}

impl Audit {
    /// Hashes the events of a range again, and compares them with the stored leaves; of retired events only these are left.
    pub(super) async fn hash_again(self, log: Uuid, kept_from: u64, (from, to): Span) -> Result<Hashed> {
        let stored = self.leaves(from, to).await?;
        let kept = kept_from.clamp(from, to);
        let retired: Vec<Hash> = stored[..(kept - from) as usize].iter().map_while(|hash| *hash).collect();
        let hashed = Hashed { hashes: retired, compared: 0, erased: 0, fault: None };
        if (hashed.hashes.len() as u64) < kept - from {
            return Ok(Hashed { fault: Some(Fault::Hashes { from, to }), ..hashed });
        }
        if kept == to {
            return Ok(hashed);
        }
        let rows = self.ground.db.scan(statements::LEAVES, kept as i64, to as i64).await?;
        let work = move || hashed.go_on(log, kept, &stored[(kept - from) as usize..], &rows);
        tokio::task::spawn_blocking(work).await.map_err(broke_off)
    }

    /// The stored leaf hashes of a range.
    async fn leaves(&self, from: u64, to: u64) -> Result<Vec<Option<Hash>>> {
        let wanted: Vec<Tile> =
            (from / TILE_WIDTH..=(to - 1) / TILE_WIDTH).map(|index| Tile { level: 0, index }).collect();
        let stored = tiles::read(&self.ground.db, &wanted, statements::TILES.on(&self.ground.db)).await?;
        let hash = |leaf: u64| {
            stored.get(&Tile { level: 0, index: leaf / TILE_WIDTH })?.get((leaf % TILE_WIDTH) as usize).copied()
        };
        Ok((from..to).map(hash).collect())
    }
}

/// The work on a range ended early: a panic, or the end of the program.
pub(super) fn broke_off(error: tokio::task::JoinError) -> Error {
    Error::new(Code::Internal, Code::Internal.meaning()).with_source(error)
}

impl Hashed {
    /// The first event that is not as its leaf was is the fault.
    fn go_on(mut self, log: Uuid, from: u64, stored: &[Option<Hash>], rows: &Scanned) -> Self {
        let mut rows: Vec<PlacedRow<'_>> = rows.rows().filter_map(placed).collect();
        rows.sort_by_key(|(place, ..)| *place);
        let mut rows = rows.into_iter();
        for (sequence, stored) in (from as i64..).zip(stored) {
            match compare(log, sequence, *stored, rows.next()) {
                Ok((hash, is_erased)) => {
                    self.hashes.push(hash);
                    self.compared += 1;
                    self.erased += u64::from(is_erased);
                }
                Err(fault) => return Self { fault: Some(fault), ..self },
            }
        }
        // The last place is taken twice.
        let beside = rows.next().map(|(_, id, _)| Fault::Beside { event: Id::from_uuid(id) });
        Self { fault: beside, ..self }
    }
}

/// The hash of an event that is as its leaf was, and whether a part of it was erased.
fn compare(
    log: Uuid,
    sequence: i64,
    stored: Option<Hash>,
    row: Option<PlacedRow<'_>>,
) -> std::result::Result<(Hash, bool), Fault> {
    let row = row.filter(|(place, ..)| *place <= sequence);
    let (place, id, mut row) = row.ok_or(Fault::Missing { sequence })?;
    let event = Id::from_uuid(id);
    if place < sequence {
        return Err(Fault::Beside { event });
    }
    let stored = stored.ok_or(Fault::Hashes { from: sequence as u64, to: sequence as u64 + 1 })?;
    let leaf = leaf_of(log, sequence, id, &mut row).filter(|leaf| says(leaf, &stored));
    let leaf = leaf.ok_or(Fault::Altered { sequence, event })?;
    Ok((stored, leaf.actor_seal.is_erased() || leaf.object_seal.is_erased()))
}

/// A row with its place and its id.
type PlacedRow<'a> = (i64, Uuid, Fields<'a>);

fn placed(mut row: Fields<'_>) -> Option<PlacedRow<'_>> {
    Some((row.int()?, Uuid::from_slice(row.bytes()?).ok()?, row))
}

/// What a row's leaf says, with the details as they are stored; `None` when the row cannot be one of the book.
fn leaf_of<'a>(log: Uuid, sequence: i64, id: Uuid, row: &mut Fields<'a>) -> Option<Leaf<'a>> {
    Some(Leaf {
        log: log.into_bytes(),
        sequence: sequence as u64,
        id: id.into_bytes(),
        organization: row.bytes_or_null()?.map(TryInto::try_into).transpose().ok()?,
        event_type: row.text()?,
        action: row.text()?,
        success: row.int()? != 0,
        actor_kind: row.text()?,
        resource_kind: row.text()?,
        request_id: row.text_or_null()?,
        occurred_at: row.time()?,
        logged_at: row.time()?,
        actor: Actor {
            id: row.text()?,
            name: row.text_or_null()?,
            ip_address: row.text_or_null()?,
            user_agent: row.text_or_null()?,
        },
        actor_seal: Seal::read(row.bytes()?)?,
        object: Object {
            id: row.text()?,
            name: row.text_or_null()?,
            error_message: row.text_or_null()?,
            details: row.json()?,
        },
        object_seal: Seal::read(row.bytes()?)?,
    })
}

/// Whether the leaf has this hash. Leaves were made of details as our own writer puts them. SQLite keeps them so; PostgreSQL has
/// its own order of names, and a blank behind each colon, by which they are known.
fn says(leaf: &Leaf<'_>, hash: &Hash) -> bool {
    let with = |details: &str| Leaf { object: Object { details, ..leaf.object }, ..*leaf }.hash() == *hash;
    let stored = leaf.object.details;
    !stored.contains("\": ") && with(stored)
        || details::in_order(stored).is_some_and(|text| with(&text))
        || serde_json::from_str::<Value>(stored).is_ok_and(|value| with(&value.to_string()))
}
