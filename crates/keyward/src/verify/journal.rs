//! What verifications leave behind, gathered in memory and written in batches: last uses, digests to be replaced,
//! and log lines of refusals. A crash loses what was not written yet, and never a decision.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Bound;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use keyward_core::id::{self, Id};
use keyward_core::key::{self, KeyDigest};
use keyward_core::record::KeyRecord;
use keyward_core::text::hex;
use keyward_core::time::Timestamp;
use keyward_core::verdict::Outcome;
use serde_json::json;
use tokio::sync::Notify;

use super::{Verifier, sql as statements};
use crate::announce::Subject;
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::Json;
use crate::error::Result;

/// Most log lines of refusals a flush; what is beyond is told as a number.
const MAX_REFUSALS: usize = 500;
/// Fewest uses written in one statement: neighbours in the table are written together, and other writers do not wait long. More
/// where somebody waits.
const BATCH: usize = 100;
const HASTY_BATCH: usize = 1_000;
/// Most statements of one flush: with their rests a fifth of a second, since a flush also saves what quotas have counted.
const STATEMENTS: usize = 20;
/// Fewest uses written in one flush where more wait, and in how many flushes all that wait are written.
const FEWEST_WRITTEN: usize = 400;
const FLUSHES: usize = 240;
/// Noted uses that a flush sorts in before it lets others run: some tens of microseconds.
const TAKEN_AT_ONCE: usize = 64;
/// After each statement, a flush on the timer rests for so many times the time that it took.
const REST: u32 = 4;
/// Longest such rest.
const MAX_REST: Duration = Duration::from_millis(8);
/// Digests replaced in one transaction.
const MAX_REHASHES: usize = 1_000;
/// Most uses that are held while the database does not take them.
const MAX_USES: usize = 1_000_000;

pub(super) struct Journal {
    resolution_seconds: u32,
    uses: Mutex<Vec<(Id<id::KeySecret>, Use)>>,
    unwritten: tokio::sync::Mutex<Unwritten>,
    /// By the digest that is to be written.
    rehashes: Mutex<HashMap<[u8; 32], Rehash>>,
    refusals: Mutex<Refusals>,
    nudged: Notify,
}

/// The newest use of each secret that no flush has written yet.
#[derive(Default)]
struct Unwritten {
    newest: BTreeMap<Id<id::KeySecret>, Use>,
    /// Where the last flush has stopped.
    place: Option<Id<id::KeySecret>>,
    /// How many a flush writes until none waits.
    pace: usize,
}

/// By the most that waited since none did: a part of what is left would take ever longer.
fn pace(before: usize, waiting: usize) -> usize {
    if waiting == 0 { 0 } else { waiting.div_ceil(FLUSHES).max(FEWEST_WRITTEN).max(before) }
}

/// Whether somebody waits for a flush.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Haste {
    Yes,
    No,
}

struct Use {
    at: Timestamp,
    /// Mapped to version 6, which is smaller than one or the other or none; unspecified where it was not told.
    address: Ipv6Addr,
}

impl Use {
    fn new(at: Timestamp, address: Option<IpAddr>) -> Self {
        let mapped = |address| match address {
            IpAddr::V4(four) => four.to_ipv6_mapped(),
            IpAddr::V6(six) => six,
        };
        Self { at, address: address.map_or(Ipv6Addr::UNSPECIFIED, mapped) }
    }

    fn address(&self) -> Option<IpAddr> {
        (!self.address.is_unspecified()).then(|| self.address.to_canonical())
    }
}

#[derive(Clone, Copy)]
struct Rehash {
    secret: Id<id::KeySecret>,
    pepper_version: u32,
}

#[derive(Default)]
struct Refusals {
    lines: Vec<Refusal>,
    beyond: u64,
}

struct Refusal {
    outcome: Outcome,
    key: Option<Id<id::Key>>,
    hint: String,
    address: Option<IpAddr>,
    at: Timestamp,
}

impl Journal {
    pub(super) fn new(resolution_seconds: u32) -> Self {
        Self {
            resolution_seconds,
            uses: Mutex::default(),
            unwritten: tokio::sync::Mutex::default(),
            rehashes: Mutex::default(),
            refusals: Mutex::default(),
            nudged: Notify::new(),
        }
    }

