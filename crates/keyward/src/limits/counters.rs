//! Where a node's counters are found again: by subject and rule, whichever record asks. Looked up only when a record is
//! read; the hot path holds its counters in the record.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use keyward_core::id::{self, Id};
use keyward_core::limit::{Bound, Counter, LimitRule, Per, QuotaRule, REQUESTS, Withheld};
use keyward_core::quota::{Calendar, QuotaCounter, Unit};
use keyward_core::time::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Every counter that is in use, or may be again before its window has passed.
#[derive(Default)]
pub(crate) struct Counters {
    limits: Mutex<HashMap<u128, Arc<Counter>>>,
    quotas: Mutex<HashMap<(Uuid, Unit), Arc<QuotaCounter>>>,
    /// Each rule once, however many keys have its like: they stay in the processor's memory together.
    rules: Mutex<HashSet<Arc<LimitRule>>>,
}

/// Whose calls are counted.
#[derive(Clone, Copy)]
pub(crate) struct Holder<'a> {
    pub organization: Id<id::Organization>,
    pub key: Id<id::Key>,
    pub external_id: Option<&'a str>,
}

/// Where a rule is written: equal rules of a plan and of a key count apart.
#[derive(Clone, Copy)]
enum Origin {
    Plan,
    Key,
}

impl Counters {
    /// What a plan allows all keys of an organization together.
    pub(crate) fn of_organization(
        &self,
        organization: Id<id::Organization>,
        requests_per_minute: u64,
        rules: &[LimitRule],
    ) -> Box<[Bound]> {
        let every_call = LimitRule::plain(REQUESTS, requests_per_minute, 60);
        let shared = rules.iter().filter(|rule| rule.per.unwrap_or(Per::Organization) == Per::Organization);
        let subject = organization.uuid().into_bytes();
        std::iter::once(&every_call)
            .chain(shared)
            .map(|rule| self.bind(Origin::Plan, Per::Organization, &subject, rule))
            .collect()
    }

    /// What a key and its end customer may use: by the key's own rules, and by those of its plan for each of them.
    pub(crate) fn of_key(&self, holder: Holder<'_>, plan: &[LimitRule], own: &[LimitRule]) -> Box<[Bound]> {
        let own = own.iter().map(|rule| (Origin::Key, rule, rule.per.unwrap_or(Per::Key)));
        let plan = plan.iter().map(|rule| (Origin::Plan, rule, rule.per.unwrap_or(Per::Organization)));
        own.chain(plan)
            .filter(|(_, _, per)| *per != Per::Organization)
            .map(|(origin, rule, per)| match (per, holder.external_id) {
                (Per::ExternalId, Some(customer)) => {
                    let subject = [holder.organization.uuid().as_bytes().as_slice(), customer.as_bytes()].concat();
                    self.bind(origin, Per::ExternalId, &subject, rule)
                }
                // Without a customer the key counts for itself, and still apart from what a rule by key counts: every rule of a call
                // has a counter of its own, which is locked once.
                _ => self.bind(origin, per, holder.key.uuid().as_bytes(), rule),
            })
            .collect()
    }

    fn bind(&self, origin: Origin, per: Per, subject: &[u8], rule: &LimitRule) -> Bound {
        let id = number_of(origin, per, subject, rule);
        let mut limits = self.limits.lock().expect("no one panics while binding");
        let counter = limits.entry(id).or_insert_with(|| Arc::new(Counter::new(id))).clone();
        Bound { rule: self.share(rule), counter }
    }

    fn share(&self, rule: &LimitRule) -> Arc<LimitRule> {
        let mut rules = self.rules.lock().expect("no one panics while binding");
        if let Some(known) = rules.get(rule) {
            return known.clone();
        }
        let new = Arc::new(rule.clone());
        rules.insert(new.clone());
        new
    }

    /// The quota of an organization or key, by a place's calendar.
    pub(crate) fn quota(&self, subject: Uuid, rule: &QuotaRule, zone: &str) -> Withheld {
        let calendar = Calendar::of(rule, zone);
        let unit = calendar.unit();
        let counter = self.find_or_new_quota(subject, unit);
        // The zone or period may be another than before: what is known of the saved use is read again.
        counter.lock().forget();
        Withheld { rule: rule.clone(), calendar, counter }
    }

    pub(crate) fn find_or_new_quota(&self, subject: Uuid, unit: Unit) -> Arc<QuotaCounter> {
        let mut quotas = self.quotas.lock().expect("no one panics while binding");
        quotas.entry((subject, unit)).or_insert_with(|| Arc::new(QuotaCounter::new(subject, unit))).clone()
    }

    pub(crate) fn find_limit(&self, id: u128) -> Option<Arc<Counter>> {
        self.limits.lock().expect("no one panics while binding").get(&id).cloned()
    }

    /// Drops the counters that nobody holds and that count nothing.
    pub(crate) fn sweep(&self, now: Timestamp) {
        let longest = keyward_core::limit::MAX_WINDOW_SECONDS as i64 * 1_000_000;
        self.limits.lock().expect("no one panics while binding").retain(|_, counter| {
            Arc::strong_count(counter) > 1 || counter.lock().window.used(now.as_micros(), longest) > 0
        });
        self.rules.lock().expect("no one panics while binding").retain(|rule| Arc::strong_count(rule) > 1);
        self.quotas
            .lock()
            .expect("no one panics while binding")
            .retain(|_, counter| Arc::strong_count(counter) > 1 || !counter.lock().unsaved().is_empty());
    }
}

/// The number of a counter: the same on every node, whatever the limit's size.
fn number_of(origin: Origin, per: Per, subject: &[u8], rule: &LimitRule) -> u128 {
    let mut hash = Sha256::new();
    let per = match per {
        Per::Organization => b'o',
        Per::ExternalId => b'e',
        Per::Key => b'k',
    };
    hash.update([per, matches!(origin, Origin::Plan).into()]);
    for part in [subject, rule.name.as_bytes(), &rule.window_seconds.to_be_bytes(), rule.routes.join("\n").as_bytes()] {
        hash.update((part.len() as u32).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    u128::from_be_bytes(digest[..16].try_into().expect("a digest has 32 bytes"))
}
