//! Events found by what their details contain: the same answers from PostgreSQL's own operator and index, and on SQLite from
//! keyward-core and from the terms, before and after details have them.

use keyward::audit::EventFilter;
use keyward::context::Context;
use keyward::jobs::JobKind;
use keyward_core::contained::contains;
use serde_json::{Value, json};

use crate::events::{message, tail};
use crate::jobs::{ended, start};
use crate::support::{Answer, Node, on_both};

/// What details contain, as keyward-core's own test has it.
const CASES: &str = include_str!("../../../keyward-core/src/contained_cases.json");
/// Events of a segment of terms.
const SEGMENT: usize = 32_768;

fn event(action: &str, details: &Value) -> Value {
    json!({
        "event_type": "DATA", "action": action, "actor": { "type": "user", "id": "u-1" },
        "resource": { "type": "row", "id": action }, "success": true, "details": details,
    })
}

async fn send(node: &Node, events: &[Value]) {
    for some in events.chunks(1_000) {
        let sent = node.post("/v1/audit-events", json!({ "events": some })).await;
        assert_eq!(sent.status, 201, "{sent:?}");
    }
}

/// What the daily upkeep does; on SQLite, every event has its terms then.
async fn upkeep(node: &Node) -> Value {
    let done = ended(node, &start(node, JobKind::Partitions, &[]).await).await;
    assert_eq!(done["status"], "succeeded", "{done}");
    done["result"].clone()
}

async fn search(node: &Node, details: &Value, query: &[(&str, &str)]) -> Answer {
    search_text(node, &details.to_string(), query).await
}

async fn search_text(node: &Node, details: &str, query: &[(&str, &str)]) -> Answer {
    let address = "http://keyward/v1/audit-events";
    let mut url = reqwest::Url::parse_with_params(address, [("details", details)]).unwrap();
    url.query_pairs_mut().extend_pairs(query);
    node.get(&format!("{}?{}", url.path(), url.query().unwrap())).await
}

fn actions(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["action"].as_str().unwrap().to_owned()).collect()
}

/// All pages, newest first.
async fn found(node: &Node, details: &Value, query: &[(&str, &str)]) -> Vec<String> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let place: Vec<(&str, &str)> = cursor.iter().map(|cursor: &String| ("cursor", cursor.as_str())).collect();
        let page = search(node, details, &[query, &place].concat()).await;
        assert_eq!(page.status, 200, "{details}: {page:?}");
        all.extend(actions(&page.json));
        match page.json["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => return all,
        }
    }
}

/// Oldest first, a few at a time.
async fn followed(node: &Node, details: &Value) -> Vec<String> {
    let (context, filter) =
        (Context::system("test"), EventFilter { details: Some(details.clone()), ..EventFilter::default() });
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        let rows = node.app.keyward.audit.list_from(&context, None, &filter, from, 7).await.unwrap();
        let Some(last) = rows.last() else { return all };
        from = last.sequence + 1;
        all.extend(rows.into_iter().map(|row| row.action));
    }
}

