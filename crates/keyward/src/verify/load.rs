//! What happens on a miss: one indexed read, and the record is remembered. Here imported and older digests are found
//! and put in line to be re-hashed; until that is written they are read anew each time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hmac::{Hmac, KeyInit, Mac};
use keyward_core::access::{Grant, Permission, Role};
use keyward_core::id::{self, Id};
use keyward_core::key::{self, KeyDigest, Shape};
use keyward_core::limit::{LimitRule, QuotaRule};
use keyward_core::record::{Allowance, KeyRecord, RecordParts, Tenant};
use keyward_core::text::from_hex;
use keyward_core::time::Timestamp;
use keyward_core::verdict::{Outcome, Reach};
use serde_json::Value;
use sha2::{Digest, Sha256, Sha512};

use super::{Verifier, place_of, sql as statements};
use crate::accounts::people;
use crate::config::WhenUnreachable;
use crate::db::{Json, row, sql};
use crate::error::{Error, Result};
use crate::keys::RulesText;
use crate::limits::{Counters, Holder};

row! {
    /// A secret with its key, organization and plan.
    pub(super) struct SecretRow {
        secret_id: Id<id::KeySecret>,
        digest: Option<Vec<u8>>,
        secret_status: String,
        secret_expires_at: Option<Timestamp>,
        key_id: Id<id::Key>,
        organization_id: Id<id::Organization>,
        owner_id: Option<Id<id::User>>,
        environment: String,
        status: String,
        name: String,
        scopes: String,
        permissions: String,
        rules: Json<RulesText>,
        external_id: Option<String>,
        metadata: Json<Value>,
        expires_at: Option<Timestamp>,
        organization_status: String,
        timezone: String,
        plan: String,
        requests_per_minute: i64,
        quota_per_month: i64,
        plan_limits: Json<Vec<LimitRule>>,
    }
}

/// The organizations of the remembered records, one picture each.
#[derive(Default)]
pub(super) struct Tenants(HashMap<Id<id::Organization>, Arc<Tenant>>);

impl Tenants {
    pub(super) fn supersede(&mut self, id: Id<id::Organization>) {
        if let Some(tenant) = self.0.remove(&id) {
            tenant.supersede();
        }
    }
}

/// How many digests one look-up can ask for: ours under three peppers, and three kinds of imported ones.
const CANDIDATES: usize = 6;

impl Verifier {
    /// Reads the record of a presented key from the database. A key out of reach takes the same steps as an absent one.
    pub(super) async fn load(
        &self,
        presented: &str,
        digest: KeyDigest,
        reach: Reach,
        now: Timestamp,
    ) -> Result<Option<Arc<KeyRecord>>> {
        let absent_slot = digest.slot() ^ reach_mark(reach);
        let generation = self.absent_generation.load(Ordering::Acquire);
        let fresh = self.ground.board.is_fresh(now);
        if fresh && self.absent.get(&absent_slot) == Some(generation) {
            return Ok(None);
        }
        let place = place_of(digest.slot());
        // One flight per digest; whoever waited finds the record.
        let flight = &self.flights[place as usize % self.flights.len()];
        let _landed = if fresh { Some(flight.lock().await) } else { None };
        if let Some(record) = self.remembered(&digest, now).filter(|record| reach.includes(record.tenant.id)) {
            return Ok(Some(record));
        }
        if fresh && self.absent.get(&absent_slot) == Some(generation) {
            return Ok(None);
        }
        self.metrics.cache_misses.inc();
        let posted = self.ground.board.posted();
        let Some(row) = self.read(presented, &digest).await? else {
            if fresh {
                self.absent.insert(absent_slot, generation);
            }
            return Ok(None);
        };
        let grant = self.grant_of(&row).await?;
        let is_current = row.digest.as_deref() == Some(digest.as_bytes().as_slice());

        let mut tenants = self.tenants.lock().expect("no one panics while holding tenants");
        // Something changed while we read: use what was read for this one call and do not remember it.
        let remember = fresh && is_current && posted == self.ground.board.posted();
        let tenant = tenants.share(&row, &self.limits.counters, remember);
        let record = Arc::new(row.into_record(digest, tenant, grant, &self.limits.counters)?);
        if remember {
            self.known.insert(place, record.clone());
        }
        drop(tenants);
        if reach.includes(record.tenant.id) {
            return Ok(Some(record));
        }
        if fresh {
            self.absent.insert(absent_slot, generation);
        }
        Ok(None)
    }

