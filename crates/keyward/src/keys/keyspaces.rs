//! Keyspaces: how the keys of one of the operator's APIs look and how long they live. `default` always exists.

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::key::{self, Style};
use keyward_core::problem::Code;
use keyward_core::text;
use keyward_core::time::Timestamp;
use serde_json::json;

use super::sql as statements;
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::{Json, On, row, sql};
use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::page::{Page, PageRequest, Position};

/// The keyspace of keys that name none.
pub(super) const DEFAULT: &str = "default";

row! {
    #[derive(Debug, Clone)]
    pub struct Keyspace {
        pub id: Id<id::Keyspace>,
        pub name: String,
        pub prefix: String,
        /// `checksummed` or `plain`.
        pub style: String,
        /// The first is the default.
        pub environments: Json<Vec<String>>,
        pub default_expiry_days: Option<i64>,
        pub max_expiry_days: Option<i64>,
        pub created_at: Timestamp,
    }
}

/// What is chosen about a keyspace.
#[derive(Debug, Clone)]
pub struct KeyspaceTerms {
    pub name: String,
    pub prefix: String,
    pub style: Style,
    pub environments: Vec<String>,
    pub default_expiry_days: Option<i64>,
    pub max_expiry_days: Option<i64>,
}

impl Keyspace {
    pub fn style(&self) -> Style {
        if self.style == Style::Plain.as_str() { Style::Plain } else { Style::Checksummed }
    }

    /// The wanted environment, or the first.
    pub(super) fn environment(&self, wanted: Option<&str>) -> Result<String> {
        let known = &self.environments.0;
        match wanted {
            None => Ok(known.first().cloned().unwrap_or_default()),
            Some(name) if known.iter().any(|one| one == name) => Ok(name.to_owned()),
            Some(_) => Err(Error::field("/environment", format!("must be one of {}", known.join(", ")))),
        }
    }

    fn terms(&self) -> KeyspaceTerms {
        KeyspaceTerms {
            name: self.name.clone(),
            prefix: self.prefix.clone(),
            style: self.style(),
            environments: self.environments.0.clone(),
            default_expiry_days: self.default_expiry_days,
            max_expiry_days: self.max_expiry_days,
        }
    }
}

impl KeyspaceTerms {
    fn check(&self) -> Result<()> {
        text::label(&self.name, 64).map_err(|why| Error::field("/name", why))?;
        if !key::is_prefix(&self.prefix) {
            return Err(Error::field("/prefix", "must be 1–16 of a–z and 0–9"));
        }
        if self.environments.is_empty() || self.environments.len() > 20 {
            return Err(Error::field("/environments", "needs between 1 and 20 environments"));
        }
        for (index, environment) in self.environments.iter().enumerate() {
            let pointer = format!("/environments/{index}");
            if !key::is_environment(environment) {
                return Err(Error::field(pointer, "must be 1–12 of a–z"));
            }
            if self.environments[..index].contains(environment) {
                return Err(Error::field(pointer, "stands there twice"));
            }
        }
        for (pointer, days) in
            [("/default_expiry_days", self.default_expiry_days), ("/max_expiry_days", self.max_expiry_days)]
        {
            if days.is_some_and(|days| !(1..=365).contains(&days)) {
                return Err(Error::field(pointer, "must be between 1 and 365"));
            }
        }
        match (self.default_expiry_days, self.max_expiry_days) {
            (Some(default), Some(max)) if default > max => {
                Err(Error::field("/default_expiry_days", "is more than max_expiry_days"))
            }
            (None, Some(_)) => Err(Error::field("/default_expiry_days", "is needed where max_expiry_days is set")),
            _ => Ok(()),
        }
    }

    fn facts(&self) -> serde_json::Value {
        json!({"name": self.name, "prefix": self.prefix, "style": self.style.as_str(), "environments": self.environments,
            "default_expiry_days": self.default_expiry_days, "max_expiry_days": self.max_expiry_days})
    }
}

/// Reading and changing keyspaces. They are the operator's: whoever belongs to no instance role may only read.
#[derive(Clone)]
pub struct Keyspaces {
    pub(crate) ground: Ground,
}

impl Keyspaces {
    /// Makes `default` where it is missing. Safe from several nodes at once.
    pub(crate) async fn ensure_default(&self) -> Result<()> {
        let statement = sql(statements::ENSURE_KEYSPACE).bind(self.ground.new_id::<id::Keyspace>());
        statement.bind(Json(["live", "test"])).bind(self.ground.now()).execute(&self.ground.db).await?;
        Ok(())
    }

