//! How the systems fare that events of the book are sent to. What they are is a matter of the settings, not of this door.

use axum::Json as Answer;
use axum::extract::State;
use keyward::sinks::SinkHealth;
use keyward_core::access::Permission::AuditRead;
use keyward_core::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::caller::Caller;
use super::page::List;
use super::route::{Access::Needs, Route, get};
use crate::app::SharedApp;
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    vec![
        get("/v1/audit-log/sinks", Needs(AuditRead), "How far each system is that events are sent to", list)
            .answers::<List<SinkView>>(200),
    ]
}

#[derive(Debug, Serialize, JsonSchema)]
struct SinkView {
    name: String,
    kind: &'static str,
    format: &'static str,
    /// The sequence of the first event that it does not have.
    cursor: i64,
    /// Events of the book that wait for it.
    lag: i64,
    delivered_count: i64,
    /// Since the last success.
    failure_count: i64,
    /// The size of the newest checkpoint that it has.
    checkpoint_size: i64,
    #[schemars(with = "Option<String>")]
    last_success_at: Option<Timestamp>,
    #[schemars(with = "Option<String>")]
    last_error_at: Option<Timestamp>,
    /// What went wrong the last time that something did.
    last_error: Option<String>,
    /// When the next try is made, after a failure.
    #[schemars(with = "Option<String>")]
    retry_at: Option<Timestamp>,
}

async fn list(State(app): State<SharedApp>, caller: Caller) -> Result<Answer<List<SinkView>>, Problem> {
    let show = |sink: SinkHealth| SinkView {
        name: sink.name,
        kind: sink.kind,
        format: sink.format,
        cursor: sink.next_sequence,
        lag: sink.lag,
        delivered_count: sink.delivered_count,
        failure_count: sink.failure_count,
        checkpoint_size: sink.checkpoint_size,
        last_success_at: sink.succeeded_at,
        last_error_at: sink.failed_at,
        last_error: sink.error,
        retry_at: sink.retry_at,
    };
    Ok(List::whole(app.keyward.sinks.health(&caller.context).await?, show))
}
