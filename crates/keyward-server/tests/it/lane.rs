//! The lane beneath hyper and hyper itself give the same answers, byte for byte, and a connection that leaves the one for the
//! other loses nothing on its way.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Node, on_both};

/// A field that means nothing here and that the lane leaves to hyper.
const FOR_HYPER: &str = "Trailer: x\r\n";

/// An answer as it came.
#[derive(Debug, PartialEq, Eq)]
struct Raw {
    head: String,
    body: String,
}

impl Raw {
    fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// Without what is new each time. Of the numbers that every call lowers only the place is compared, and of the body's
    /// length, which follows them.
    fn plain(&self) -> String {
        let field = |name: &str| self.head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let (id, date) = (field("request-id: "), field("date: "));
        assert!(id.starts_with("req_") && date.ends_with(" GMT"), "{self:?}");
        let text = format!("{}{}", self.head, self.body).replace(id, "<id>").replace(date, "<date>");
        ["content-length: ", "\"remaining\":", ";r="].iter().fold(text, |text, before| without_number(&text, before))
    }
}

fn without_number(text: &str, before: &str) -> String {
    let mut parts = text.split(before);
    let first = parts.next().unwrap_or_default().to_owned();
    let digits = |part: &'_ str| part.trim_start_matches(|letter: char| letter.is_ascii_digit()).to_owned();
    parts.fold(first, |text, part| text + before + "<number>" + &digits(part))
}

/// A connection that reads one answer after the other.
struct Wire {
    stream: TcpStream,
    held: Vec<u8>,
}

impl Wire {
    async fn to(node: &Node) -> Self {
        let stream = TcpStream::connect(node.url.trim_start_matches("http://")).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, held: Vec::new() }
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// The next answer; `None` when the server has closed.
    async fn next(&mut self) -> Option<Raw> {
        loop {
            let text = String::from_utf8(self.held.clone()).unwrap();
            if let Some((head, rest)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length = length.map_or(0, |length| length.parse().unwrap());
                if rest.len() >= length {
                    let raw = Raw { head: format!("{head}\r\n\r\n"), body: rest[..length].to_owned() };
                    self.held.drain(..raw.head.len() + length);
                    return Some(raw);
                }
            }
            let read = tokio::time::timeout(Duration::from_secs(20), self.stream.read_buf(&mut self.held));
            if !matches!(read.await.expect("an answer in time"), Ok(1..)) {
                assert!(self.held.is_empty(), "an answer was cut off");
                return None;
            }
        }
    }

    async fn ask(&mut self, text: &str) -> Raw {
        self.send(text).await;
        self.next().await.expect("an answer")
    }
}

fn get(query: &str, fields: &str) -> String {
    format!("GET /v1/forward-auth{query} HTTP/1.1\r\nHost: keyward\r\n{fields}\r\n")
}

fn post(fields: &str, body: &str) -> String {
    let length = body.len();
    format!("POST /v1/api-keys/verify HTTP/1.1\r\nhost: keyward\r\n{fields}content-length: {length}\r\n\r\n{body}")
}

/// Requests of all kinds that the lane takes.
async fn requests(node: &Node) -> Vec<String> {
    let issued = node.new_key(json!({ "scopes": ["invoices:*", "a:b"] })).await;
    let limits = json!([{ "name": "requests", "limit": 1, "window_seconds": 3600 }]);
    let limited = node.new_key(json!({ "limits": limits, "quota": { "limit": 9, "period": "month" } })).await;
    let plain = node.new_key(json!({ "permissions": ["keys:read"] })).await;
    let key = |issued: &serde_json::Value| issued["key"].as_str().unwrap().to_owned();
    let (one, two, weak) = (key(&issued), key(&limited), key(&plain));
    let service = format!("X-Keyward-Service-Key: {}\r\n", node.service_key);
    let bearer = |key: &str| format!("Authorization: Bearer {key}\r\n");
    let json = format!("{}Content-Type: application/json\r\n", bearer(&node.service_key));
    node.verify(json!({ "key": two })).await;
    vec![
        get("", &format!("{service}{}", bearer(&one))),
        get("?scope=invoices:read&cost=2", &format!("{service}X-API-Key: {one}\r\nX-Forwarded-Uri: /a?b\r\n")),
        get("", &format!("{service}{}", bearer(&two))),
        get("?scope=other:read", &format!("{service}{}", bearer(&one))),
        get("", &format!("{service}{}", bearer("nonsense"))),
        get("?cost=0", &format!("{service}{}", bearer(&one))),
        get("", &service),
        get("", &bearer(&one)),
        get("", &format!("X-Keyward-Service-Key: {weak}\r\n{}", bearer(&one))),
        get("", &format!("Connection: keep-alive\r\n{service}{}", bearer(&one))),
        post(&json, &json!({ "key": one }).to_string()),
        post(&json, &json!({ "key": one, "scopes": ["a:b", "c:d"] }).to_string()),
        post(&json, &json!({ "key": two, "dry_run": true }).to_string()),
        post(&json, &json!({ "key": "nonsense" }).to_string()),
        post(&json, "{\"key\":"),
        post(&json, "{\"key\":\"x\",\"colour\":1}"),
        post(&json, ""),
        post(&bearer(&node.service_key), "{}"),
        post("", "{}"),
        post(&format!("{}X-Api-Key: {one}\r\n", bearer(&weak)), "{}"),
        post(&format!("{}Content-Type: application/json\r\n", bearer(&weak)), &json!({ "key": one }).to_string()),
    ]
}

