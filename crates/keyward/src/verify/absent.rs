//! Slots that were looked for and not found, so that a string that is no key costs the database little.

use std::hash::{BuildHasherDefault, Hasher};

use quick_cache::UnitWeighter;
use quick_cache::sync::Cache;

/// With the generation in which that was so.
pub(super) type Absent = Cache<u128, u64, UnitWeighter, BuildHasherDefault<SlotHasher>>;

pub(super) fn few() -> Absent {
    Cache::with(4_096, 65_536, UnitWeighter, BuildHasherDefault::default(), Default::default())
}

/// Digests are uniform already: eight bytes of one are hash enough.
#[derive(Default)]
pub(super) struct SlotHasher(u64);

impl Hasher for SlotHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only slots are hashed");
    }

    fn write_u128(&mut self, slot: u128) {
        self.0 = slot as u64;
    }
}
