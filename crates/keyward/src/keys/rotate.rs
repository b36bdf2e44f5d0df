//! Rotating a key: a new secret for the same key; the others end now, or after an overlap in which all are valid.

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::key;
use keyward_core::problem::Code;
use keyward_core::record::{KeyStatus, SecretStatus};
use serde_json::json;

use super::issue::find_keyspace;
use super::{IssuedKey, Keys, find, sql as statements};
use crate::audit::{Event, EventType};
use crate::context::Context;
use crate::db::sql;
use crate::error::{Error, Result};

/// Thirty days.
pub const MAX_OVERLAP_SECONDS: i64 = 30 * 86_400;
/// Most secrets that open one key at the same time.
const MAX_LIVE_SECRETS: usize = 20;

impl Keys {
    /// Adds a secret and ends the others after `overlap_seconds` (0: at once). Whoever gets it may do all that the key may: so only who
    /// could give as much to a new key.
    pub async fn rotate(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        key: Id<id::Key>,
        overlap_seconds: i64,
    ) -> Result<IssuedKey> {
        if !(0..=MAX_OVERLAP_SECONDS).contains(&overlap_seconds) {
            return Err(Error::field("/overlap_seconds", format!("must be between 0 and {MAX_OVERLAP_SECONDS}")));
        }
        let (mut change, before) = self.begin(context, organization, key, Permission::KeysRotate).await?;
        before.terms().check_within(context)?;
        if matches!(before.status, KeyStatus::Revoked | KeyStatus::Expired) {
            return Err(Error::new(Code::Conflict, format!("The key is {}.", before.status.as_str())));
        }
        let live = before.secrets.iter().filter(|secret| secret.status == SecretStatus::Active);
        if overlap_seconds > 0 && live.count() >= MAX_LIVE_SECRETS {
            return Err(Error::new(
                Code::Conflict,
                format!("{MAX_LIVE_SECRETS} secrets of this key are valid already."),
            ));
        }
        let now = change.now();
        change.touch_key(key).await?;
        let ends_at = now.plus_seconds(overlap_seconds);
        sql(statements::END_SECRETS).bind(key).bind(ends_at).execute(change.tx()).await?;
        let keyspace = find_keyspace(&mut change, Some(&before.keyspace_id.to_string())).await?;
        // The string of an imported key may have had another form; the new one has ours.
        let prefix = if key::is_prefix(&before.prefix) { &before.prefix } else { &keyspace.prefix };
        sql(statements::TOUCH_KEY).bind(key).bind(now).bind(prefix).execute(change.tx()).await?;
        let secret = key::generate(prefix, &before.environment, keyspace.style());
        self.insert_secret(&mut change, key, &secret, before.secrets.last().map(|replaced| replaced.id)).await?;
        let after = find(change.tx(), organization, key, now).await?;
        let event = Event::new(EventType::Key, "key_rotated", "key", key).named(&after.name).of(organization);
        let details = json!({ "secret": after.secrets.last().map(|new| new.id), "overlap_seconds": overlap_seconds });
        change.commit(event.details(details)).await?;
        Ok(IssuedKey { key: after, secret })
    }
}
