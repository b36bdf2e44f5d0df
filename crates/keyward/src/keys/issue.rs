//! Issuing a key and changing its settings, within what the plan allows.

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::key::{self as key_text, ApiKey as KeyText};
use keyward_core::problem::Code;
use keyward_core::secret::Secret;
use keyward_core::time::Timestamp;
use serde_json::json;

use super::keyspaces::{self, Keyspace};
use super::terms::{Expiry, KeyTerms};
use super::{ApiKey, IssuedKey, Keys, find, sql as statements};
use crate::accounts::room::Room;
use crate::accounts::setup::{Setup, SetupRequest};
use crate::announce::Subject;
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::{Json, sql};
use crate::error::{Error, Result};

/// What makes a new key, beyond its terms.
#[derive(Debug, Clone)]
pub struct NewKey {
    pub terms: KeyTerms,
    pub environment: Option<String>,
    /// Id or name; `default` when absent.
    pub keyspace: Option<String>,
    pub expiry: Expiry,
}

/// A key row to write.
pub(super) struct NewRow<'a> {
    pub id: Id<id::Key>,
    pub organization: Id<id::Organization>,
    pub owner: Option<Id<id::User>>,
    pub keyspace: &'a Keyspace,
    pub environment: &'a str,
    pub prefix: &'a str,
    pub terms: &'a KeyTerms,
    pub expires_at: Option<Timestamp>,
}

impl Keys {
    /// Issues a key. Its string is in the answer and nowhere else.
    pub async fn issue(&self, context: &Context, organization: Id<id::Organization>, new: NewKey) -> Result<IssuedKey> {
        context.require(organization, Permission::KeysCreate)?;
        new.terms.check(context)?;
        let mut change = Change::begin(&self.ground, context).await?;
        make_room(&mut change, organization).await?;
        let keyspace = find_keyspace(&mut change, new.keyspace.as_deref()).await?;
        let (key, secret) = self.write(&mut change, organization, context.user(), &keyspace, &new).await?;
        let event = Event::new(EventType::Key, "key_created", "key", key.id).named(&key.name).of(organization);
        change.commit(event.details(json!({ "after": key.facts() }))).await?;
        Ok(IssuedKey { key, secret })
    }

    /// Sets a new instance up: organization, owner, and a service key with everything a key may hold.
    pub async fn set_up(
        &self,
        setup: &Setup,
        context: &Context,
        request: &SetupRequest,
        token: Option<&str>,
    ) -> Result<IssuedKey> {
        let mut change = Change::begin(&self.ground, context).await?;
        let (organization, owner) = setup.found(&mut change, request, token).await?;
        let delegable = Permission::ALL.iter().filter(|permission| permission.delegable());
        let terms = KeyTerms {
            name: "set-up".to_owned(),
            scopes: Vec::new(),
            permissions: delegable.map(|permission| permission.to_string()).collect(),
            rules: Default::default(),
            external_id: None,
            metadata: json!({}),
        };
        let keyspace = find_keyspace(&mut change, None).await?;
        let new = NewKey { terms, environment: None, keyspace: None, expiry: Expiry::Default };
        let (key, secret) = self.write(&mut change, organization.id, Some(owner), &keyspace, &new).await?;
        let event = Event::new(EventType::System, "instance_set_up", "organization", organization.id);
        let event = event.named(&organization.name).of(organization.id);
        change.commit(event.details(json!({ "owner": owner, "service_key": key.id }))).await?;
        Ok(IssuedKey { key, secret })
    }

    async fn write(
        &self,
        change: &mut Change<'_>,
        organization: Id<id::Organization>,
        owner: Option<Id<id::User>>,
        keyspace: &Keyspace,
        new: &NewKey,
    ) -> Result<(ApiKey, Secret<String>)> {
        let (environment, now) = (keyspace.environment(new.environment.as_deref())?, change.now());
        let row = NewRow {
            id: self.ground.new_id(),
            organization,
            owner,
            keyspace,
            environment: &environment,
            prefix: &keyspace.prefix,
            terms: &new.terms,
            expires_at: new.expiry.resolve(keyspace, now)?,
        };
        insert(change, &row).await?;
        let secret = key_text::generate(&keyspace.prefix, &environment, keyspace.style());
        self.insert_secret(change, row.id, &secret, None).await?;
        Ok((find(change.tx(), organization, row.id, now).await?, secret))
    }

