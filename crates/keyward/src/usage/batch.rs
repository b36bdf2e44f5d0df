//! A batch of counts: in memory grouped by what many keys share, in the database a compact block of bytes. What the
//! counts are added to is `fold`'s.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use keyward_core::varint;
use keyward_core::verdict::Outcome;
use uuid::Uuid;

use super::bytes::{read_id, read_text, take, write_id, write_text};

/// First byte of a written batch: in which form the entries follow.
const VERSION: u8 = 2;
/// Ids in full and eight bytes of calls; such batches may wait where an older Keyward stopped.
const FULL: u8 = 1;
/// Of an entry whose key and secret were made together, soon before or after those of the entry before it.
const ENTRY_BYTES: usize = 25;
/// The least of any entry.
const LEAST_BYTES: usize = 3;

/// What the counts of many keys have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Group {
    /// Of zeros for keys that nobody knows.
    pub organization: Uuid,
    /// In minutes since 1970.
    pub minute: i64,
    pub outcome: Outcome,
    /// None where the caller did not tell.
    pub route: Option<Arc<str>>,
}

/// How often one secret met its group's outcome. Zeros for a key that nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub key: Uuid,
    pub secret: Uuid,
    pub calls: u64,
}

/// Counts by group. One secret may stand in a group more than once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub groups: HashMap<Group, Vec<Entry>>,
    len: usize,
}

impl Batch {
    /// How many entries it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds many, of which those that follow each other mostly have a group in common.
    pub fn fill(&mut self) -> Filling<'_> {
        Filling { batch: self, group: None, entries: Vec::new() }
    }

    /// Takes everything that another one holds.
    pub fn append(&mut self, other: Self) {
        for (group, entries) in other.groups {
            self.add_all(group, entries);
        }
    }

    fn add_all(&mut self, group: Group, mut entries: Vec<Entry>) {
        self.len += entries.len();
        let there = self.groups.entry(group).or_default();
        if there.is_empty() {
            *there = entries;
        } else {
            there.append(&mut entries);
        }
    }

    /// Leaves one entry a secret in each group.
    pub fn compact(&mut self) {
        for entries in self.groups.values_mut() {
            entries.sort_unstable();
            entries.dedup_by(|later, first| {
                let is_same = (later.key, later.secret) == (first.key, first.secret);
                first.calls += if is_same { later.calls } else { 0 };
                is_same
            });
        }
        self.len = self.groups.values().map(Vec::len).sum();
    }

    /// The same in batches of at most `most` entries, neighbours together.
    pub fn into_parts(self, most: usize) -> impl Iterator<Item = Self> {
        let mut groups = self.groups.into_iter().map(|(group, entries)| (group, entries.into_iter()));
        let mut begun = None;
        std::iter::from_fn(move || {
            let mut part = Self::default();
            while part.len < most
                && let Some((group, mut entries)) = begun.take().or_else(|| groups.next())
            {
                part.add_all(group.clone(), entries.by_ref().take(most - part.len).collect());
                begun = (entries.len() > 0).then_some((group, entries));
            }
            (!part.is_empty()).then_some(part)
        })
    }

    /// The same in parts of at most so many keys and entries, of a compact batch: what a key has, of whatever group, stands together.
    /// The groups are sorted already, so nothing is copied to bring them together.
    pub fn by_keys(self, most_keys: usize, most_entries: usize) -> impl Iterator<Item = Self> {
        let mut groups: Vec<_> =
            self.groups.into_iter().map(|(group, entries)| (group, entries.into_iter().peekable())).collect();
        let heads = groups.iter_mut().enumerate().filter_map(|(index, (_, rest))| Some((rest.peek()?.key, index)));
        let mut heads: BinaryHeap<_> = heads.map(Reverse).collect();
        std::iter::from_fn(move || {
            let (mut taken, mut keys, mut last) = (Vec::new(), 0, None);
            while let Some(mut head) = heads.peek_mut() {
                let Reverse((key, index)) = *head;
                keys += usize::from(last != Some(key));
                if keys > most_keys || taken.len() == most_entries {
                    break;
                }
                last = Some(key);
                let rest = &mut groups[index].1;
                taken.extend(rest.next().map(|entry| (index, entry)));
                match rest.peek() {
                    Some(next) => *head = Reverse((next.key, index)),
                    None => drop(PeekMut::pop(head)),
                }
            }
            taken.sort_unstable_by_key(|(group, entry)| (*group, entry.key, entry.secret));
            let mut part = Self::default();
            for own in taken.chunk_by(|(one, _), (other, _)| one == other) {
                part.add_all(groups[own[0].0].0.clone(), own.iter().map(|(_, entry)| *entry).collect());
            }
            (!part.is_empty()).then_some(part)
        })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + self.groups.len() * 128 + self.len * ENTRY_BYTES);
        bytes.push(VERSION);
        for (group, entries) in &self.groups {
            bytes.extend_from_slice(group.organization.as_bytes());
            bytes.extend_from_slice(&group.minute.to_le_bytes());
            write_text(&mut bytes, group.outcome.as_str());
            write_text(&mut bytes, group.route.as_deref().unwrap_or_default());
            bytes.extend_from_slice(&(entries.len() as u32).to_le_bytes());
            let mut before = Uuid::nil();
            for entry in entries {
                write_id(&mut bytes, entry.key, before);
                write_id(&mut bytes, entry.secret, entry.key);
                varint::write(&mut bytes, entry.calls);
                before = entry.key;
            }
        }
        bytes
    }

    /// `None` for what `to_bytes` never wrote.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, mut rest) = bytes.split_first()?;
        let read = match *version {
            VERSION => read_entry,
            FULL => read_full_entry,
            _ => return None,
        };
        let mut batch = Self::default();
        while !rest.is_empty() {
            let group = Group {
                organization: Uuid::from_bytes(take(&mut rest)?),
                minute: i64::from_le_bytes(take(&mut rest)?),
                outcome: Outcome::from_code(read_text(&mut rest)?)?,
                route: Some(read_text(&mut rest)?).filter(|route| !route.is_empty()).map(Into::into),
            };
            let count = u32::from_le_bytes(take(&mut rest)?) as usize;
            let mut entries = Vec::with_capacity(count.min(rest.len() / LEAST_BYTES));
            let mut before = Uuid::nil();
            for _ in 0..count {
                let entry = read(&mut rest, before)?;
                before = entry.key;
                entries.push(entry);
            }
            batch.add_all(group, entries);
        }
        Some(batch)
    }
}

