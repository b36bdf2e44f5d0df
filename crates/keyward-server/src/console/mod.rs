//! Server-rendered pages that need no script: the front page, the set-up of a new instance, what links in mails lead to, and the
//! second step of a sign-in by an identity provider. What somebody is asked is asked in their language.

mod form;
mod invitation;
pub mod language;
mod link;
pub mod page;
mod password;
pub mod second_factor;
mod setup;

use axum::Router;
use axum::response::Html;
use axum::routing::get;

use crate::app::SharedApp;

pub fn router() -> Router<SharedApp> {
    let pages = Router::new().route("/", get(home)).merge(setup::router()).merge(second_factor::router());
    pages.merge(invitation::router()).merge(password::router())
}

async fn home() -> Html<String> {
    let body = "<h1>Keyward</h1><p class=\"lead\">This instance is running.</p><ul>\
        <li><a href=\"/docs\">API reference</a></li><li><a href=\"/errors\">Error codes</a></li>\
        <li><a href=\"/ready\">Readiness</a></li><li><a href=\"/metrics\">Metrics</a></li></ul>";
    Html(page::page("Running", body))
}
