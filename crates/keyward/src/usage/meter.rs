//! Counts verifications in memory: on the hot path one look-up in a map that is the thread's own, and an addition. No
//! allocation once a key, outcome and route have been seen in this minute. `flush` writes the counts down.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward_core::id::{Id, Node};
use keyward_core::problem::Code;
use keyward_core::record::KeyRecord;
use keyward_core::route;
use keyward_core::time::Timestamp;
use keyward_core::verdict::{Outcome, Request};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::batch::{Batch, Entry, Group};
use super::flush::Waiting;
use super::record::route_of;
use super::rollup::OTHER_ROUTES;
use crate::config::Metering;
use crate::error::{Error, Result};
use crate::metrics::Metrics;

/// Most routes of an organization that are told apart.
const MAX_ROUTES: usize = 200;
/// Most counts between two flushes, and most that wait for a database that does not take them.
const MAX_COUNTS: usize = 1_000_000;
/// Counts that a flush takes before it lets others run: some tens of microseconds.
const TAKEN_AT_ONCE: usize = 500;
/// Threads that count at the same time without meeting.
const STRIPES: usize = 16;
/// How long a verification waits for the commit of its count where metering is strict.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a count is looked up by: the secret, and a digest of outcome, minute and route.
#[derive(PartialEq, Eq, Hash)]
struct Mark(u128, u64);

type Stripe = HashMap<Mark, (Group, Entry), BuildHasherDefault<MarkHasher>>;

/// Folds the two parts of a mark, which are uniform enough already.
#[derive(Default)]
struct MarkHasher(u64);

impl Hasher for MarkHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only marks are hashed");
    }

    fn write_u128(&mut self, part: u128) {
        self.0 = mix(self.0, part as u64 ^ (part >> 64) as u64);
    }

    fn write_u64(&mut self, part: u64) {
        self.0 = mix(self.0, part);
    }
}

/// Multiplies and folds, as wyhash does.
fn mix(one: u64, other: u64) -> u64 {
    let product = u128::from(one ^ 0x9E37_79B9_7F4A_7C15) * u128::from(other ^ 0xD1B5_4A32_D192_ED03);
    product as u64 ^ (product >> 64) as u64
}

/// Counts of this node that are not written yet.
pub struct Meter {
    metering: Metering,
    /// Under which the node writes.
    pub(super) node: Id<Node>,
    pub(super) metrics: Arc<Metrics>,
    /// Unknown to callers, so that they cannot make routes collide.
    seed: u64,
    /// A thread's own, but for the moment in which a flush takes it.
    stripes: [Mutex<Stripe>; STRIPES],
    count: AtomicUsize,
    routes: Mutex<HashMap<Uuid, HashMap<u64, Arc<str>>>>,
    no_route: Arc<str>,
    other: Arc<str>,
    pub(super) waiting: tokio::sync::Mutex<Waiting>,
    /// How many flushes have begun, and the last one after which nothing of before was left.
    pub(super) begun: AtomicU64,
    pub(super) settled: watch::Sender<u64>,
    nudged: Notify,
}

thread_local! {
    static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
}

impl Meter {
    pub(super) fn new(metering: Metering, node: Id<Node>, metrics: Arc<Metrics>) -> Self {
        Self {
            metering,
            node,
            metrics,
            seed: mix(node.uuid().as_u128() as u64, 1),
            stripes: Default::default(),
            count: AtomicUsize::new(0),
            routes: Mutex::default(),
            no_route: "".into(),
            other: OTHER_ROUTES.into(),
            waiting: tokio::sync::Mutex::default(),
            begun: AtomicU64::new(0),
            settled: watch::channel(0).0,
            nudged: Notify::new(),
        }
    }

    /// Counts a judged key.
    pub(crate) fn count(&self, record: &KeyRecord, outcome: Outcome, request: &Request<'_>, now: Timestamp) {
        let minute = now.as_seconds().div_euclid(60);
        let route = self.digest_of_route(request);
        let secret = record.secret_id.uuid();
        let mark = self.mark(secret, outcome, minute, route);
        if self.add(&mark) {
            return;
        }
        let (mark, route) = match self.route(record.tenant.id.uuid(), route, request) {
            Some(route) => (mark, route),
            None => (self.mark(secret, outcome, minute, 1), self.other.clone()),
        };
        let group = Group { organization: record.tenant.id.uuid(), minute, outcome, route };
        self.begin(mark, group, Entry { key: record.key_id.uuid(), secret, calls: 1 });
    }

    /// Counts a string that is no key, or none within the caller's reach: for the instance only.
    pub(crate) fn count_unknown(&self, outcome: Outcome, now: Timestamp) {
        let (minute, nobody) = (now.as_seconds().div_euclid(60), Uuid::nil());
        let mark = self.mark(nobody, outcome, minute, 0);
        if !self.add(&mark) {
            let group = Group { organization: nobody, minute, outcome, route: self.no_route.clone() };
            self.begin(mark, group, Entry { key: nobody, secret: nobody, calls: 1 });
        }
    }

