//! Events that applications send: checked, stripped of what is secret, and kept once by their id. They stand in the same book
//! as Keyward's own.

use std::borrow::Cow;
use std::net::IpAddr;

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::text;
use keyward_core::time::Timestamp;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::redact::{clean, redact};
use super::{Audit, EventRow};
use crate::context::Context;
use crate::db::Json;
use crate::error::{Error, Result};

/// Most events of one call.
pub const MAX_EVENTS: usize = 1_000;
/// Longest texts, in bytes.
const MAX_NAME: usize = 64;
const MAX_TEXT: usize = 1_000;
/// Largest details as JSON text, in bytes.
const MAX_DETAILS: usize = 16_384;
/// How far a reporter's clock may be ahead.
const MAX_AHEAD_SECONDS: i64 = 300;
const ACTOR_KINDS: [&str; 4] = ["user", "key", "system", "external"];
/// Operations on files, whose details have types.
const FILE_ACTIONS: [&str; 5] = ["upload", "download", "delete", "move", "rename"];
/// Who or what an event is about.
#[derive(Debug, Clone)]
pub struct Party {
    pub kind: String,
    pub id: String,
    pub name: Option<String>,
}

/// An event as it is sent.
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub id: Option<Id<id::Event>>,
    pub event_type: String,
    pub action: String,
    pub actor: Party,
    pub resource: Party,
    pub success: bool,
    pub error_message: Option<String>,
    pub details: Map<String, Value>,
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
    pub occurred_at: Option<Timestamp>,
}

/// The id of an event that its sender calls `text`: `aud_…` and UUIDs are taken as they are, any other name makes an id that is
/// the same each time, and another in each organization. None for what cannot be a name.
pub fn event_id(organization: Id<id::Organization>, text: &str) -> Option<Id<id::Event>> {
    if let Some(id) = text.parse().ok().or_else(|| Id::from_uuid_text(text)) {
        return Some(id);
    }
    text::label(text, 200).ok()?;
    let digest =
        Sha256::new().chain_update(b"event of ").chain_update(organization.uuid()).chain_update(text).finalize();
    let bytes = std::array::from_fn(|index| digest[index]);
    Some(Id::from_uuid(uuid::Builder::from_custom_bytes(bytes).into_uuid()))
}

/// Where a kept event stands.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    pub id: Id<id::Event>,
    pub sequence: i64,
}

impl Audit {
    /// Keeps events; answers, once they are committed and numbered, where each stands. An event with an id that is known
    /// already is kept once.
    pub async fn take(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        events: Vec<NewEvent>,
    ) -> Result<(Vec<Kept>, i64)> {
        context.require(organization, Permission::AuditWrite)?;
        if events.is_empty() || events.len() > MAX_EVENTS {
            return Err(Error::field("/events", format!("needs between 1 and {MAX_EVENTS} events")));
        }
        let now = self.ground.now();
        for (index, event) in events.iter().enumerate() {
            event.check(&format!("/events/{index}"), now)?;
        }
        let chosen = events.iter().any(|event| event.id.is_some());
        let rows: Vec<EventRow> = events
            .into_iter()
            .map(|event| {
                let id = event.id.unwrap_or_else(|| self.ground.new_id());
                event.into_row(id, organization, context, now)
            })
            .collect();
        let ids: Vec<Id<id::Event>> = rows.iter().map(|row| row.id).collect();
        let places = self.desk.submit(rows, chosen).await?;
        let kept = ids.into_iter().zip(places.sequences).map(|(id, sequence)| Kept { id, sequence });
        Ok((kept.collect(), places.size))
    }
}