on_both! {
    async fn both_give_the_same_bytes(node: Node) {
        let requests = requests(&node).await;
        let mut statuses = Vec::new();
        for request in &requests {
            let (mut lane, mut hyper) = (Wire::to(&node).await, Wire::to(&node).await);
            let in_hyper = request.replacen("\r\n", &format!("\r\n{FOR_HYPER}"), 1);
            let (one, other) = (lane.ask(request).await, hyper.ask(&in_hyper).await);
            assert_eq!(one.plain(), other.plain(), "{request}");
            statuses.push(one.status().to_owned());
        }
        for status in ["200", "204", "400", "401", "403", "415", "422", "429"] {
            assert!(statuses.iter().any(|found| found == status), "{status} of {statuses:?}");
        }
    }

    async fn requests_on_one_connection_are_answered_in_their_order(node: Node) {
        let requests = requests(&node).await;
        let mut alone = Vec::new();
        for request in &requests {
            alone.push(Wire::to(&node).await.ask(request).await.plain());
        }
        let mut wire = Wire::to(&node).await;
        wire.send(&requests.concat()).await;
        for expected in &alone {
            assert_eq!(wire.next().await.unwrap().plain(), *expected);
        }
        // In parts of any size, and with requests for hyper behind.
        let ready = "GET /health HTTP/1.1\r\nHost: keyward\r\n\r\n";
        let (mut wire, script) = (Wire::to(&node).await, format!("{}{ready}{}", requests[0], requests[1]));
        for part in script.as_bytes().chunks(7) {
            wire.stream.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(wire.next().await.unwrap().plain(), alone[0]);
        assert_eq!(wire.next().await.unwrap().status(), "200");
        assert_eq!(wire.next().await.unwrap().plain(), alone[1]);
    }

    async fn i_02_what_can_be_read_in_two_ways_ends_the_connection(node: Node) {
        let service = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", node.service_key);
        let body = "{\"key\":\"x\"}";
        for framing in [
            "Content-Length: 11\r\nTransfer-Encoding: xchunked\r\n",
            "Content-Length: 11\r\nContent-Length: 12\r\n",
            "Content-Length: 11\r\nX-Folded: a\r\n b\r\n",
            "Content-Length: +11\r\n",
            "Content-Length : 11\r\n",
        ] {
            let start = format!("POST /v1/api-keys/verify HTTP/1.1\r\nHost: keyward\r\n{service}{framing}\r\n{body}");
            let mut wire = Wire::to(&node).await;
            // First behind a request that the lane has answered.
            assert_eq!(wire.ask(&post(&service, body)).await.status(), "200", "{framing}");
            wire.send(&format!("{start}{}", post(&service, body))).await;
            assert!(wire.next().await.is_none_or(|refused| refused.status() == "400"), "{framing}");
            assert!(wire.next().await.is_none(), "{framing}: a second answer");
        }
    }

    async fn a_familiar_service_key_is_refused_once_it_is_revoked(node: Node) {
        let other = node.new_key(json!({ "permissions": ["keys:verify"] })).await;
        let service = format!("X-Keyward-Service-Key: {}\r\n", other["key"].as_str().unwrap());
        let issued = node.new_key(json!({})).await;
        let request = get("", &format!("{service}Authorization: Bearer {}\r\n", issued["key"].as_str().unwrap()));
        let mut wire = Wire::to(&node).await;
        for _ in 0..3 {
            assert_eq!(wire.ask(&request).await.status(), "204");
        }
        let id = other["id"].as_str().unwrap();
        node.post(&format!("/v1/api-keys/{id}/disable"), json!({})).await;
        assert_eq!(wire.ask(&request).await.status(), "401");
        node.post(&format!("/v1/api-keys/{id}/enable"), json!({})).await;
        assert_eq!(wire.ask(&request).await.status(), "204");
        node.post(&format!("/v1/api-keys/{id}/revoke"), json!({})).await;
        assert_eq!(wire.ask(&request).await.status(), "401");
    }

    async fn connections_in_the_lane_are_counted_and_end_with_the_node(node: Node) {
        let mut wire = Wire::to(&node).await;
        assert_eq!(wire.ask(&get("", "")).await.status(), "401");
        assert!(node.app.connections.http_count() >= 1);
        node.stop().await;
        assert!(wire.next().await.is_none());
    }
}

on_both! {
    settings |layers| layers.flag("server.read_timeout_seconds", 1);

    async fn i_05_a_connection_that_brings_nothing_is_closed(node: Node) {
        for start in ["", "GET /v1/forward", "POST /v1/api-keys/verify HTTP/1.1\r\nHost: x\r\n", "GET /health"] {
            let mut wire = Wire::to(&node).await;
            wire.send(start).await;
            assert!(wire.next().await.is_none(), "{start}");
        }
    }
}
