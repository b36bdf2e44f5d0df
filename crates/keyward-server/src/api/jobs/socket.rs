//! A job's news over a WebSocket: its status, progress and lines as they come; after its end the socket is closed.

use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use keyward::jobs::{JobNews, Watched};
use keyward_core::id;
use keyward_core::problem::Code;
use serde_json::{Value, json};

use super::JobView;
use crate::api::caller::{Caller, Target};
use crate::api::socket::{MOST_BYTES, PING_EVERY, answer, close};
use crate::app::SharedApp;
use crate::problem::Problem;

pub async fn watch(
    State(app): State<SharedApp>,
    caller: Caller,
    Target(id): Target<id::Job>,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let watched = app.keyward.jobs.watch(&caller.context, id).await?;
    let socket =
        socket.map_err(|error| Problem::new(Code::MalformedRequest, format!("This is a WebSocket. {error}.")))?;
    let socket = socket.max_message_size(MOST_BYTES);
    Ok(socket.on_upgrade(async move |socket| serve(app, socket, watched).await))
}

async fn serve(app: SharedApp, mut socket: WebSocket, mut watched: Watched) {
    let mut open = app.connections.open_socket();
    let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING_EVERY, PING_EVERY);
    loop {
        let message = tokio::select! {
            news = watched.next() => match news {
                Ok(Some(news)) => tell(news),
                Ok(None) => return close(socket, close_code::NORMAL, "the job has ended").await,
                Err(error) => {
                    let message = json!({ "type": "error", "code": error.code.as_str(), "detail": error.detail });
                    let _ = socket.send(Message::Text(message.to_string().into())).await;
                    return close(socket, close_code::ERROR, "the job cannot be read").await;
                }
            },
            heard = socket.recv() => match heard {
                Some(Ok(Message::Text(text))) => answer(&text),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
            _ = ping.tick() => json!({ "type": "ping" }),
            () = open.stopped() => return close(socket, close_code::AWAY, "the node stops").await,
        };
        if socket.send(Message::Text(message.to_string().into())).await.is_err() {
            return;
        }
        app.connections.messages_sent.fetch_add(1, Ordering::Relaxed);
    }
}

fn tell(news: JobNews) -> Value {
    match news {
        JobNews::Status(job) => json!({ "type": "status", "status": job.status, "job": JobView::from(*job) }),
        JobNews::Progress(job) => {
            json!({ "type": "progress", "done": job.done, "total": job.total, "unit": job.unit })
        }
        JobNews::Line(line) => json!({ "type": "log", "at": line.told_at, "message": line.message }),
    }
}
