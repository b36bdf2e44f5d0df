//! API keys: issue, read, change, rotate, disable, revoke, delete, import. One logical key, any number of secrets.

mod advice;
pub mod foreign;
mod import;
mod issue;
pub mod keyspaces;
mod leaks;
mod list;
pub mod peppers;
mod revoke;
mod rotate;
mod sql;
mod terms;

use std::sync::Arc;

use keyward_core::access::Permission;
use keyward_core::id::{self, Announcement, Id};
use keyward_core::record::{KeyStatus, SecretStatus};
use keyward_core::secret::Secret;
use keyward_core::time::Timestamp;
use serde_json::{Value, json};

use crate::announce::nodes;
use crate::change::Change;
use crate::config::{LeakPolicy, Settings};
use crate::context::Context;
use crate::db::{Json, On, row, sql as statement};
use crate::error::{Error, Result};
use crate::ground::Ground;

pub use advice::{Advice, Finding, KeyHealth};
pub use import::{ImportItem, ImportOutcome};
pub use issue::NewKey;
pub use leaks::{LeakOutcome, LeakedKey};
pub use list::{KeyCounts, KeyFilter, Sort};
pub use revoke::RevokeAll;
pub use rotate::MAX_OVERLAP_SECONDS;
pub use terms::{Expiry, KeyTerms, RulesText};

use peppers::Peppers;
use terms::words;

/// A key with its secrets, as it is shown.
#[derive(Debug, Clone)]
pub struct ApiKey {
    pub id: Id<id::Key>,
    pub organization_id: Id<id::Organization>,
    pub owner_id: Option<Id<id::User>>,
    pub keyspace_id: Id<id::Keyspace>,
    pub environment: String,
    pub status: KeyStatus,
    /// As its row says: an expired key is active or disabled beneath.
    stored: KeyStatus,
    pub name: String,
    pub prefix: String,
    pub scopes: Vec<String>,
    pub permissions: Vec<String>,
    pub rules: RulesText,
    pub external_id: Option<String>,
    pub metadata: Value,
    pub reason: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub secrets: Vec<KeySecret>,
}

/// One secret of a key, without the secret.
#[derive(Debug, Clone)]
pub struct KeySecret {
    pub id: Id<id::KeySecret>,
    pub status: SecretStatus,
    pub hint: String,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    pub last_used_ip: Option<String>,
    pub replaces: Option<Id<id::KeySecret>>,
}

/// What is known of a key's use.
#[derive(Debug, Clone)]
pub struct KeyUsage {
    pub key_id: Id<id::Key>,
    pub last_used_at: Option<Timestamp>,
    pub last_used_ip: Option<String>,
}

/// A key and its new secret in clear: shown once, never stored.
#[derive(Debug)]
pub struct IssuedKey {
    pub key: ApiKey,
    pub secret: Secret<String>,
}

row! {
    #[derive(Debug, Clone)]
    pub(crate) struct KeyRow {
        id: Id<id::Key>,
        organization_id: Id<id::Organization>,
        owner_id: Option<Id<id::User>>,
        keyspace_id: Id<id::Keyspace>,
        environment: String,
        status: String,
        name: String,
        prefix: String,
        scopes: String,
        permissions: String,
        rules: Json<RulesText>,
        external_id: Option<String>,
        metadata: Json<Value>,
        reason: Option<String>,
        created_at: Timestamp,
        updated_at: Timestamp,
        expires_at: Option<Timestamp>,
    }
}

row! {
    #[derive(Debug, Clone)]
    pub(crate) struct SecretRow {
        id: Id<id::KeySecret>,
        key_id: Id<id::Key>,
        hint: String,
        status: String,
        created_at: Timestamp,
        expires_at: Option<Timestamp>,
        replaces: Option<Id<id::KeySecret>>,
        last_used_at: Option<Timestamp>,
        last_used_ip: Option<String>,
    }
}

impl ApiKey {
    fn assemble(row: KeyRow, secrets: &[SecretRow], now: Timestamp) -> Self {
        let stored = row.status.parse().unwrap_or(KeyStatus::Disabled);
        let expired = row.expires_at.is_some_and(|at| at <= now);
        let status = if expired && stored != KeyStatus::Revoked { KeyStatus::Expired } else { stored };
        let secrets =
            secrets.iter().filter(|secret| secret.key_id == row.id).map(|secret| KeySecret::read(secret, now));
        Self {
            id: row.id,
            organization_id: row.organization_id,
            owner_id: row.owner_id,
            keyspace_id: row.keyspace_id,
            environment: row.environment,
            status,
            stored,
            name: row.name,
            prefix: row.prefix,
            scopes: words(&row.scopes),
            permissions: words(&row.permissions),
            rules: row.rules.0,
            external_id: row.external_id,
            metadata: row.metadata.0,
            reason: row.reason,
            created_at: row.created_at,
            updated_at: row.updated_at,
            expires_at: row.expires_at,
            secrets: secrets.collect(),
        }
    }

