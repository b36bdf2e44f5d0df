//! The Open Cybersecurity Schema Framework, version 1.4: five classes of its events, and the base event for what is about the book
//! itself.

use keyward_core::time::Timestamp;
use serde_json::{Value, json};

use super::super::meaning::{Deed, Subject, deed_of, subject_of};
use super::super::record::{CHECKPOINT, GAP, Record};
use super::without_blanks;
use crate::audit::EventRow;

const VERSION: &str = "1.4.0";
/// Any activity that a class has no number for.
const OTHER: u32 = 99;

pub fn tell(record: &Record, log: &str) -> Value {
    let mut told = match record {
        Record::Event(event) => tell_event(event),
        Record::Gap(gap, _) => json!({
            "class": [0, OTHER], "status_id": 99, "message": format!("{} events are missing: {}", gap.count, gap.reason),
            "unmapped": { "gap": { "count": gap.count, "from": gap.from, "to": gap.to, "reason": gap.reason } },
        }),
        Record::Checkpoint(signed, _) => json!({
            "class": [0, OTHER], "status_id": 1, "message": format!("{log} has {} events", signed.checkpoint.size),
            "unmapped": { "checkpoint": { "size": signed.checkpoint.size, "note": signed.note() } },
        }),
    };
    let class = told.as_object_mut().and_then(|fields| fields.remove("class")).unwrap_or_default();
    let (class, activity) = (class[0].as_u64().unwrap_or_default(), class[1].as_u64().unwrap_or_default());
    // The thousands of a class are its category.
    told["category_uid"] = (class / 1_000).into();
    told["class_uid"] = class.into();
    told["activity_id"] = activity.into();
    told["type_uid"] = (class * 100 + activity).into();
    told["severity_id"] = (record.severity() as u8).into();
    told["time"] = millis(record.at()).into();
    let (is_gap, event) = (matches!(record, Record::Gap(..)), record.event());
    told["metadata"] = json!({
        "version": VERSION,
        "uid": record.id(),
        "sequence": record.sequence(),
        "event_code": event.map_or(if is_gap { GAP } else { CHECKPOINT }, |event| &event.action),
        "log_name": log,
        "logged_time": event.map(|event| millis(event.logged_at)),
        "correlation_uid": event.and_then(|event| event.request_id.as_deref()),
        "product": { "name": "Keyward", "vendor_name": "Keyward", "version": env!("CARGO_PKG_VERSION") },
    });
    without_blanks(told)
}

fn millis(at: Timestamp) -> i64 {
    at.as_micros().div_euclid(1_000)
}

fn tell_event(event: &EventRow) -> Value {
    let subject = subject_of(event);
    let (class, activity) = class_of(subject, deed_of(event));
    let object = json!({ "uid": event.resource_id, "name": event.resource_name, "type": event.resource_type });
    let actor = json!({ "uid": event.actor_id, "name": event.actor_name, "type": event.actor_type });
    let is_person = event.resource_type == "user";
    let mut told = json!({
        "class": [class, activity],
        "activity_name": event.action,
        "status_id": if event.success { 1 } else { 2 },
        "status_detail": event.error_message,
        "message": format!("{} {} {}", event.action, event.resource_type, event.resource_id),
        "actor": { "user": actor },
        "src_endpoint": { "ip": event.ip_address },
        "http_request": { "user_agent": event.user_agent, "uid": event.request_id },
        "unmapped": {
            "event_type": event.event_type,
            "organization_id": event.organization_id.map(|id| id.to_string()),
            "resource": object,
            "details": event.details.0,
        },
    });
    if let Some(organization) = event.organization_id {
        told["actor"]["user"]["org"] = json!({ "uid": organization.to_string() });
    }
    match subject {
        Subject::Authentication | Subject::Account => told["user"] = if is_person { object } else { actor },
        Subject::File => told["file"] = file(event),
        Subject::Entity => told["entity"] = object,
        Subject::Api => {
            told["api"] = json!({ "operation": event.action });
            told["resources"] = json!([object]);
        }
    }
    told
}

fn file(event: &EventRow) -> Value {
    let details = &event.details.0;
    let sha256 = details["sha256"].as_str();
    json!({
        "uid": event.resource_id,
        "name": event.resource_name.as_deref().unwrap_or(&event.resource_id),
        "type_id": 1,
        "path": details["new_path"].as_str().or(details["path"].as_str()),
        "size": details["size_bytes"].as_i64(),
        "mime_type": details["mime_type"].as_str(),
        "hashes": sha256.map(|value| json!([{ "algorithm_id": 3, "algorithm": "SHA-256", "value": value }])),
    })
}