impl NewEvent {
    fn check(&self, at: &str, now: Timestamp) -> Result<()> {
        let fault = |field: &str, why: &str| Err(Error::field(format!("{at}/{field}"), why));
        let is_word = |text: &str| {
            (1..=MAX_NAME).contains(&text.len())
                && text.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"_.:-".contains(&letter))
        };
        for (field, text) in [("event_type", &self.event_type), ("action", &self.action)] {
            if !is_word(text) {
                return fault(field, "must be 1–64 of A–Z, a–z, 0–9, _, ., : and -");
            }
        }
        if !ACTOR_KINDS.contains(&self.actor.kind.as_str()) {
            return fault("actor/type", "must be user, key, system or external");
        }
        for (name, party) in [("actor", &self.actor), ("resource", &self.resource)] {
            let texts = [("type", Some(&party.kind)), ("id", Some(&party.id)), ("name", party.name.as_ref())];
            for (field, text) in texts {
                if let Some(why) = text.and_then(|text| text::label(text, 200).err()) {
                    return Err(Error::field(format!("{at}/{name}/{field}"), why));
                }
            }
        }
        for (field, text) in [("error_message", &self.error_message), ("user_agent", &self.user_agent)] {
            if text.as_ref().is_some_and(|text| text.len() > MAX_TEXT) {
                return fault(field, "is longer than 1,000 bytes");
            }
        }
        if self.ip_address.as_ref().is_some_and(|text| text.parse::<IpAddr>().is_err()) {
            return fault("ip_address", "is not an address");
        }
        if self.occurred_at.is_some_and(|at| at > now.plus_seconds(MAX_AHEAD_SECONDS)) {
            return fault("occurred_at", "is in the future");
        }
        if serde_json::to_string(&self.details).map_or(0, |text| text.len()) > MAX_DETAILS {
            return fault("details", "is larger than 16 KiB");
        }
        if FILE_ACTIONS.contains(&self.action.as_str())
            && let Some((field, why)) = file_fault(&self.details)
        {
            return fault(&format!("details/{field}"), why);
        }
        Ok(())
    }

    fn into_row(
        self,
        id: Id<id::Event>,
        organization: Id<id::Organization>,
        context: &Context,
        now: Timestamp,
    ) -> EventRow {
        let text = |text: String| match clean(&text) {
            Cow::Owned(clean) => clean,
            Cow::Borrowed(_) => text,
        };
        let mut details = Value::Object(self.details);
        redact(&mut details);
        EventRow {
            sequence: 0,
            id,
            event_type: self.event_type,
            action: self.action,
            actor_type: self.actor.kind,
            actor_id: text(self.actor.id),
            actor_name: self.actor.name.map(text),
            resource_type: text(self.resource.kind),
            resource_id: text(self.resource.id),
            resource_name: self.resource.name.map(text),
            success: self.success,
            error_message: self.error_message.map(text),
            details: Json(details),
            ip_address: self.ip_address,
            user_agent: self.user_agent.map(text),
            organization_id: Some(organization),
            request_id: context.request_id.map(|id| id.to_string()),
            occurred_at: self.occurred_at.unwrap_or(now),
            logged_at: now,
            actor_seal: Vec::new(),
            object_seal: Vec::new(),
        }
    }
}

/// A field of a file operation's details, what it must be, and how that is told.
type FieldRule<'a> = (&'static str, &'a dyn Fn(&Value) -> bool, &'static str);

/// The field of a file operation that is not of its type.
fn file_fault(details: &Map<String, Value>) -> Option<(&'static str, &'static str)> {
    let hex = |digits: usize| {
        move |value: &Value| {
            let text = value.as_str().unwrap_or_default();
            text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        }
    };
    let is_number = |value: &Value| value.as_f64().is_some_and(|number| number >= 0.0);
    let is_text = |value: &Value| value.as_str().is_some_and(|text| (1..=4_096).contains(&text.len()));
    let is_type = |value: &Value| value.as_str().is_some_and(|text| text.len() <= 255 && text.contains('/'));
    let wrong = |field: &str, fits: &dyn Fn(&Value) -> bool| details.get(field).is_some_and(|value| !fits(value));
    let rules: [FieldRule<'_>; 8] = [
        ("size_bytes", &|value: &Value| value.as_u64().is_some(), "must be a whole number of bytes"),
        ("mime_type", &is_type, "must be a media type"),
        ("duration_ms", &is_number, "must be a number of milliseconds"),
        ("transfer_rate", &is_number, "must be a number of bytes per second"),
        ("sha256", &hex(64), "must be 64 hexadecimal digits"),
        ("sha1", &hex(40), "must be 40 hexadecimal digits"),
        ("old_path", &is_text, "must be a path"),
        ("new_path", &is_text, "must be a path"),
    ];
    rules.into_iter().find(|(field, fits, _)| wrong(field, *fits)).map(|(field, _, why)| (field, why))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_senders_own_names_make_ids() {
        let [one, other] = [1, 2].map(|number| Id::from_uuid(uuid::Uuid::from_u128(number)));
        let id = event_id(one, "invoice-7").unwrap();
        assert_eq!(event_id(one, "invoice-7"), Some(id), "the same each time");
        assert_ne!(event_id(other, "invoice-7"), Some(id), "and another elsewhere");
        assert_eq!(event_id(one, &id.to_string()), Some(id));
        assert_eq!(event_id(one, &id.uuid().to_string()), Some(id));
        assert_eq!([event_id(one, ""), event_id(one, "a\nb"), event_id(one, &"x".repeat(201))], [None; 3]);
    }

    #[test]
    fn details_of_file_operations_have_types() {
        let fault = |details: Value| file_fault(details.as_object().unwrap()).map(|(field, _)| field);
        assert_eq!(
            fault(json!({ "size_bytes": 5, "mime_type": "text/plain", "sha1": "a".repeat(40), "duration_ms": 1.5 })),
            None
        );
        assert_eq!(fault(json!({ "size_bytes": -5 })), Some("size_bytes"));
        assert_eq!(fault(json!({ "sha256": "a".repeat(63) })), Some("sha256"));
        assert_eq!(fault(json!({ "new_path": "" })), Some("new_path"));
    }
}
