//! One script of requests gives the same answers on SQLite and on PostgreSQL, but for what is new each time.

use std::collections::HashMap;

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Backend, Node};

/// Replaces what is made anew each time by names in the order of their first showing.
#[derive(Default)]
struct Names(HashMap<String, String>);

impl Names {
    fn name(&mut self, kind: &str, text: &str) -> String {
        let next = format!("<{kind} {}>", self.0.len());
        self.0.entry(text.to_owned()).or_insert(next).clone()
    }

    fn plain(&mut self, value: &Value, field: &str) -> Value {
        match value {
            Value::Object(fields) => {
                Value::Object(fields.iter().map(|(name, value)| (name.clone(), self.plain(value, name))).collect())
            }
            Value::Array(items) => items.iter().map(|item| self.plain(item, field)).collect(),
            Value::String(text) if ["key", "hint", "next_cursor"].contains(&field) => self.name(field, text).into(),
            Value::String(text) => {
                let is_id = |word: &str| {
                    let (kind, rest) = word.split_once('_').unwrap_or_default();
                    kind.len() == 3 && rest.len() == 26
                };
                let words = text.split_inclusive([' ', '/', '.']);
                let words = words.map(|word| {
                    let end = word.trim_end_matches([' ', '/', '.']).len();
                    let id = &word[..end];
                    if is_id(id) { self.name("id", id) + &word[end..] } else { word.to_owned() }
                });
                words.collect::<String>().into()
            }
            other => other.clone(),
        }
    }

    fn answer(&mut self, answer: &Answer) -> Value {
        json!({
            "status": answer.status,
            "type": answer.header("content-type"),
            "location": self.plain(&answer.header("location").into(), "location"),
            "body": self.plain(&answer.json, ""),
        })
    }
}

/// Steps whose `{name}` stands for an earlier answer's id, and `"{name.key}"` for its key.
fn script() -> Vec<(Method, &'static str, Value, &'static str)> {
    let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);
    let none = Value::Null;
    let rich = json!({
        "name": "Größe 課金", "scopes": ["a:read", "b:*"], "expires_in_days": 30, "allowed_ips": ["192.0.2.0/24"], "external_id": "e-1",
        "metadata": { "z": 1.5, "a": [true, null, "x"] }, "quota": { "limit": 10, "period": "month" },
    });
    let call = |id: &str, status: i64, fields: Value| {
        let mut call =
            json!({ "id": id, "key_id": "{one}", "endpoint": "/Größe/7", "method": "GET", "status": status });
        call.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        call
    };
    let records = json!({ "records": [
        call("課金", 200, json!({ "duration_ms": 0.5, "cost_usd": "0.1", "tokens_in": 3 })),
        call("課金", 200, json!({})), call("b", 503, json!({ "error": "zu spät", "cost_usd": "0.2" })), call("c", 99, json!({})),
    ] });
    vec![
        (
            post.clone(),
            "/v1/organizations",
            json!({ "name": "Zwei", "email": "zwei@example.com", "plan": "pro" }),
            "org",
        ),
        (post.clone(), "/v1/organizations", json!({ "name": "Zwei", "email": "drei@example.com" }), ""),
        (get.clone(), "/v1/organizations/{org}", none.clone(), ""),
        (post.clone(), "/v1/api-keys", rich, "one"),
        (post.clone(), "/v1/api-keys", json!({ "name": "plain" }), "two"),
        (get.clone(), "/v1/api-keys/{one}", none.clone(), ""),
        (post.clone(), "/v1/api-keys/verify", json!({ "key": "{one.key}", "ip": "192.0.2.1", "scopes": ["b:c"] }), ""),
        (post.clone(), "/v1/api-keys/verify", json!({ "key": "{one.key}", "dry_run": true }), ""),
        (patch.clone(), "/v1/api-keys/{one}", json!({ "external_id": null, "scopes": ["a:write"] }), ""),
        (get.clone(), "/v1/api-keys?q=GRÖSSE", none.clone(), ""),
        (get.clone(), "/v1/api-keys?q=gr%C3%B6%C3%9Fe", none.clone(), ""),
        (get.clone(), "/v1/api-keys?scope=a:write&expiring_within_days=30", none.clone(), ""),
        (get.clone(), "/v1/api-keys?sort=created_at&limit=1", none.clone(), ""),
        (post.clone(), "/v1/api-keys/{two}/rotate", json!({ "overlap_seconds": 60 }), ""),
        (post.clone(), "/v1/api-keys/{two}/disable", none.clone(), ""),
        (post.clone(), "/v1/api-keys/verify", json!({ "key": "{two.key}" }), ""),
        (post.clone(), "/v1/api-keys/{two}/revoke", json!({ "reason": "done" }), ""),
        (post.clone(), "/v1/api-keys/{two}/enable", none.clone(), ""),
        (post.clone(), "/v1/usage", records, ""),
        (get.clone(), "/v1/usage/summary", none.clone(), ""),
        (get.clone(), "/v1/usage/daily?month=2026-11", none.clone(), ""),
        (get.clone(), "/v1/usage/endpoints", none.clone(), ""),
        (get.clone(), "/v1/usage/top-consumers?by=cost", none.clone(), ""),
        (get.clone(), "/v1/api-keys/stats", none.clone(), ""),
        (get.clone(), "/v1/api-keys/{two}/stats", none.clone(), ""),
        (get.clone(), "/v1/api-keys/health", none.clone(), ""),
        (post.clone(), "/v1/keyspaces", json!({ "name": "ks", "prefix": "ks", "style": "plain" }), "ks"),
        (post.clone(), "/v1/keyspaces", json!({ "name": "ks", "prefix": "ks" }), ""),
        (
            post.clone(),
            "/v1/plans",
            json!({ "name": "p", "key_limit": 3, "requests_per_minute": 1, "quota_per_month": 1 }),
            "",
        ),
        (post.clone(), "/v1/organizations/{org}/suspend", none.clone(), ""),
        (delete.clone(), "/v1/api-keys/{two}", none.clone(), ""),
        (get.clone(), "/v1/api-keys/{two}", none.clone(), ""),
        (delete, "/v1/organizations/{org}", none.clone(), ""),
        (post, "/v1/api-keys", json!({ "name": "", "scopes": ["?"], "allowed_ips": ["x"] }), ""),
        (patch, "/v1/plans/p", json!({ "colour": 1 }), ""),
        (get.clone(), "/v1/audit-events?action=key_updated", none.clone(), ""),
        (get, "/v1/audit-events?resource={two}", none, ""),
    ]
}

