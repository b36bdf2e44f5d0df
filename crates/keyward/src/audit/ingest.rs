//! Events that applications send: checked, stripped of what is secret, and kept once by their id. They stand in the same book
//! as Keyward's own.

use std::net::IpAddr;

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::key::{Shape, shape};
use keyward_core::problem::Code;
use keyward_core::text;
use keyward_core::time::Timestamp;
use serde_json::{Map, Value};

use super::{Audit, EventRow, sql as statements};
use crate::context::Context;
use crate::db::{Json, sql};
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
/// Parts of names whose values are never kept.
const SECRET_NAMES: [&str; 8] =
    ["password", "passwd", "secret", "token", "authorization", "api_key", "private_key", "cookie"];
const REDACTED: &str = "[redacted]";

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
        let mut ids = Vec::with_capacity(events.len());
        let mut tx = self.ground.db.begin().await?;
        for (event, place) in events.into_iter().zip(0i64..) {
            let id = event.id.unwrap_or_else(|| self.ground.new_id());
            let inserted = event.insert(id, organization, context, now).execute(&mut tx).await?;
            if inserted == 0 {
                let known: Option<EventRow> = sql(statements::GET).bind(id).optional(&mut tx).await?;
                if known.is_none_or(|known| known.organization_id != Some(organization)) {
                    return Err(Error::new(Code::AlreadyTaken, format!("The id {id} belongs to another event.")));
                }
            } else {
                sql(statements::AWAIT_NUMBER).bind(id).bind(now).bind(place).execute(&mut tx).await?;
            }
            ids.push(id);
        }
        tx.commit().await?;
        let size = self.sequence().await?;
        let mut kept = Vec::with_capacity(ids.len());
        for id in ids {
            let sequence = self.sequence_of(id).await?.ok_or_else(Error::not_found)?;
            kept.push(Kept { id, sequence });
        }
        Ok((kept, size))
    }
}

impl NewEvent {
    fn check(&self, at: &str, now: Timestamp) -> Result<()> {
        let fault = |field: &str, why: &str| Err(Error::field(format!("{at}/{field}"), why));
        let is_word = |text: &str, fits: fn(char) -> bool| {
            (1..=MAX_NAME).contains(&text.len()) && text.chars().all(|letter| fits(letter) || letter.is_ascii_digit())
        };
        if !is_word(&self.event_type, |letter| letter.is_ascii_uppercase() || letter == '_') {
            return fault("event_type", "must be up to 64 capital letters, digits and underscores");
        }
        if !is_word(&self.action, |letter| letter.is_ascii_lowercase() || "_.-".contains(letter)) {
            return fault("action", "must be up to 64 small letters, digits and underscores");
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
        if Value::Object(self.details.clone()).to_string().len() > MAX_DETAILS {
            return fault("details", "is larger than 16 KiB");
        }
        if FILE_ACTIONS.contains(&self.action.as_str())
            && let Some((field, why)) = file_fault(&self.details)
        {
            return fault(&format!("details/{field}"), why);
        }
        Ok(())
    }

    fn insert(
        self,
        id: Id<id::Event>,
        organization: Id<id::Organization>,
        context: &Context,
        now: Timestamp,
    ) -> crate::db::Sql {
        let text = |text: String| clean(&text).unwrap_or(text);
        let mut details = Value::Object(self.details);
        redact(&mut details);
        sql(statements::TAKE)
            .bind(id)
            .bind(self.event_type)
            .bind(self.action)
            .bind(self.actor.kind)
            .bind(text(self.actor.id))
            .bind(self.actor.name.map(text))
            .bind(self.resource.kind)
            .bind(text(self.resource.id))
            .bind(self.resource.name.map(text))
            .bind(self.success)
            .bind(self.error_message.map(text))
            .bind(Json(details))
            .bind(self.ip_address)
            .bind(self.user_agent)
            .bind(organization)
            .bind(context.request_id.map(|id| id.to_string()))
            .bind(self.occurred_at.unwrap_or(now))
            .bind(now)
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

/// Replaces what must not be kept in clear: values under telling names, and texts that are keys, tokens or private keys.
fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.to_lowercase();
                if SECRET_NAMES.iter().any(|part| name.contains(part)) && !value.is_null() {
                    *value = REDACTED.into();
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::String(text) => {
            if let Some(clean) = clean(text) {
                *text = clean;
            }
        }
        _ => {}
    }
}

/// The text without its secrets; `None` when it has none.
fn clean(text: &str) -> Option<String> {
    if text.contains("-----BEGIN") && text.contains("PRIVATE KEY") {
        return Some(REDACTED.to_owned());
    }
    let is_secret = |word: &str| {
        let is_jwt = word.starts_with("eyJ") && word.matches('.').count() == 2;
        is_jwt || shape(word) == Some(Shape::Own)
    };
    let words: Vec<&str> =
        text.split_inclusive(|letter: char| letter.is_whitespace() || "\"',;".contains(letter)).collect();
    let core = |word: &str| {
        word.trim_end_matches(|letter: char| letter.is_whitespace() || "\"',;".contains(letter)).to_owned()
    };
    if !words.iter().any(|word| is_secret(&core(word))) {
        return None;
    }
    let kept = words.iter().map(|word| {
        let core = core(word);
        if is_secret(&core) { word.replace(&core, REDACTED) } else { (*word).to_owned() }
    });
    Some(kept.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_secret_is_kept_in_clear() {
        let key = keyward_core::key::generate("kw", "live", keyward_core::key::Style::Checksummed);
        let mut details = json!({
            "Password": "x", "nested": { "access_token": 7, "list": [format!("used {}, twice", key.expose()), "eyJh.b.c"] },
            "pem": "-----BEGIN PRIVATE KEY-----\nabc", "plain": "nothing to hide", "token": null,
        });
        redact(&mut details);
        assert_eq!(
            details,
            json!({
                "Password": REDACTED, "nested": { "access_token": REDACTED, "list": ["used [redacted], twice", REDACTED] },
                "pem": REDACTED, "plain": "nothing to hide", "token": null,
            })
        );
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
