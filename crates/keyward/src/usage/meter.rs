//! Counts verifications in memory: on the hot path an addition in the record of the key, where calls with the same outcome,
//! route and minute stand. Calls that differ from those stand in a map until the next flush, which writes all down.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyward_core::id::{Id, Node};
use keyward_core::prefetch::prefetch;
use keyward_core::problem::Code;
use keyward_core::record::KeyRecord;
use keyward_core::route;
use keyward_core::tally::Kind;
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
const TAKEN_AT_ONCE: usize = 200;
/// How far ahead records are asked for.
const PREFETCHED: usize = 8;
/// Stands for every route beyond the most that are told apart; no route's digest is below 2 but that of none, 0.
const OTHER_ROUTE: u64 = 1;
/// Threads that count at the same time without meeting.
const STRIPES: usize = 16;
/// How long a verification waits for the commit of its count where metering is strict.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a count in the map is looked up by: the secret, and a digest of outcome, minute and route.
#[derive(PartialEq, Eq, Hash)]
struct Mark(u128, u64);

/// What one thread has begun to count.
#[derive(Default)]
struct Stripe {
    /// Records in which calls stand, with what these have in common.
    tallied: Vec<Tallied>,
    /// Room of the flush before: a thread that counts waits for no memory.
    spare: Vec<Tallied>,
    /// Calls of other kinds than those that stand in their record, and of strings that are no key.
    apart: Apart,
}

type Apart = HashMap<Mark, (Group, Entry), BuildHasherDefault<MarkHasher>>;

impl Stripe {
    /// Everything that is counted in it.
    fn take(&mut self) -> (Vec<Tallied>, Apart) {
        let spare = std::mem::take(&mut self.spare);
        (std::mem::replace(&mut self.tallied, spare), std::mem::take(&mut self.apart))
    }
}

struct Tallied {
    record: Arc<KeyRecord>,
    minute: i64,
    outcome: Outcome,
    route: Option<Arc<str>>,
}

impl Tallied {
    /// What stands in the record, and from now on no more.
    fn take(self) -> (Group, Entry) {
        let Self { record, minute, outcome, route } = self;
        let calls = record.tally.take();
        let group = Group { organization: record.tenant.id.uuid(), minute, outcome, route };
        (group, Entry { key: record.key_id.uuid(), secret: record.secret_id.uuid(), calls })
    }
}

