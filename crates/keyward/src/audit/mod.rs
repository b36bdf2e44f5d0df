//! The book: one row for each change and each refused attempt, who did what, from where, with what before and after.
//!
//! Written only through `Change::commit`, or by `Audit::note` where nothing else changes.

mod ingest;
mod sequence;
mod sql;
mod verify;

pub use ingest::{Kept, MAX_EVENTS, NewEvent, Party};
pub use verify::Fault;

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;
use serde_json::{Value, json};

use crate::context::{Context, Whose};
use crate::db::{Json, Tx, row, sql};
use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::page::{Page, PageRequest, Position};

/// Something that happened. The actor and the circumstances come from the context.
#[derive(Debug, Clone)]
pub struct Event {
    pub event_type: EventType,
    /// What was done, in one word of `snake_case`.
    pub action: &'static str,
    pub resource: Resource,
    pub organization: Option<Id<id::Organization>>,
    /// Why it failed; `None` when it succeeded.
    pub failure: Option<String>,
    /// A JSON object.
    pub details: Value,
}

/// What it was done to.
#[derive(Debug, Clone)]
pub struct Resource {
    pub kind: &'static str,
    pub id: String,
    pub name: Option<String>,
}

/// The class of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    Security,
    Key,
    UserManagement,
    System,
    Admin,
}

impl EventType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Security => "SECURITY",
            Self::Key => "KEY",
            Self::UserManagement => "USER_MANAGEMENT",
            Self::System => "SYSTEM",
            Self::Admin => "ADMIN",
        }
    }
}

impl Event {
    pub fn new(event_type: EventType, action: &'static str, kind: &'static str, id: impl ToString) -> Self {
        let resource = Resource { kind, id: id.to_string(), name: None };
        Self { event_type, action, resource, organization: None, failure: None, details: json!({}) }
    }

    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.resource.name = Some(name.to_owned());
        self
    }

    #[must_use]
    pub fn of(mut self, organization: Id<id::Organization>) -> Self {
        self.organization = Some(organization);
        self
    }

    #[must_use]
    pub fn failed(mut self, why: impl Into<String>) -> Self {
        self.failure = Some(why.into());
        self
    }

    #[must_use]
    pub fn details(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    /// The object before and after, only where the two differ.
    #[must_use]
    pub fn change(self, before: &Value, after: &Value) -> Self {
        let mut was = serde_json::Map::new();
        let mut is = serde_json::Map::new();
        let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
        let (old, new) = (fields(before), fields(after));
        for field in old.keys().chain(new.keys()) {
            if old.get(field) != new.get(field) {
                was.insert(field.clone(), old.get(field).cloned().unwrap_or(Value::Null));
                is.insert(field.clone(), new.get(field).cloned().unwrap_or(Value::Null));
            }
        }
        self.details(json!({ "before": was, "after": is }))
    }
}

/// Writes an event into a change's transaction.
pub(crate) async fn append(
    tx: &mut Tx,
    ground: &Ground,
    context: &Context,
    event: Event,
    now: Timestamp,
) -> Result<()> {
    let id = ground.new_id::<id::Event>();
    let row = sql(sql::APPEND)
        .bind(id)
        .bind(event.event_type.as_str())
        .bind(event.action)
        .bind(context.actor.kind.as_str())
        .bind(&context.actor.id)
        .bind(context.actor.name.clone())
        .bind(event.resource.kind)
        .bind(event.resource.id)
        .bind(event.resource.name)
        .bind(event.failure.is_none())
        .bind(event.failure)
        .bind(Json(event.details))
        .bind(context.ip.map(|address| address.to_string()))
        .bind(context.user_agent.clone())
        .bind(event.organization)
        .bind(context.request_id.map(|id| id.to_string()))
        .bind(now);
    row.execute(&mut *tx).await?;
    sql(sql::AWAIT_NUMBER).bind(id).bind(now).bind(0i64).execute(tx).await?;
    Ok(())
}

