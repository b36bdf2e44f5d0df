//! The records in memory, found by half of a slot, at the price of two reads from far: the place in the table, and the record. With
//! a hundred thousand keys in equal use no cache of a processor holds either, and such reads are most of what a verify costs
//! (`docs/decisions/0019`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use keyward_core::prefetch::prefetch;
use keyward_core::record::KeyRecord;

/// Parts of the table that are locked apart; a power of two.
const SHARDS: usize = 64;
/// Places that a part begins with; a power of two.
const FIRST_PLACES: usize = 16;
/// Of the records that are looked at when one has to go, the one goes that was used longest ago.
const SAMPLE: usize = 8;

/// At most so many records. What goes when they are full has not been used for long, to the minute to which uses are noted.
pub(super) struct Records {
    shards: Box<[RwLock<Shard>]>,
    most: usize,
    count: AtomicUsize,
}

/// Open addressing: a record stands at its place or, where that is taken, as soon after it as there is room.
struct Shard {
    /// A power of two of them, at most three quarters in use.
    slots: Box<[Slot]>,
    used: usize,
    /// Where the next record that has to go is looked for.
    hand: usize,
}

/// The place beside the pointer: a record that is another one is passed by unread.
#[derive(Default)]
struct Slot {
    place: u64,
    record: Option<Arc<KeyRecord>>,
}

impl Records {
    pub(super) fn new(most: usize) -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::new(Shard::new())).collect();
        Self { shards, most, count: AtomicUsize::new(0) }
    }

    pub(super) fn get(&self, place: u64) -> Option<Arc<KeyRecord>> {
        let shard = self.shard(place).read().expect(UNBROKEN);
        let record = shard.slots[shard.find(place).ok()?].record.as_ref()?;
        // All of it at once, not line by line as it is looked at.
        prefetch(&**record);
        Some(record.clone())
    }

    /// Has the slot of this place come near.
    pub(super) fn prefetch_slot(&self, place: u64) {
        let shard = self.shard(place).read().expect(UNBROKEN);
        prefetch(&shard.slots[place as usize & shard.mask()]);
    }

    /// Has the record come near, if there is one.
    pub(super) fn prefetch_record(&self, place: u64) {
        let shard = self.shard(place).read().expect(UNBROKEN);
        if let Some(record) = shard.find(place).ok().and_then(|at| shard.slots[at].record.as_ref()) {
            prefetch(&**record);
        }
    }

    /// Remembers a record, instead of another one in its place if there is one.
    pub(super) fn insert(&self, place: u64, record: Arc<KeyRecord>) {
        let mut shard = self.shard(place).write().expect(UNBROKEN);
        if let Ok(at) = shard.find(place) {
            shard.slots[at].record = Some(record);
            return;
        }
        if self.count.load(Ordering::Relaxed) >= self.most {
            if shard.drop_one() {
                self.count.fetch_sub(1, Ordering::Relaxed);
            } else if self.most == 0 {
                return;
            }
        }
        shard.put(place, record);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, place: u64) {
        let mut shard = self.shard(place).write().expect(UNBROKEN);
        if let Ok(at) = shard.find(place) {
            shard.clear(at);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// By other bits than those that tell the place within the part.
    fn shard(&self, place: u64) -> &RwLock<Shard> {
        &self.shards[(place >> 32) as usize % SHARDS]
    }
}

const UNBROKEN: &str = "no one panics while holding records";

impl Shard {
    fn new() -> Self {
        Self { slots: empty(FIRST_PLACES), used: 0, hand: 0 }
    }

    fn mask(&self) -> usize {
        self.slots.len() - 1
    }

    /// Where the record of this place stands, or else where it would.
    fn find(&self, place: u64) -> Result<usize, usize> {
        let mask = self.mask();
        let mut at = place as usize & mask;
        loop {
            let slot = &self.slots[at];
            match slot.record {
                None => return Err(at),
                Some(_) if slot.place == place => return Ok(at),
                Some(_) => at = (at + 1) & mask,
            }
        }
    }

    /// Adds a record whose place is not taken.
    fn put(&mut self, place: u64, record: Arc<KeyRecord>) {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            let larger = empty(self.slots.len() * 2);
            for slot in std::mem::replace(&mut self.slots, larger) {
                if slot.record.is_some() {
                    self.settle(slot);
                }
            }
        }
        self.settle(Slot { place, record: Some(record) });
        self.used += 1;
    }

    fn settle(&mut self, slot: Slot) {
        let (Ok(at) | Err(at)) = self.find(slot.place);
        self.slots[at] = slot;
    }

    /// Empties a place, and moves up those that stand behind it because it was taken.
    fn clear(&mut self, mut empty: usize) {
        let mask = self.mask();
        let mut at = empty;
        loop {
            at = (at + 1) & mask;
            let slot = &self.slots[at];
            if slot.record.is_none() {
                break;
            }
            let from_home = at.wrapping_sub(slot.place as usize) & mask;
            if from_home >= at.wrapping_sub(empty) & mask {
                self.slots.swap(at, empty);
                empty = at;
            }
        }
        self.slots[empty] = Slot::default();
        self.used -= 1;
    }

    /// Forgets the record that was used longest ago, of some; false where there is none.
    fn drop_one(&mut self) -> bool {
        if self.used == 0 {
            return false;
        }
        let mask = self.mask();
        let behind_hand = (0..self.slots.len()).map(|step| (self.hand + step) & mask);
        let taken = behind_hand.filter_map(|at| Some((at, self.slots[at].record.as_ref()?)));
        let sample: Vec<_> = taken.take(SAMPLE).map(|(at, record)| (record.last_use.noted_second(), at)).collect();
        let Some(&(_, oldest)) = sample.iter().min() else { return false };
        self.hand = sample.last().map_or(0, |(_, at)| (at + 1) & mask);
        self.clear(oldest);
        true
    }
}

