//! A forgotten password: the page that asks for a link by mail, and the page behind that link.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use keyward::sessions::Resettable;
use keyward_core::secret::Secret;
use serde::Deserialize;

use super::form::{Fault, Field, Form};
use super::link::Reader;
use super::page::escape;
use crate::app::SharedApp;

const RESET: &str = "/reset-password";
const FORGOTTEN: &str = "/forgot-password";

pub fn router() -> Router<SharedApp> {
    Router::new().route(RESET, get(ask_new).post(set)).route(FORGOTTEN, get(ask_address).post(send_link))
}

#[derive(Deserialize)]
struct New {
    token: String,
    #[serde(default)]
    new_password: String,
    again: Option<String>,
}

async fn ask_new(State(app): State<SharedApp>, request: Request) -> Response {
    let reader = match Reader::arrived(&app, request).await {
        Ok(reader) => reader,
        Err(answer) => return answer,
    };
    match app.keyward.sessions.resettable(reader.token()).await {
        Ok(resettable) => {
            let page = || shown(&reader, StatusCode::OK, &resettable, reader.token(), &[]);
            reader.put_aside(RESET).unwrap_or_else(page)
        }
        Err(error) => gone(&reader, error),
    }
}

async fn set(State(app): State<SharedApp>, request: Request) -> Response {
    let (reader, New { token, new_password, again }) = match Reader::sent(&app, request).await {
        Ok(sent) => sent,
        Err(answer) => return answer,
    };
    let sessions = &app.keyward.sessions;
    let resettable = match sessions.resettable(&token).await {
        Ok(resettable) => resettable,
        Err(error) => return gone(&reader, error),
    };
    let wrong = |faults: &[Fault]| shown(&reader, StatusCode::UNPROCESSABLE_ENTITY, &resettable, &token, faults);
    let differing = Fault::unless_same(&new_password, again.as_deref(), reader.language);
    if !differing.is_empty() {
        return wrong(&differing);
    }
    match sessions.reset_password(&reader.visitor.context, &token, &Secret::new(new_password)).await {
        Ok(()) => {
            let email = escape(&resettable.email);
            let title = reader.language.say("Your password is set", "パスワードを設定しました");
            let meaning = reader.language.say(
                format!("You were signed out everywhere. Sign in as <b>{email}</b> with the new password; a second factor is still asked for."),
                format!("すべての端末からサインアウトしました。新しいパスワードで<b>{email}</b>としてサインインしてください。二要素認証を設定している場合は、引き続き必要です。"),
            );
            reader.done(StatusCode::OK, title, &meaning)
        }
        Err(error) if error.code.status() == 422 => wrong(&Fault::of(&error, reader.language)),
        Err(error) => gone(&reader, error),
    }
}

fn shown(reader: &Reader, status: StatusCode, resettable: &Resettable, token: &str, faults: &[Fault]) -> Response {
    let language = reader.language;
    let title = language.say("Choose a new password", "新しいパスワードの設定");
    let least = resettable.least_chars;
    let hint = language.say(
        format!("{least} characters or more. A few words in a row are fine."),
        format!("{least}文字以上。単語をいくつか並べたものでもかまいません。"),
    );
    let form = Form::to(RESET, Some(("token", token)), faults, language).account(&resettable.email, language);
    let form = form.new_password("new_password", &hint, &format!("required minlength=\"{least}\""), language);
    let form = form.button(language.say("Set password", "パスワードを設定する"));
    reader.answer(status, title, &format!("<h1>{title}</h1>{form}"))
}

fn gone(reader: &Reader, error: keyward::Error) -> Response {
    let title = reader.language.say("This link is no longer valid", "このリンクは無効です");
    let meaning = reader.language.say(
        format!("It was used, or is older than 30 minutes. <a href=\"{FORGOTTEN}\">Ask for a new one</a>."),
        format!("使用済みか、発行から30分が過ぎています。<a href=\"{FORGOTTEN}\">新しいリンクを申し込む</a>"),
    );
    reader.gone(error, title, &meaning)
}

#[derive(Deserialize)]
struct Address {
    email: String,
}

async fn ask_address(State(app): State<SharedApp>, request: Request) -> Response {
    let reader = match Reader::visiting(&app, request).await {
        Ok(reader) => reader,
        Err(answer) => return answer,
    };
    let language = reader.language;
    let title = language.say("Forgotten your password?", "パスワードをお忘れの方");
    let lead =
        language.say("A mail will bring you a link to set a new one.", "再設定用のリンクをメールでお送りします。");
    let email = Field {
        name: "email",
        label: language.say("E-mail", "メールアドレス"),
        attributes: "type=\"email\" required maxlength=\"254\" autocomplete=\"username\"",
        ..Field::default()
    };
    let form = Form::to(FORGOTTEN, None, &[], language).field(&email).button(language.say("Send link", "リンクを送る"));
    reader.answer(StatusCode::OK, title, &format!("<h1>{title}</h1><p class=\"lead\">{lead}</p>{form}"))
}

/// Says the same whether somebody has that address or not (statement A-09).
async fn send_link(State(app): State<SharedApp>, request: Request) -> Response {
    let (reader, Address { email }) = match Reader::sent(&app, request).await {
        Ok(sent) => sent,
        Err(answer) => return answer,
    };
    if let Err(error) = app.keyward.sessions.ask_reset(&reader.visitor.context, &email).await {
        return reader.refused(&error.into());
    }
    let (title, email) = (reader.language.say("Look into your mail", "メールをご確認ください"), escape(&email));
    let meaning = reader.language.say(
        format!("If <b>{email}</b> has an account here, a link is on its way. It is good for 30 minutes."),
        format!("<b>{email}</b>のアカウントがあれば、リンクをお送りします。有効期間は30分です。"),
    );
    reader.tell(StatusCode::ACCEPTED, title, &meaning)
}