    /// The last resort when the database does not answer: memory past its time, if the setting allows it.
    pub(super) fn without_the_database(
        &self,
        digest: &KeyDigest,
        reach: Reach,
        now: Timestamp,
    ) -> Option<Result<Arc<KeyRecord>, Outcome>> {
        let earlier = now.plus_seconds(-i64::from(self.settings.stale_seconds));
        if self.settings.when_unreachable != WhenUnreachable::Stale || !self.ground.board.is_fresh(earlier) {
            return None;
        }
        // What is known to be out of date is not what the setting means.
        let is_current = |record: &Arc<KeyRecord>| record.digest == *digest && !record.tenant.is_superseded();
        let record = self.known.get(place_of(digest.slot())).filter(is_current)?;
        Some(if reach.includes(record.tenant.id) { Ok(record) } else { Err(Outcome::NotFound) })
    }

    /// One indexed read for our own digests and the fast imported ones; the slow ones only where they can be.
    async fn read(&self, presented: &str, digest: &KeyDigest) -> Result<Option<SecretRow>> {
        let mut candidates = vec![digest.as_bytes().to_vec()];
        candidates.extend(self.peppers.older().map(|pepper| pepper.digest(presented).as_bytes().to_vec()));
        let foreign = key::shape(presented) != Some(Shape::Own) || self.has_imports.load(Ordering::Acquire);
        if foreign {
            candidates.push(Sha256::digest(presented.as_bytes()).to_vec());
            candidates.push(Sha512::digest(presented.as_bytes()).to_vec());
            candidates.extend(self.import_hmac_keys.iter().map(|secret| hmac_sha256(secret, presented)));
        }
        if let Some(row) = self.read_digests(&candidates, digest).await? {
            return Ok(Some(row));
        }
        if !foreign {
            return Ok(None);
        }
        if let Some(secret) = self.find_salted(presented).await? {
            self.journal.note_rehash(secret, *digest, self.peppers.current().version());
            self.journal.nudge();
            return Ok(sql(statements::FIND_BY_SECRET).bind(secret).optional(&self.ground.db).await?);
        }
        // It may have got its digest of ours between the looks, and was found by neither.
        self.read_digests(&candidates[..1], digest).await
    }

