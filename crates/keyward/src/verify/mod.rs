//! The hot path: judge a presented key from memory, with no IO, no lock held across a step, and no allocation that
//! can be avoided. What is not in memory is read by `load`; what was judged is written down later by `journal`.

mod absent;
mod country;
mod familiar;
mod journal;
mod load;
mod password;
mod records;
mod seek;
mod sql;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use keyward_core::key::KeyDigest;
use keyward_core::record::KeyRecord;
use keyward_core::time::Timestamp;
use keyward_core::verdict::{self, Outcome, Reach, Request, Verdict};
use keyward_core::verify::{CannotJudge, Verify};
use tokio::sync::Semaphore;

use crate::announce::Subject;
use crate::audit::Classes;
use crate::config::{KeySettings, VerifySettings};
use crate::ground::Ground;
use crate::keys::peppers::Peppers;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::usage::meter::Meter;
use absent::Absent;
use country::Countries;
pub use familiar::Familiar;
pub(crate) use journal::Haste;
use journal::Journal;
use load::Tenants;
use records::Records;
pub use seek::Sought;

/// Where the record of a slot is kept.
fn place_of(slot: u128) -> u64 {
    slot as u64
}

/// Keys that are read from the database at the same time.
const FLIGHTS: usize = 256;

/// What came of a call, unless it cannot be judged now.
type Judged<T> = Result<T, CannotJudge>;

/// Judges keys of this instance, in process.
pub struct Verifier {
    ground: Ground,
    peppers: Arc<Peppers>,
    pub(crate) metrics: Arc<Metrics>,
    settings: VerifySettings,
    import_hmac_keys: Vec<Vec<u8>>,
    /// By half of a slot, to be small; a record of another digest in its place counts as none.
    known: Records,
    /// One read of a key at a time: whoever waits finds what the one before has remembered.
    flights: Box<[tokio::sync::Mutex<()>]>,
    /// Slots that were looked for and not found, with the generation in which that was so.
    absent: Absent,
    absent_generation: AtomicU64,
    /// How far the announcements have been taken in.
    applied: AtomicU64,
    /// Held to take in announcements and to remember a record, so that neither overtakes the other.
    tenants: Mutex<Tenants>,
    /// Whether any foreign key was ever imported, and under which prefixes.
    has_imports: AtomicBool,
    import_prefixes: RwLock<Arc<[String]>>,
    imports_changed: AtomicBool,
    countries: Countries,
    slow_hashes: Arc<Semaphore>,
    journal: Journal,
    limits: Arc<Limits>,
    meter: Arc<Meter>,
    classes: Arc<Classes>,
}

/// Where verifications are counted.
pub(crate) struct Counting {
    pub metrics: Arc<Metrics>,
    pub limits: Arc<Limits>,
    pub meter: Arc<Meter>,
    pub classes: Arc<Classes>,
}

impl Verifier {
    pub(crate) async fn open(
        ground: Ground,
        peppers: Arc<Peppers>,
        keys: &KeySettings,
        settings: VerifySettings,
        counting: Counting,
    ) -> crate::Result<Self> {
        let Counting { metrics, limits, meter, classes } = counting;
        let verifier = Self {
            peppers,
            metrics,
            import_hmac_keys: load::read_hmac_keys(&keys.import_hmac_keys)?,
            known: Records::new(settings.cache_entries),
            flights: std::iter::repeat_with(tokio::sync::Mutex::default).take(FLIGHTS).collect(),
            absent: absent::few(),
            absent_generation: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            tenants: Mutex::default(),
            has_imports: AtomicBool::new(false),
            import_prefixes: RwLock::new(Arc::new([])),
            imports_changed: AtomicBool::new(false),
            slow_hashes: Arc::new(Semaphore::new(settings.slow_hashes.max(1))),
            countries: Countries::open(&settings.country_database)?,
            journal: Journal::new(keys.last_used_resolution_seconds),
            limits,
            meter,
            classes,
            settings,
            ground,
        };
        verifier.read_import_prefixes().await?;
        Ok(verifier)
    }

    /// The record in memory, if memory may be trusted now.
    fn remembered(&self, digest: &KeyDigest, now: Timestamp) -> Option<Arc<KeyRecord>> {
        self.keep_up();
        if !self.ground.board.is_fresh(now) {
            return None;
        }
        let record = self.known.get(place_of(digest.slot()))?;
        record.prefetch_texts();
        (record.digest == *digest && !record.tenant.is_superseded()).then_some(record)
    }

    /// Takes in what was announced, if anything was.
    fn keep_up(&self) {
        if self.applied.load(Ordering::Acquire) != self.ground.board.posted() {
            self.take_announcements();
        }
    }