fn empty(places: usize) -> Box<[Slot]> {
    std::iter::repeat_with(Slot::default).take(places).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use keyward_core::id::Id;
    use keyward_core::key::KeyDigest;
    use keyward_core::record::{Allowance, KeyStatus, RecordParts, Rules, SecretStatus, Tenant};
    use keyward_core::time::Timestamp;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    /// A record that is told from others by its number, used at that second.
    fn record(number: u64) -> Arc<KeyRecord> {
        let id = Uuid::from_u128(number.into());
        let record = KeyRecord::new(RecordParts {
            digest: KeyDigest::from_bytes([0; 32]),
            key_id: Id::from_uuid(id),
            secret_id: Id::from_uuid(id),
            owner_id: None,
            tenant: Arc::new(Tenant::new(Id::from_uuid(Uuid::nil()), "pro", false)),
            status: KeyStatus::Active,
            secret_status: SecretStatus::Active,
            expires_at: None,
            secret_expires_at: None,
            rules: Rules::default(),
            allowance: Allowance::default(),
            grant: None,
            name: "",
            environment: "live",
            scopes: "",
            metadata: "{}",
            external_id: None,
        });
        record.last_use.is_news(Timestamp::from_micros(number as i64 * 1_000_000), None, 1);
        Arc::new(record)
    }

    fn number(record: &KeyRecord) -> u64 {
        record.key_id.uuid().as_u128() as u64
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u64, u64),
        Remove(u64),
    }

    /// Few places, in one part of the table, that crowd at its end and beginning.
    fn places() -> impl Strategy<Value = u64> {
        (0..24u64, 0..3u64).prop_map(|(low, high)| low.wrapping_sub(6) & 0xffff | high << 40)
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let insert = (places(), 1..1_000u64).prop_map(|(place, number)| Step::Insert(place, number));
        proptest::collection::vec(prop_oneof![2 => insert, 1 => places().prop_map(Step::Remove)], 1..200)
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds(steps in steps()) {
            let (records, mut map) = (Records::new(1_000), HashMap::new());
            for step in steps {
                match step {
                    Step::Insert(place, number) => {
                        records.insert(place, record(number));
                        map.insert(place, number);
                    }
                    Step::Remove(place) => {
                        records.remove(place);
                        map.remove(&place);
                    }
                }
                prop_assert_eq!(records.len(), map.len());
            }
            for low in 0..24u64 {
                for high in 0..3 {
                    let place = low.wrapping_sub(6) & 0xffff | high << 40;
                    prop_assert_eq!(records.get(place).map(|record| number(&record)), map.get(&place).copied());
                }
            }
        }
    }

    #[test]
    fn it_keeps_no_more_than_its_most() {
        let records = Records::new(100);
        for place in 0..10_000 {
            records.insert(place, record(place + 1));
            assert!(records.get(place).is_some(), "the newest stays");
        }
        assert_eq!(records.len(), 100);
    }

    #[test]
    fn told_to_keep_none_it_keeps_none() {
        let records = Records::new(0);
        records.insert(1, record(1));
        assert!(records.get(1).is_none() && records.len() == 0);
    }

    #[test]
    fn what_was_used_lately_stays() {
        let records = Records::new(8);
        for place in 0..8 {
            records.insert(place, record(1_000 + place));
        }
        records.insert(8, record(1));
        assert!(records.get(0).is_none(), "the one that was used longest ago went");
        assert!((1..=8).all(|place| records.get(place).is_some()));
        records.insert(9, record(2_000));
        assert!(records.get(8).is_none() && records.get(9).is_some());
    }
}
