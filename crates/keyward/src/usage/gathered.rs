//! Counts of many batches, brought together by key. A tree takes each where it belongs, so that nothing large is sorted, copied or
//! asked of the system in one piece: on few processors a verification would wait for it.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::batch::{Batch, Entry, Group};
use super::rollup::ALL_KEYS;
use crate::aside::Turns;

/// Keys of a part: enough that the commit is not the most of what it costs to add one, few enough that other writers do not wait long.
const KEYS_OF_PART: usize = 128;
/// Entries of those keys.
const ENTRIES_OF_PART: usize = 1_024;
/// Entries that are gathered at a time, each some 80 bytes.
const MOST: usize = 1 << 18;
/// Entries after which others may have the processor: some tens of microseconds.
const STEP: usize = 64;
/// Sums of a key are kept by the hour and longer: so what waited for several minutes is no more than one minute of the same keys,
/// and a fold that falls behind does not fall further behind for that.
const MINUTES_OF_HOUR: i64 = 60;

/// A key's entries stand together, those of a group in the order of secrets.
type Place = (Uuid, u32, Uuid);

#[derive(Default)]
pub(super) struct Gathered {
    /// Of all keys of an organization, by the minute.
    totals: HashMap<Group, u64>,
    /// Of keys, by the hour; each with the number that stands for it.
    groups: HashMap<Group, u32>,
    calls: BTreeMap<Place, u64>,
}

impl Gathered {
    /// Takes in what the meter wrote.
    pub fn add(&mut self, batch: Batch, turns: &mut Turns) {
        for (group, entries) in batch.groups {
            let total = self.totals.entry(Group { route: None, ..group.clone() }).or_default();
            *total += entries.iter().map(|entry| entry.calls).sum::<u64>();
            let next = self.groups.len() as u32;
            let hour = Group { minute: group.minute - group.minute.rem_euclid(MINUTES_OF_HOUR), ..group };
            let group = *self.groups.entry(hour).or_insert(next);
            for step in entries.chunks(STEP) {
                for entry in step.iter().filter(|entry| entry.key != ALL_KEYS) {
                    *self.calls.entry((entry.key, group, entry.secret)).or_default() += entry.calls;
                }
                turns.offer();
            }
        }
    }

    /// Whether no more should be added.
    pub fn is_full(&self) -> bool {
        self.calls.len() >= MOST
    }

    /// Everything: what all keys of an organization have, then parts of neighbouring keys.
    pub fn into_parts(self, turns: &mut Turns) -> Vec<Batch> {
        let totals =
            self.totals.into_iter().map(|(group, calls)| (group, Entry { key: ALL_KEYS, secret: ALL_KEYS, calls }));
        let mut parts: Vec<_> = totals.collect::<Batch>().into_parts(ENTRIES_OF_PART).collect();
        let mut groups: Vec<_> = self.groups.into_iter().collect();
        groups.sort_unstable_by_key(|(_, number)| *number);
        let mut rest = self.calls.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut taken, mut keys, mut last) = (Vec::new(), 0, None);
            while let Some(((key, ..), _)) = rest.peek() {
                keys += usize::from(last != Some(*key));
                if keys > KEYS_OF_PART || taken.len() == ENTRIES_OF_PART {
                    break;
                }
                last = Some(*key);
                taken.extend(rest.next());
            }
            taken.sort_unstable_by_key(|((key, group, secret), _)| (*group, *key, *secret));
            let entries = taken
                .into_iter()
                .map(|((key, group, secret), calls)| (groups[group as usize].0.clone(), Entry { key, secret, calls }));
            let mut part: Batch = entries.collect();
            part.is_of_keys = true;
            parts.push(part);
            turns.offer();
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use keyward_core::verdict::Outcome;

    use super::*;

    fn batch(minute: i64, route: &str, keys: impl IntoIterator<Item = u128>) -> Batch {
        let route = Some(route).filter(|route| !route.is_empty()).map(Into::into);
        let group = Group { organization: Uuid::from_u128(7), minute, outcome: Outcome::Valid, route };
        let entry = |key| Entry { key: Uuid::from_u128(key), secret: Uuid::from_u128(key + 1), calls: 1 };
        keys.into_iter().map(|key| (group.clone(), entry(key))).collect()
    }

    fn parts_of(batches: impl IntoIterator<Item = Batch>) -> Vec<Batch> {
        let (mut gathered, mut turns) = (Gathered::default(), Turns::begin());
        batches.into_iter().for_each(|batch| gathered.add(batch, &mut turns));
        gathered.into_parts(&mut turns)
    }

    /// The keys of a part, each once, and its calls.
    fn told(part: &Batch) -> (Vec<u128>, u64) {
        let entries = || part.groups.values().flatten();
        let mut keys: Vec<_> = entries().map(|entry| entry.key.as_u128()).collect();
        keys.sort_unstable();
        keys.dedup();
        (keys, entries().map(|entry| entry.calls).sum())
    }

    #[test]
    fn a_part_holds_neighbours_with_all_that_they_have() {
        // Three hundred keys in three minutes of two hours, each twice a minute, in no order.
        let scattered = |minute| batch(minute, "", (1..601).map(|number| 1 + number * 7 % 300));
        let parts = parts_of([58, 59, 60].map(scattered));
        let [totals, parts @ ..] = &parts[..] else { panic!("there are parts") };
        assert!(!totals.is_of_keys && parts.iter().all(|part| part.is_of_keys));
        assert_eq!((told(totals), totals.len()), ((vec![0], 1_800), 3));
        let expected = [1..129, 129..257, 257..301].map(|keys| (keys.clone().collect(), keys.count() as u64 * 6));
        assert_eq!(parts.iter().map(told).collect::<Vec<_>>(), expected);
        assert_eq!(parts.iter().map(Batch::len).collect::<Vec<_>>(), [128 * 2, 128 * 2, 44 * 2]);
    }

    #[test]
    fn a_key_with_very_many_kinds_of_calls_has_several_parts() {
        let parts = parts_of((0..2_500).map(|hour| batch(hour * 60, "GET /", [99])));
        assert_eq!(parts.iter().map(Batch::len).collect::<Vec<_>>(), [1_024, 1_024, 452, 1_024, 1_024, 452]);
        assert!(parts_of([]).is_empty());
    }

    #[test]
    fn what_is_held_at_a_time_is_bounded() {
        let (mut gathered, mut turns) = (Gathered::default(), Turns::begin());
        gathered.add(batch(0, "", 1..MOST as u128), &mut turns);
        gathered.add(batch(59, "", 1..10), &mut turns);
        assert!(!gathered.is_full(), "what is there already takes no room");
        gathered.add(batch(60, "", [1]), &mut turns);
        assert!(gathered.is_full());
    }
}