async fn play(backend: Backend) -> Vec<(String, Value)> {
    let node = Node::start(backend).await;
    let (mut names, mut made, mut told) = (Names::default(), HashMap::new(), Vec::new());
    for (method, path, body, name) in script() {
        node.clock.advance_seconds(1);
        let fill = |text: &str| {
            made.iter()
                .fold(text.to_owned(), |text: String, (hole, value): (&String, &String)| text.replace(hole, value))
        };
        let body = (!body.is_null()).then(|| serde_json::from_str(&fill(&body.to_string())).unwrap());
        if path.starts_with("/v1/usage") {
            // Counts are written on a timer that is not the test's.
            node.app.keyward.flush().await.unwrap();
        }
        let answer = node.call_as(&node.service_key, method.clone(), &fill(path), body).await;
        for field in ["id", "key"].into_iter().filter(|_| !name.is_empty()) {
            let hole = if field == "id" { format!("{{{name}}}") } else { format!("{{{name}.key}}") };
            made.insert(hole, answer.json[field].as_str().unwrap_or_default().to_owned());
        }
        told.push((format!("{method} {path}"), names.answer(&answer)));
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_databases_give_the_same_answers() {
    let (sqlite, postgres) = (play(Backend::Sqlite).await, play(Backend::Postgres).await);
    assert_eq!(sqlite.len(), script().len());
    for (one, other) in sqlite.iter().zip(&postgres) {
        assert_eq!(one, other);
    }
    let statuses: Vec<u64> = sqlite.iter().map(|(_, answer)| answer["status"].as_u64().unwrap()).collect();
    assert!(statuses.iter().all(|status| *status < 500), "{statuses:?}");
    assert!(statuses.iter().filter(|status| **status < 300).count() >= 20, "{statuses:?}");
}