    /// Writes a new secret of ours: its digest and hint, never itself.
    pub(super) async fn insert_secret(
        &self,
        change: &mut Change<'_>,
        key: Id<id::Key>,
        secret: &KeyText,
        replaces: Option<Id<id::KeySecret>>,
    ) -> Result<()> {
        let pepper = self.peppers.current();
        let (digest, now) = (pepper.digest(secret.expose()), change.now());
        let insert = sql(statements::INSERT_SECRET).bind(self.ground.new_id::<id::KeySecret>()).bind(key);
        let insert = insert.bind(digest.as_bytes().to_vec()).bind("native").bind(None::<String>).bind(pepper.version());
        let insert = insert.bind(key_text::hint(secret.expose())).bind(now).bind(replaces);
        insert.execute(change.tx()).await?;
        change.touch(Subject::Issued);
        Ok(())
    }

    /// Changes the settings of a key; what `edit` leaves alone stays.
    pub async fn update(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        key: Id<id::Key>,
        expiry: Option<Expiry>,
        edit: impl FnOnce(&mut KeyTerms),
    ) -> Result<ApiKey> {
        let (mut change, before) = self.begin(context, organization, key, Permission::KeysUpdate).await?;
        let mut terms = before.terms();
        edit(&mut terms);
        // Only what is changed is held against the caller: a key may keep what a stronger caller gave it.
        let mut added = terms.clone();
        added.permissions.retain(|permission| !before.permissions.contains(permission));
        added.scopes.retain(|scope| !before.scopes.contains(scope));
        added.check(context)?;
        let now = change.now();
        let expires_at = match expiry {
            None => before.expires_at,
            Some(expiry) => {
                let keyspace = find_keyspace(&mut change, Some(&before.keyspace_id.to_string())).await?;
                let expires_at = expiry.resolve(&keyspace, now)?;
                if before.expires_at.is_some_and(|at| at <= now) {
                    // An expired key comes back to life and counts again.
                    make_room(&mut change, organization).await?;
                }
                expires_at
            }
        };
        let update = sql(statements::UPDATE_KEY).bind(key).bind(&terms.name).bind(terms.scopes.join(" "));
        let update = update.bind(terms.permissions.join(" ")).bind(Json(&terms.rules)).bind(terms.external_id.clone());
        let update = update.bind(Json(&terms.metadata)).bind(terms.search_text()).bind(expires_at).bind(now);
        update.execute(change.tx()).await?;
        change.touch_key(key).await?;
        let after = find(change.tx(), organization, key, now).await?;
        let event = Event::new(EventType::Key, "key_updated", "key", key).named(&after.name).of(organization);
        change.commit(event.change(&before.facts(), &after.facts())).await?;
        Ok(after)
    }
}

impl ApiKey {
    pub(super) fn terms(&self) -> KeyTerms {
        KeyTerms {
            name: self.name.clone(),
            scopes: self.scopes.clone(),
            permissions: self.permissions.clone(),
            rules: self.rules.clone(),
            external_id: self.external_id.clone(),
            metadata: self.metadata.clone(),
        }
    }
}

pub(super) async fn insert(change: &mut Change<'_>, row: &NewRow<'_>) -> Result<()> {
    let now = change.now();
    let insert = sql(statements::INSERT_KEY).bind(row.id).bind(row.organization).bind(row.owner).bind(row.keyspace.id);
    let insert = insert.bind(row.environment).bind(&row.terms.name).bind(row.prefix).bind(row.terms.scopes.join(" "));
    let insert = insert.bind(row.terms.permissions.join(" ")).bind(Json(&row.terms.rules));
    let insert =
        insert.bind(row.terms.external_id.clone()).bind(Json(&row.terms.metadata)).bind(row.terms.search_text());
    insert.bind(now).bind(row.expires_at).execute(change.tx()).await?;
    Ok(())
}

/// Takes room for one more key, or refuses when the plan has none.
async fn make_room(change: &mut Change<'_>, organization: Id<id::Organization>) -> Result<()> {
    let room = Room::find(change, organization, 1).await?;
    if room.left() < 1 {
        return Err(Error::new(Code::KeyLimitReached, "The plan allows no more keys."));
    }
    room.take(change, 1).await
}

pub(super) async fn find_keyspace(change: &mut Change<'_>, id_or_name: Option<&str>) -> Result<Keyspace> {
    let wanted = id_or_name.unwrap_or(keyspaces::DEFAULT);
    keyspaces::find(change.tx(), wanted).await?.ok_or_else(|| Error::field("/keyspace", "is not a keyspace"))
}
