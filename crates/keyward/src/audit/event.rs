//! What happened, before it stands in the book: Keyward's own events, and the form in which every event waits for its number.

use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{EventRow, sql as statements};
use crate::context::Context;
use crate::db::{Json, Tx, row, sql};
use crate::error::Result;
use crate::ground::Ground;

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

/// Writes an event into a change's transaction, where it waits for its number. No event, no change.
pub(crate) async fn append(
    tx: &mut Tx,
    ground: &Ground,
    context: &Context,
    event: Event,
    now: Timestamp,
) -> Result<()> {
    let body = Body {
        event_type: event.event_type.as_str().to_owned(),
        action: event.action.to_owned(),
        actor_type: context.actor.kind.as_str().to_owned(),
        actor_id: context.actor.id.clone(),
        actor_name: context.actor.name.clone(),
        resource_type: event.resource.kind.to_owned(),
        resource_id: event.resource.id,
        resource_name: event.resource.name,
        success: event.failure.is_none(),
        error_message: event.failure,
        details: event.details,
        ip_address: context.ip.map(|address| address.to_string()),
        user_agent: context.user_agent.clone(),
        organization_id: event.organization.map(|organization| organization.uuid()),
        request_id: context.request_id.map(|id| id.to_string()),
        occurred_at: now.as_micros(),
    };
    let queue = sql(statements::QUEUE).bind(ground.new_id::<id::Event>()).bind(now).bind(Json(body));
    queue.execute(tx).await.map_err(super::unwritable)?;
    Ok(())
}

/// What a waiting event says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Body {
    event_type: String,
    action: String,
    actor_type: String,
    actor_id: String,
    actor_name: Option<String>,
    resource_type: String,
    resource_id: String,
    resource_name: Option<String>,
    success: bool,
    error_message: Option<String>,
    details: Value,
    ip_address: Option<String>,
    user_agent: Option<String>,
    organization_id: Option<Uuid>,
    request_id: Option<String>,
    /// Microseconds.
    occurred_at: i64,
}

row! {
    /// An event that waits.
    pub(super) struct QueuedRow { pub event_id: Id<id::Event>, queued_at: Timestamp, body: Json<Body> }
}

impl QueuedRow {
    /// As it will stand in the book, but for its number and its seals.
    pub fn into_event(self) -> EventRow {
        let Json(body) = self.body;
        EventRow {
            sequence: 0,
            id: self.event_id,
            event_type: body.event_type,
            action: body.action,
            actor_type: body.actor_type,
            actor_id: body.actor_id,
            actor_name: body.actor_name,
            resource_type: body.resource_type,
            resource_id: body.resource_id,
            resource_name: body.resource_name,
            success: body.success,
            error_message: body.error_message,
            details: Json(body.details),
            ip_address: body.ip_address,
            user_agent: body.user_agent,
            organization_id: body.organization_id.map(Id::from_uuid),
            request_id: body.request_id,
            occurred_at: Timestamp::from_micros(body.occurred_at),
            logged_at: self.queued_at,
            actor_seal: Vec::new(),
            object_seal: Vec::new(),
        }
    }
}