/// Takes what stands in each record. Those that come next are on their way from memory: what counts were begun in is in no
/// processor's cache any more.
fn take_all(tallied: &mut Vec<Tallied>) -> impl Iterator<Item = (Group, Entry)> {
    let mut rest = tallied.drain(..);
    std::iter::from_fn(move || {
        let next = rest.next()?;
        rest.as_slice().get(PREFETCHED).inspect(|later| prefetch(&*later.record));
        Some(next.take())
    })
}

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
            other: OTHER_ROUTES.into(),
            waiting: tokio::sync::Mutex::default(),
            begun: AtomicU64::new(0),
            settled: watch::channel(0).0,
            nudged: Notify::new(),
        }
    }

    /// Counts a judged key.
    pub(crate) fn count(&self, record: &Arc<KeyRecord>, outcome: Outcome, request: &Request<'_>, now: Timestamp) {
        let minute = now.as_seconds().div_euclid(60);
        let route = self.digest_of_route(request);
        if !record.tally.add(Kind::of(self.digest_of_kind(outcome, minute, route))) {
            self.begin(record, outcome, minute, route, request);
        }
    }

    /// Counts a string that is no key, or none within the caller's reach: for the instance only.
    pub(crate) fn count_unknown(&self, outcome: Outcome, now: Timestamp) {
        let (minute, nobody) = (now.as_seconds().div_euclid(60), Uuid::nil());
        let mark = Mark(nobody.as_u128(), self.digest_of_kind(outcome, minute, 0));
        self.count_apart(mark, || {
            let group = Group { organization: nobody, minute, outcome, route: None };
            (group, Entry { key: nobody, secret: nobody, calls: 0 })
        });
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
        for stripe in &self.stripes {
            // The threads go on with an empty one while this one is read.
            let (mut tallied, apart) = stripe.lock().expect("no one panics while counting").take();
            self.count.fetch_sub(tallied.len() + apart.len(), Ordering::Relaxed);
            let most = tallied.len();
            let mut filling = into.fill();
            filling.expect(most);
            let counts = take_all(&mut tallied).chain(apart.into_values());
            for (index, (group, entry)) in counts.enumerate() {
                if index % TAKEN_AT_ONCE == TAKEN_AT_ONCE - 1 {
                    tokio::task::yield_now().await;
                }
                if filling.len() < MAX_COUNTS {
                    filling.add(group, entry);
                } else {
                    self.metrics.unmetered.inc_by(entry.calls);
                }
            }
            drop(filling);
            // Room that was hardly used is given back.
            if tallied.capacity() <= 4 * most.max(1_000) {
                stripe.lock().expect("no one panics while counting").spare = tallied;
            }
        }
    }

    /// Forgets which routes were seen, so that others get their turn.
    pub(super) fn forget_routes(&self) {
        self.routes.lock().expect("no one panics while naming routes").clear();
    }

    /// Of what a call's count is told apart by, besides the secret.
    fn digest_of_kind(&self, outcome: Outcome, minute: i64, route: u64) -> u64 {
        mix(mix(self.seed, minute as u64 * 64 + outcome as u64), route)
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

    /// Counts the first call of its kind since the last flush: in the record if nothing stands there, else apart.
    #[cold]
    fn begin(&self, record: &Arc<KeyRecord>, outcome: Outcome, minute: i64, digest: u64, request: &Request<'_>) {
        let (digest, route) = match route_told(request) {
            Some(told) => match self.route(record.tenant.id.uuid(), digest, told) {
                Some(route) => (digest, Some(route)),
                None => (OTHER_ROUTE, Some(self.other.clone())),
            },
            None => (digest, None),
        };
        let digest = self.digest_of_kind(outcome, minute, digest);
        let tallied = Tallied { record: record.clone(), minute, outcome, route };
        let Err(Tallied { route, .. }) = self.begin_in_record(tallied, Kind::of(digest)) else { return };
        let secret = record.secret_id.uuid();
        self.count_apart(Mark(secret.as_u128(), digest), || {
            let group = Group { organization: record.tenant.id.uuid(), minute, outcome, route };
            (group, Entry { key: record.key_id.uuid(), secret, calls: 0 })
        });
    }

    /// Counts a call in its record; gives it back where calls of another kind stand there.
    fn begin_in_record(&self, tallied: Tallied, kind: Kind) -> std::result::Result<(), Tallied> {
        let mut stripe = self.stripe().lock().expect("no one panics while counting");
        if self.count.load(Ordering::Relaxed) < MAX_COUNTS && tallied.record.tally.begin(kind) {
            // Before the stripe is free again: whoever adds to what stands there may rely on the next flush to find it.
            stripe.tallied.push(tallied);
            self.count.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        // Another thread may have begun the same a moment ago.
        if tallied.record.tally.add(kind) { Ok(()) } else { Err(tallied) }
    }

    /// Counts a call in the map, with what it is counted under if it is the first.
    fn count_apart(&self, mark: Mark, first: impl FnOnce() -> (Group, Entry)) {
        let mut stripe = self.stripe().lock().expect("no one panics while counting");
        match stripe.apart.entry(mark) {
            MapEntry::Occupied(mut counted) => counted.get_mut().1.calls += 1,
            MapEntry::Vacant(place) if self.count.fetch_add(1, Ordering::Relaxed) < MAX_COUNTS => {
                place.insert(first()).1.calls = 1;
            }
            MapEntry::Vacant(_) => {
                self.count.fetch_sub(1, Ordering::Relaxed);
                self.metrics.unmetered.inc();
            }
        }
    }

    /// Zero where the caller did not tell the route.
    fn digest_of_route(&self, request: &Request<'_>) -> u64 {
        let Some((method, path)) = route_told(request) else { return 0 };
        let method = digest(self.seed, method.as_bytes());
        route::parts(path).fold(method, |digest_so_far, part| digest(digest_so_far, part.as_bytes())).max(2)
    }

    /// The text of a route; none when the organization has too many.
    #[cold]
    fn route(&self, organization: Uuid, digest: u64, (method, path): (&str, &str)) -> Option<Arc<str>> {
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

/// Method and path, where the caller told both.
fn route_told<'a>(request: &Request<'a>) -> Option<(&'a str, &'a str)> {
    request.method.zip(request.path)
}

/// Eight bytes at a time.
fn digest(before: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(before, |sum, word| mix(sum, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(sum, u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56)
}
