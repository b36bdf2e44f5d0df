//! Events that applications send to the book, and how they are found again.

use std::collections::BTreeMap;

use futures_util::{SinkExt, StreamExt};
use http::Method;
use keyward_core::access::Role;
use serde_json::{Value, json};

use crate::security::member;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::{Answer, Node, on_both};

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
        let theirs = node.call_as(&stranger, Method::POST, "/v1/audit-events", Some(foreign)).await;
        assert_eq!(theirs.status, 201, "{theirs:?}");
        assert!(theirs.json["items"][0]["sequence"].as_i64().unwrap() > first, "an id is one organization's own matter");
        // Keyward's own events stand in the same order.
        node.new_key(json!({})).await;
        let size = node.app.keyward.audit.sequence().await.unwrap();
        assert_eq!(node.tell("SELECT count(*) AS value FROM audit_event").await, size);
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

    async fn a_senders_own_id_and_words_are_taken(node: Node) {
        let own = event("upload", json!({ "id": "invoice-7", "event_type": "billing.invoice", "action": "Invoice:sent" }));
        let first = node.post("/v1/audit-events", own.clone()).await;
        assert_eq!(first.status, 201, "{first:?}");
        let again = node.post("/v1/audit-events", json!({ "events": [own] })).await.json;
        assert_eq!(again["items"][0], first.json["items"][0], "kept once");
        let found = node.get("/v1/audit-events/invoice-7").await.json;
        assert_eq!((&found["id"], &found["event_type"]), (&first.json["items"][0]["id"], &json!("billing.invoice")));
        assert_eq!(node.get("/v1/audit-events/invoice-7/proof").await.json["event_id"], found["id"]);
        assert_eq!(node.get("/v1/audit-events/invoice-8").await.status, 404);
        let alone = node.post("/v1/audit-events", event("upload", json!({ "action": "" }))).await;
        assert_eq!((alone.status, alone.pointer()), (422, "/action"), "of one event, the fault is at the top");
    }

    async fn what_no_event_can_be_is_refused_and_nothing_of_it_kept(node: Node) {
        let with = |fields: Value| json!({ "events": [event("upload", json!({})), event("upload", fields)] });
        for (fields, pointer) in [
            (json!({ "event_type": "file access" }), "event_type"), (json!({ "action": "" }), "action"), (json!({ "ip_address": "999" }), "ip_address"),
            (json!({ "actor": { "type": "robot", "id": "x" } }), "actor/type"), (json!({ "occurred_at": "2026-11-20T13:00:00Z" }), "occurred_at"),
            (json!({ "details": { "sha256": "zz" } }), "details/sha256"), (json!({ "details": { "x": "y".repeat(17_000) } }), "details"),
            (json!({ "id": "a\nb" }), "id"), (json!({ "colour": 1 }), "colour"), (json!({ "organization_id": "org_01k00000000000000000000000" }), "organization_id"),
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
}

/// The socket, once it tells that it is live.
pub async fn tail(
    node: &Node,
    query: &str,
) -> tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>> {
    let mut request =
        format!("{}/v1/audit-events/live{query}", node.url.replace("http", "ws")).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", node.service_key).parse().unwrap());
    let (mut socket, _) = connect_async(request).await.expect("it opens");
    assert_eq!(message(&mut socket).await["status"], "live");
    socket
}

pub async fn message<S>(socket: &mut tokio_tungstenite::WebSocketStream<S>) -> Value
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let next = tokio::time::timeout(std::time::Duration::from_secs(20), socket.next()).await.expect("in time");
    serde_json::from_str(next.expect("open").expect("a message").to_text().unwrap()).expect("JSON")
}