row! {
    /// A row of the book.
    #[derive(Debug, Clone)]
    pub struct EventRow {
        pub id: Id<id::Event>,
        pub event_type: String,
        pub action: String,
        pub actor_type: String,
        pub actor_id: String,
        pub actor_name: Option<String>,
        pub resource_type: String,
        pub resource_id: String,
        pub resource_name: Option<String>,
        pub success: bool,
        pub error_message: Option<String>,
        pub details: Json<Value>,
        pub ip_address: Option<String>,
        pub user_agent: Option<String>,
        pub organization_id: Option<Id<id::Organization>>,
        pub request_id: Option<String>,
        pub occurred_at: Timestamp,
        pub logged_at: Timestamp,
    }
}

/// Which events are wanted; an absent field wants all.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub event_type: Option<String>,
    pub action: Option<String>,
    pub actor: Option<String>,
    pub resource: Option<String>,
    pub success: Option<bool>,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    pub ip_address: Option<String>,
    /// Looked for in action, resource, actor and error, whatever its case.
    pub text: Option<String>,
    /// What the details must contain: a JSON object.
    pub details: Option<Value>,
}

/// A LIKE pattern for a text, in small letters; `\\` escapes.
fn pattern_of(text: &str) -> String {
    let escaped = text.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

/// Reading the book, and noting what changed nothing else.
#[derive(Clone)]
pub struct Audit {
    pub(crate) ground: Ground,
}

impl Audit {
    /// Notes something that changed nothing, such as a refused call.
    pub async fn note(&self, context: &Context, event: Event) -> Result<()> {
        crate::change::Change::begin(&self.ground, context).await?.commit(event).await?;
        Ok(())
    }

    /// Events of an organization, newest first; with `None`, of the whole instance.
    pub async fn list(
        &self,
        context: &Context,
        organization: Option<Id<id::Organization>>,
        filter: &EventFilter,
        page: &PageRequest,
    ) -> Result<Page<EventRow>> {
        let whose = match organization {
            Some(organization) => context.require(organization, Permission::AuditRead)?,
            None => context.require_at_instance(Permission::AuditRead).map(|()| Whose::Everyones)?,
        };
        let before = page.before();
        let rows: Vec<EventRow> = sql::LIST
            .on(&self.ground.db)
            .bind(organization)
            .bind(filter.event_type.clone())
            .bind(filter.action.clone())
            .bind(filter.actor.clone())
            .bind(filter.resource.clone())
            .bind(filter.success)
            .bind(filter.from)
            .bind(filter.to)
            .bind(filter.ip_address.clone())
            .bind(filter.text.as_deref().map(pattern_of))
            .bind(filter.details.clone().map(Json))
            .bind(whose.owner())
            .bind(whose.owner().map(|user| user.to_string()))
            .bind(before.at)
            .bind(before.id)
            .bind(page.fetch())
            .all(&self.ground.db)
            .await?;
        Ok(page.page(rows, |row| Position { at: row.logged_at, id: row.id.uuid() }))
    }

    /// Events of a person's own doing, newest first.
    pub async fn list_of_person(
        &self,
        person: Id<id::User>,
        filter: &EventFilter,
        page: &PageRequest,
    ) -> Result<Page<EventRow>> {
        let before = page.before();
        let list = sql(sql::LIST_OF_PERSON).bind(person.to_string()).bind(filter.event_type.clone()).bind(before.at);
        let rows: Vec<EventRow> = list.bind(before.id).bind(page.fetch()).all(&self.ground.db).await?;
        Ok(page.page(rows, |row| Position { at: row.logged_at, id: row.id.uuid() }))
    }

    pub async fn get(&self, context: &Context, id: Id<id::Event>) -> Result<EventRow> {
        let row: EventRow = sql(sql::GET).bind(id).optional(&self.ground.db).await?.ok_or_else(Error::not_found)?;
        match row.organization_id {
            Some(organization) => context.require(organization, Permission::AuditRead).map(|_| row),
            None => context.require_at_instance(Permission::AuditRead).map(|()| row).map_err(|_| Error::not_found()),
        }
    }
}
