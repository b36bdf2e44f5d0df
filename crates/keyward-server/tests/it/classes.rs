//! Verifications in the book: what is noted of them, what becomes of those that find no room, and that the hot path never waits.

use std::time::Duration;

use http::Method;
use keyward::config::Layers;
use keyward_core::key::{Style, generate};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};

use crate::nodes::database_port;
use crate::support::proxy::Proxy;
use crate::support::{Answer, Backend, Node, on_both};

fn noting(policies: &[(&str, &str)], queue: i64) -> impl Fn(&mut Layers) {
    move |layers| {
        for (class, policy) in policies {
            layers.flag(&format!("audit_classes.{class}"), *policy);
        }
        layers.flag("audit_classes.queue_events", queue);
    }
}

/// Keeps every event out of the book, as a full disk does.
async fn fill_the_disk(node: &Node) {
    let broken = match node.place.database_url() {
        Some(_) => {
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no space left'; END $$;
            CREATE TRIGGER full_disk BEFORE INSERT ON audit_event FOR EACH ROW EXECUTE FUNCTION full_disk()"
        }
        None => "CREATE TRIGGER full_disk BEFORE INSERT ON audit_event BEGIN SELECT raise(ABORT, 'no space left'); END",
    };
    node.tamper(broken).await;
}

async fn mend(node: &Node) {
    let postgres = node.place.database_url().is_some();
    node.tamper(if postgres { "DROP TRIGGER full_disk ON audit_event" } else { "DROP TRIGGER full_disk" }).await;
    node.app.keyward.flush().await.unwrap();
}

