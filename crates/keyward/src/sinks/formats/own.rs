//! Keyward's own words: an event as the API tells it.

use serde_json::{Value, json};

use super::super::record::{CHECKPOINT, GAP, Record};
use super::without_blanks;

pub fn tell(record: &Record, log: &str) -> Value {
    without_blanks(match record {
        Record::Event(event) => json!({
            "id": record.id(),
            "sequence": event.sequence,
            "event_type": event.event_type,
            "action": event.action,
            "severity": record.severity() as u8,
            "actor": { "type": event.actor_type, "id": event.actor_id, "name": event.actor_name },
            "resource": { "type": event.resource_type, "id": event.resource_id, "name": event.resource_name },
            "success": event.success,
            "error_message": event.error_message,
            "details": event.details.0,
            "ip_address": event.ip_address,
            "user_agent": event.user_agent,
            "organization_id": event.organization_id.map(|id| id.to_string()),
            "request_id": event.request_id,
            "occurred_at": event.occurred_at.to_string(),
            "logged_at": event.logged_at.to_string(),
            "log": log,
        }),
        Record::Gap(gap, at) => json!({
            "id": record.id(), "event_type": "SYSTEM", "action": GAP, "occurred_at": at.to_string(), "log": log,
            "gap": { "count": gap.count, "from": gap.from, "to": gap.to, "reason": gap.reason },
        }),
        Record::Checkpoint(signed, at) => json!({
            "id": record.id(), "event_type": "SYSTEM", "action": CHECKPOINT, "occurred_at": at.to_string(), "log": log,
            "checkpoint": { "size": signed.checkpoint.size, "note": signed.note() },
        }),
    })
}