/// The class and its number for what was done.
fn class_of(subject: Subject, deed: Deed) -> (u32, u32) {
    match subject {
        Subject::Authentication => (
            3002,
            match deed {
                Deed::LogOn => 1,
                Deed::LogOff => 2,
                Deed::Renew => 5,
                _ => OTHER,
            },
        ),
        Subject::Account => (
            3001,
            match deed {
                Deed::Create => 1,
                Deed::Enable | Deed::Resume => 2,
                Deed::ChangePassword => 3,
                Deed::ResetPassword => 4,
                Deed::Disable | Deed::Suspend => 5,
                Deed::Delete => 6,
                Deed::Lock => 9,
                Deed::EnableFactor => 10,
                Deed::DisableFactor => 11,
                _ => OTHER,
            },
        ),
        Subject::File => (
            6006,
            match deed {
                Deed::Upload | Deed::Create => 1,
                Deed::Download | Deed::Read => 2,
                Deed::Update => 3,
                Deed::Delete => 4,
                Deed::Rename => 5,
                Deed::Move => 7,
                _ => OTHER,
            },
        ),
        Subject::Entity => (
            3004,
            match deed {
                Deed::Create => 1,
                Deed::Read => 2,
                Deed::Update | Deed::Renew => 3,
                Deed::Delete => 4,
                Deed::Enable => 8,
                Deed::Disable => 9,
                Deed::Resume => 10,
                Deed::Suspend => 12,
                _ => OTHER,
            },
        ),
        Subject::Api => (
            6003,
            match deed {
                Deed::Create => 1,
                Deed::Read => 2,
                Deed::Update => 3,
                Deed::Delete => 4,
                _ => OTHER,
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::record::Gap;
    use super::super::tests::event;
    use super::*;

    #[test]
    fn each_subject_has_its_class() {
        for (event_type, action, kind, class, activity, object) in [
            ("SECURITY", "login", "session", 3002, 1, "user"),
            ("SECURITY", "login_failed", "user", 3002, 1, "user"),
            ("SECURITY", "logout", "session", 3002, 2, "user"),
            ("SECURITY", "token_refreshed", "session", 3002, 5, "user"),
            ("SECURITY", "password_changed", "user", 3001, 3, "user"),
            ("SECURITY", "totp_enabled", "user", 3001, 10, "user"),
            ("USER_MANAGEMENT", "person_deleted", "user", 3001, 6, "user"),
            ("KEY", "key_created", "key", 3004, 1, "entity"),
            ("KEY", "key_rotated", "key", 3004, 3, "entity"),
            ("KEY", "key_revoked", "key", 3004, 9, "entity"),
            ("ADMIN", "organization_suspended", "organization", 3004, 12, "entity"),
            ("FILE_ACCESS", "upload", "file", 6006, 1, "file"),
            ("SECURITY", "unauthenticated", "route", 6003, 99, "api"),
            ("ORDER", "order_created", "order", 6003, 1, "api"),
        ] {
            let told = tell(&Record::Event(Box::new(event(event_type, action, kind, true))), "x");
            let numbers = ["class_uid", "activity_id", "category_uid", "type_uid"].map(|field| told[field].as_u64());
            assert_eq!(numbers, [class, activity, class / 1_000, class * 100 + activity].map(Some), "{action}");
            assert!(told[object].is_object(), "{action}: {told}");
        }
    }

    #[test]
    fn a_refusal_tells_who_where_and_why() {
        let told =
            tell(&Record::Event(Box::new(event("SECURITY", "login_failed", "user", false))), "example.com/audit");
        assert_eq!(told["time"], 1_795_176_000_000_i64);
        assert_eq!((&told["status_id"], &told["status_detail"]), (&json!(2), &json!("wrong \"password\"")));
        assert_eq!((&told["severity_id"], &told["actor"]["user"]["uid"]), (&json!(3), &json!("u-1")));
        assert_eq!((&told["src_endpoint"]["ip"], &told["user"]["uid"]), (&json!("192.0.2.7"), &json!("r-1")));
        assert_eq!(told["metadata"]["product"]["name"], "Keyward");
        assert_eq!(told["unmapped"]["details"], json!({ "old": null, "n": 1 }));
    }

    #[test]
    fn a_gap_is_a_base_event() {
        let gap = Gap { from: 3, to: 7, count: 4, reason: "too large".into() };
        let told = tell(&Record::Gap(gap, Timestamp::from_micros(5_000)), "x");
        assert_eq!((&told["class_uid"], &told["type_uid"], &told["time"]), (&json!(0), &json!(99), &json!(5)));
        assert_eq!(told["unmapped"]["gap"], json!({ "count": 4, "from": 3, "to": 7, "reason": "too large" }));
        assert_eq!(told["metadata"]["event_code"], "keyward.gap");
    }
}
