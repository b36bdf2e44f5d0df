//! The tree's tiles in the database.

use std::collections::HashMap;

use keyward_core::problem::Code;
use keyward_core::text::hex;
use keyward_core::tree::{Growth, Hash, Node, Span, Tile, hash_of, root_of};
use serde_json::json;

use super::Audit;
use super::sql as statements;
use crate::db::{Json, On, Tx, row};
use crate::error::{Error, Result};

row! {
    struct TileRow { level: i64, place: i64, hashes: Vec<u8> }
}

impl TileRow {
    fn read(self) -> Option<(Tile, Vec<Hash>)> {
        let (hashes, rest) = self.hashes.as_chunks::<32>();
        let tile = Tile { level: self.level.try_into().ok()?, index: self.place.try_into().ok()? };
        rest.is_empty().then(|| (tile, hashes.to_vec()))
    }
}

/// The tree is not as it was written.
fn broken() -> Error {
    tracing::error!("the tiles of the book do not fit together; run `keyward audit verify`");
    Error::new(Code::Internal, Code::Internal.meaning())
}

pub(super) async fn read<'a>(
    on: impl Into<On<'a>>,
    tiles: &[Tile],
    pair: crate::db::Sql,
) -> Result<HashMap<Tile, Vec<Hash>>> {
    let wanted: Vec<_> = tiles.iter().map(|tile| (tile.level, tile.index)).collect();
    let rows: Vec<TileRow> = pair.bind(Json(wanted)).all(on).await?;
    rows.into_iter().map(|row| row.read().ok_or_else(broken)).collect()
}

/// The right edge of a tree of so many leaves.
pub(super) async fn edge(tx: &mut Tx, size: u64) -> Result<Growth> {
    let statement = statements::TILES.within(tx);
    let stored = read(tx, &Growth::unfinished(size), statement).await?;
    Growth::new(size, |tile| stored.get(&tile).cloned()).ok_or_else(broken)
}

/// Writes tiles that grew.
pub(super) async fn write(tx: &mut Tx, tiles: Vec<(Tile, Vec<Hash>)>) -> Result<()> {
    let rows = tiles.iter().map(|(tile, hashes)| json!([tile.level, tile.index, hex(hashes.as_flattened())]));
    statements::WRITE_TILES.within(tx).bind(Json(rows.collect::<Vec<_>>())).execute(tx).await?;
    Ok(())
}

impl Audit {
    /// The hashes of spans of leaves, all of which have numbers.
    pub(crate) async fn hashes(&self, spans: &[Span]) -> Result<Vec<Hash>> {
        let nodes = spans.iter().flat_map(|(from, to)| keyward_core::tree::cover(*from, *to));
        let mut tiles: Vec<Tile> = nodes.map(|node| node.place().0).collect();
        tiles.sort_unstable();
        tiles.dedup();
        let stored = read(&self.ground.db, &tiles, statements::TILES.on(&self.ground.db)).await?;
        let hash = |node: Node| {
            let (tile, first, count) = node.place();
            stored.get(&tile)?.get(first..first + count).map(root_of)
        };
        spans.iter().map(|span| hash_of(*span, hash).ok_or_else(broken)).collect()
    }

    /// The root of the tree of so many leaves.
    pub(crate) async fn root(&self, size: u64) -> Result<Hash> {
        match size {
            0 => Ok(keyward_core::tree::empty_root()),
            size => Ok(self.hashes(&[(0, size)]).await?[0]),
        }
    }

    /// The hashes of a tile, as many as it has by now.
    pub(crate) async fn tile(&self, tile: Tile) -> Result<Option<Vec<Hash>>> {
        let stored = read(&self.ground.db, &[tile], statements::TILES.on(&self.ground.db)).await?;
        Ok(stored.into_values().next())
    }
}
