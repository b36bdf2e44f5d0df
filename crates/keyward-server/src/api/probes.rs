//! Whether the server lives, whether it can work, and what it has counted.

use axum::extract::State;
use axum::response::IntoResponse;
use http::header;
use keyward_core::problem::Code;
use schemars::JsonSchema;
use serde::Serialize;

use super::route::{Access, Route, get};
use crate::app::SharedApp;
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    let probe = Access::Probe("Probes carry no credential, and the answer tells nothing of keys or people");
    vec![
        get("/health", probe, "Whether the process lives", health).answers::<Probe>(200),
        get("/ready", probe, "Whether the database answers", ready).answers::<Probe>(200),
        get("/metrics", probe, "Counters for Prometheus", metrics),
    ]
}

#[derive(Debug, Serialize, JsonSchema)]
struct Probe {
    status: &'static str,
}

async fn health() -> axum::Json<Probe> {
    axum::Json(Probe { status: "ok" })
}

async fn ready(State(app): State<SharedApp>) -> Result<axum::Json<Probe>, Problem> {
    if app.keyward.is_ready().await {
        Ok(axum::Json(Probe { status: "ready" }))
    } else {
        Err(Problem::new(Code::NotReady, "The database does not answer."))
    }
}

async fn metrics(State(app): State<SharedApp>) -> impl IntoResponse {
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, media_type)], app.keyward.metrics.render())
}
