//! Lists of keys, by what people look for them.

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use serde_json::json;

use super::{ApiKey, KeyRow, Keys, SecretRow, keyspaces, sql as statements};
use crate::context::Context;
use crate::db::{Json, row, sql};
use crate::error::{Error, Result};
use crate::page::{Page, PageRequest, Position};

/// Which keys are wanted; an absent field wants all.
#[derive(Debug, Clone, Default)]
pub struct KeyFilter {
    /// `active`, `disabled`, `expired` or `revoked`.
    pub status: Option<String>,
    pub environment: Option<String>,
    pub owner: Option<Id<id::User>>,
    pub scope: Option<String>,
    /// Id or name.
    pub keyspace: Option<String>,
    pub expiring_within_days: Option<i64>,
    pub unused_for_days: Option<i64>,
    /// Looked for in name and external id, whatever the case.
    pub q: Option<String>,
    pub sort: Sort,
}

/// The order of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    NewestFirst,
    OldestFirst,
}

row! {
    /// How many keys stand how.
    #[derive(Debug, Clone)]
    pub struct KeyCounts { pub total: i64, pub active: i64, pub disabled: i64, pub expired: i64, pub revoked: i64 }
}

impl Keys {
    pub async fn list(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        filter: &KeyFilter,
        page: &PageRequest,
    ) -> Result<Page<ApiKey>> {
        let whose = context.require(organization, Permission::KeysRead)?;
        let now = self.ground.now();
        let keyspace = match &filter.keyspace {
            Some(name) => match keyspaces::find(&self.ground.db, name).await? {
                Some(keyspace) => Some(keyspace.id),
                None => return Err(Error::field("/keyspace", "is not a keyspace")),
            },
            None => None,
        };
        for (pointer, days) in
            [("/expiring_within_days", filter.expiring_within_days), ("/unused_for_days", filter.unused_for_days)]
        {
            if days.is_some_and(|days| !(0..=3650).contains(&days)) {
                return Err(Error::field(pointer, "must be between 0 and 3650"));
            }
        }
        let text = match filter.sort {
            Sort::NewestFirst => statements::LIST_NEWEST,
            Sort::OldestFirst => statements::LIST_OLDEST,
        };
        let start = page.start(filter.sort == Sort::OldestFirst);
        let statement = sql(text)
            .bind(organization)
            .bind(now)
            .bind(filter.status.clone())
            .bind(filter.environment.clone())
            .bind(whose.owner().or(filter.owner))
            .bind(filter.scope.clone())
            .bind(keyspace)
            .bind(filter.expiring_within_days.map(|days| now.plus_days(days)))
            .bind(filter.unused_for_days.map(|days| now.plus_days(-days)))
            .bind(filter.q.as_deref().map(like))
            .bind(start.at)
            .bind(start.id)
            .bind(page.fetch());
        if whose.owner().is_some_and(|own| filter.owner.is_some_and(|owner| owner != own)) {
            return Ok(Page { items: Vec::new(), next_cursor: None });
        }
        let rows: Vec<KeyRow> = statement.all(&self.ground.db).await?;
        let page = page.page(rows, |row: &KeyRow| Position { at: row.created_at, id: row.id.uuid() });
        let ids: Vec<String> = page.items.iter().map(|row| row.id.uuid().simple().to_string()).collect();
        let secrets: Vec<SecretRow> =
            statements::SECRETS_OF_KEYS.on(&self.ground.db).bind(Json(json!(ids))).all(&self.ground.db).await?;
        Ok(page.map(|row| ApiKey::assemble(row, &secrets, now)))
    }

    /// How many keys of the organization stand how.
    pub async fn counts(&self, context: &Context, organization: Id<id::Organization>) -> Result<KeyCounts> {
        let whose = context.require(organization, Permission::UsageRead)?;
        let statement = sql(statements::COUNTS).bind(organization).bind(self.ground.now()).bind(whose.owner());
        Ok(statement.one(&self.ground.db).await?)
    }
}

/// A pattern that finds the text anywhere, its own signs taken literally.
fn like(text: &str) -> String {
    let escaped = text.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}