on_both! {
    async fn details_contain_what_postgresql_says_they_do(node: Node) {
        let cases: Vec<(Value, Vec<(Value, bool)>)> = serde_json::from_str(CASES).unwrap();
        let events: Vec<Value> = cases.iter().zip(0..).map(|((details, _), number)| event(&format!("case-{number}"), details)).collect();
        send(&node, &events).await;
        for round in ["before", "after"] {
            for (number, (wanted, expected)) in cases.iter().zip(0..).flat_map(|((_, asked), number)| asked.iter().map(move |one| (number, one))) {
                let seen = found(&node, wanted, &[("event_type", "DATA")]).await;
                assert_eq!(seen.contains(&format!("case-{number}")), *expected, "{round}: {wanted} in case {number}");
                let mut all: Vec<String> = cases.iter().zip(0..).filter(|((details, _), _)| contains(details, wanted)).map(|(_, number)| format!("case-{number}")).collect();
                all.reverse();
                assert_eq!(seen, all, "{round}: {wanted}");
            }
            upkeep(&node).await;
        }
    }

    async fn pages_go_on_where_terms_end(node: Node) {
        let details = |number: usize| json!({ "rare": number / 10, "kind": (["x", "y"][number % 2]), "same": true, "list": [{ "a": number % 5, "b": 1 }, { "a": 7, "b": number }] });
        let events = |range: std::ops::Range<usize>| range.map(|number| event(&format!("e-{number}"), &details(number))).collect::<Vec<_>>();
        send(&node, &events(0..900)).await;
        upkeep(&node).await;
        send(&node, &events(900..1_300)).await;
        for (wanted, query) in [
            (json!({ "rare": 3 }), vec![]), (json!({ "rare": 89 }), vec![("limit", "3")]), (json!({ "rare": 95, "kind": "x" }), vec![("limit", "2")]),
            (json!({ "kind": "y" }), vec![("limit", "200")]), (json!({ "same": true }), vec![]), (json!({ "rare": 130 }), vec![]),
            (json!({ "kind": "y", "same": true }), vec![("action", "e-901")]), (json!({ "same": true }), vec![("resource", "e-31")]),
            (json!({ "rare": 3, "same": false }), vec![]), (json!({ "list": [{ "b": 640 }] }), vec![]), (json!({ "list": [] }), vec![("limit", "200")]),
            // Every event has both terms, one has them in one place.
            (json!({ "list": [{ "a": 7, "b": 1 }] }), vec![]), (json!({ "list": [{ "a": 4, "b": 640 }] }), vec![]), (json!({ "list": [{ "a": 0, "b": 1 }] }), vec![("limit", "7")]),
            (json!({ "same": true }), vec![("from", "2026-11-20T12:00:01Z")]), (json!({ "rare": 3 }), vec![("to", "2026-11-20T12:00:00Z")]), (json!({ "rare": 3 }), vec![("from", "2026-11-20T11:00:00Z"), ("to", "2026-11-20T13:00:00Z")]),
        ] {
            let named = |name: &str| query.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
            let meant = |number: &usize| contains(&details(*number), &wanted)
                && [named("action"), named("resource")].into_iter().flatten().all(|name| name == format!("e-{number}"))
                && named("from").is_none_or(|from| from <= "2026-11-20T12:00:00Z") && named("to").is_none_or(|to| to > "2026-11-20T12:00:00Z");
            let expected: Vec<String> = (0..1_300).filter(meant).map(|number| format!("e-{number}")).collect();
            let mut seen = found(&node, &wanted, &query).await;
            seen.reverse();
            assert_eq!(seen, expected, "{wanted} {query:?}");
            if query.iter().all(|(name, _)| *name == "limit") {
                assert_eq!(followed(&node, &wanted).await, expected, "{wanted}, followed");
            }
        }
    }

    async fn who_watches_for_details_is_told_as_they_come(node: Node) {
        send(&node, &[event("before", &json!({ "tags": ["a", "b"] }))]).await;
        upkeep(&node).await;
        let mut socket = tail(&node, "?details=%7B%22tags%22:%5B%22b%22%5D%7D").await;
        send(&node, &[event("no", &json!({ "tags": ["a"] })), event("yes", &json!({ "tags": ["a", "b"] })), event("no", &json!({ "tags": "b" }))]).await;
        assert_eq!(message(&mut socket).await["event"]["action"], "yes");
        upkeep(&node).await;
        send(&node, &[event("also", &json!({ "tags": ["b"] }))]).await;
        assert_eq!(message(&mut socket).await["event"]["action"], "also");
    }

    async fn nothing_is_left_of_what_was_erased(node: Node) {
        let events: Vec<Value> = (0..20).map(|number| event(&format!("e-{number}"), &json!({ "mail": format!("p{number}@example.com") }))).collect();
        send(&node, &events).await;
        upkeep(&node).await;
        let terms = async || match node.place.database_url() {
            None => node.tell("SELECT count(*) AS value FROM audit_detail_term").await,
            Some(_) => 0,
        };
        let before = terms().await;
        let (system, organization) = (Context::system("test"), node.organization.parse().unwrap());
        let erased = node.app.keyward.audit.erase(&system, organization, "e-7").await.unwrap();
        assert_eq!(erased.as_resource, 1);
        let after = terms().await;
        assert!(node.place.database_url().is_some() || after == before - 1, "{before} {after}");
        assert_eq!(found(&node, &json!({ "mail": "p7@example.com" }), &[]).await, [""; 0]);
        assert_eq!(found(&node, &json!({ "mail": "p8@example.com" }), &[]).await, ["e-8"]);
        // What has no terms yet gets none of what was erased.
        send(&node, &[event("late", &json!({ "mail": "late@example.com" }))]).await;
        node.app.keyward.audit.erase(&system, organization, "late").await.unwrap();
        upkeep(&node).await;
        assert_eq!(found(&node, &json!({ "mail": "late@example.com" }), &[]).await, [""; 0]);
    }

    async fn what_no_details_can_be_is_not_looked_for(node: Node) {
        for wrong in [r#"{"a":"b\u0000"}"#, r#"{"a\u0000":1}"#, r#"{"a":1e999}"#, r#"{"a":1,"a":2}"#, r#"{"a":1} {}"#, "[1]", "1", ""] {
            let refused = search_text(&node, wrong, &[]).await;
            assert_eq!((refused.status, refused.code()), (400, "malformed_request"), "{wrong}: {refused:?}");
        }
    }
}

