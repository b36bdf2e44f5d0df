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

use super::form::{Fault, Field, Form};
use super::language::Language;
use super::link::private;
use super::page::page_in;
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
    let language = Language::of(&visitor.headers);
    match cookies::read(&visitor.headers, cookies::LOGIN) {
        Some(_) => shown(language, StatusCode::OK, &form(language, &way.next, &[])),
        None => nothing_waits(language),
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
    let language = Language::of(&visitor.headers);
    let Some(token) = cookies::read(&visitor.headers, cookies::LOGIN) else { return nothing_waits(language) };
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
            let text = match error.code {
                Code::CodeUsed => language.say(
                    "This code was used: wait for the next.",
                    "このコードは使用済みです。次のコードをお待ちください。",
                ),
                _ => language.say("This code is not right.", "コードが正しくありません。"),
            };
            let fault = Fault { field: "code".to_owned(), text: text.to_owned() };
            shown(language, StatusCode::UNAUTHORIZED, &form(language, next, &[fault]))
        }
        Err(error) if error.code == Code::InvalidToken => nothing_waits(language),
        Err(error) => Problem::from(error).into_response(),
    }
}

fn form(language: Language, next: &str, faults: &[Fault]) -> String {
    let title = language.say("One more step", "確認コードの入力");
    let lead = language.say("Your account has a second factor.", "このアカウントには二要素認証が設定されています。");
    let code = Field {
        name: "code",
        label: language.say("Code", "確認コード"),
        hint: language.say("Of your authenticator, or a backup code.", "認証アプリのコード、またはバックアップコード"),
        attributes: "required maxlength=\"40\" autocomplete=\"one-time-code\"",
        ..Field::default()
    };
    let form = Form::to(PATH, Some(("next", next)), faults, language).field(&code);
    let form = form.button(language.say("Sign in", "サインイン"));
    format!("<h1>{title}</h1><p class=\"lead\">{lead}</p>{form}")
}

fn nothing_waits(language: Language) -> Response {
    let body = language.say(
        "<h1>No sign-in waits here</h1><p class=\"lead\">It took too long, or too many codes were wrong. \
         <a href=\"/v1/auth/oidc/start\">Begin again</a>.</p>",
        "<h1>進行中のサインインはありません</h1><p class=\"lead\">時間切れか、コードの誤りが続いたため終了しました。\
         <a href=\"/v1/auth/oidc/start\">もう一度サインインする</a></p>",
    );
    shown(language, StatusCode::UNAUTHORIZED, body)
}

fn shown(language: Language, status: StatusCode, body: &str) -> Response {
    let title = language.say("Second factor", "二要素認証");
    (status, private(language), Html(page_in(language, title, body))).into_response()
}
