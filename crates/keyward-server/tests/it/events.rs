//! Events that applications send to the book, and how they are found again.

use http::Method;
use keyward_core::access::Role;
use serde_json::{Value, json};

use crate::security::member;
use crate::support::{Node, on_both};

fn event(action: &str, fields: Value) -> Value {
    let mut event = json!({
        "event_type": "FILE_ACCESS", "action": action, "actor": { "type": "user", "id": "u-1", "name": "Maria Weiß" },
        "resource": { "type": "file", "id": "f-1", "name": "report.pdf" }, "success": true,
        "details": { "size_bytes": 12, "mime_type": "application/pdf", "tags": { "team": "a" } }, "ip_address": "192.0.2.7",
    });
    event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    event
}

async fn found(node: &Node, query: &str) -> Vec<String> {
    let answer = node.get(&format!("/v1/audit-events?event_type=FILE_ACCESS&{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {answer:?}");
    answer.json["items"].as_array().unwrap().iter().map(|item| item["action"].as_str().unwrap().to_owned()).collect()
}

on_both! {
    async fn events_are_kept_once_and_numbered(node: Node) {
        let one = node.post("/v1/audit-events", event("upload", json!({ "id": "aud_01k00000000000000000000001" }))).await;
        assert_eq!(one.status, 201, "{one:?}");
        let first = one.json["items"][0]["sequence"].as_i64().unwrap();
        let many: Vec<Value> = (0..1_000).map(|number| event("download", json!({ "resource": { "type": "file", "id": format!("f{number}") } }))).collect();
        let many = node.post("/v1/audit-events", json!({ "events": many })).await;
        let places: Vec<i64> = many.json["items"].as_array().unwrap().iter().map(|item| item["sequence"].as_i64().unwrap()).collect();
        assert!(places.is_sorted_by(|one, next| one < next) && places[0] > first, "in the order in which they came: {places:?}");
        assert!(many.json["checkpoint_size"].as_i64().unwrap() > places[999]);
        let again = node.post("/v1/audit-events", json!({ "events": [event("upload", json!({ "id": "aud_01k00000000000000000000001" }))] })).await;
        assert_eq!((again.status, &again.json["items"][0]["sequence"]), (201, &json!(first)));
        assert_eq!(node.tell("SELECT count(*) AS value FROM audit_event WHERE action = 'upload'").await, 1);
        // Another organization's id is nobody's business.
        let (_, stranger) = member(&node, "b@example.com", &node.new_organization("other", "pro").await, Role::Owner).await;
        let foreign = event("upload", json!({ "id": "aud_01k00000000000000000000001" }));
        assert_eq!(node.call_as(&stranger, Method::POST, "/v1/audit-events", Some(foreign)).await.code(), "already_taken");
        // Keyward's own events stand in the same order.
        node.new_key(json!({})).await;
        let size = node.app.keyward.audit.sequence().await.unwrap();
        assert_eq!(node.tell("SELECT count(*) AS value FROM audit_event").await, size);
        assert_eq!(node.tell("SELECT count(*) AS value FROM audit_leaf WHERE length(hash) = 32").await, size);
    }

    async fn events_are_found_by_every_field(node: Node) {
        let events = json!({ "events": [
            event("upload", json!({})), event("delete", json!({ "success": false, "error_message": "100% full_disk", "ip_address": "2001:db8::1" })),
            event("rename", json!({ "actor": { "type": "key", "id": "k-9" }, "details": { "old_path": "/a", "new_path": "/b", "n": [1, { "deep": true }] } })),
        ] });
        assert_eq!(node.post("/v1/audit-events", events).await.status, 201);
        for (query, actions) in [
            ("action=upload", vec!["upload"]), ("actor=k-9", vec!["rename"]), ("success=false", vec!["delete"]), ("ip_address=2001:db8::1", vec!["delete"]),
            ("q=MARIA", vec!["delete", "upload"]), ("q=full_disk", vec!["delete"]), ("q=100%25", vec!["delete"]), ("q=f_1", vec![]), ("q=k-9", vec!["rename"]),
            (r#"details={"tags":{"team":"a"}}"#, vec!["delete", "upload"]), (r#"details={"old_path":"/a"}"#, vec!["rename"]),
            (r#"details={"n":[1,{"deep":true}]}"#, vec!["rename"]), (r#"details={"size_bytes":13}"#, vec![]), (r#"details={"tags":{"team":null}}"#, vec![]),
            ("resource=f-1&success=true", vec!["rename", "upload"]), ("to=2026-11-20T12:00:00Z", vec![]),
        ] {
            let mut seen = found(&node, query).await;
            seen.sort();
            assert_eq!(seen, actions, "{query}");
        }
        assert_eq!(node.get("/v1/audit-events?details=[1]").await.status, 400);
    }

    async fn what_no_event_can_be_is_refused_and_nothing_of_it_kept(node: Node) {
        let with = |fields: Value| json!({ "events": [event("upload", json!({})), event("upload", fields)] });
        for (fields, pointer) in [
            (json!({ "event_type": "file access" }), "event_type"), (json!({ "action": "" }), "action"), (json!({ "ip_address": "999" }), "ip_address"),
            (json!({ "actor": { "type": "robot", "id": "x" } }), "actor/type"), (json!({ "occurred_at": "2026-11-20T13:00:00Z" }), "occurred_at"),
            (json!({ "details": { "sha256": "zz" } }), "details/sha256"), (json!({ "details": { "x": "y".repeat(17_000) } }), "details"),
            (json!({ "id": "nonsense" }), "id"), (json!({ "colour": 1 }), "colour"), (json!({ "organization_id": "org_01k00000000000000000000000" }), "organization_id"),
        ] {
            let refused = node.post("/v1/audit-events", with(fields.clone())).await;
            assert_eq!((refused.status, refused.pointer()), (422, format!("/events/1/{pointer}").as_str()), "{fields}");
        }
        assert_eq!(node.post("/v1/audit-events", json!({ "events": [] })).await.status, 422);
        assert_eq!(node.tell("SELECT count(*) AS value FROM audit_event WHERE event_type = 'FILE_ACCESS'").await, 0);
        let key = node.new_key(json!({})).await;
        let secret = key["key"].as_str().unwrap();
        let sent = event("upload", json!({ "error_message": format!("refused {secret}"), "details": { "password": "hunter2", "note": secret } }));
        assert_eq!(node.post("/v1/audit-events", sent).await.status, 201);
        let kept = node.get("/v1/audit-events?event_type=FILE_ACCESS").await.text;
        assert!(!kept.contains(secret) && !kept.contains("hunter2") && kept.contains("[redacted]"), "{kept}");
    }

    async fn l_05_what_was_altered_is_named(node: Node) {
        let events: Vec<Value> = (0..5).map(|number| event("upload", json!({ "details": { "size_bytes": number } }))).collect();
        let kept = node.post("/v1/audit-events", json!({ "events": events })).await.json;
        let (id, sequence) = (kept["items"][2]["id"].as_str().unwrap().to_owned(), kept["items"][2]["sequence"].as_i64().unwrap());
        let verify = async || {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_keyward"));
            match node.place.database_url() {
                Some(url) => command.args(["audit", "verify", "--database-url", url]),
                None => command.args(["audit", "verify", "--data-dir", node.place.folder().to_str().unwrap()]),
            };
            let output = tokio::task::spawn_blocking(move || command.output().expect("keyward runs")).await.unwrap();
            (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap().trim().to_owned())
        };
        let whole = verify().await;
        assert!(whole.0 == 0 && whole.1.starts_with("whole: "), "{whole:?}");
        let event = format!("(SELECT event_id FROM audit_leaf WHERE sequence = {sequence})");
        let change = |to: &str| format!("UPDATE audit_event SET action = '{to}' WHERE id = {event}");
        node.tamper(&change("erase")).await;
        assert_eq!(verify().await, (3, format!("not whole: event {sequence} ({id}) was altered")));
        node.tamper(&change("upload")).await;
        assert_eq!(verify().await.0, 0);
        node.tamper(&format!("DELETE FROM audit_event WHERE id = {event}")).await;
        assert_eq!(verify().await, (3, format!("not whole: event {sequence} ({id}) is missing")));
        node.tamper(&format!("DELETE FROM audit_leaf WHERE sequence = {sequence}")).await;
        assert_eq!(verify().await, (3, format!("not whole: number {sequence} is missing")));
    }
}
