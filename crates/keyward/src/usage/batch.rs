//! A batch of counts: in memory grouped by what many keys share, in the database a compact block of bytes. What the
//! counts are added to is `fold`'s.

use std::collections::HashMap;
use std::sync::Arc;

use keyward_core::varint;
use keyward_core::verdict::Outcome;
use uuid::Uuid;

use super::bytes::{read_id, read_text, take, write_id, write_text};

/// First byte of a written batch: in which form the entries follow, and what they are added to.
const VERSION: u8 = 2;
/// The same form, of keys alone.
const OF_KEYS: u8 = 3;
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
    /// In minutes since 1970; of keys alone, the first of its hour.
    pub minute: i64,
    pub outcome: Outcome,
    /// None where the caller did not tell.
    pub route: Option<Arc<str>>,
}

/// How often one secret met its group's outcome. Zeros for a key that nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub key: Uuid,
    pub secret: Uuid,
    pub calls: u64,
}

/// Counts by group. One secret may stand in a group more than once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub groups: HashMap<Group, Vec<Entry>>,
    /// What the organizations have of it, over all keys, stands in another batch.
    pub is_of_keys: bool,
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

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + self.groups.len() * 128 + self.len * ENTRY_BYTES);
        bytes.push(if self.is_of_keys { OF_KEYS } else { VERSION });
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
            VERSION | OF_KEYS => read_entry,
            FULL => read_full_entry,
            _ => return None,
        };
        let mut batch = Self { is_of_keys: *version == OF_KEYS, ..Self::default() };
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

impl FromIterator<(Group, Entry)> for Batch {
    fn from_iter<I: IntoIterator<Item = (Group, Entry)>>(counts: I) -> Self {
        let mut batch = Self::default();
        let mut filling = batch.fill();
        counts.into_iter().for_each(|(group, entry)| filling.add(group, entry));
        drop(filling);
        batch
    }
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

    fn entry(key: u128, calls: u64) -> Entry {
        Entry { key: Uuid::from_u128(key), secret: Uuid::from_u128(key + 1), calls }
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut batch: Batch =
            [(group(1, ""), entry(1, u64::MAX)), (group(-1, "GET /Größe"), entry(2, 0))].into_iter().collect();
        let bytes = batch.to_bytes();
        assert_eq!(Batch::from_bytes(&bytes).as_ref(), Some(&batch));
        batch.is_of_keys = true;
        assert_eq!(Batch::from_bytes(&batch.to_bytes()).as_ref(), Some(&batch));
        assert!((1..bytes.len()).any(|end| Batch::from_bytes(&bytes[..end]).is_none()));
        assert_eq!(Batch::from_bytes(&[]), None);
        assert_eq!(Batch::from_bytes(&[OF_KEYS + 1]), None);
    }

    #[test]
    fn batches_of_older_versions_are_read() {
        let entry = entry(3, 300);
        let expected = [(group(4, "GET /"), entry)].into_iter().collect();
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
    fn parts_hold_everything_in_pieces() {
        let all = (0..10).map(|number| (group(number as i64 % 2, ""), entry(number, 1)));
        let parts: Vec<_> = all.collect::<Batch>().into_parts(4).collect();
        assert_eq!(parts.iter().map(Batch::len).collect::<Vec<_>>(), [4, 4, 2]);
        let entries = parts.iter().flat_map(|part| part.groups.values().flatten());
        let mut keys: Vec<_> = entries.map(|entry| entry.key.as_u128()).collect();
        keys.sort_unstable();
        assert_eq!(keys, (0..10).collect::<Vec<_>>());
    }
}
