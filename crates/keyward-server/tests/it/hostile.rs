//! The statements about input (I) and about the book (L): whatever is sent is refused plainly, and what happened is
//! written down once and truly.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Answer, Backend, Node, on_both};

const JSON_ROUTES: [&str; 3] = ["/v1/api-keys", "/v1/api-keys/verify", "/v1/api-keys/verify/batch"];

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

async fn send(node: &Node, path: &str, body: impl Into<Vec<u8>>) -> Answer {
    let request = node.request_as(&node.service_key, Method::POST, path).header("content-type", "application/json");
    Answer::of(request.body(body.into())).await
}

/// Sends bytes as they are; answers the status and the whole answer. The connection may be closed before all is read.
async fn raw(node: &Node, bytes: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(node.url.trim_start_matches("http://")).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut part).await {
        answer.extend_from_slice(&part[..count]);
        if String::from_utf8_lossy(&answer).contains("\r\n\r\n") {
            break;
        }
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer)
}

fn head(node: &Node, method: &str, target: &str, headers: &str) -> Vec<u8> {
    let key = &node.service_key;
    format!("{method} {target} HTTP/1.1\r\nHost: keyward\r\nAuthorization: Bearer {key}\r\n{headers}\r\n").into_bytes()
}

/// The events of a list that match the query.
async fn events(node: &Node, query: &str) -> Vec<Value> {
    node.get(&format!("/v1/audit-events?{query}")).await.json["items"].as_array().unwrap().clone()
}