/// SQLite's index is what answers, it goes over from one segment to the next, and it goes with the events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terms_are_what_is_searched_and_leave_with_their_events() {
    let node = Node::start_with(crate::support::Backend::Sqlite, |layers| {
        layers.flag("maintenance.retention_months", 3);
    })
    .await;
    let events: Vec<Value> =
        (0..SEGMENT + 500).map(|number| event("old", &json!({ "group": number / 100, "n": number }))).collect();
    send(&node, &events).await;
    let checkpoint = async || assert_eq!(node.get("/v1/audit-log/checkpoint").await.status, 200);
    checkpoint().await;
    // The node does some of it by itself.
    upkeep(&node).await;
    let indexed = node.tell("SELECT sum(events) AS value FROM audit_detail_segment").await;
    assert!(indexed >= events.len() as i64, "{indexed}");
    let of_first = "SELECT count(*) AS value FROM audit_detail_term WHERE segment = 0";
    let before = node.tell(of_first).await;
    let again = upkeep(&node).await;
    assert!(again["indexed_events"].as_i64().unwrap() < 10, "only what came since: {again}");
    assert_eq!(node.tell(of_first).await, before, "nothing is indexed twice");
    let terms = "SELECT count(*) AS value FROM audit_detail_term";
    let segments = "SELECT count(*) AS value FROM audit_detail_segment";
    assert!(node.tell(terms).await >= 2 * events.len() as i64);
    assert_eq!(node.tell(segments).await, 2);
    for group in [0, 327, 328, 332] {
        let seen = found(&node, &json!({ "group": group }), &[("limit", "30")]).await;
        assert_eq!(seen.len(), if group == 332 { 68 } else { 100 }, "group {group}");
    }
    // Without its terms nothing of a rare value is found: they are what is searched.
    let rare = json!({ "n": 40 });
    node.tamper("CREATE TABLE kept AS SELECT * FROM audit_detail_term; DELETE FROM audit_detail_term").await;
    assert_eq!(found(&node, &rare, &[]).await, [""; 0]);
    node.tamper("INSERT INTO audit_detail_term SELECT * FROM kept; DROP TABLE kept").await;
    assert_eq!(found(&node, &rare, &[]).await, ["old"]);
    // A hundred days later the old ones leave.
    node.clock.advance_seconds(100 * 86_400);
    send(&node, &[event("new", &json!({ "group": 0, "n": 40 }))]).await;
    checkpoint().await;
    upkeep(&node).await;
    assert_eq!(node.tell("SELECT count(*) AS value FROM audit_event WHERE action = 'old'").await, 0);
    assert_eq!(found(&node, &rare, &[]).await, ["new"]);
    let kept_from = node.tell("SELECT kept_from AS value FROM audit_head").await;
    let left = format!("{terms} WHERE segment * {SEGMENT} + place < {kept_from}");
    assert_eq!(node.tell(&left).await, 0, "terms leave with their events");
    assert_eq!(node.tell(segments).await, 1);
}
