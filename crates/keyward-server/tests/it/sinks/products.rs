//! Each product on its bad days: what it refuses, when it is busy, and when it does not know us.

use http::Method;
use keyward_core::access::Role;
use serde_json::{Value, json};

use super::{actions, health, once, send, size, to};
use crate::security::member;
use crate::support::receiver::{Product, Receiver, sequences};
use crate::support::{Backend, Node};

on_each! {
    async fn splunk_is_left_in_peace_for_as_long_as_it_asks(backend) {
        let receiver = Receiver::start(Product::Splunk).await;
        receiver.will_answer([(503, Some("30"), json!({ "text": "Server is busy", "code": 9 }).to_string())]);
        let node = Node::start_with(backend, to(&receiver, Product::Splunk, "")).await;
        send(&node, &["upload"]).await;
        receiver.asked(0).await;
        assert_eq!(receiver.lines(), Vec::<Value>::new());
        // The answer is written down a moment later.
        let mut told = health(&node).await;
        while told["failure_count"] == 0 {
            told = health(&node).await;
        }
        assert_eq!((&told["retry_at"], &told["failure_count"]), (&json!("2026-11-20T12:00:30Z"), &json!(1)), "{told}");
        assert!(told["last_error"].as_str().unwrap().contains("it answered 503"), "{told}");
        node.clock.advance_seconds(31);
        receiver.asked(1).await;
        let size = size(&node).await;
        let lines = receiver.get(&node, |lines| sequences(lines).len() as i64 >= size).await;
        assert_eq!(sequences(&lines), (0..size).collect::<Vec<_>>());
        let metrics = node.get("/metrics").await.text;
        assert!(metrics.contains("keyward_sink_failures_total{sink=\"siem\"} 1"), "{metrics}");
        assert!(metrics.contains("keyward_sink_lag_events{sink=\"siem\"}"), "{metrics}");
        assert!(metrics.contains("keyward_sink_delivered_total{sink=\"siem\"}"), "{metrics}");
    }

    async fn elasticsearch_has_each_event_once_and_is_told_of_gaps(backend) {
        let receiver = Receiver::start(Product::Elasticsearch).await;
        let busy = std::sync::atomic::AtomicBool::new(true);
        receiver.judges(move |line| match line["event"]["action"].as_str() {
            Some("rename") => 400,
            // Once.
            Some("move") if busy.swap(false, std::sync::atomic::Ordering::SeqCst) => 429,
            _ => 200,
        });
        receiver.will_answer([(502, None, "bad gateway".into()), (429, None, String::new())]);
        let node = Node::start_with(backend, to(&receiver, Product::Elasticsearch, "")).await;
        send(&node, &["upload", "rename", "rename", "download", "move", "delete"]).await;
        let lines = receiver.get(&node, |lines| actions(lines).contains(&"sink_gap")).await;
        let size = size(&node).await;
        // The first two renames are all that is missing, and nothing is there twice.
        let missing: Vec<i64> = (0..size).filter(|sequence| !sequences(&lines).contains(sequence)).collect();
        let gap = lines.iter().find(|line| line["event"]["action"] == "keyward.gap").expect("a gap is told");
        assert_eq!(gap["keyward"]["gap"]["count"], 2, "{gap}");
        assert_eq!(json!([gap["keyward"]["gap"]["from"], gap["keyward"]["gap"]["to"]]), json!(missing));
        assert!(sequences(&lines).is_sorted() || once(&lines).len() == sequences(&lines).len());
        let reason = gap["keyward"]["gap"]["reason"].as_str().unwrap();
        assert_eq!(reason, "an item was answered 400: document_parsing_exception: so it is");
        assert_eq!(node.tell("SELECT count(*) AS value FROM audit_event WHERE event_type = 'SYSTEM' AND action = 'sink_gap'").await, 1);
    }

    async fn datadog_gets_smaller_batches_when_it_asks_for_them(backend) {
        let receiver = Receiver::start(Product::Datadog).await;
        receiver.takes_at_most(7);
        let node = Node::start_with(backend, to(&receiver, Product::Datadog, "")).await;
        send(&node, &["upload"; 50]).await;
        let size = size(&node).await;
        let lines = receiver.get(&node, |lines| sequences(lines).len() as i64 >= size).await;
        assert_eq!(sequences(&lines), (0..size).collect::<Vec<_>>(), "no gap");
    }

    async fn an_event_that_is_refused_for_ever_is_noted_and_passed_over(backend) {
        let receiver = Receiver::start(Product::JsonLines).await;
        receiver.judges(|line| if line["action"] == "rename" { 422 } else { 200 });
        let node = Node::start_with(backend, to(&receiver, Product::JsonLines, "format = \"keyward\"\n")).await;
        send(&node, &["upload", "rename", "download", "move"]).await;
        let lines = receiver.get(&node, |lines| lines.iter().any(|line| line["action"] == "sink_gap")).await;
        let found = |action: &str| lines.iter().filter(|line| line["action"] == action).collect::<Vec<_>>();
        for (action, count) in [("upload", 1), ("rename", 0), ("download", 1), ("move", 1), ("keyward.gap", 1)] {
            assert_eq!(found(action).len(), count, "{action}: {lines:#?}");
        }
        let (gap, noted) = (&found("keyward.gap")[0]["gap"], &found("sink_gap")[0]);
        assert_eq!((&gap["count"], &gap["from"]), (&json!(1), &noted["details"]["from"]));
        assert_eq!((&noted["event_type"], &noted["resource"]["id"]), (&json!("SYSTEM"), &json!("siem")));
        assert_eq!(gap["from"].as_i64().unwrap() + 1, found("download")[0]["sequence"].as_i64().unwrap());
    }

    async fn a_sink_that_refuses_everything_does_not_fill_the_book(backend) {
        let receiver = Receiver::start(Product::JsonLines).await;
        receiver.judges(|_| 400);
        let node = Node::start_with(backend, to(&receiver, Product::JsonLines, "")).await;
        send(&node, &["upload"]).await;
        let gaps = "SELECT count(*) AS value FROM audit_event WHERE action = 'sink_gap'";
        let mut last = (0, -1);
        // Until nothing is sent any more and nothing was written meanwhile.
        loop {
            node.app.keyward.sinks.nudge();
            let now = (node.tell(gaps).await, health(&node).await["lag"].as_i64().unwrap());
            if now == last && now.1 == 0 && now.0 > 0 {
                break;
            }
            last = now;
        }
        assert!(last.0 <= 3, "{last:?}");
    }

    async fn wrong_credentials_and_redirects_lose_nothing_and_tell_no_secret(backend) {
        let receiver = Receiver::start(Product::JsonLines).await;
        let node = Node::start_with(backend, to(&receiver, Product::JsonLines, "format = \"ocsf\"\n")).await;
        receiver.will_answer([(401, None, "echo".into()), (302, None, String::new()), (404, None, String::new()), (500, None, "echo".into())]);
        send(&node, &["upload"]).await;
        let size = size(&node).await;
        let lines = receiver.get(&node, |lines| lines.len() as i64 >= size).await;
        let places: Vec<_> = lines.iter().filter_map(|line| line["metadata"]["sequence"].as_i64()).collect();
        assert_eq!(places, (0..size).collect::<Vec<_>>());
        let upload = lines.iter().find(|line| line["activity_name"] == "upload").expect("it came");
        assert_eq!((&upload["class_uid"], &upload["activity_id"]), (&json!(6006), &json!(1)));
        let told = health(&node).await;
        assert!(told["last_error"].as_str().is_some_and(|error| error.starts_with("it answered 500")), "{told}");
    }

    async fn elasticsearch_keeps_two_events_of_one_id_apart(backend) {
        let receiver = Receiver::start(Product::Elasticsearch).await;
        let node = Node::start_with(backend, to(&receiver, Product::Elasticsearch, "")).await;
        let (_, stranger) = member(&node, "b@example.com", &node.new_organization("other", "pro").await, Role::Owner).await;
        for (credential, action) in [(&node.service_key, "upload"), (&stranger, "download")] {
            let event = json!({
                "id": "aud_01k00000000000000000000001", "event_type": "FILE_ACCESS", "action": action, "success": true,
                "actor": { "type": "user", "id": "u" }, "resource": { "type": "file", "id": "f" }, "details": {},
            });
            let answer = node.call_as(credential, Method::POST, "/v1/audit-events", Some(event)).await;
            assert_eq!(answer.status, 201, "{answer:?}");
        }
        let lines = receiver.get(&node, |lines| actions(lines).contains(&"download")).await;
        assert!(actions(&lines).contains(&"upload"), "{lines:#?}");
    }

    async fn a_backlog_goes_out_in_batches_and_a_checkpoint_with_it(backend) {
        let receiver = Receiver::start(Product::JsonLines).await;
        receiver.will_answer([(503, None, String::new())]);
        let node = Node::start_with(backend, to(&receiver, Product::JsonLines, "")).await;
        receiver.asked(0).await;
        send(&node, &["upload"; 600]).await;
        node.app.keyward.proofs.sign_new().await.unwrap();
        let size = size(&node).await;
        let lines = receiver.get(&node, |lines| sequences(lines).len() as i64 >= size).await;
        assert_eq!(sequences(&lines), (0..size).collect::<Vec<_>>());
        // It is ahead of the sink that has had none: a book that is cut off now is found out.
        // After a failure the first batch is half as large.
        assert_eq!((&lines[250]["event"]["action"], lines.len() as i64), (&json!("keyward.checkpoint"), size + 1));
    }
}