on_both! {
    async fn new_events_are_watched_as_they_come(node: Node) {
        node.post("/v1/audit-events", event("upload", json!({}))).await;
        let mut all = tail(&node, "").await;
        let mut deletes = tail(&node, "?event_type=FILE_ACCESS&action=delete").await;
        let events: Vec<Value> = ["upload", "delete", "rename", "delete"].iter().map(|action| event(action, json!({}))).collect();
        node.post("/v1/audit-events", json!({ "events": events })).await;
        let mut seen = Vec::new();
        for _ in 0..4 {
            let told = message(&mut all).await;
            assert_eq!(told["type"], "event", "{told}");
            seen.push((told["event"]["sequence"].as_i64().unwrap(), told["event"]["action"].as_str().unwrap().to_owned()));
        }
        assert_eq!(seen.iter().map(|(_, action)| action.as_str()).collect::<Vec<_>>(), ["upload", "delete", "rename", "delete"]);
        assert!(seen.is_sorted());
        for expected in [seen[1].0, seen[3].0] {
            let told = message(&mut deletes).await;
            assert_eq!((told["event"]["sequence"].as_i64(), &told["event"]["action"]), (Some(expected), &json!("delete")));
        }
        // Keyward's own events come as well.
        node.new_key(json!({})).await;
        assert_eq!(message(&mut all).await["event"]["action"], "key_created");
        all.send(Message::Text(json!({ "type": "ping" }).to_string().into())).await.unwrap();
        assert_eq!(message(&mut all).await["type"], "pong");
        assert_eq!(node.get("/v1/audit-events/live").await.status, 400, "not a WebSocket");
        assert_eq!(node.get("/v1/audit-events/live?limit=5").await.status, 400);
        let unknown = Answer::of(node.bare(Method::GET, "/v1/audit-events/live")).await;
        assert_eq!(unknown.status, 401);
    }

    async fn reports_are_what_a_recount_tells(node: Node) {
        let mut expected: BTreeMap<(String, String, String), (i64, i64)> = BTreeMap::new();
        for day in 0..3 {
            let send: Vec<Value> = (0..200).map(|number: i64| {
                let (kind, action) = if number % 3 == 0 { ("DATA", "read") } else { ("FILE_ACCESS", "upload") };
                let failed = number % 7 == 0;
                let date = format!("2026-11-{}", 20 + day);
                let sums = expected.entry((date, kind.to_owned(), action.to_owned())).or_default();
                *sums = (sums.0 + 1, sums.1 + i64::from(failed));
                event(action, json!({ "event_type": kind, "success": !failed, "details": {}, "actor": { "type": "user", "id": format!("u-{}", number % (40 + day)) } }))
            }).collect();
            assert_eq!(node.post("/v1/audit-events", json!({ "events": send })).await.status, 201);
            node.clock.advance_seconds(86_400);
        }
        let daily = node.get("/v1/audit-log/reports/daily?month=2026-11").await.json;
        assert_eq!(daily["items"].as_array().unwrap().len(), 30);
        let mut told = BTreeMap::new();
        for day in daily["items"].as_array().unwrap() {
            for count in day["by_type"].as_array().unwrap() {
                let name = (day["date"].as_str().unwrap().to_owned(), count["event_type"].as_str().unwrap().to_owned(), count["action"].as_str().unwrap().to_owned());
                told.insert(name, (count["events"].as_i64().unwrap(), count["failures"].as_i64().unwrap()));
            }
        }
        told.retain(|(_, kind, _), _| kind == "DATA" || kind == "FILE_ACCESS");
        assert_eq!(told, expected);
        let monthly = node.get("/v1/audit-log/reports/monthly?month=2026-11").await.json;
        let total = node.tell("SELECT count(*) AS value FROM audit_event WHERE organization_id IS NOT NULL").await;
        let failed = node.tell("SELECT count(*) AS value FROM audit_event WHERE organization_id IS NOT NULL AND NOT success").await;
        assert_eq!((monthly["events"].as_i64(), monthly["failures"].as_i64()), (Some(total), Some(failed)), "{monthly}");
        let actors = node.tell("SELECT count(DISTINCT actor_id) AS value FROM audit_event WHERE organization_id IS NOT NULL").await;
        assert_eq!(monthly["distinct_actors"].as_i64(), Some(actors), "few are told exactly");
        let top = &monthly["top_actors"][0];
        let most = node.tell("SELECT max(events) AS value FROM (SELECT count(*) AS events FROM audit_event WHERE organization_id IS NOT NULL GROUP BY actor_type, actor_id) c").await;
        assert_eq!(top["events"].as_i64(), Some(most), "{monthly}");
        assert_eq!(node.get("/v1/audit-log/reports/monthly?month=2026-10").await.json["events"], 0);
        assert_eq!(node.get("/v1/audit-log/reports/monthly?month=autumn").await.status, 400);
        // Who sees only what they did is told of that alone.
        let (user, developer) = member(&node, "d@example.com", &node.organization, Role::Developer).await;
        let own = node.call_as(&developer, Method::GET, "/v1/audit-log/reports/monthly?month=2026-11", None).await.json;
        let done = node.tell(&format!("SELECT count(*) AS value FROM audit_event WHERE actor_id = '{user}'")).await;
        assert_eq!(own["events"].as_i64(), Some(done), "{own}");
    }

    async fn l_04_without_the_book_nothing_is_changed(node: Node) {
        let broken = match node.place.database_url() {
            Some(_) => "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no space left'; END $$;
                CREATE TRIGGER full_disk BEFORE INSERT ON audit_outbox FOR EACH ROW EXECUTE FUNCTION full_disk()",
            None => "CREATE TRIGGER full_disk BEFORE INSERT ON audit_outbox BEGIN SELECT raise(ABORT, 'no space left'); END",
        };
        let key = node.new_key(json!({})).await;
        let id = key["id"].as_str().unwrap();
        node.tamper(broken).await;
        let refused = node.post("/v1/api-keys", json!({ "name": "another" })).await;
        assert_eq!((refused.status, refused.code()), (503, "not_ready"), "{refused:?}");
        assert!(refused.headers.contains_key("retry-after"));
        assert_eq!(node.post(&format!("/v1/api-keys/{id}/revoke"), json!({})).await.status, 503);
        assert_eq!(node.code_of(key["key"].as_str().unwrap()).await, "valid", "verification goes on");
        assert_eq!(node.get("/v1/api-keys").await.json["items"].as_array().unwrap().len(), 2, "reading goes on");
        node.tamper(if node.place.database_url().is_some() { "DROP TRIGGER full_disk ON audit_outbox" } else { "DROP TRIGGER full_disk" }).await;
        assert_eq!(node.post(&format!("/v1/api-keys/{id}/revoke"), json!({})).await.status, 200);
    }
}