    /// The row of the foremost candidate that there is; `digest`, the present one of ours, is the first of them.
    async fn read_digests(&self, candidates: &[Vec<u8>], digest: &KeyDigest) -> Result<Option<SecretRow>> {
        for chunk in candidates.chunks(CANDIDATES) {
            let mut statement = sql(statements::FIND);
            for index in 0..CANDIDATES {
                statement = statement.bind(chunk.get(index).cloned());
            }
            // One string that was imported twice under two algorithms has two rows: the foremost candidate is meant, ours first.
            let rows: Vec<SecretRow> = statement.all(&self.ground.db).await?;
            let place = |row: &SecretRow| chunk.iter().position(|digest| row.digest.as_ref() == Some(digest));
            if let Some(row) = rows.into_iter().min_by_key(place) {
                if row.digest.as_deref() != Some(digest.as_bytes().as_slice()) {
                    self.journal.note_rehash(row.secret_id, *digest, self.peppers.current().version());
                }
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// What a service key may do: its permissions within its owner's roles now.
    async fn grant_of(&self, row: &SecretRow) -> Result<Option<Grant>> {
        if row.permissions.is_empty() {
            return Ok(None);
        }
        let permissions = row.permissions.split(' ').filter_map(|name| name.parse::<Permission>().ok()).collect();
        let Some(owner) = row.owner_id else { return Ok(None) };
        // Without its owner, or with a disabled one, it opens nothing here.
        let Some(standing) = people::standing(&self.ground, owner, row.organization_id).await? else { return Ok(None) };
        if standing.disabled_at.is_some() {
            return Ok(None);
        }
        let role = |name: Option<String>| name.and_then(|name| name.parse::<Role>().ok());
        let (home, instance) = (role(standing.home_role), role(standing.instance_role));
        Ok(Some(Grant::of_service_key(row.organization_id, Some(owner), permissions, home, instance)))
    }

    /// Reads the prefixes under which foreign keys were imported.
    pub(crate) async fn read_import_prefixes(&self) -> Result<()> {
        let prefixes: Vec<(String,)> = sql(statements::IMPORT_PREFIXES).all(&self.ground.db).await?;
        let prefixes: Vec<String> = prefixes.into_iter().map(|(prefix,)| prefix).collect();
        let mut known = self.import_prefixes.write().expect("no one panics while writing prefixes");
        // What was announced while they were read may be missing in them: they are read once more.
        if !self.imports_changed.load(Ordering::Acquire) {
            self.has_imports.store(!prefixes.is_empty(), Ordering::Release);
            *known = prefixes.into();
        }
        Ok(())
    }
}

impl Tenants {
    /// The picture that other records of this organization hold, or a new one.
    fn share(&mut self, row: &SecretRow, counters: &Counters, remember: bool) -> Arc<Tenant> {
        let suspended = row.organization_status == "suspended";
        let known = self.0.get(&row.organization_id);
        if let Some(tenant) = known.filter(|tenant| *tenant.plan == row.plan && tenant.suspended == suspended) {
            return tenant.clone();
        }
        let limits = counters.of_organization(row.organization_id, row.requests_per_minute as u64, &row.plan_limits.0);
        let month = QuotaRule::per_month(row.quota_per_month as u64);
        let quota = counters.quota(row.organization_id.uuid(), &month, &row.timezone);
        let tenant = Tenant::new(row.organization_id, &row.plan, suspended).limited(limits, Some(quota));
        let tenant = Arc::new(tenant);
        if remember && let Some(former) = self.0.insert(tenant.id, tenant.clone()) {
            // Records that hold the former picture are read again: what is announced of the organization reaches only the present one.
            former.supersede();
        }
        tenant
    }
}

impl SecretRow {
    fn allowance(&self, counters: &Counters) -> Allowance {
        let external_id = self.external_id.as_deref();
        let holder = Holder { organization: self.organization_id, key: self.key_id, external_id };
        let rules = &self.rules.0;
        Allowance {
            limits: counters.of_key(holder, &self.plan_limits.0, &rules.limits),
            quota: rules.quota.as_ref().map(|rule| counters.quota(self.key_id.uuid(), rule, &self.timezone)),
        }
    }

    fn into_record(
        self,
        digest: KeyDigest,
        tenant: Arc<Tenant>,
        grant: Option<Grant>,
        counters: &Counters,
    ) -> Result<KeyRecord> {
        let unreadable = |column: &str| crate::db::DbError::Unreadable(format!("{column} of {}", self.key_id));
        Ok(KeyRecord::new(RecordParts {
            digest,
            key_id: self.key_id,
            secret_id: self.secret_id,
            owner_id: self.owner_id,
            tenant,
            status: self.status.parse().map_err(|()| unreadable("status"))?,
            secret_status: self.secret_status.parse().map_err(|()| unreadable("secret status"))?,
            expires_at: self.expires_at,
            secret_expires_at: self.secret_expires_at,
            rules: self.rules.0.read()?,
            allowance: self.allowance(counters),
            grant,
            name: &self.name,
            environment: &self.environment,
            scopes: &self.scopes,
            metadata: &self.metadata.0.to_string(),
            external_id: self.external_id.as_deref(),
        }))
    }
}

/// Tells reaches apart in the memory of absent keys.
fn reach_mark(reach: Reach) -> u128 {
    match reach {
        Reach::Instance => 0,
        Reach::Organization(id) => id.uuid().as_u128().rotate_left(64),
    }
}

fn hmac_sha256(secret: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

pub(super) fn read_hmac_keys(texts: &[String]) -> Result<Vec<Vec<u8>>> {
    texts
        .iter()
        .map(|text| from_hex(text).ok_or_else(|| Error::field("/keys/import_hmac_keys", "is not hex")))
        .collect()
}
