//! The Elastic Common Schema, version 8.17: its field sets where it has one, `keyward.*` for the rest.

use serde_json::{Value, json};

use super::super::meaning::{Deed, Subject, deed_of, subject_of};
use super::super::record::{CHECKPOINT, GAP, Record};
use super::without_blanks;
use crate::audit::EventRow;

const VERSION: &str = "8.17.0";

pub fn tell(record: &Record, log: &str) -> Value {
    let told = match record {
        Record::Event(event) => tell_event(record, event, log),
        Record::Gap(gap, _) => json!({
            "message": format!("{} events are missing: {}", gap.count, gap.reason),
            "event": { "kind": "pipeline_error", "outcome": "unknown", "action": GAP },
            "keyward": { "log": log, "gap": { "count": gap.count, "from": gap.from, "to": gap.to, "reason": gap.reason } },
        }),
        Record::Checkpoint(signed, _) => json!({
            "message": format!("{log} has {} events", signed.checkpoint.size),
            "event": { "kind": "state", "outcome": "success", "action": CHECKPOINT },
            "keyward": { "log": log, "checkpoint": { "size": signed.checkpoint.size, "note": signed.note() } },
        }),
    };
    let mut told = without_blanks(told);
    told["@timestamp"] = record.at().to_string().into();
    told["ecs"] = json!({ "version": VERSION });
    for (field, value) in [
        ("id", json!(record.id())),
        ("severity", json!(record.severity() as u8)),
        ("provider", json!("keyward")),
        ("module", json!("keyward")),
        ("dataset", json!("keyward.audit")),
    ] {
        told["event"][field] = value;
    }
    told
}

fn tell_event(record: &Record, event: &EventRow, log: &str) -> Value {
    let (subject, deed) = (subject_of(event), deed_of(event));
    let outcome = if event.success { "success" } else { "failure" };
    let is_person = event.resource_type == "user" && subject == Subject::Account;
    json!({
        "message": format!("{} {} {}: {outcome}", event.action, event.resource_type, event.resource_id),
        "event": {
            "sequence": event.sequence,
            "kind": if record.severity() as u8 >= 4 { "alert" } else { "event" },
            "category": [category(subject)],
            "type": types(subject, deed),
            "action": event.action,
            "outcome": outcome,
            "created": event.logged_at.to_string(),
        },
        "user": {
            "id": event.actor_id,
            "name": event.actor_name,
            "target": is_person.then(|| json!({ "id": event.resource_id, "name": event.resource_name })),
        },
        "source": { "ip": event.ip_address },
        "user_agent": { "original": event.user_agent },
        "organization": { "id": event.organization_id.map(|id| id.to_string()) },
        "error": { "message": event.error_message },
        "http": { "request": { "id": event.request_id } },
        "file": if subject == Subject::File { file(event) } else { Value::Null },
        "keyward": {
            "log": log,
            "event_type": event.event_type,
            "actor": { "type": event.actor_type },
            "resource": { "type": event.resource_type, "id": event.resource_id, "name": event.resource_name },
            "details": event.details.0,
        },
    })
}

fn file(event: &EventRow) -> Value {
    let details = &event.details.0;
    json!({
        "name": event.resource_name,
        "path": details["new_path"].as_str().or(details["path"].as_str()),
        "size": details["size_bytes"].as_i64(),
        "mime_type": details["mime_type"].as_str(),
        "hash": { "sha256": details["sha256"].as_str() },
    })
}

fn category(subject: Subject) -> &'static str {
    match subject {
        Subject::Authentication => "authentication",
        Subject::Account => "iam",
        Subject::File => "file",
        Subject::Entity => "configuration",
        Subject::Api => "api",
    }
}

/// The allowed values of `event.type` differ by category.
fn types(subject: Subject, deed: Deed) -> Value {
    match (subject, deed) {
        (Subject::Authentication, Deed::LogOn | Deed::Renew) => json!(["start"]),
        (Subject::Authentication, Deed::LogOff) => json!(["end"]),
        (Subject::Authentication, _) => json!(["info"]),
        (Subject::Api, _) => json!(["access"]),
        (Subject::Account, Deed::Create) => json!(["user", "creation"]),
        (Subject::Account, Deed::Delete) => json!(["user", "deletion"]),
        (Subject::Account, _) => json!(["user", "change"]),
        (_, Deed::Create | Deed::Upload) => json!(["creation"]),
        (_, Deed::Delete) => json!(["deletion"]),
        (_, Deed::Read | Deed::Download) => json!(["access"]),
        _ => json!(["change"]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::event;
    use super::*;

    #[test]
    fn a_refused_login_in_full() {
        let record = Record::Event(Box::new(event("SECURITY", "login_failed", "user", false)));
        assert_eq!(
            tell(&record, "example.com/audit"),
            json!({
                "@timestamp": "2026-11-20T12:00:00.000001Z",
                "ecs": { "version": "8.17.0" },
                "message": "login_failed user r-1: failure",
                "event": {
                    "id": record.id(), "sequence": 41, "kind": "event", "category": ["authentication"], "type": ["start"],
                    "action": "login_failed", "outcome": "failure", "created": "2026-11-20T12:00:00.5Z", "severity": 3,
                    "provider": "keyward", "module": "keyward", "dataset": "keyward.audit",
                },
                "user": { "id": "u-1", "name": "Maria Weiß" },
                "source": { "ip": "192.0.2.7" },
                "user_agent": { "original": "curl/8" },
                "organization": { "id": "org_00000000000000000000000009" },
                "error": { "message": "wrong \"password\"" },
                "http": { "request": { "id": "req_1" } },
                "keyward": {
                    "log": "example.com/audit", "event_type": "SECURITY", "actor": { "type": "user" },
                    "resource": { "type": "user", "id": "r-1" }, "details": { "old": null, "n": 1 },
                },
            })
        );
    }

    #[test]
    fn each_subject_has_its_category_and_types() {
        for (event_type, action, kind, category, types) in [
            ("SECURITY", "logout", "session", "authentication", json!(["end"])),
            ("SECURITY", "totp_enabled", "user", "iam", json!(["user", "change"])),
            ("USER_MANAGEMENT", "person_created", "user", "iam", json!(["user", "creation"])),
            ("KEY", "key_deleted", "key", "configuration", json!(["deletion"])),
            ("FILE_ACCESS", "download", "file", "file", json!(["access"])),
            ("SECURITY", "rate_limited", "route", "api", json!(["access"])),
            ("ORDER", "shipped", "order", "api", json!(["access"])),
        ] {
            let told = tell(&Record::Event(Box::new(event(event_type, action, kind, true))), "x");
            assert_eq!((&told["event"]["category"][0], &told["event"]["type"]), (&json!(category), &types), "{action}");
        }
        let alarm = tell(&Record::Event(Box::new(event("SECURITY", "key_leaked", "key", true))), "x");
        assert_eq!((&alarm["event"]["kind"], &alarm["event"]["severity"]), (&json!("alert"), &json!(4)));
    }
}
