//! What every WebSocket of ours does alike.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use serde_json::{Value, json};

/// So that nothing between takes a quiet socket for a dead one.
pub const PING_EVERY: Duration = Duration::from_secs(20);
/// Largest message from a client, in bytes.
pub const MOST_BYTES: usize = 1_024;

/// Clients may ask whether we are there, and nothing else.
pub fn answer(text: &str) -> Value {
    let kind = serde_json::from_str::<Value>(text).ok().and_then(|value| value["type"].as_str().map(str::to_owned));
    match kind.as_deref() {
        Some("ping") => json!({ "type": "pong" }),
        _ => {
            json!({ "type": "error", "code": "malformed_request", "detail": "Only {\"type\":\"ping\"} is understood." })
        }
    }
}

pub async fn close(mut socket: WebSocket, code: u16, reason: &'static str) {
    let _ = socket.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
}
