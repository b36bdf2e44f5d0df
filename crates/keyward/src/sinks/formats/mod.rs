//! The words in which records are told: Keyward's own, the Elastic Common Schema, or OCSF. Pure: a record becomes one JSON object, of
//! one line.

mod ecs;
mod ocsf;
mod own;

use serde_json::{Map, Value};

use super::record::Record;
use crate::config::SinkFormat;

/// Tells a record; `log` is the name of the book (the origin of its checkpoints).
pub fn tell(record: &Record, format: SinkFormat, log: &str) -> Value {
    match format {
        SinkFormat::Ecs => ecs::tell(record, log),
        SinkFormat::Ocsf => ocsf::tell(record, log),
        SinkFormat::Keyward => own::tell(record, log),
    }
}

/// Takes out what is null or empty, however deep: an absent or erased field is not sent. Values within `details` stay as they are.
fn without_blanks(value: Value) -> Value {
    let Value::Object(fields) = value else { return value };
    let kept = fields.into_iter().map(|(name, value)| match name.as_str() {
        "details" => (name, value),
        _ => (name, without_blanks(value)),
    });
    let is_blank = |value: &Value| {
        value.is_null() || value.as_str().is_some_and(str::is_empty) || value.as_object().is_some_and(Map::is_empty)
    };
    Value::Object(kept.filter(|(_, value)| !is_blank(value)).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use keyward_core::id::Id;
    use keyward_core::time::Timestamp;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::audit::EventRow;
    use crate::db::Json;

    /// An event to tell.
    pub fn event(event_type: &str, action: &str, resource_type: &str, success: bool) -> EventRow {
        EventRow {
            sequence: 41,
            id: Id::from_uuid(Uuid::from_u128(7)),
            event_type: event_type.into(),
            action: action.into(),
            actor_type: "user".into(),
            actor_id: "u-1".into(),
            actor_name: Some("Maria Weiß".into()),
            resource_type: resource_type.into(),
            resource_id: "r-1".into(),
            resource_name: None,
            success,
            error_message: (!success).then(|| "wrong \"password\"".into()),
            details: Json(json!({ "old": null, "n": 1 })),
            ip_address: Some("192.0.2.7".into()),
            user_agent: Some("curl/8".into()),
            organization_id: Some(Id::from_uuid(Uuid::from_u128(9))),
            request_id: Some("req_1".into()),
            occurred_at: Timestamp::from_micros(1_795_176_000_000_001),
            logged_at: Timestamp::from_micros(1_795_176_000_500_000),
            actor_seal: Vec::new(),
            object_seal: Vec::new(),
        }
    }

    #[test]
    fn what_was_erased_is_absent() {
        let mut row = event("KEY", "key_created", "key", true);
        (row.actor_id, row.actor_name, row.ip_address) = (String::new(), None, None);
        let record = Record::Event(Box::new(row));
        let told = tell(&record, SinkFormat::Ecs, "x");
        assert_eq!((told.get("user"), told.get("source")), (None, None), "{told}");
        let told = tell(&record, SinkFormat::Ocsf, "x");
        assert_eq!((told["actor"]["user"].get("uid"), told.get("src_endpoint")), (None, None), "{told}");
    }

    #[test]
    fn every_format_carries_id_and_sequence_and_no_blanks() {
        let record = Record::Event(Box::new(event("KEY", "key_created", "key", true)));
        for (format, id, sequence) in [
            (SinkFormat::Ecs, "/event/id", "/event/sequence"),
            (SinkFormat::Ocsf, "/metadata/uid", "/metadata/sequence"),
            (SinkFormat::Keyward, "/id", "/sequence"),
        ] {
            let told = tell(&record, format, "example.com/audit");
            assert_eq!(told.pointer(id), Some(&json!(record.id())), "{told}");
            assert_eq!(told.pointer(sequence), Some(&json!(41)), "{told}");
            assert!(!told.to_string().contains('\n') && !told.to_string().contains("error"), "{told}");
        }
    }
}