    /// The last four characters of the newest secret.
    pub fn hint(&self) -> &str {
        self.secrets.last().map_or("", |secret| &secret.hint)
    }

    /// The newest use of any of its secrets, and from where.
    pub fn last_use(&self) -> Option<(Timestamp, Option<&str>)> {
        let used =
            self.secrets.iter().filter_map(|secret| Some((secret.last_used_at?, secret.last_used_ip.as_deref())));
        used.max_by_key(|(at, _)| *at)
    }

    /// What the book tells of a key, before and after a change.
    fn facts(&self) -> Value {
        let mut facts = json!({
            "name": self.name, "environment": self.environment, "status": self.status.as_str(), "scopes": self.scopes,
            "permissions": self.permissions, "external_id": self.external_id, "metadata": self.metadata,
            "expires_at": self.expires_at, "reason": self.reason,
        });
        let rules = serde_json::to_value(&self.rules).expect("rules can be written as JSON");
        if let (Some(facts), Value::Object(rules)) = (facts.as_object_mut(), rules) {
            facts.extend(rules);
        }
        facts
    }
}

impl KeySecret {
    fn read(row: &SecretRow, now: Timestamp) -> Self {
        let ended = row.expires_at.is_some_and(|at| at <= now);
        let status = match row.status.parse().unwrap_or(SecretStatus::Revoked) {
            // In its overlap a replaced secret still opens the key.
            SecretStatus::Rotated if !ended => SecretStatus::Active,
            stored => stored,
        };
        Self {
            id: row.id,
            status,
            hint: row.hint.clone(),
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            last_used_ip: row.last_used_ip.clone(),
            replaces: row.replaces,
        }
    }
}

/// Reading and changing keys.
#[derive(Clone)]
pub struct Keys {
    ground: Ground,
    peppers: Arc<Peppers>,
    stale_bound: std::time::Duration,
    leak_policy: LeakPolicy,
    verifier: Arc<crate::verify::Verifier>,
}

impl Keys {
    pub(crate) fn new(
        ground: Ground,
        peppers: Arc<Peppers>,
        settings: &Settings,
        verifier: Arc<crate::verify::Verifier>,
    ) -> Self {
        let stale_bound = std::time::Duration::from_millis(settings.verify.stale_bound_millis);
        Self { ground, peppers, stale_bound, leak_policy: settings.leaks.policy, verifier }
    }

    pub async fn get(&self, context: &Context, organization: Id<id::Organization>, key: Id<id::Key>) -> Result<ApiKey> {
        let whose = context.require(organization, Permission::KeysRead)?;
        let key = find(&self.ground.db, organization, key, self.ground.now()).await?;
        if whose.includes(key.owner_id) { Ok(key) } else { Err(Error::not_found()) }
    }

    /// Usage of one key.
    pub async fn stats(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        key: Id<id::Key>,
    ) -> Result<KeyUsage> {
        let whose = context.require(organization, Permission::UsageRead)?;
        let key = find(&self.ground.db, organization, key, self.ground.now()).await?;
        if !whose.includes(key.owner_id) {
            return Err(Error::not_found());
        }
        let (last_used_at, last_used_ip) =
            key.last_use().map_or((None, None), |(at, ip)| (Some(at), ip.map(str::to_owned)));
        Ok(KeyUsage { key_id: key.id, last_used_at, last_used_ip })
    }

    /// Begins a change of one key: holds its row, and finds it within the caller's reach.
    async fn begin<'a>(
        &'a self,
        context: &'a Context,
        organization: Id<id::Organization>,
        key: Id<id::Key>,
        permission: Permission,
    ) -> Result<(Change<'a>, ApiKey)> {
        let whose = context.require(organization, permission)?;
        let mut change = Change::begin(&self.ground, context).await?;
        statement(sql::LOCK_KEY).bind(key).execute(change.tx()).await?;
        let now = change.now();
        let found = find(change.tx(), organization, key, now).await?;
        if whose.includes(found.owner_id) { Ok((change, found)) } else { Err(Error::not_found()) }
    }

    /// Waits until a change is in force on every live node: the announced one, or one before that left nothing to announce.
    pub async fn wait_everywhere(&self, announcement: Option<Id<Announcement>>) -> Result<()> {
        match announcement {
            Some(announcement) => nodes::wait_acknowledged(&self.ground.db, announcement, self.stale_bound).await?,
            None => nodes::wait_out(&self.ground.db, self.stale_bound).await,
        }
        Ok(())
    }
}

/// A key of that organization, or not found.
async fn find<'a>(
    on: impl Into<On<'a>>,
    organization: Id<id::Organization>,
    key: Id<id::Key>,
    now: Timestamp,
) -> Result<ApiKey> {
    let mut on = on.into();
    let row = statement(sql::FIND_KEY).bind(key).bind(organization).optional::<KeyRow>(on.again()).await?;
    let row = row.ok_or_else(Error::not_found)?;
    let secrets: Vec<SecretRow> = statement(sql::SECRETS_OF_KEY).bind(key).all(on).await?;
    Ok(ApiKey::assemble(row, &secrets, now))
}
