//! The tree over the book: RFC 6962 hashing, kept in tiles of 256 hashes (C2SP tlog-tiles), and the two proofs about it. Where
//! hashes are stored, and who signs the root, is not decided here.

use sha2::{Digest, Sha256};

pub type Hash = [u8; 32];

/// Levels of the tree that one tile spans; a whole tile holds 256 hashes (C2SP tlog-tiles).
pub const TILE_HEIGHT: u8 = 8;
/// Hashes in a whole tile.
pub const TILE_WIDTH: u64 = 1 << TILE_HEIGHT;

/// RFC 6962, 2.1: leaves and nodes never hash alike.
pub fn hash_leaf(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}

pub fn hash_children(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of no leaves.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The root over the leaves from `index << level` up to `(index + 1) << level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node {
    pub level: u8,
    pub index: u64,
}

/// 256 hashes of one level, eight levels above the tile below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    pub level: u8,
    pub index: u64,
}

impl Node {
    /// The tile that the node's hash is made from, and which of its hashes: the first and how many.
    pub fn place(self) -> (Tile, usize, usize) {
        let within = self.level % TILE_HEIGHT;
        let first = self.index << within;
        (
            Tile { level: self.level / TILE_HEIGHT, index: first / TILE_WIDTH },
            (first % TILE_WIDTH) as usize,
            1 << within,
        )
    }
}

impl Tile {
    /// How many hashes the tile has in a tree of so many leaves.
    pub fn width(self, size: u64) -> usize {
        let hashes = size.checked_shr(u32::from(self.level * TILE_HEIGHT)).unwrap_or(0);
        hashes.saturating_sub(self.index.saturating_mul(TILE_WIDTH)).min(TILE_WIDTH) as usize
    }
}

/// The largest whole subtrees that lie side by side from one leaf up to another, left to right.
pub fn cover(from: u64, to: u64) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut at = from;
    while at < to {
        let fits = (to - at).ilog2();
        let level = at.trailing_zeros().min(fits) as u8;
        nodes.push(Node { level, index: at >> level });
        at += 1 << level;
    }
    nodes
}

/// The root of whole subtrees that lie side by side, from the largest to the smallest.
fn fold(hashes: impl DoubleEndedIterator<Item = Hash>) -> Option<Hash> {
    hashes.rev().reduce(|right, left| hash_children(&left, &right))
}

/// A part of a proof: the root over the leaves from one up to another (RFC 9162, 2.1).
pub type Span = (u64, u64);

fn split(from: u64, to: u64) -> u64 {
    from + (1 << (to - from - 1).ilog2())
}

/// What proves that a leaf is in a tree (RFC 9162, 2.1.3.1), from the leaf upwards. The leaf is in the tree.
pub fn inclusion(leaf: u64, size: u64) -> Vec<Span> {
    let (mut from, mut to, mut spans) = (0, size, Vec::new());
    while to - from > 1 {
        let middle = split(from, to);
        if leaf < middle {
            spans.push((middle, to));
            to = middle;
        } else {
            spans.push((from, middle));
            from = middle;
        }
    }
    spans.reverse();
    spans
}

/// What proves that a tree is the beginning of a larger one (RFC 9162, 2.1.4.1); nothing when either is empty or both are one.
pub fn consistency(old: u64, new: u64) -> Vec<Span> {
    if old == 0 || old >= new {
        return Vec::new();
    }
    let (mut from, mut to, mut spans) = (0, new, Vec::new());
    while old != to {
        let middle = split(from, to);
        if old <= middle {
            spans.push((middle, to));
            to = middle;
        } else {
            spans.push((from, middle));
            from = middle;
        }
    }
    if from > 0 {
        spans.push((from, to));
    }
    spans.reverse();
    spans
}

/// The hash of a span, from the hashes of its whole subtrees.
pub fn hash_of(span: Span, mut hash: impl FnMut(Node) -> Option<Hash>) -> Option<Hash> {
    let hashes: Option<Vec<Hash>> = cover(span.0, span.1).into_iter().map(&mut hash).collect();
    fold(hashes?.into_iter())
}

/// The root of the tree that has the leaf at this place, if the proof is one (RFC 9162, 2.1.3.2).
pub fn root_by_inclusion(leaf: u64, size: u64, hash: Hash, proof: &[Hash]) -> Option<Hash> {
    let spans = if leaf < size { inclusion(leaf, size) } else { return None };
    if spans.len() != proof.len() {
        return None;
    }
    let step = |root: Hash, ((from, _), other): (&Span, &Hash)| {
        if *from > leaf { hash_children(&root, other) } else { hash_children(other, &root) }
    };
    Some(spans.iter().zip(proof).fold(hash, step))
}

/// Whether the proof shows that the tree of the old root is the beginning of the new root's (RFC 9162, 2.1.4.2).
pub fn is_consistent(old: u64, new: u64, old_root: &Hash, new_root: &Hash, proof: &[Hash]) -> bool {
    if old == 0 || old == new {
        return old <= new && proof.is_empty() && (old == 0 || old_root == new_root);
    }
    let spans = consistency(old, new);
    if old > new || spans.len() != proof.len() {
        return false;
    }
    let mut parts = spans.iter().zip(proof);
    // A whole subtree is its own beginning; the proof leaves it out.
    let start = if old.is_power_of_two() {
        *old_root
    } else {
        match parts.next() {
            Some((_, hash)) => *hash,
            None => return false,
        }
    };
    let (mut was, mut is) = (start, start);
    for ((from, _), hash) in parts {
        if *from < old {
            was = hash_children(hash, &was);
            is = hash_children(hash, &is);
        } else {
            is = hash_children(&is, hash);
        }
    }
    was == *old_root && is == *new_root
}

/// A tree that only grows, as the whole subtrees at its right edge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// Largest first.
    subtrees: Vec<(u8, Hash)>,
}

impl Edge {
    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn root(&self) -> Hash {
        fold(self.subtrees.iter().map(|(_, hash)| *hash)).unwrap_or_else(empty_root)
    }

    /// Adds a whole subtree; `None` when one of this level cannot stand here.
    pub fn push(&mut self, level: u8, hash: Hash) -> Option<()> {
        let leaves = 1u64.checked_shl(u32::from(level))?;
        if !self.size.is_multiple_of(leaves) {
            return None;
        }
        self.size = self.size.checked_add(leaves)?;
        let (mut level, mut hash) = (level, hash);
        while let Some((_, left)) = self.subtrees.pop_if(|(last, _)| *last == level) {
            hash = hash_children(&left, &hash);
            level += 1;
        }
        self.subtrees.push((level, hash));
        Some(())
    }
}

/// The tiles at the right edge of a tree, lowest level first, each with fewer than 256 hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Growth {
    size: u64,
    tiles: Vec<Vec<Hash>>,
}

impl Growth {
    /// The unfinished tiles that a tree of so many leaves has: one a level.
    pub fn unfinished(size: u64) -> Vec<Tile> {
        let levels = (0..=u64::BITS as u8 / TILE_HEIGHT - 1).map_while(|level| {
            let hashes = size >> (level * TILE_HEIGHT);
            (hashes > 0).then_some(Tile { level, index: hashes / TILE_WIDTH })
        });
        levels.filter(|tile| tile.width(size) > 0).collect()
    }

    /// A tree of so many leaves; `None` when its tiles are not as wide as they must be.
    pub fn new(size: u64, mut hashes: impl FnMut(Tile) -> Option<Vec<Hash>>) -> Option<Self> {
        let mut tiles = Vec::new();
        for tile in Self::unfinished(size) {
            tiles.resize(usize::from(tile.level) + 1, Vec::new());
            tiles[usize::from(tile.level)] = hashes(tile).filter(|hashes| hashes.len() == tile.width(size))?;
        }
        Some(Self { size, tiles })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds leaves; answers every tile that has new hashes, whole ones and those that still grow.
    pub fn extend(&mut self, leaves: impl IntoIterator<Item = Hash>) -> Vec<(Tile, Vec<Hash>)> {
        let mut written = Vec::new();
        let mut touched = Vec::new();
        for leaf in leaves {
            self.size += 1;
            let (mut level, mut hash) = (0, leaf);
            loop {
                if self.tiles.len() <= level {
                    self.tiles.push(Vec::new());
                }
                self.tiles[level].push(hash);
                touched.resize(self.tiles.len(), false);
                touched[level] = true;
                if (self.tiles[level].len() as u64) < TILE_WIDTH {
                    break;
                }
                let whole = std::mem::take(&mut self.tiles[level]);
                hash = root_of(&whole);
                let index = (self.size >> (level as u8 * TILE_HEIGHT)) / TILE_WIDTH - 1;
                written.push((Tile { level: level as u8, index }, whole));
                touched[level] = false;
                level += 1;
            }
        }
        for tile in Self::unfinished(self.size) {
            let level = usize::from(tile.level);
            if touched.get(level) == Some(&true) {
                written.push((tile, self.tiles[level].clone()));
            }
        }
        written
    }

    pub fn root(&self) -> Hash {
        let mut edge = Edge::default();
        for (level, hashes) in self.tiles.iter().enumerate().rev() {
            for hash in hashes {
                edge.push(level as u8 * TILE_HEIGHT, *hash).expect("unfinished tiles lie side by side");
            }
        }
        edge.root()
    }
}

/// The root over a power of two of hashes.
pub fn root_of(hashes: &[Hash]) -> Hash {
    let mut edge = Edge::default();
    for hash in hashes {
        edge.push(0, *hash).expect("a single hash stands anywhere");
    }
    edge.root()
}

#[cfg(test)]
mod tests;