    /// Notes a valid use, if it is news.
    pub(super) fn note_use(&self, record: &KeyRecord, address: Option<IpAddr>, now: Timestamp) {
        // Up to a quarter earlier, by the secret: keys that were first used together are not all written together again.
        let spread = record.secret_id.uuid().as_u128() as u32 % (self.resolution_seconds / 4 + 1);
        if record.last_use.is_news(now, address, self.resolution_seconds - spread) {
            let mut uses = self.uses.lock().expect("no one panics while noting");
            if uses.len() < MAX_USES {
                uses.push((record.secret_id, Use::new(now, address)));
            }
        }
    }

    /// Notes that a secret's digest is to be replaced by our own under the present pepper.
    pub(super) fn note_rehash(&self, secret: Id<id::KeySecret>, digest: KeyDigest, pepper_version: u32) {
        let mut rehashes = self.rehashes.lock().expect("no one panics while noting");
        rehashes.insert(*digest.as_bytes(), Rehash { secret, pepper_version });
    }

    /// Notes a refusal for the log: never the string itself, at most its last four characters.
    pub(super) fn note_refusal(
        &self,
        outcome: Outcome,
        record: Option<&KeyRecord>,
        presented: Option<&str>,
        address: Option<IpAddr>,
        at: Timestamp,
    ) {
        let mut refusals = self.refusals.lock().expect("no one panics while noting");
        if refusals.lines.len() >= MAX_REFUSALS {
            refusals.beyond += 1;
            return;
        }
        // Of a string that is no key anything may be secret; four characters are shown only of what is long enough.
        let hint = presented.filter(|text| text.len() >= 24 && text.is_ascii()).map_or("", key::hint).to_owned();
        refusals.lines.push(Refusal { outcome, key: record.map(|record| record.key_id), hint, address, at });
    }

    /// Asks for a flush now.
    pub(super) fn nudge(&self) {
        self.nudged.notify_one();
    }
}

impl Verifier {
    /// Returns when a flush is wanted before its time.
    pub(crate) async fn flush_wanted(&self) {
        self.journal.nudged.notified().await;
    }

    /// Writes what was noted; of very many last uses, some. What the database does not take is kept for the next time.
    pub(crate) async fn flush(&self, haste: Haste) -> Result<()> {
        self.log_refusals();
        if self.imports_changed.swap(false, Ordering::AcqRel)
            && let Err(error) = self.read_import_prefixes().await
        {
            self.imports_changed.store(true, Ordering::Release);
            return Err(error);
        }
        self.metrics.cached_secrets.set(self.known.len() as i64);
        while self.write_rehashes().await? {}
        self.write_uses(haste).await
    }

    /// Whether last uses wait that no flush has written yet.
    pub(crate) async fn has_unwritten(&self) -> bool {
        !self.journal.unwritten.lock().await.newest.is_empty()
    }

    fn log_refusals(&self) {
        let refusals = std::mem::take(&mut *self.journal.refusals.lock().expect("no one panics while noting"));
        for refusal in refusals.lines {
            tracing::info!(
                target: "keyward::verify",
                reason = refusal.outcome.as_str(),
                key_id = refusal.key.map(tracing::field::display),
                hint = (!refusal.hint.is_empty()).then_some(refusal.hint.as_str()),
                address = refusal.address.map(tracing::field::display),
                at = %refusal.at,
                "verification refused"
            );
        }
        if refusals.beyond > 0 {
            tracing::warn!(target: "keyward::verify", refused = refusals.beyond, "more verifications were refused than are listed");
        }
    }

    async fn write_uses(&self, haste: Haste) -> Result<()> {
        let mut unwritten = self.journal.unwritten.lock().await;
        let Unwritten { newest: waiting, place, pace: so_far } = &mut *unwritten;
        let noted = std::mem::take(&mut *self.journal.uses.lock().expect("no one panics while noting"));
        for (index, (secret, noted)) in noted.into_iter().enumerate() {
            if index % TAKEN_AT_ONCE == TAKEN_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            if waiting.len() < MAX_USES || waiting.contains_key(&secret) {
                waiting.insert(secret, noted);
            } else {
                self.metrics.unwritten_uses.inc();
            }
        }
        self.metrics.waiting_uses.set(waiting.len() as i64);
        *so_far = pace(*so_far, waiting.len());
        let (most, batch) = match haste {
            Haste::Yes => (waiting.len(), HASTY_BATCH),
            Haste::No => (*so_far, so_far.div_ceil(STATEMENTS).max(BATCH)),
        };
        // Once more than that: the beginning comes behind the end.
        let statements = most.div_ceil(batch) + 1;
        let written = self.write_some(waiting, place, (statements, batch), haste).await;
        self.metrics.waiting_uses.set(waiting.len() as i64);
        written
    }