fn read_entry(rest: &mut &[u8], before: Uuid) -> Option<Entry> {
    let key = read_id(rest, before)?;
    Some(Entry { key, secret: read_id(rest, key)?, calls: varint::read(rest)? })
}

fn read_full_entry(rest: &mut &[u8], _: Uuid) -> Option<Entry> {
    let (key, secret) = (Uuid::from_bytes(take(rest)?), Uuid::from_bytes(take(rest)?));
    Some(Entry { key, secret, calls: u64::from_le_bytes(take(rest)?) })
}

/// A batch that is being filled: entries are gathered, and its map is asked once for all that have a group in common.
pub(super) struct Filling<'a> {
    batch: &'a mut Batch,
    group: Option<Group>,
    entries: Vec<Entry>,
}

impl Filling<'_> {
    /// Makes room, so that what is gathered is not moved as it grows.
    pub fn expect(&mut self, entries: usize) {
        self.entries.reserve(entries);
    }

    pub fn len(&self) -> usize {
        self.batch.len() + self.entries.len()
    }

    pub fn add(&mut self, group: Group, entry: Entry) {
        if self.group.as_ref() != Some(&group) {
            self.settle();
            self.group = Some(group);
        }
        self.entries.push(entry);
    }

    fn settle(&mut self) {
        if let Some(group) = self.group.take() {
            self.batch.add_all(group, std::mem::take(&mut self.entries));
        }
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(minute: i64, route: &str) -> Group {
        let route = Some(route).filter(|route| !route.is_empty()).map(Into::into);
        Group { organization: Uuid::from_u128(7), minute, outcome: Outcome::Valid, route }
    }

    fn batch(counts: impl IntoIterator<Item = (Group, Entry)>) -> Batch {
        let mut batch = Batch::default();
        let mut filling = batch.fill();
        counts.into_iter().for_each(|(group, entry)| filling.add(group, entry));
        drop(filling);
        batch
    }

    fn entry(key: u128, calls: u64) -> Entry {
        Entry { key: Uuid::from_u128(key), secret: Uuid::from_u128(key + 1), calls }
    }

    #[test]
    fn what_is_written_reads_back() {
        let batch = batch([(group(1, ""), entry(1, u64::MAX)), (group(-1, "GET /Größe"), entry(2, 0))]);
        let bytes = batch.to_bytes();
        assert_eq!(Batch::from_bytes(&bytes).as_ref(), Some(&batch));
        assert!((1..bytes.len()).any(|end| Batch::from_bytes(&bytes[..end]).is_none()));
        assert_eq!(Batch::from_bytes(&[]), None);
        assert_eq!(Batch::from_bytes(&[VERSION + 1]), None);
    }

    #[test]
    fn batches_of_older_versions_are_read() {
        let entry = entry(3, 300);
        let expected = batch([(group(4, "GET /"), entry)]);
        let mut bytes = vec![FULL];
        bytes.extend_from_slice(Uuid::from_u128(7).as_bytes());
        bytes.extend_from_slice(&4i64.to_le_bytes());
        write_text(&mut bytes, "valid");
        write_text(&mut bytes, "GET /");
        bytes.extend_from_slice(&1u32.to_le_bytes());
        bytes.extend_from_slice(entry.key.as_bytes());
        bytes.extend_from_slice(entry.secret.as_bytes());
        bytes.extend_from_slice(&entry.calls.to_le_bytes());
        assert_eq!(Batch::from_bytes(&bytes), Some(expected));
    }

    #[test]
    fn what_fills_a_batch_is_what_was_added_to_it() {
        let mut added = Batch::default();
        let mut filling = added.fill();
        filling.expect(4);
        for (number, minute) in [(1, 1), (2, 1), (3, 2), (4, 1)] {
            filling.add(group(minute, ""), entry(number, 1));
            assert_eq!(filling.len(), number as usize);
        }
        drop(filling);
        assert_eq!(added.len(), 4);
        assert_eq!(added.groups[&group(1, "")], [entry(1, 1), entry(2, 1), entry(4, 1)]);
        assert_eq!(added.groups[&group(2, "")], [entry(3, 1)]);
    }

    #[test]
    fn parts_hold_each_secret_once_and_all_of_its_calls() {
        let mut batch = batch((0..30).map(|number| (group(number as i64 % 2, ""), entry(number % 10, 1))));
        batch.compact();
        assert_eq!(batch.len(), 10);
        let parts: Vec<_> = batch.into_parts(4).collect();
        assert_eq!(parts.iter().map(Batch::len).collect::<Vec<_>>(), [4, 4, 2]);
        let entries = parts.iter().flat_map(|part| part.groups.values().flatten());
        assert!(entries.clone().all(|entry| entry.calls == 3) && entries.count() == 10);
    }

    #[test]
    fn parts_by_keys_hold_all_that_a_key_has() {
        // Ten keys in three minutes, and one in seven.
        let tens = (0..30).map(|number| (group(number as i64 / 10, ""), entry(number % 10, 1)));
        let sevens = (0..7).map(|minute| (group(minute, "GET /"), entry(99, 1)));
        let parts = batch(tens.chain(sevens)).by_keys(4, 6);
        assert_eq!(parts.map(|part| part.len()).collect::<Vec<_>>(), [6, 6, 6, 6, 6, 6, 1]);
        let tens = (0..30).map(|number| (group(number as i64 / 10, ""), entry(number % 10, 1)));
        let parts: Vec<_> = batch(tens).by_keys(4, 100).collect();
        let keys = parts.iter().map(|part| part.groups.values().flatten().map(|entry| entry.key).collect::<Vec<_>>());
        for mut keys in keys {
            let all = keys.len();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(all, keys.len() * 3, "each with all of its minutes");
        }
        assert_eq!(parts.iter().map(Batch::len).collect::<Vec<_>>(), [12, 12, 6]);
        assert_eq!(Batch::default().by_keys(4, 6).count(), 0);
    }
}