    /// Whether an answer waits for the commit of its counts.
    pub(crate) fn is_strict(&self) -> bool {
        self.metering == Metering::Strict
    }

    /// Returns when what was counted before is committed, where metering is strict; else at once.
    pub(crate) async fn settle(&self) -> Result<()> {
        if self.metering == Metering::Behind {
            return Ok(());
        }
        // A flush that begins from now on takes in what was counted before.
        let wanted = self.begun.load(Ordering::SeqCst) + 1;
        let mut settled = self.settled.subscribe();
        self.nudged.notify_one();
        match tokio::time::timeout(PATIENCE, settled.wait_for(|flush| *flush >= wanted)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Error::new(Code::NotReady, "The verification could not be metered.")),
        }
    }

    /// Returns when a verification waits for a flush.
    pub(super) async fn flush_wanted(&self) {
        self.nudged.notified().await;
    }

    /// Takes everything that was counted so far, up to a bound. Lets others run in between.
    pub(super) async fn take(&self, into: &mut Batch) {
        let mut taken = Stripe::default();
        for stripe in &self.stripes {
            // Changed for an empty one that has room already; the threads go on while this one is read.
            std::mem::swap(&mut taken, &mut *stripe.lock().expect("no one panics while counting"));
            self.count.fetch_sub(taken.len(), Ordering::Relaxed);
            for (index, (_, (group, entry))) in taken.drain().enumerate() {
                if index % TAKEN_AT_ONCE == TAKEN_AT_ONCE - 1 {
                    tokio::task::yield_now().await;
                }
                if into.len() < MAX_COUNTS {
                    into.add(group, entry);
                } else {
                    self.metrics.unmetered.inc_by(entry.calls);
                }
            }
        }
    }

    /// Forgets which routes were seen, so that others get their turn.
    pub(super) fn forget_routes(&self) {
        self.routes.lock().expect("no one panics while naming routes").clear();
    }

    fn mark(&self, secret: Uuid, outcome: Outcome, minute: i64, route: u64) -> Mark {
        Mark(secret.as_u128(), mix(mix(self.seed, minute as u64 * 64 + outcome as u64), route))
    }

    fn stripe(&self) -> &Mutex<Stripe> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let index = STRIPE.with(|own| {
            if own.get() == usize::MAX {
                own.set(NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES);
            }
            own.get()
        });
        &self.stripes[index]
    }

    /// Adds one to what is counted already; false when it is not.
    fn add(&self, mark: &Mark) -> bool {
        let mut stripe = self.stripe().lock().expect("no one panics while counting");
        stripe.get_mut(mark).map(|(_, entry)| entry.calls += 1).is_some()
    }

    #[cold]
    fn begin(&self, mark: Mark, group: Group, entry: Entry) {
        let mut stripe = self.stripe().lock().expect("no one panics while counting");
        match stripe.entry(mark) {
            MapEntry::Occupied(mut counted) => counted.get_mut().1.calls += 1,
            MapEntry::Vacant(place) if self.count.fetch_add(1, Ordering::Relaxed) < MAX_COUNTS => {
                place.insert((group, entry));
            }
            MapEntry::Vacant(_) => {
                self.count.fetch_sub(1, Ordering::Relaxed);
                self.metrics.unmetered.inc();
            }
        }
    }

    /// Zero where the caller did not tell the route.
    fn digest_of_route(&self, request: &Request<'_>) -> u64 {
        let (Some(method), Some(path)) = (request.method, request.path) else { return 0 };
        let method = digest(self.seed, method.as_bytes());
        route::parts(path).fold(method, |digest_so_far, part| digest(digest_so_far, part.as_bytes())).max(2)
    }

    /// The text of a route; none when the organization has too many.
    #[cold]
    fn route(&self, organization: Uuid, digest: u64, request: &Request<'_>) -> Option<Arc<str>> {
        let (Some(method), Some(path)) = (request.method, request.path) else { return Some(self.no_route.clone()) };
        let mut routes = self.routes.lock().expect("no one panics while naming routes");
        let routes = routes.entry(organization).or_default();
        if let Some(route) = routes.get(&digest) {
            return Some(route.clone());
        }
        if routes.len() >= MAX_ROUTES || method.len() + path.len() > 512 {
            return None;
        }
        let route: Arc<str> = route_of(method, path).into();
        routes.insert(digest, route.clone());
        Some(route)
    }
}

/// Eight bytes at a time.
fn digest(before: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(before, |sum, word| mix(sum, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(sum, u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56)
}