on_both! {
    async fn i_01_what_cannot_be_read_is_refused(node: Node) {
        for path in JSON_ROUTES {
            for body in ["", "{", "[1,", "name=x", "{\"name\":\"x\"} more", "\u{feff}{}"] {
                let answer = send(&node, path, body).await;
                assert_eq!((answer.status, answer.code()), (400, "malformed_request"), "{path} {body}");
            }
            let unknown = send(&node, path, r#"{"name":"x","key":"x","items":[],"colour":"red"}"#).await;
            assert_eq!((unknown.status, unknown.code()), (422, "unknown_field"), "{path}: {unknown:?}");
        }
        let nested = send(&node, "/v1/api-keys/verify/batch", r#"{"items":[{"key":"x","colour":1}]}"#).await;
        assert_eq!((nested.status, nested.pointer()), (422, "/items/0/colour"));
    }

    async fn i_01_what_is_too_large_is_refused(node: Node) {
        for path in JSON_ROUTES {
            let declared = raw(&node, &head(&node, "POST", path, "Content-Type: application/json\r\nContent-Length: 9000000\r\n")).await;
            assert_eq!(declared.0, 413, "{path}: {}", declared.1);
            let mut chunked = head(&node, "POST", path, "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n");
            for _ in 0..40 {
                chunked.extend_from_slice(b"10000\r\n");
                chunked.extend_from_slice(&[b' '; 0x10000]);
                chunked.extend_from_slice(b"\r\n");
            }
            let chunked = raw(&node, &chunked).await;
            assert_eq!(chunked.0, 413, "{path}: {}", chunked.1);
        }
        let large = format!("X-Large: {}\r\n", "x".repeat(40_000));
        let long = format!("?x={}", "x".repeat(9_000));
        let endless = format!("?x={}", "x".repeat(60_000));
        for (method, path) in [("GET", "/v1/api-keys"), ("POST", "/v1/api-keys/verify"), ("GET", "/v1/forward-auth"), ("GET", "/health")] {
            let answer = raw(&node, &head(&node, method, path, &large)).await;
            assert_eq!(answer.0, 431, "{path}: {}", answer.1);
            assert!(answer.1.contains("headers_too_large"), "{path}: {}", answer.1);
            let answer = raw(&node, &head(&node, method, &format!("{path}{endless}"), "Content-Length: 0\r\n")).await;
            assert_eq!(answer.0, 414, "{path}: {}", answer.1);
            let answer = raw(&node, &head(&node, method, &format!("{path}{long}"), "Content-Length: 0\r\n")).await;
            assert_eq!(answer.0, 414, "{path}: {}", answer.1);
        }
    }

    async fn i_03_strange_texts_and_numbers_are_refused(node: Node) {
        let long = "x".repeat(1 << 20);
        let texts = [
            r#""a\u0000b""#, r#""a\ud800b""#, r#""a\udc00""#, "\"a\u{202e}b\"", "\"a\u{200f}b\"", r#""a\nb""#, r#""\u001b[31m""#, "7", "null", "[]", "{}",
        ];
        let numbers = ["-1", "0", "1.5", "1e400", "99999999999999999999999999", "NaN", "Infinity", "\"1\"", "0x10", "01"];
        let mut creates: Vec<Vec<u8>> = vec![b"{\"name\":\"\xff\xfe\"}".to_vec(), b"{\"name\":\"x\",\"name\":\"y\"}".to_vec()];
        let mut verifies: Vec<Vec<u8>> = vec![b"{\"key\":\"\xff\xfe\"}".to_vec(), b"{\"key\":\"x\",\"key\":\"y\"}".to_vec()];
        for value in texts.into_iter().chain([format!("\"{long}\"").as_str()]) {
            creates.push(format!(r#"{{"name":{value}}}"#).into());
            creates.push(format!(r#"{{"name":"x","scopes":[{value}]}}"#).into());
            verifies.push(format!(r#"{{"key":"x","scopes":[{value}]}}"#).into());
            if value != "null" {
                creates.push(format!(r#"{{"name":"x","external_id":{value}}}"#).into());
                verifies.push(format!(r#"{{"key":"x","ip":{value}}}"#).into());
            }
        }
        for value in numbers {
            creates.push(format!(r#"{{"name":"x","expires_in_days":{value}}}"#).into());
            creates.push(format!(r#"{{"name":"x","quota":{{"limit":{value},"period":"month"}}}}"#).into());
            verifies.push(format!(r#"{{"key":"x","cost":{value}}}"#).into());
            verifies.push(format!(r#"{{"key":"x","limits":[{{"name":"a","cost":{value}}}]}}"#).into());
        }
        for (path, bodies) in [("/v1/api-keys", creates), ("/v1/api-keys/verify", verifies)] {
            for body in bodies {
                let shown: String = String::from_utf8_lossy(&body).chars().take(200).collect();
                let answer = send(&node, path, body).await;
                assert!((400..500).contains(&answer.status), "{path} {shown}: {} {}", answer.status, answer.text);
                assert_eq!(answer.header("content-type"), "application/problem+json", "{shown}");
            }
        }
        // A key may be any string: what is not one is malformed, and that is all.
        for key in ["a\u{0}b", "a\u{202e}b", "\u{1b}[31m", "🔑", ""] {
            let answer = node.verify(json!({ "key": key })).await;
            assert!((answer.status, answer.code()) == (200, "malformed") || answer.status == 400, "{key:?}: {answer:?}");
        }
    }

    async fn l_01_each_step_in_the_life_of_a_key_is_one_event(node: Node) {
        let created = node.post("/v1/api-keys", json!({ "name": "noted" })).await;
        let id = text(&created.json, "id").to_owned();
        let path = format!("/v1/api-keys/{id}");
        let mut steps = vec![("key_created", created.header("request-id").to_owned())];
        steps.push(("key_updated", node.patch(&path, json!({ "scopes": ["a:b"] })).await.header("request-id").to_owned()));
        for (action, verb) in [("key_rotated", "rotate"), ("key_disabled", "disable"), ("key_enabled", "enable"), ("key_revoked", "revoke")] {
            node.clock.advance_seconds(1);
            let answer = node.post(&format!("{path}/{verb}"), json!({})).await;
            assert_eq!(answer.status, 200, "{action}");
            steps.push((action, answer.header("request-id").to_owned()));
        }
        steps.push(("key_deleted", node.delete(&path).await.header("request-id").to_owned()));
        assert_eq!(events(&node, &format!("resource={id}")).await.len(), steps.len());
        let me = node.get("/v1/api-keys?q=set-up").await.json["items"][0]["id"].clone();
        for (action, request_id) in steps {
            let found = events(&node, &format!("resource={id}&action={action}")).await;
            assert_eq!(found.len(), 1, "{action}");
            let event = &found[0];
            assert_eq!((text(event, "event_type"), &event["success"]), ("KEY", &json!(true)));
            assert_eq!((text(&event["actor"], "type"), &event["actor"]["id"]), ("key", &me), "who");
            assert_eq!((text(&event["resource"], "type"), text(&event["resource"], "name")), ("key", "noted"), "what");
            assert!(text(event, "occurred_at").starts_with("2026-11-20T12:00:") && text(event, "occurred_at").ends_with('Z'), "when");
            assert_eq!((text(event, "ip_address"), text(event, "organization_id")), ("127.0.0.1", node.organization.as_str()), "where");
            assert_eq!(text(event, "request_id"), request_id, "{action}");
            assert_eq!(node.get(&format!("/v1/audit-events/{}", text(event, "id"))).await.json, *event);
        }
        let update = events(&node, &format!("resource={id}&action=key_updated")).await;
        assert_eq!(update[0]["details"], json!({ "before": { "scopes": [] }, "after": { "scopes": ["a:b"] } }));
    }

    async fn l_01_each_refused_call_is_one_event_and_changes_nothing(node: Node) {
        let reader = node.new_key(json!({ "permissions": ["plans:read"] })).await;
        let calls = [(Method::POST, "/v1/api-keys"), (Method::GET, "/v1/audit-events"), (Method::POST, "/v1/api-keys/verify"), (Method::POST, "/v1/api-keys/verify/batch")];
        for (method, path) in calls {
            let refused = node.call_as(text(&reader, "key"), method.clone(), path, Some(json!({ "name": "x" }))).await;
            assert_eq!(refused.status, 403, "{path}");
            let found: Vec<Value> = events(&node, "action=access_denied").await.into_iter().filter(|event| event["request_id"] == refused.header("request-id")).collect();
            assert_eq!(found.len(), 1, "{method} {path}");
            assert_eq!((text(&found[0], "event_type"), &found[0]["success"]), ("SECURITY", &json!(false)));
            assert_eq!(text(&found[0]["resource"], "id"), format!("{method} {path}"));
            assert_eq!((&found[0]["actor"]["id"], text(&found[0], "ip_address")), (&reader["id"], "127.0.0.1"));
            assert!(!text(&found[0], "error_message").is_empty());
        }
        let proxy = node.bare(Method::GET, "/v1/forward-auth").header("x-keyward-service-key", text(&reader, "key"));
        assert_eq!(Answer::of(proxy).await.status, 403);
        assert_eq!(events(&node, "success=false").await.len(), 5);
    }

    async fn l_02_no_line_is_forged(node: Node) {
        for name in ["a\r\nb", "a\u{1b}[31mb", "a\u{9b}31mb", "a\u{2028}b"] {
            let answer = node.post("/v1/api-keys", json!({ "name": name })).await;
            assert_eq!((answer.status, answer.pointer()), (422, "/name"), "{name:?}");
        }
        let issued = node.new_key(json!({})).await;
        let path = format!("/v1/api-keys/{}", text(&issued, "id"));
        for reason in ["x\ny", "\u{1b}]0;x"] {
            assert_eq!(node.post(&format!("{path}/revoke"), json!({ "reason": reason })).await.status, 422);
        }
        // Neither is a header that HTTP knows.
        for agent in ["User-Agent: a\u{1b}[31mb\r\n", "User-Agent: a\nforged\r\n"] {
            let (status, answer) = raw(&node, &head(&node, "POST", &format!("{path}/disable"), &format!("{agent}Content-Length: 0\r\n"))).await;
            assert_eq!(status, 400, "{answer}");
        }
        // This one is, and carries the one-byte form of ESC [ in UTF-8.
        let agent = "User-Agent: a\u{9b}31m\"}b\r\nContent-Length: 0\r\n";
        let (status, answer) = raw(&node, &head(&node, "POST", &format!("{path}/disable"), agent)).await;
        assert_eq!(status, 200, "{answer}");
        let found = events(&node, "action=key_disabled").await;
        assert_eq!((found.len(), text(&found[0], "user_agent")), (1, "a31m\"}b"));
    }
}

/// The log of the real binary, in either format, after somebody has presented a key that would write lines of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l_02_a_presented_key_does_not_forge_a_line_of_the_log() {
    for format in ["json", "text"] {
        let node = Node::start(Backend::Sqlite).await;
        let (place, key) = (node.place.clone(), node.service_key.clone());
        node.stop().await;
        let mut child = Command::new(env!("CARGO_BIN_EXE_keyward"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir", place.folder().to_str().unwrap()])
            .env("KEYWARD_SERVER_LOG_FORMAT", format)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let told = lines.into_iter().find(|line| line.contains("running at")).unwrap();
        let url = told.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
        let forging = format!("kw_live_{}\n\u{1b}[m", "x".repeat(45));
        let request = reqwest::Client::new().post(format!("{url}/v1/api-keys/verify")).bearer_auth(key);
        let verdict = Answer::of(request.json(&json!({ "key": forging }))).await;
        assert_eq!(verdict.code(), "malformed", "{verdict:?}");
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = log.find(|line| line.contains("malformed")).expect("the refusal is logged");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!line.contains('\u{1b}') && !line.contains(&"x".repeat(45)), "{line:?}");
        assert!(line.contains("[m") && line.contains("hint"), "one line holds it whole: {line:?}");
    }
}
