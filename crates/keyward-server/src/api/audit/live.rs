//! The book as it grows, over a WebSocket: every event that fits the filter, in the book's order, from now on.

use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use keyward::audit::{EventFilter, EventRow};
use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use serde_json::{Value, json};

use super::{EventParams, EventView};
use crate::api::caller::{Caller, In, Params};
use crate::api::socket::{MOST_BYTES, PING_EVERY, answer, close};
use crate::app::SharedApp;
use crate::problem::Problem;

/// How soon events of other nodes are seen.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Afterwards the caller has to show again who they are.
const LONGEST: Duration = Duration::from_secs(900);
/// Events that are read at a time.
const BATCH: i64 = 200;

pub async fn live(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Params(params): Params<EventParams>,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let filter = params.whole_filter()?;
    let from = app.keyward.audit.sequence().await?;
    // Refuses callers that may not read before anything is promised.
    app.keyward.audit.list_from(&caller.context, Some(organization), &filter, from, 1).await?;
    let socket =
        socket.map_err(|error| Problem::new(Code::MalformedRequest, format!("This is a WebSocket. {error}.")))?;
    let tail = Tail { app, caller, organization, filter, from };
    Ok(socket.max_message_size(MOST_BYTES).on_upgrade(async move |socket| tail.serve(socket).await))
}

struct Tail {
    app: SharedApp,
    caller: Caller,
    organization: Id<id::Organization>,
    filter: EventFilter,
    /// The next place of the book.
    from: i64,
}

impl Tail {
    async fn serve(mut self, mut socket: WebSocket) {
        let app = self.app.clone();
        let mut open = app.connections.open_socket();
        let mut grown = app.keyward.audit.watch();
        let now = tokio::time::Instant::now();
        let mut ping = tokio::time::interval_at(now + PING_EVERY, PING_EVERY);
        let mut look = tokio::time::interval(LOOK_EVERY);
        let start = json!({ "type": "status", "status": "live", "sequence": self.from });
        if !self.send(&mut socket, start).await {
            return;
        }
        loop {
            tokio::select! {
                _ = look.tick() => {}
                _ = grown.changed() => {}
                heard = socket.recv() => match heard {
                    Some(Ok(Message::Text(text))) => {
                        if !self.send(&mut socket, answer(&text)).await {
                            return;
                        }
                        continue;
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => continue,
                },
                _ = ping.tick() => {
                    if !self.send(&mut socket, json!({ "type": "ping" })).await {
                        return;
                    }
                    continue;
                }
                () = tokio::time::sleep_until(now + LONGEST) => return close(socket, close_code::POLICY, "connect again").await,
                () = open.stopped() => return close(socket, close_code::AWAY, "the node stops").await,
            }
            if !self.tell_new(&mut socket).await {
                return close(socket, close_code::ERROR, "the book cannot be read").await;
            }
        }
    }

    /// Sends what came since; whether the socket is still of use.
    async fn tell_new(&mut self, socket: &mut WebSocket) -> bool {
        loop {
            let audit = &self.app.keyward.audit;
            // Read before the events: what comes in between is looked at next time.
            let Ok(size) = audit.sequence().await else { return false };
            let list = audit.list_from(&self.caller.context, Some(self.organization), &self.filter, self.from, BATCH);
            let Ok(rows) = list.await else { return false };
            let more = rows.len() as i64 == BATCH;
            let last = rows.last().map(|row| row.sequence + 1);
            for row in rows {
                if !self.send(socket, tell(row)).await {
                    return false;
                }
            }
            self.from = last.unwrap_or(self.from).max(if more { 0 } else { size.max(self.from) });
            if !more {
                return true;
            }
        }
    }

    async fn send(&self, socket: &mut WebSocket, message: Value) -> bool {
        self.app.connections.messages_sent.fetch_add(1, Ordering::Relaxed);
        socket.send(Message::Text(message.to_string().into())).await.is_ok()
    }
}

fn tell(row: EventRow) -> Value {
    json!({ "type": "event", "event": EventView::from(row) })
}