    pub async fn list(&self, context: &Context, page: &PageRequest) -> Result<Page<Keyspace>> {
        context.require_anywhere(Permission::KeysRead)?;
        let before = page.before();
        let statement = sql(statements::LIST_KEYSPACES).bind(before.at).bind(before.id).bind(page.fetch());
        let keyspaces = statement.all(&self.ground.db).await?;
        Ok(page.page(keyspaces, |one: &Keyspace| Position { at: one.created_at, id: one.id.uuid() }))
    }

    pub async fn get(&self, context: &Context, id_or_name: &str) -> Result<Keyspace> {
        context.require_anywhere(Permission::KeysRead)?;
        find(&self.ground.db, id_or_name).await?.ok_or_else(Error::not_found)
    }

    pub async fn create(&self, context: &Context, terms: KeyspaceTerms) -> Result<Keyspace> {
        context.require_at_instance(Permission::OrganizationsManage)?;
        terms.check()?;
        let mut change = Change::begin(&self.ground, context).await?;
        let id: Id<id::Keyspace> = self.ground.new_id();
        let now = change.now();
        bind(sql(statements::INSERT_KEYSPACE).bind(id), &terms).bind(now).execute(change.tx()).await?;
        let keyspace = find(change.tx(), &id.to_string()).await?.ok_or_else(Error::not_found)?;
        let event = Event::new(EventType::Admin, "keyspace_created", "keyspace", id).named(&terms.name);
        change.commit(event.details(json!({ "after": terms.facts() }))).await?;
        Ok(keyspace)
    }

    /// Changes what new keys look like; keys that exist stay as they are.
    pub async fn update(
        &self,
        context: &Context,
        id_or_name: &str,
        edit: impl FnOnce(&mut KeyspaceTerms),
    ) -> Result<Keyspace> {
        context.require_at_instance(Permission::OrganizationsManage)?;
        let mut change = Change::begin(&self.ground, context).await?;
        let before = hold(&mut change, id_or_name).await?;
        let mut terms = before.terms();
        edit(&mut terms);
        terms.check()?;
        // Keys that name no keyspace are made in the one of this name.
        if before.name == DEFAULT && terms.name != DEFAULT {
            return Err(Error::field("/name", "cannot change: this is the keyspace of keys that name none"));
        }
        let now = change.now();
        bind(sql(statements::UPDATE_KEYSPACE).bind(before.id), &terms).bind(now).execute(change.tx()).await?;
        let after = find(change.tx(), &before.id.to_string()).await?.ok_or_else(Error::not_found)?;
        let event = Event::new(EventType::Admin, "keyspace_updated", "keyspace", before.id).named(&terms.name);
        change.commit(event.change(&before.terms().facts(), &terms.facts())).await?;
        Ok(after)
    }

    pub async fn delete(&self, context: &Context, id_or_name: &str) -> Result<()> {
        context.require_at_instance(Permission::OrganizationsManage)?;
        let mut change = Change::begin(&self.ground, context).await?;
        let keyspace = hold(&mut change, id_or_name).await?;
        let (keys,) = sql(statements::COUNT_KEYS_IN_KEYSPACE).bind(keyspace.id).one::<(i64,)>(change.tx()).await?;
        if keyspace.name == DEFAULT || keys > 0 {
            return Err(Error::new(Code::Conflict, "The default keyspace, and one that has keys, cannot be deleted."));
        }
        sql(statements::DELETE_KEYSPACE).bind(keyspace.id).execute(change.tx()).await?;
        let event = Event::new(EventType::Admin, "keyspace_deleted", "keyspace", keyspace.id).named(&keyspace.name);
        change.commit(event.details(json!({ "before": keyspace.terms().facts() }))).await?;
        Ok(())
    }
}

fn bind(statement: crate::db::Sql, terms: &KeyspaceTerms) -> crate::db::Sql {
    statement
        .bind(&terms.name)
        .bind(&terms.prefix)
        .bind(terms.style.as_str())
        .bind(Json(terms.environments.clone()))
        .bind(terms.default_expiry_days)
        .bind(terms.max_expiry_days)
}

/// A keyspace as it is once nobody else changes it, until the change ends.
async fn hold(change: &mut Change<'_>, id_or_name: &str) -> Result<Keyspace> {
    let named = find(change.tx(), id_or_name).await?.ok_or_else(Error::not_found)?;
    sql(statements::LOCK_KEYSPACE).bind(named.id).execute(change.tx()).await?;
    find(change.tx(), &named.id.to_string()).await?.ok_or_else(Error::not_found)
}

/// A keyspace by its id or name.
pub(super) async fn find<'a>(on: impl Into<On<'a>>, id_or_name: &str) -> Result<Option<Keyspace>> {
    let id = id_or_name.parse::<Id<id::Keyspace>>().ok();
    Ok(sql(statements::FIND_KEYSPACE).bind(id).bind(id_or_name).optional(on).await?)
}
