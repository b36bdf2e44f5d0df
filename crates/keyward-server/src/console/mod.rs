//! Server-rendered pages: for now the front page and the set-up of a new instance.

pub mod page;
mod setup;

use axum::Router;
use axum::response::Html;
use axum::routing::get;

use crate::app::SharedApp;

pub fn router() -> Router<SharedApp> {
    Router::new().route("/", get(home)).merge(setup::router())
}

async fn home() -> Html<String> {
    let body = "<h1>Keyward</h1><p class=\"lead\">This instance is running.</p><ul>\
        <li><a href=\"/docs\">API reference</a></li><li><a href=\"/errors\">Error codes</a></li>\
        <li><a href=\"/ready\">Readiness</a></li><li><a href=\"/metrics\">Metrics</a></li></ul>";
    Html(page::page("Running", body))
}
