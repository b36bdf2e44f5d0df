//! Clients that go away while they are served: what they asked for is done whole, or not at all.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Node, on_both};

/// Sends a request and hangs up without waiting for anything.
async fn send_and_leave(node: &Node, path: &str, fields: &str, body: &Value) {
    let (key, body) = (&node.service_key, body.to_string());
    let head = format!("POST {path} HTTP/1.1\r\nHost: keyward\r\nAuthorization: Bearer {key}\r\n{fields}");
    let head = format!("{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut stream = TcpStream::connect(node.url.trim_start_matches("http://")).await.expect("a connection");
    stream.write_all(format!("{head}{body}").as_bytes()).await.expect("it is sent");
}

on_both! {
    async fn a_revocation_whose_client_hangs_up_is_in_force(node: Node) {
        let keys = join_all((0..20).map(|_| node.new_key(json!({})))).await;
        for key in &keys {
            assert_eq!(node.code_of(key["key"].as_str().unwrap()).await, "valid", "it is in memory");
        }
        for key in &keys {
            send_and_leave(&node, &format!("/v1/api-keys/{}/revoke", key["id"].as_str().unwrap()), "", &json!({})).await;
        }
        let mut tries = tokio::time::interval(std::time::Duration::from_millis(20));
        for key in &keys {
            let path = format!("/v1/api-keys/{}", key["id"].as_str().unwrap());
            for attempt in 0.. {
                assert!(attempt < 500, "it was never revoked");
                if node.get(&path).await.json["status"] == "revoked" {
                    break;
                }
                tries.tick().await;
            }
            assert_eq!(node.code_of(key["key"].as_str().unwrap()).await, "revoked");
        }
    }

    async fn what_was_made_for_a_client_that_hung_up_is_not_made_again(node: Node) {
        let body = json!({ "name": "once" });
        send_and_leave(&node, "/v1/api-keys", "Idempotency-Key: first\r\n", &body).await;
        let mut tries = tokio::time::interval(std::time::Duration::from_millis(20));
        let repeated = loop {
            tries.tick().await;
            let request = node.request_as(&node.service_key, http::Method::POST, "/v1/api-keys");
            let answer = crate::support::Answer::of(request.header("idempotency-key", "first").json(&body)).await;
            if answer.status != 409 {
                break answer;
            }
        };
        assert_eq!(repeated.status, 201, "{repeated:?}");
        let listed = node.get("/v1/api-keys?q=once").await.json;
        assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
        assert_eq!(listed["items"][0]["id"], repeated.json["id"]);
    }
}
