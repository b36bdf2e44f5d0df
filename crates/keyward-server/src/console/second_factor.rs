//! The page that asks for the second factor of a sign-in by an identity provider. It needs no script: a form is sent, and the
//! browser goes on to where it wanted to.

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use keyward::limits::callers::Call;
use keyward::oidc::local_path;
use keyward::sessions::Proof;
use keyward_core::problem::Code;
use serde::Deserialize;

use super::page::{escape, page};
use crate::api::auth::{Visitor, keep};
use crate::api::caller::Stranger;
use crate::api::cookies;
use crate::api::json::read_body;
use crate::app::SharedApp;
use crate::problem::Problem;

const PATH: &str = "/sign-in/second-factor";

pub fn router() -> Router<SharedApp> {
    Router::new().route(PATH, get(ask).post(prove))
}

/// The page's address for somebody on the way to a path of this instance.
pub fn address(next: &str) -> String {
    let escaped: String = next
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    format!("{PATH}?next={escaped}")
}

#[derive(Deserialize)]
struct Way {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
struct Answers {
    #[serde(default)]
    next: String,
    code: String,
}

async fn ask(visitor: Visitor, Query(way): Query<Way>) -> Response {
    match cookies::read(&visitor.headers, cookies::LOGIN) {
        Some(_) => shown(StatusCode::OK, &form(&way.next, None)),
        None => nothing_waits(),
    }
}

async fn prove(State(app): State<SharedApp>, mut visitor: Visitor, request: Request) -> Response {
    let stranger = Stranger::of(&app, &request);
    if let Err(problem) = stranger.admit(&app, Call::Authentication).await {
        return problem.into_response();
    }
    if visitor.headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
        return Problem::plain(Code::CsrfFailed).into_response();
    }
    let answers = match read_body(request, &app).await {
        Ok(body) => super::link::read_form::<Answers>(&body),
        Err(problem) => return problem.into_response(),
    };
    let Some(answers) = answers else { return Problem::plain(Code::MalformedRequest).into_response() };
    let next = match local_path(if answers.next.is_empty() { "/" } else { &answers.next }) {
        Ok(next) => next,
        Err(error) => return Problem::from(error).into_response(),
    };
    let Some(token) = cookies::read(&visitor.headers, cookies::LOGIN) else { return nothing_waits() };
    visitor.client.browser = true;
    let code = answers.code.trim().to_owned();
    let proof = if code.len() == 6 { Proof::Totp(code) } else { Proof::BackupCode(code) };
    let sessions = &app.keyward.sessions;
    match sessions.log_in_with_factor(&visitor.context, &visitor.client, token, &proof, false).await {
        Ok((tokens, _)) => {
            let mut response = StatusCode::SEE_OTHER.into_response();
            keep(&mut response, &tokens);
            let headers = response.headers_mut();
            headers.append(header::SET_COOKIE, cookies::clear(cookies::LOGIN));
            headers.insert(header::LOCATION, HeaderValue::from_str(next).expect("a local path is visible ASCII"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Err(error) if matches!(error.code, Code::InvalidCode | Code::CodeUsed) => {
            shown(StatusCode::UNAUTHORIZED, &form(next, Some(error.code.meaning())))
        }
        Err(error) if error.code == Code::InvalidToken => nothing_waits(),
        Err(error) => Problem::from(error).into_response(),
    }
}

fn form(next: &str, fault: Option<&str>) -> String {
    let alert = fault.map_or_else(String::new, |fault| format!("<p role=\"alert\">{}</p>", escape(fault)));
    format!(
        "<h1>One more step</h1><p class=\"lead\">Your account has a second factor.</p>{alert}\
         <form method=\"post\" action=\"{PATH}\"><input type=\"hidden\" name=\"next\" value=\"{}\">\
         <label>Code <small>of your authenticator, or a backup code</small>\
         <input name=\"code\" required maxlength=\"40\" autocomplete=\"one-time-code\" autofocus></label>\
         <button>Sign in</button></form>",
        escape(next)
    )
}

fn nothing_waits() -> Response {
    let body = "<h1>No sign-in waits here</h1><p class=\"lead\">It took too long, or too many codes were wrong. \
        <a href=\"/v1/auth/oidc/start\">Begin again</a>.</p>";
    shown(StatusCode::UNAUTHORIZED, body)
}

fn shown(status: StatusCode, body: &str) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], Html(page("Second factor", body))).into_response()
}