    /// Forgets what the announcements touched.
    fn take_announcements(&self) {
        let mut tenants = self.tenants.lock().expect("no one panics while holding tenants");
        let (posted, subjects) = self.ground.board.take();
        for subject in subjects {
            match subject {
                Subject::Secret(slot) => self.known.remove(place_of(slot)),
                Subject::Organization(id) => tenants.supersede(id),
                Subject::Issued => drop(self.absent_generation.fetch_add(1, Ordering::AcqRel)),
                Subject::Person(_) => {}
                Subject::Imports => {
                    self.absent_generation.fetch_add(1, Ordering::AcqRel);
                    // Until the prefixes are read again, any foreign string may be one of the new keys.
                    let mut prefixes = self.import_prefixes.write().expect("no one panics while writing prefixes");
                    *prefixes = Arc::new([String::new()]);
                    self.has_imports.store(true, Ordering::Release);
                    self.imports_changed.store(true, Ordering::Release);
                }
            }
        }
        self.applied.store(posted, Ordering::Release);
    }

    /// The verdict where nothing has to be fetched or waited for; else `None`, and then nothing was done.
    fn verify_from_memory(
        &self,
        sought: &Sought<'_>,
        request: &Request<'_>,
        now: Timestamp,
        verdict: &mut Verdict,
    ) -> Option<Judged<()>> {
        if self.meter.is_strict() {
            return None;
        }
        let Some(digest) = &sought.digest else {
            return Some(self.conclude_unknown(Outcome::Malformed, sought.presented, request, now, verdict));
        };
        let record = self.remembered(digest, now).filter(|record| request.reach.includes(record.tenant.id))?;
        let located = self.located(&record, request);
        let request = located.as_ref().unwrap_or(request);
        verdict.judge(&record, request, now);
        match self.asks_limits(verdict.outcome, request) {
            Ok(true) => self.limits.draw(&record, request, now, verdict)?,
            Ok(false) => {}
            Err(error) => return Some(Err(error)),
        }
        Some(self.settle(record, request, now, verdict))
    }

    /// The same whatever it takes.
    #[cold]
    async fn verify_slowly(
        &self,
        sought: &Sought<'_>,
        request: &Request<'_>,
        now: Timestamp,
        verdict: &mut Verdict,
    ) -> Judged<()> {
        match self.find(sought, request.reach, now).await? {
            Ok(record) => {
                let located = self.located(&record, request);
                let request = located.as_ref().unwrap_or(request);
                verdict.judge(&record, request, now);
                if self.asks_limits(verdict.outcome, request)? {
                    self.draw_slowly(&record, request, now, verdict).await?;
                }
                self.settle(record, request, now, verdict)?;
            }
            Err(outcome) => self.conclude_unknown(outcome, sought.presented, request, now, verdict)?,
        }
        self.commit_counts().await.map_err(cannot_judge)
    }

    /// Whether limits are asked: once every rule has passed. A dry run looks at them in any case.
    fn asks_limits(&self, outcome: Outcome, request: &Request<'_>) -> Judged<bool> {
        // One branch for what is refused and for what may not pass without a record; both are seldom.
        if (!outcome.is_valid() | self.classes.must_note_valid()) && !request.dry_run {
            if !outcome.is_valid() {
                return Ok(false);
            }
            self.classes.require_room().map_err(cannot_judge)?;
        }
        Ok(true)
    }

    async fn draw_slowly(
        &self,
        record: &KeyRecord,
        request: &Request<'_>,
        now: Timestamp,
        verdict: &mut Verdict,
    ) -> Judged<()> {
        self.limits.draw_slowly(record, request, now, verdict).await.map_err(|error| {
            self.metrics.unjudged.inc();
            cannot_judge(error)
        })
    }

    /// Counts a judged key and notes its use, where anything was decided.
    fn settle(
        &self,
        record: Arc<KeyRecord>,
        request: &Request<'_>,
        now: Timestamp,
        verdict: &mut Verdict,
    ) -> Judged<()> {
        verdict.record = Some(record);
        match &verdict.record {
            Some(record) if verdict.unknown_limit.is_none() && !request.dry_run => {
                self.note(verdict, record, request, now)
            }
            _ => Ok(()),
        }
    }