    /// Writes the next of those that wait, in so many statements of so many; what was written waits no more.
    async fn write_some(
        &self,
        waiting: &mut BTreeMap<Id<id::KeySecret>, Use>,
        place: &mut Option<Id<id::KeySecret>>,
        (statements, batch_size): (usize, usize),
        haste: Haste,
    ) -> Result<()> {
        for _ in 0..statements {
            let from = place.map_or(Bound::Unbounded, Bound::Excluded);
            let batch: Vec<_> = waiting.range((from, Bound::Unbounded)).take(batch_size).collect();
            let Some(last) = batch.last().map(|(secret, _)| **secret) else {
                // From the beginning again, where something is left.
                if place.take().is_none() {
                    break;
                }
                continue;
            };
            let start = Instant::now();
            let row = |(secret, noted): &(&Id<_>, &Use)| {
                let address = noted.address().map(|ip| ip.to_string());
                json!([secret.uuid().simple().to_string(), noted.at.as_micros(), address])
            };
            let rows = Json(batch.iter().map(row).collect::<Vec<_>>());
            statements::TOUCH.on(&self.ground.db).bind(rows).execute(&self.ground.db).await?;
            let written: Vec<_> = batch.iter().map(|(secret, _)| **secret).collect();
            for secret in written {
                waiting.remove(&secret);
            }
            *place = Some(last);
            if haste == Haste::No && !waiting.is_empty() {
                tokio::time::sleep((start.elapsed() * REST).min(MAX_REST)).await;
            }
        }
        Ok(())
    }

    /// Writes some of the noted digests; answers whether more are left. Between two batches other changes get through.
    async fn write_rehashes(&self) -> Result<bool> {
        let mut rehashes: Vec<_> = {
            let noted = self.journal.rehashes.lock().expect("no one panics while noting");
            noted.iter().take(MAX_REHASHES).map(|(digest, rehash)| (*digest, *rehash)).collect()
        };
        if rehashes.is_empty() {
            return Ok(false);
        }
        // In one order: of two nodes that replace the same, one waits for the other, and never both.
        rehashes.sort_unstable_by_key(|(_, rehash)| rehash.secret);
        let row = |(digest, rehash): &([u8; 32], Rehash)| {
            json!([rehash.secret.uuid().simple().to_string(), hex(digest), rehash.pepper_version])
        };
        let rows = || Json(rehashes.iter().map(row).collect::<Vec<_>>());
        let context = Context::system("rehash");
        let mut change = Change::begin(&self.ground, &context).await?;
        // What another node remembers under the older digests is out of date.
        let older: Vec<(Vec<u8>,)> = statements::DIGESTS.within(change.tx()).bind(rows()).all(change.tx()).await?;
        for bytes in older.into_iter().filter_map(|(bytes,)| <[u8; 32]>::try_from(bytes).ok()) {
            change.touch(Subject::Secret(KeyDigest::from_bytes(bytes).slot()));
        }
        let replaced = statements::REHASH.within(change.tx()).bind(rows()).execute(change.tx()).await?;
        // None, where another node was faster.
        if replaced > 0 {
            // What was looked for meanwhile may be taken for absent.
            change.touch(Subject::Issued);
            let event = Event::new(EventType::System, "secrets_rehashed", "instance", "peppers");
            change.commit(event.details(json!({ "secrets": replaced }))).await?;
        }
        let mut noted = self.journal.rehashes.lock().expect("no one panics while noting");
        for (digest, _) in &rehashes {
            noted.remove(digest);
        }
        Ok(!noted.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_written_in_so_many_flushes_and_the_pace_ends_with_it() {
        for most in [1_000_000, 200_000, FLUSHES * FEWEST_WRITTEN] {
            let (mut waiting, mut so_far, mut flushes) = (most, 0, 0);
            while waiting > 0 {
                so_far = pace(so_far, waiting);
                waiting = waiting.saturating_sub(so_far);
                flushes += 1;
            }
            assert!(flushes <= FLUSHES, "{most} in {flushes}");
            assert_eq!(pace(so_far, 0), 0);
        }
        assert_eq!(pace(0, 1), FEWEST_WRITTEN);
    }
}
