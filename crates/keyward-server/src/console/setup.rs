//! The set-up page behind the one-time link that the first start prints.

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use keyward::accounts::setup::SetupRequest;
use keyward::context::Context;
use keyward::limits::callers::Call;
use keyward_core::problem::Code;
use keyward_core::secret::Secret;
use serde::Deserialize;

use super::page::{escape, page};
use crate::api::caller::Stranger;
use crate::api::json::read_body;
use crate::app::SharedApp;
use crate::problem::Problem;

pub fn router() -> Router<SharedApp> {
    Router::new().route("/setup", get(form).post(found))
}

#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    token: String,
}

#[derive(Deserialize)]
struct Answers {
    token: String,
    email: String,
    organization: String,
    #[serde(default)]
    password: String,
}

async fn form(State(app): State<SharedApp>, Query(link): Query<Link>) -> Response {
    match app.keyward.setup.check_token(&link.token).await {
        Ok(()) => private(StatusCode::OK, page("Set-up", &form_body(&link.token, None))),
        Err(error) => gone(error),
    }
}

async fn found(State(app): State<SharedApp>, request: Request) -> Response {
    let stranger = Stranger::of(&app, &request);
    if let Err(problem) = stranger.admit(&app, Call::Authentication).await {
        return problem.into_response();
    }
    let cross_site =
        request.headers().get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none");
    if cross_site {
        return Problem::new(Code::Forbidden, "The form must be sent from its own page.").into_response();
    }
    let answers = match read_body(request, &app).await {
        Ok(body) => super::read_form::<Answers>(&body),
        Err(problem) => return problem.into_response(),
    };
    let Some(answers) = answers else { return Problem::plain(Code::MalformedRequest).into_response() };
    let password = Some(answers.password).filter(|password| !password.is_empty()).map(Secret::new);
    let request = SetupRequest { email: answers.email, organization: answers.organization, password };
    let context = Context::system("setup");
    match app.keyward.keys.set_up(&app.keyward.setup, &context, &request, Some(&answers.token)).await {
        Ok(issued) => {
            let body = format!(
                "<h1>Ready</h1><p class=\"lead\">This is your first service key. It is shown only now; keep it safe.</p>\
                 <pre>{}</pre><p>Next: <a href=\"/docs\">the API reference</a>.</p>",
                escape(issued.secret.expose())
            );
            private(StatusCode::CREATED, page("Ready", &body))
        }
        Err(error) if error.code.status() == 422 => {
            private(StatusCode::UNPROCESSABLE_ENTITY, page("Set-up", &form_body(&answers.token, Some(&error.detail))))
        }
        Err(error) => gone(error),
    }
}

fn form_body(token: &str, fault: Option<&str>) -> String {
    let alert = fault.map_or_else(String::new, |fault| format!("<p role=\"alert\">{}</p>", escape(fault)));
    format!(
        "<h1>Set up Keyward</h1><p class=\"lead\">The first organization, its owner, and a service key.</p>{alert}\
         <form method=\"post\" action=\"/setup\"><input type=\"hidden\" name=\"token\" value=\"{}\">\
         <label>E-mail<input type=\"email\" name=\"email\" required autocomplete=\"email\"></label>\
         <label>Organization<input name=\"organization\" required maxlength=\"200\"></label>\
         <label>Password <small>optional now; 15 characters or more</small><input type=\"password\" name=\"password\" minlength=\"15\" autocomplete=\"new-password\"></label>\
         <button>Set up</button></form>",
        escape(token)
    )
}

fn gone(error: keyward::Error) -> Response {
    if error.code != Code::Gone && error.code != Code::Conflict {
        return Problem::from(error).into_response();
    }
    let body = "<h1>This link is no longer valid</h1><p class=\"lead\">It was used, or is older than 15 minutes. \
        If this instance is not set up yet, restart the server for a new link, or run <code>keyward setup</code>.</p>";
    private(StatusCode::GONE, page("Link no longer valid", body))
}

/// Pages that hold a token or a key are kept by nobody.
fn private(status: StatusCode, html: String) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store"), (header::REFERRER_POLICY, "no-referrer")], Html(html))
        .into_response()
}