    /// The request with the country of its address, where the key has a rule about countries; others do not pay for the look-up.
    fn located<'a>(&self, record: &KeyRecord, request: &Request<'a>) -> Option<Request<'a>> {
        record.rules().filter(|rules| !rules.countries.is_empty())?;
        let country = request.country.or_else(|| self.countries.of(request.ip?));
        Some(Request { country, ..*request })
    }

    /// # Errors
    /// When the book has no room for what was decided, and must have it; then nothing was noted.
    fn note(&self, verdict: &Verdict, record: &Arc<KeyRecord>, request: &Request<'_>, now: Timestamp) -> Judged<()> {
        if self.classes.note(verdict.outcome) {
            self.classes.put(verdict, Some(record), request.ip, now).map_err(cannot_judge)?;
        }
        self.metrics.count(verdict.outcome);
        self.meter.count(record, verdict.outcome, request, now);
        if verdict.is_valid() {
            self.journal.note_use(record, request.ip, now);
        } else {
            self.journal.note_refusal(verdict.outcome, Some(record), None, request.ip, now);
        }
        Ok(())
    }

    fn conclude_unknown(
        &self,
        outcome: Outcome,
        presented: &str,
        request: &Request<'_>,
        now: Timestamp,
        verdict: &mut Verdict,
    ) -> Judged<()> {
        *verdict = Verdict::unknown(outcome, request.dry_run);
        if !request.dry_run {
            if self.classes.note(outcome) {
                self.classes.put(verdict, None, request.ip, now).map_err(cannot_judge)?;
            }
            self.metrics.count(outcome);
            self.meter.count_unknown(outcome, now);
            self.journal.note_refusal(outcome, None, Some(presented), request.ip, now);
        }
        Ok(())
    }

    /// Who presents this service key, if it is in force from that address. Counts nothing but its last use.
    pub async fn identify(&self, presented: &str, ip: Option<IpAddr>) -> Result<Option<Arc<KeyRecord>>, CannotJudge> {
        self.identify_at(presented, ip, self.ground.now()).await
    }

    async fn identify_at(&self, presented: &str, ip: Option<IpAddr>, now: Timestamp) -> Judged<Option<Arc<KeyRecord>>> {
        let Ok(record) = self.find(&self.seek(presented), Reach::Instance, now).await? else { return Ok(None) };
        Ok(self.admits(&record, ip, now).then_some(record))
    }

    /// Whether it is a service key in force from that address; notes its use.
    fn admits(&self, record: &KeyRecord, ip: Option<IpAddr>, now: Timestamp) -> bool {
        let request = Request { ip, ..Request::default() };
        let located = self.located(record, &request);
        let request = located.as_ref().unwrap_or(&request);
        // Routes and scopes are rules for the operator's API, not for ours.
        let outcome = verdict::judge_but(&[Outcome::RouteForbidden], record, request, now);
        let admits = outcome.is_valid() && record.grant().is_some();
        if admits {
            self.journal.note_use(record, ip, now);
        }
        admits
    }

    /// The record of a presented string, whatever its state; counts and notes nothing.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn find_presented(&self, presented: &str, reach: Reach) -> crate::Result<Option<Arc<KeyRecord>>> {
        let found = self.find(&self.seek(presented), reach, self.ground.now()).await;
        found.map(Result::ok).map_err(|error| {
            crate::Error::new(keyward_core::problem::Code::NotReady, "The database does not answer.").with_source(error)
        })
    }

    /// `Verify::verify` as of `now`.
    ///
    /// # Errors
    /// When no verdict could be reached.
    pub async fn verify_at(
        &self,
        presented: &str,
        request: &Request<'_>,
        now: Timestamp,
    ) -> Result<Verdict, CannotJudge> {
        let mut verdict = Verdict::default();
        self.verify_sought(&self.seek(presented), request, now, &mut verdict).await?;
        Ok(verdict)
    }

    /// `Verify::verify` as of `now`, for what was sought before. It stands in `verdict` then: a verdict is large, and through many
    /// hands it would be moved each time.
    ///
    /// # Errors
    /// When no verdict could be reached; what stands in `verdict` means nothing then.
    pub async fn verify_sought(
        &self,
        sought: &Sought<'_>,
        request: &Request<'_>,
        now: Timestamp,
        verdict: &mut Verdict,
    ) -> Result<(), CannotJudge> {
        match self.verify_from_memory(sought, request, now, verdict) {
            Some(judged) => judged,
            // Boxed, so that the common way does not carry it.
            None => Box::pin(self.verify_slowly(sought, request, now, verdict)).await,
        }
    }

    /// Where metering is strict, returns when what this call counted is committed, together with what others count at the same
    /// time.
    async fn commit_counts(&self) -> crate::Result<()> {
        if !self.meter.is_strict() {
            return Ok(());
        }
        let (metered, saved) = tokio::join!(self.meter.settle(), self.limits.save());
        metered.and(saved)
    }

    /// Secrets held in memory.
    pub fn remembered_count(&self) -> usize {
        self.known.len()
    }
}

fn cannot_judge(error: crate::Error) -> CannotJudge {
    CannotJudge(Box::new(error))
}

impl Verify for Verifier {
    async fn verify(&self, presented: &str, request: &Request<'_>) -> Result<Verdict, CannotJudge> {
        self.verify_at(presented, request, self.ground.now()).await
    }
}
