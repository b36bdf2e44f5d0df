//! Server-rendered pages: for now the front page, the set-up of a new instance, and the second step of a sign-in by an identity
//! provider.

pub mod page;
pub mod second_factor;
mod setup;

use axum::Router;
use axum::extract::Query;
use axum::response::Html;
use axum::routing::get;
use serde::de::DeserializeOwned;

use crate::app::SharedApp;

pub fn router() -> Router<SharedApp> {
    Router::new().route("/", get(home)).merge(setup::router()).merge(second_factor::router())
}

/// What a form of ours was filled in with.
fn read_form<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let uri = format!("/?{}", std::str::from_utf8(body).ok()?).parse().ok()?;
    Query::<T>::try_from_uri(&uri).ok().map(|Query(answers)| answers)
}

async fn home() -> Html<String> {
    let body = "<h1>Keyward</h1><p class=\"lead\">This instance is running.</p><ul>\
        <li><a href=\"/docs\">API reference</a></li><li><a href=\"/errors\">Error codes</a></li>\
        <li><a href=\"/ready\">Readiness</a></li><li><a href=\"/metrics\">Metrics</a></li></ul>";
    Html(page::page("Running", body))
}
