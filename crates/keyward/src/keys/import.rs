//! Import of keys that another system issued: only their hashes come along. Each item succeeds or fails alone.

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::limit::{LimitRule, QuotaRule};
use keyward_core::time::Timestamp;
use serde_json::{Value, json};

use super::foreign::{self, ForeignHash};
use super::issue::{self, NewRow, find_keyspace};
use super::keyspaces::Keyspace;
use super::terms::{Expiry, KeyTerms, RulesText};
use super::{Keys, sql as statements};
use crate::accounts::room::Room;
use crate::announce::Subject;
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::sql;
use crate::error::{Error, Result};

/// Most items of one call.
pub const MAX_ITEMS: usize = 1_000;
/// Most salted hashes without a hint: each of them is tried on every unknown key.
const MAX_UNHINTED: i64 = 20;

/// One key of another system.
#[derive(Debug, Clone)]
pub struct ImportItem {
    pub name: String,
    pub hash: String,
    pub algorithm: String,
    /// The last four characters of the key.
    pub hint: Option<String>,
    /// What the key's string begins with, e.g. `sk_live`.
    pub prefix: Option<String>,
    pub environment: Option<String>,
    pub scopes: Vec<String>,
    pub expires_at: Option<Timestamp>,
    pub limits: Vec<LimitRule>,
    pub quota: Option<QuotaRule>,
    pub external_id: Option<String>,
    pub metadata: Value,
}

/// What became of an item.
#[derive(Debug)]
pub struct ImportOutcome {
    pub id: Option<Id<id::Key>>,
    pub error: Option<String>,
}

impl Keys {
    /// Imports up to 1,000 keys; the answer tells of each, in order.
    pub async fn import(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        items: Vec<ImportItem>,
    ) -> Result<Vec<ImportOutcome>> {
        context.require(organization, Permission::KeysCreate)?;
        if items.is_empty() || items.len() > MAX_ITEMS {
            return Err(Error::field("/items", format!("needs between 1 and {MAX_ITEMS} items")));
        }
        let mut change = Change::begin(&self.ground, context).await?;
        let room = Room::find(&mut change, organization, items.len() as i64).await?;
        let keyspace = find_keyspace(&mut change, None).await?;
        let (mut outcomes, mut imported) = (Vec::with_capacity(items.len()), 0);
        for item in &items {
            let outcome = match room.left() - imported {
                ..=0 => Err(Error::new(keyward_core::problem::Code::KeyLimitReached, "The plan allows no more keys.")),
                _ => self.import_one(&mut change, context, organization, &keyspace, item).await,
            };
            outcomes.push(match outcome {
                Ok(id) => {
                    imported += 1;
                    ImportOutcome { id: Some(id), error: None }
                }
                // The database's own troubles end the whole call; nothing of it is kept.
                Err(error) if error.code.status() >= 500 => return Err(error),
                Err(error) => ImportOutcome { id: None, error: Some(error.detail) },
            });
        }
        room.take(&mut change, imported).await?;
        change.touch(Subject::Issued);
        change.touch(Subject::Imports);
        let event = Event::new(EventType::Key, "keys_imported", "organization", organization).of(organization);
        change
            .commit(event.details(json!({ "imported": imported, "failed": outcomes.len() as i64 - imported })))
            .await?;
        Ok(outcomes)
    }

    async fn import_one(
        &self,
        change: &mut Change<'_>,
        context: &Context,
        organization: Id<id::Organization>,
        keyspace: &Keyspace,
        item: &ImportItem,
    ) -> Result<Id<id::Key>> {
        let terms = KeyTerms {
            name: item.name.clone(),
            scopes: item.scopes.clone(),
            permissions: Vec::new(),
            rules: RulesText { limits: item.limits.clone(), quota: item.quota.clone(), ..Default::default() },
            external_id: item.external_id.clone(),
            metadata: item.metadata.clone(),
        };
        terms.check(context)?;
        let hash = foreign::read(&item.algorithm, &item.hash).map_err(|why| Error::field("/hash", why))?;
        let hint = item.hint.as_deref().unwrap_or_default();
        let prefix = item.prefix.as_deref().unwrap_or_default();
        if !(hint.is_empty() || hint.len() == 4 && hint.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(Error::field("/hint", "must be the last four characters of the key"));
        }
        if prefix.len() > 32 || !prefix.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::field("/prefix", "must be at most 32 visible ASCII characters"));
        }
        let environment = keyspace.environment(item.environment.as_deref())?;
        let expiry = item.expires_at.map_or(Expiry::Default, Expiry::At);
        let (digest, encoded) = match hash {
            ForeignHash::Digest(digest) => (Some(digest), None),
            ForeignHash::Encoded(encoded) => (None, Some(encoded)),
        };
        if encoded.is_some() && hint.is_empty() {
            let (unhinted,) = sql(statements::COUNT_UNHINTED).one::<(i64,)>(change.tx()).await?;
            if unhinted >= MAX_UNHINTED {
                return Err(Error::field("/hint", format!("is needed for more than {MAX_UNHINTED} salted hashes")));
            }
        }
        if let Some(digest) = &digest
            && sql(statements::DIGEST_EXISTS).bind(digest.clone()).optional::<(i64,)>(change.tx()).await?.is_some()
        {
            return Err(Error::new(keyward_core::problem::Code::AlreadyTaken, "A key with this hash exists already."));
        }
        let (id, now) = (self.ground.new_id(), change.now());
        let row = NewRow {
            id,
            organization,
            owner: context.user(),
            keyspace,
            environment: &environment,
            prefix,
            terms: &terms,
            expires_at: expiry.resolve(keyspace, now)?,
        };
        issue::insert(change, &row).await?;
        let insert = sql(statements::INSERT_SECRET).bind(self.ground.new_id::<id::KeySecret>()).bind(id).bind(digest);
        let insert = insert.bind(&item.algorithm).bind(encoded).bind(None::<u32>).bind(hint).bind(now);
        insert.bind(None::<Id<id::KeySecret>>).execute(change.tx()).await?;
        sql(statements::KNOW_PREFIX).bind(prefix).execute(change.tx()).await?;
        Ok(id)
    }
}
