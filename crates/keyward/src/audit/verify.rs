//! Whether the book is whole: every event is hashed again, the tree is built again, and both are compared with what is stored and
//! with the roots that were signed.

use std::collections::{BTreeMap, HashMap};

use futures_util::{StreamExt, stream};
use keyward_core::id::{self, Id};
use keyward_core::tree::{Growth, Hash, Span, TILE_WIDTH, Tile};

use super::{Audit, rehash, sql as statements, tiles};
use crate::db::{row, sql};
use crate::error::Result;

/// Events that are read at a time: whole tiles.
const BATCH: u64 = 128 * TILE_WIDTH;
/// Ranges that are read and hashed at the same time: one more than a small machine has cores, so that none of them waits.
const AT_ONCE: usize = 3;

/// The first place at which the book is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The event says something else than when it was numbered.
    Altered { sequence: i64, event: Id<id::Event> },
    /// The event is gone, its number is there.
    Missing { sequence: i64 },
    /// The event came in beside the book.
    Beside { event: Id<id::Event> },
    /// Hashes of these events were altered, and perhaps the events with them.
    Hashes { from: u64, to: u64 },
    /// The book of this size was signed with another root.
    Root { size: u64 },
    /// A book of this size was signed; it is shorter now.
    Truncated { size: u64, signed: u64 },
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Altered { sequence, event } => write!(f, "event {sequence} ({event}) was altered"),
            Self::Missing { sequence } => write!(f, "event {sequence} is missing"),
            Self::Beside { event } => write!(f, "event {event} was put in beside the book"),
            Self::Hashes { from, to } => write!(f, "hashes of the events {from} to {} were altered", to - 1),
            Self::Root { size } => write!(f, "the first {size} events are not those that were signed"),
            Self::Truncated { size, signed } => write!(f, "{signed} events were signed, {size} are left"),
        }
    }
}

/// What a comparison found.
#[derive(Debug, Clone)]
pub struct Findings {
    /// Events that were compared.
    pub compared: u64,
    /// Events of which a part was erased; their commitments are there.
    pub erased: u64,
    /// Events that were retired; their hashes are there.
    pub retired: u64,
    pub fault: Option<Fault>,
}

row! {
    struct Last {
        id: Id<id::Event>,
        sequence: i64,
    }
}

impl Audit {
    /// Compares every event with its leaf and the tree with the signed roots by size; `progress` is told how far it is.
    pub async fn verify(&self, signed: &BTreeMap<u64, Hash>, mut progress: impl FnMut(u64, u64)) -> Result<Findings> {
        let mut findings = Findings { compared: 0, erased: 0, retired: 0, fault: None };
        let (size, kept_from, log) = match self.head().await? {
            Some(head) => (head.size as u64, head.kept_from as u64, head.log_id),
            None => (0, 0, uuid::Uuid::nil()),
        };
        // One is read while another is hashed; they are looked at in their order.
        let hashed = ranges(size, signed).map(|range| tokio::spawn(self.clone().hash_again(log, kept_from, range)));
        let mut hashed = stream::iter(hashed).buffered(AT_ONCE);
        let mut growth = Growth::default();
        while let Some(range) = hashed.next().await {
            let range = range.map_err(rehash::broke_off)??;
            findings.compared += range.compared;
            findings.erased += range.erased;
            if range.fault.is_some() {
                return Ok(Findings { fault: range.fault, ..findings });
            }
            let whole = growth.extend(range.hashes).into_iter().filter(|(tile, _)| tile.level > 0).collect();
            if let Some(fault) = self.compare_tiles(whole, size).await? {
                return Ok(Findings { fault: Some(fault), ..findings });
            }
            let to = growth.size();
            if signed.get(&to).is_some_and(|root| *root != growth.root()) {
                return Ok(Findings { fault: Some(Fault::Root { size: to }), ..findings });
            }
            progress(to, size);
        }
        findings.retired = kept_from;
        findings.fault = self.beside(size).await?.map(|event| Fault::Beside { event });
        if let Some((signed, _)) = signed.range(size + 1..).next_back()
            && findings.fault.is_none()
        {
            findings.fault = Some(Fault::Truncated { size, signed: *signed });
        }
        Ok(findings)
    }

    /// An event that the book does not count. What was numbered since its size was read is counted by now, as both are one change.
    async fn beside(&self, size: u64) -> Result<Option<Id<id::Event>>> {
        let before: Option<(Id<id::Event>,)> = sql(statements::ROW_BEFORE).optional(&self.ground.db).await?;
        if let Some((event,)) = before {
            return Ok(Some(event));
        }
        let last: Option<Last> = sql(statements::LAST_SINCE).bind(size as i64).optional(&self.ground.db).await?;
        let Some(last) = last else { return Ok(None) };
        let size_now = self.head().await?.map_or(0, |head| head.size);
        Ok((last.sequence >= size_now).then_some(last.id))
    }

    /// Whether the tiles above the leaves are those that the events make. Tiles that still grow may hold more by now.
    async fn compare_tiles(&self, built: HashMap<Tile, Vec<Hash>>, size: u64) -> Result<Option<Fault>> {
        if built.is_empty() {
            return Ok(None);
        }
        let wanted: Vec<Tile> = built.keys().copied().collect();
        let stored = tiles::read(&self.ground.db, &wanted, statements::TILES.on(&self.ground.db)).await?;
        for (tile, hashes) in built {
            let known = stored.get(&tile).map(Vec::as_slice).unwrap_or_default();
            let differs = |(place, hash): (usize, &Hash)| (known.get(place) != Some(hash)).then_some(place as u64);
            if let Some(place) = hashes.iter().enumerate().find_map(differs) {
                let leaves = TILE_WIDTH.pow(u32::from(tile.level));
                let from = (tile.index * TILE_WIDTH + place) * leaves;
                return Ok(Some(Fault::Hashes { from, to: (from + leaves).min(size) }));
            }
        }
        Ok(None)
    }
}

/// The book in ranges that end with a batch, with a size that was signed, or with the book.
fn ranges(size: u64, signed: &BTreeMap<u64, Hash>) -> impl Iterator<Item = Span> {
    let end = move |from: u64| {
        let next_signed = signed.range(from + 1..).next().map_or(size, |(size, _)| *size);
        (from, (from / BATCH + 1).saturating_mul(BATCH).min(size).min(next_signed))
    };
    let next = move |(_, to): &Span| (*to < size).then(|| end(*to));
    std::iter::successors((size > 0).then(|| end(0)), next)
}
