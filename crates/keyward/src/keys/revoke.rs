//! Pausing, resuming and ending keys. What is ended here is refused on every node within a second.

use keyward_core::access::Permission;
use keyward_core::id::{self, Announcement, Id};
use keyward_core::problem::Code;
use keyward_core::record::KeyStatus;
use keyward_core::text;
use serde_json::json;

use super::issue::find_keyspace;
use super::{ApiKey, Keys, find, sql as statements};
use crate::announce::Subject;
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::sql;
use crate::error::{Error, Result};

/// Which keys an emergency revocation ends; an absent field means all.
#[derive(Debug, Clone, Default)]
pub struct RevokeAll {
    pub owner: Option<Id<id::User>>,
    /// Id or name.
    pub keyspace: Option<String>,
    pub reason: Option<String>,
    /// The key that the caller itself uses, which is kept.
    pub except: Option<Id<id::Key>>,
}

impl Keys {
    pub async fn disable(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        key: Id<id::Key>,
        reason: Option<String>,
    ) -> Result<ApiKey> {
        Ok(self.set_status(context, organization, key, KeyStatus::Disabled, reason).await?.0)
    }

    pub async fn enable(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        key: Id<id::Key>,
    ) -> Result<ApiKey> {
        Ok(self.set_status(context, organization, key, KeyStatus::Active, None).await?.0)
    }

    /// Ends a key for good. The announcement can be waited for with `wait_everywhere`.
    pub async fn revoke(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        key: Id<id::Key>,
        reason: Option<String>,
    ) -> Result<(ApiKey, Option<Id<Announcement>>)> {
        self.set_status(context, organization, key, KeyStatus::Revoked, reason).await
    }

    /// What is so already is left as it is, and not written down again.
    async fn set_status(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        key: Id<id::Key>,
        status: KeyStatus,
        reason: Option<String>,
    ) -> Result<(ApiKey, Option<Id<Announcement>>)> {
        check_reason(reason.as_deref())?;
        let (mut change, before) = self.begin(context, organization, key, Permission::KeysRevoke).await?;
        if before.status == KeyStatus::Revoked && status != KeyStatus::Revoked {
            return Err(Error::new(Code::Conflict, "The key is revoked; that cannot be undone."));
        }
        let now = change.now();
        let reason = reason.or_else(|| before.reason.clone().filter(|_| status == before.stored));
        if status == before.stored && reason == before.reason {
            return Ok((before, None));
        }
        sql(statements::SET_STATUS).bind(key).bind(status.as_str()).bind(reason).bind(now).execute(change.tx()).await?;
        change.touch_key(key).await?;
        change.ask_acknowledgement();
        let after = find(change.tx(), organization, key, now).await?;
        let action = match status {
            KeyStatus::Active => "key_enabled",
            KeyStatus::Disabled => "key_disabled",
            _ => "key_revoked",
        };
        let event = Event::new(EventType::Key, action, "key", key).named(&after.name).of(organization);
        let announced = change.commit(event.change(&before.facts(), &after.facts())).await?;
        Ok((after, announced))
    }

    /// Emergency: ends every key of the organization, or of one owner or keyspace in it. Returns how many.
    pub async fn revoke_all(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        wanted: RevokeAll,
    ) -> Result<(u64, Option<Id<Announcement>>)> {
        check_reason(wanted.reason.as_deref())?;
        let whose = context.require(organization, Permission::KeysRevoke)?;
        let owner = whose.owner().or(wanted.owner);
        let mut change = Change::begin(&self.ground, context).await?;
        // No key is issued meanwhile.
        crate::accounts::organizations::lock(&mut change, organization).await?;
        let keyspace = match &wanted.keyspace {
            Some(name) => Some(find_keyspace(&mut change, Some(name)).await?.id),
            None => None,
        };
        let now = change.now();
        let update = sql(statements::REVOKE_ALL).bind(organization).bind(owner).bind(keyspace).bind(wanted.except);
        let revoked = update.bind(wanted.reason.clone()).bind(now).execute(change.tx()).await?;
        // Every record of the organization is read again: cheaper than naming each of its secrets.
        change.touch(Subject::Organization(organization));
        change.ask_acknowledgement();
        let event = Event::new(EventType::Key, "keys_revoked_all", "organization", organization).of(organization);
        let details = json!({ "revoked": revoked, "owner": owner, "keyspace": keyspace, "kept": wanted.except, "reason": wanted.reason });
        let announced = change.commit(event.details(details)).await?;
        Ok((revoked, announced))
    }

    /// Deletes a key and its secrets; what the book and the usage say of it stays.
    pub async fn delete(&self, context: &Context, organization: Id<id::Organization>, key: Id<id::Key>) -> Result<()> {
        let (mut change, before) = self.begin(context, organization, key, Permission::KeysDelete).await?;
        change.touch_key(key).await?;
        sql(statements::DELETE_KEY).bind(key).execute(change.tx()).await?;
        let event = Event::new(EventType::Key, "key_deleted", "key", key).named(&before.name).of(organization);
        change.commit(event.details(json!({ "before": before.facts() }))).await?;
        Ok(())
    }

    /// Deletes keys that expired at least `older_than_days` ago. Returns how many.
    pub async fn cleanup_expired(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        older_than_days: i64,
    ) -> Result<u64> {
        if !(0..=3650).contains(&older_than_days) {
            return Err(Error::field("/older_than_days", "must be between 0 and 3650"));
        }
        let whose = context.require(organization, Permission::KeysDelete)?;
        let mut change = Change::begin(&self.ground, context).await?;
        let before = change.now().plus_days(-older_than_days);
        let delete = sql(statements::DELETE_EXPIRED).bind(organization).bind(before).bind(whose.owner());
        let deleted = delete.execute(change.tx()).await?;
        change.touch(Subject::Organization(organization));
        let event = Event::new(EventType::Key, "expired_keys_deleted", "organization", organization).of(organization);
        change.commit(event.details(json!({ "deleted": deleted, "older_than_days": older_than_days }))).await?;
        Ok(deleted)
    }
}

fn check_reason(reason: Option<&str>) -> Result<()> {
    reason.map_or(Ok(()), |reason| text::label(reason, 500).map_err(|why| Error::field("/reason", why)))
}
