//! From a presented string to its record, in steps: whoever has other work to do does it between them, while the processor
//! fetches what the next step reads (`docs/decisions/0019`).

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keyward_core::key::{self, KeyDigest, Shape};
use keyward_core::problem::Code;
use keyward_core::record::KeyRecord;
use keyward_core::time::Timestamp;
use keyward_core::verdict::{Outcome, Reach};

use super::{Judged, Verifier, cannot_judge, place_of};
use crate::error::Error;

/// How long a key is read from a database that has not answered lately.
const UNSURE: Duration = Duration::from_millis(500);

thread_local! {
    /// Whose slot is on its way. Of another verifier's, at most a record is asked for that nobody needs.
    static LINED_UP: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A presented string with what it is looked up by.
pub struct Sought<'a> {
    pub(super) presented: &'a str,
    /// None where the string cannot be a key at all.
    pub(super) digest: Option<KeyDigest>,
}

impl Verifier {
    /// The first step: what the string is looked up by. Its slot in memory is on its way.
    pub fn seek<'a>(&self, presented: &'a str) -> Sought<'a> {
        // Which strings can be keys may have been announced.
        self.keep_up();
        let digest = self.may_be_a_key(presented).then(|| self.peppers.current().digest(presented));
        if let Some(digest) = &digest {
            self.known.prefetch_slot(place_of(digest.slot()));
        }
        Sought { presented, digest }
    }

    /// For whoever lets others go first: the record in memory is on its way once the next string was lined up on this thread, or with
    /// `approach`. By then its slot has come.
    pub fn line_up(&self, sought: &Sought<'_>) {
        let place = sought.digest.map(|digest| place_of(digest.slot()));
        self.approach_at(LINED_UP.replace(place));
    }

    /// The record of what was lined up last on this thread is on its way.
    pub fn approach(&self) {
        self.approach_at(LINED_UP.take());
    }

    fn approach_at(&self, place: Option<u64>) {
        place.into_iter().for_each(|place| self.known.prefetch_record(place));
    }

    /// Finds the record of a presented key; `NotFound` when there is none within reach. `Malformed` is decided before anything is
    /// looked up.
    pub(super) async fn find(
        &self,
        sought: &Sought<'_>,
        reach: Reach,
        now: Timestamp,
    ) -> Judged<Result<Arc<KeyRecord>, Outcome>> {
        let Some(digest) = sought.digest else { return Ok(Err(Outcome::Malformed)) };
        if let Some(record) = self.remembered(&digest, now)
            && reach.includes(record.tenant.id)
        {
            return Ok(Ok(record));
        }
        // Boxed, so that a hit does not carry the future of a miss with it.
        let loading = Box::pin(self.load(sought.presented, digest, reach, now));
        let loaded = if self.ground.board.is_fresh(now) {
            loading.await
        } else {
            let unanswered = |_| Error::new(Code::NotReady, "The database does not answer.");
            tokio::time::timeout(UNSURE, loading).await.map_err(unanswered).flatten()
        };
        match loaded {
            Ok(record) => Ok(record.ok_or(Outcome::NotFound)),
            Err(error) => self.without_the_database(&digest, reach, now).ok_or_else(|| {
                self.metrics.unjudged.inc();
                cannot_judge(error)
            }),
        }
    }

    /// Whether the string can be a key at all: its shape and checksum, or the prefix of an import.
    fn may_be_a_key(&self, presented: &str) -> bool {
        match key::shape(presented) {
            Some(Shape::Own) => true,
            None => false,
            Some(shape) if self.has_imports.load(Ordering::Acquire) => {
                let prefixes = self.import_prefixes.read().expect("no one panics while reading prefixes").clone();
                prefixes.iter().any(|prefix| {
                    // A string with a broken checksum needs a prefix that only an import can have, such as `sk_live`.
                    presented.starts_with(prefix.as_str()) && (shape == Shape::Foreign || prefix.contains('_'))
                })
            }
            Some(_) => false,
        }
    }
}