/// Events of an action, oldest first, as the instance's own auditor sees them.
async fn noted(node: &Node, action: &str) -> Vec<Value> {
    let answer = node.get(&format!("/v1/audit-log/instance-events?action={action}&limit=200")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let mut events = answer.json["items"].as_array().unwrap().clone();
    events.reverse();
    events
}

async fn metric(node: &Node, line: &str) -> Option<u64> {
    let page = Answer::of(node.bare(Method::GET, "/metrics")).await.text;
    page.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
}

on_both! {
    settings noting(&[("verify_refused", "open"), ("limit_denied", "open"), ("verify", "open")], 1_000);

    async fn verifications_are_noted_with_reason_key_and_address(node: Node) {
        let key = node.new_key(json!({ "scopes": ["a:b"], "limits": [{ "name": "requests", "limit": 2, "window_seconds": 60 }] })).await;
        let (id, secret) = (&key["id"], key["key"].as_str().unwrap());
        let unknown = generate("kw", "live", Style::Checksummed);
        for (body, code) in [
            (json!({ "key": secret, "scopes": ["c:d"], "ip": "203.0.113.7" }), "insufficient_scope"),
            (json!({ "key": format!("{secret}x"), "ip": "2001:db8::7" }), "malformed"),
            (json!({ "key": unknown.expose() }), "not_found"),
            (json!({ "key": secret, "ip": "203.0.113.8" }), "valid"),
            (json!({ "key": secret, "dry_run": true }), "valid"),
            (json!({ "key": secret }), "valid"),
            (json!({ "key": secret }), "rate_limited"),
        ] {
            assert_eq!(node.verify(body).await.code(), code);
            node.clock.advance_seconds(1);
        }
        assert_eq!(node.forward_auth(&format!("{secret}y")).await.status, 401);
        node.app.keyward.flush().await.unwrap();
        let refused = noted(&node, "verify_refused").await;
        let told = |event: &Value| (event["details"]["code"].clone(), event["ip_address"].clone(), event["resource"]["id"].clone(), event["actor"]["type"].clone());
        let expected = [
            (json!("insufficient_scope"), json!("203.0.113.7"), id.clone(), json!("key")),
            (json!("malformed"), json!("2001:db8::7"), json!("unknown"), json!("external")),
            (json!("not_found"), json!(null), json!("unknown"), json!("external")),
            (json!("malformed"), json!("127.0.0.1"), json!("unknown"), json!("external")),
        ];
        assert_eq!(refused.iter().map(told).collect::<Vec<_>>(), expected);
        assert_eq!((&refused[0]["success"], &refused[0]["event_type"], &refused[0]["organization_id"]), (&json!(false), &json!("SECURITY"), &json!(node.organization)));
        assert_eq!((&refused[0]["occurred_at"], &refused[1]["occurred_at"]), (&json!("2026-11-20T12:00:00Z"), &json!("2026-11-20T12:00:01Z")));
        assert_eq!((&refused[0]["actor"]["id"], &refused[1]["organization_id"]), (id, &json!(null)));
        assert!(refused[0]["error_message"].as_str().unwrap().contains("scopes do not cover"), "{}", refused[0]);
        assert!(refused[0]["details"]["secret_id"].as_str().unwrap().starts_with("sec_"), "{}", refused[0]);
        let denied = noted(&node, "limit_denied").await;
        assert_eq!(denied.len(), 1);
        assert_eq!((&denied[0]["details"]["code"], &denied[0]["details"]["limit"]), (&json!("rate_limited"), &json!({ "name": "requests", "limit": 2, "window_seconds": 60 })));
        let passed = noted(&node, "verified").await;
        assert_eq!(passed.len(), 2, "a dry run leaves nothing");
        assert_eq!((&passed[0]["ip_address"], &passed[0]["success"], &passed[0]["error_message"]), (&json!("203.0.113.8"), &json!(true), &json!(null)));
        // In its own organization's list stands what was done with its keys, and nothing of strangers.
        let own = node.get("/v1/audit-events?action=verify_refused").await.json;
        assert_eq!((own["items"].as_array().unwrap().len(), &own["items"][0]["id"]), (1, &refused[0]["id"]));
        let stranger = crate::security::member(&node, "b@example.com", &node.new_organization("other", "pro").await, keyward_core::access::Role::Owner).await.1;
        assert_eq!(node.call_as(&stranger, Method::GET, "/v1/audit-log/instance-events", None).await.status, 403);
        let whole = node.get("/v1/audit-log/instance-events?limit=200").await.text;
        for presented in [secret, unknown.expose(), &secret[..secret.len() - 1]] {
            assert!(!whole.contains(presented) && !whole.contains(&presented[presented.len() - 20..]), "nothing secret is kept");
        }
    }
}

on_both! {
    async fn classes_are_off_unless_they_are_set(node: Node) {
        let key = node.new_key(json!({})).await;
        assert_eq!(node.code_of(key["key"].as_str().unwrap()).await, "valid");
        assert_eq!(node.code_of("nonsense").await, "malformed");
        node.app.keyward.flush().await.unwrap();
        for action in ["verify_refused", "limit_denied", "verified", "audit_gap"] {
            assert_eq!(noted(&node, action).await, [] as [Value; 0]);
        }
    }
}

on_both! {
    settings noting(&[("verify_refused", "open"), ("limit_denied", "open")], 3);

    async fn what_finds_no_room_is_one_gap_with_the_right_count(node: Node) {
        let key = node.new_key(json!({ "limits": [{ "name": "requests", "limit": 1, "window_seconds": 60 }] })).await;
        let secret = key["key"].as_str().unwrap();
        fill_the_disk(&node).await;
        for _ in 0..10 {
            assert_eq!(node.code_of("nonsense").await, "malformed", "an open class never keeps an answer back");
            node.clock.advance_seconds(1);
        }
        assert_eq!((node.code_of(secret).await, node.code_of(secret).await), ("valid".to_owned(), "rate_limited".to_owned()));
        assert_eq!(metric(&node, r#"keyward_lost_events_total{class="verify_refused"}"#).await, Some(7));
        assert_eq!(metric(&node, r#"keyward_lost_events_total{class="limit_denied"}"#).await, Some(0), "each class has room of its own");
        assert!(node.app.keyward.flush().await.is_err(), "the book still takes nothing");
        mend(&node).await;
        assert_eq!((noted(&node, "verify_refused").await.len(), noted(&node, "limit_denied").await.len()), (3, 1));
        let gaps = noted(&node, "audit_gap").await;
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        let expected = json!({ "class": "verify_refused", "count": 7, "from": "2026-11-20T12:00:03Z", "to": "2026-11-20T12:00:09Z" });
        assert_eq!((&gaps[0]["details"], &gaps[0]["success"], &gaps[0]["event_type"]), (&expected, &json!(false), &json!("SYSTEM")));
        // It is a leaf as every event is.
        assert!(gaps[0]["sequence"].is_i64(), "{}", gaps[0]);
        assert_eq!(node.get(&format!("/v1/audit-events/{}/proof", gaps[0]["id"].as_str().unwrap())).await.status, 200);
        assert_eq!(node.code_of("nonsense").await, "malformed");
        node.app.keyward.flush().await.unwrap();
        assert_eq!((noted(&node, "verify_refused").await.len(), noted(&node, "audit_gap").await.len()), (4, 1));
    }
}

on_both! {
    settings noting(&[("verify_refused", "closed"), ("limit_denied", "closed")], 2);

    async fn a_closed_class_is_answered_503_while_there_is_no_room(node: Node) {
        let key = node.new_key(json!({ "scopes": ["a:b"], "limits": [{ "name": "requests", "limit": 2, "window_seconds": 60 }] })).await;
        let secret = key["key"].as_str().unwrap();
        let refused = json!({ "key": secret, "scopes": ["c:d"] });
        fill_the_disk(&node).await;
        for code in ["insufficient_scope", "insufficient_scope"] {
            assert_eq!(node.verify(refused.clone()).await.code(), code);
        }
        let held = node.verify(refused.clone()).await;
        assert_eq!((held.status, held.code(), held.header("retry-after")), (503, "not_ready", "1"), "{held:?}");
        assert!(held.json["detail"].as_str().unwrap().contains("audit log cannot be written"), "{held:?}");
        assert_eq!(node.forward_auth("nonsense").await.status, 503);
        assert_eq!(node.code_of(secret).await, "valid", "what passes is of another class");
        assert_eq!(node.verify(json!({ "key": secret, "scopes": ["c:d"], "dry_run": true })).await.code(), "insufficient_scope");
        assert_eq!(node.code_of(secret).await, "valid");
        for code in ["rate_limited", "rate_limited", "not_ready"] {
            assert_eq!(node.verify(json!({ "key": secret })).await.code(), code);
        }
        for (class, count) in [("verify_refused", 2), ("limit_denied", 1)] {
            assert_eq!(metric(&node, &format!("keyward_held_back_total{{class=\"{class}\"}}")).await, Some(count));
        }
        mend(&node).await;
        assert_eq!(node.verify(refused).await.code(), "insufficient_scope", "there is room again");
        node.app.keyward.flush().await.unwrap();
        assert_eq!((noted(&node, "verify_refused").await.len(), noted(&node, "limit_denied").await.len()), (3, 2), "each answer has its event");
        assert_eq!(noted(&node, "audit_gap").await, [] as [Value; 0]);
        let counted = node.get("/v1/usage/summary").await.json["verifications"]["by_code"].clone();
        assert_eq!(counted, json!({ "valid": 2, "insufficient_scope": 3, "rate_limited": 2 }), "what was not answered is not counted");
    }
}

on_both! {
    settings noting(&[("verify", "closed")], 2);

    async fn where_every_verification_must_be_noted_none_is_taken_without(node: Node) {
        let key = node.new_key(json!({ "limits": [{ "name": "requests", "limit": 5, "window_seconds": 60 }] })).await;
        let call = json!({ "key": key["key"] });
        fill_the_disk(&node).await;
        for code in ["valid", "valid", "not_ready", "not_ready", "not_ready"] {
            assert_eq!(node.verify(call.clone()).await.code(), code);
        }
        assert_eq!(node.code_of("nonsense").await, "malformed", "refusals are off");
        mend(&node).await;
        let answer = node.verify(call).await;
        assert_eq!((answer.code(), &answer.json["limits"][0]["remaining"]), ("valid", &json!(2)), "no limit was drawn on in vain: {answer:?}");
        node.app.keyward.flush().await.unwrap();
        assert_eq!(noted(&node, "verified").await.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_written_when_the_node_stops() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let node = Node::start_with(backend, |layers| {
            noting(&[("verify_refused", "open")], 1_000)(layers);
            layers.flag("verify.flush_millis", 600_000);
        })
        .await;
        for _ in 0..5 {
            assert_eq!(node.code_of("nonsense").await, "malformed");
        }
        let (place, written) =
            (node.place.clone(), "SELECT count(*) AS value FROM audit_event WHERE action = 'verify_refused'");
        node.stop().await;
        assert_eq!(place.tell(written).await, 5);
    }
}

/// A commit waits until the test lets go of its lock.
const HOLD_UP_COMMITS: &str = "CREATE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER hold_up AFTER UPDATE ON audit_head DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold_up()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_without_an_answer_is_not_written_twice() {
    let one = Node::start(Backend::Postgres).await;
    let proxy = Proxy::before(database_port(&one)).await;
    let two = one.join(one.place.through(proxy.port), |layers| {
        noting(&[("verify_refused", "open")], 1_000)(layers);
        layers.flag("verify.flush_millis", 600_000);
    });
    let two = two.await;
    for _ in 0..3 {
        assert_eq!(two.code_of("nonsense").await, "malformed");
    }
    // Numbers what waits, so that nothing of the first node's meets the lock.
    one.tell("SELECT count(*) AS value FROM audit_event").await;
    one.tamper(HOLD_UP_COMMITS).await;
    let mut holder = PgConnection::connect(one.place.database_url().unwrap()).await.unwrap();
    holder.execute("SELECT pg_advisory_lock(4711)").await.unwrap();
    let app = two.app.clone();
    let flushing = tokio::spawn(async move { app.keyward.flush().await });
    let held_up = "SELECT count(*) AS value FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted";
    let mut tries = tokio::time::interval(Duration::from_millis(10));
    while one.place.tell(held_up).await == 0 {
        tries.tick().await;
    }
    proxy.cut();
    assert!(flushing.await.unwrap().is_err(), "the answer never came");
    holder.execute("SELECT pg_advisory_unlock(4711)").await.unwrap();
    let written = "SELECT count(*) AS value FROM audit_event WHERE action = 'verify_refused'";
    while one.place.tell(written).await == 0 {
        tries.tick().await;
    }
    proxy.mend();
    two.app.keyward.flush().await.unwrap();
    assert_eq!(one.place.tell(written).await, 3);
}
