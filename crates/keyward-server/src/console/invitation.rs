//! The page behind the link of an invitation. Who has no account yet gives a name and a password; who has one only agrees.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use keyward::accounts::invitations::{Acceptance, Invited};
use keyward::accounts::passwords::least_chars;
use keyward_core::access::Role;
use keyward_core::secret::Secret;
use serde::Deserialize;

use super::form::{Fault, Field, Form};
use super::language::Language;
use super::link::Reader;
use super::page::escape;
use crate::app::SharedApp;

const PATH: &str = "/invitation";

pub fn router() -> Router<SharedApp> {
    Router::new().route(PATH, get(ask).post(accept))
}

#[derive(Deserialize)]
struct Answers {
    token: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: String,
    again: Option<String>,
}

async fn ask(State(app): State<SharedApp>, request: Request) -> Response {
    let reader = match Reader::arrived(&app, request).await {
        Ok(reader) => reader,
        Err(answer) => return answer,
    };
    match app.keyward.people.invited(reader.token()).await {
        Ok(invited) => {
            let page = || shown(&reader, StatusCode::OK, &invited, reader.token(), "", &[]);
            reader.put_aside(PATH).unwrap_or_else(page)
        }
        Err(error) => gone(&reader, error),
    }
}

async fn accept(State(app): State<SharedApp>, request: Request) -> Response {
    let (reader, answers) = match Reader::sent::<Answers>(&app, request).await {
        Ok(sent) => sent,
        Err(answer) => return answer,
    };
    let people = &app.keyward.people;
    let invited = match people.invited(&answers.token).await {
        Ok(invited) => invited,
        Err(error) => return gone(&reader, error),
    };
    let Answers { token, name, password, again } = answers;
    let wrong = |faults: &[Fault]| shown(&reader, StatusCode::UNPROCESSABLE_ENTITY, &invited, &token, &name, faults);
    let differing = Fault::unless_same(&password, again.as_deref(), reader.language);
    if !differing.is_empty() {
        return wrong(&differing);
    }
    let acceptance =
        Acceptance { token: token.clone(), name: Some(name.clone()), password: Some(Secret::new(password)) };
    match people.accept(&reader.visitor.context, &acceptance).await {
        Ok(_) => joined(&reader, &invited),
        Err(error) if error.code.status() == 422 => wrong(&Fault::of(&error, reader.language)),
        Err(error) if error.code.status() == 409 => {
            let title = reader.language.say("You are a member already", "すでにメンバーです");
            let meaning = reader.language.say(
                "Nothing was changed: you have a role there.",
                "すでに役割が割り当てられているため、変更は行われていません。",
            );
            reader.done(StatusCode::CONFLICT, title, meaning)
        }
        Err(error) => gone(&reader, error),
    }
}

fn shown(
    reader: &Reader,
    status: StatusCode,
    invited: &Invited,
    token: &str,
    name: &str,
    faults: &[Fault],
) -> Response {
    let language = reader.language;
    let (place, role) = (place_of(invited, language), role_of(&invited.role, language));
    let intro = language.say(
        format!("<h1>You are invited to {place}</h1><p class=\"lead\">With the role <b>{role}</b>."),
        format!("<h1>{place}への招待</h1><p class=\"lead\">役割は<b>{role}</b>です。"),
    );
    let form = Form::to(PATH, Some(("token", token)), faults, language).account(&invited.email, language);
    let (more, form) = match invited.person {
        Some(_) => (
            language.say(
                " You have an account already: nothing more is asked.",
                "すでにアカウントをお持ちのため、承諾するだけで参加できます。",
            ),
            form,
        ),
        None => {
            let name = Field {
                name: "name",
                label: language.say("Name", "お名前"),
                attributes: "required maxlength=\"200\" autocomplete=\"name\"",
                value: name,
                ..Field::default()
            };
            let least = least_chars(false);
            let hint = language.say(
                format!("{least} characters or more. A few words in a row are fine."),
                format!("{least}文字以上。単語をいくつか並べたものでもかまいません。"),
            );
            let least = format!("required minlength=\"{least}\"");
            ("", form.field(&name).new_password("password", &hint, &least, language))
        }
    };
    let form = form.button(language.say("Accept invitation", "招待を承諾する"));
    reader.answer(status, language.say("Invitation", "招待"), &format!("{intro}{more}</p>{form}"))
}

fn joined(reader: &Reader, invited: &Invited) -> Response {
    let (place, email) = (place_of(invited, reader.language), escape(&invited.email));
    let (title, meaning) = reader.language.say(
        (format!("You have joined {place}"), format!("From now on, sign in as <b>{email}</b> with your password.")),
        (format!("{place}に参加しました"), format!("今後は<b>{email}</b>とパスワードでサインインしてください。")),
    );
    reader.done(StatusCode::OK, &title, &meaning)
}

fn gone(reader: &Reader, error: keyward::Error) -> Response {
    let title = reader.language.say("This invitation is no longer valid", "この招待は無効です");
    let meaning = reader.language.say(
        "It was accepted or withdrawn, or is older than seven days. Ask whoever invited you for a new one.",
        "すでに承諾または取り消されたか、発行から7日が過ぎています。招待した方に、もう一度招待を依頼してください。",
    );
    reader.gone(error, title, meaning)
}

/// Where somebody is invited to, as HTML.
fn place_of(invited: &Invited, language: Language) -> String {
    match &invited.organization {
        Some(name) => language.say(escape(name), format!("{} ", escape(name))),
        None => "Keyward".to_owned(),
    }
}

fn role_of(role: &str, language: Language) -> String {
    let known = Role::ALL.into_iter().find(|known| known.as_str() == role);
    let japanese = match known {
        Some(Role::Owner) => "オーナー",
        Some(Role::Admin) => "管理者",
        Some(Role::Developer) => "開発者",
        Some(Role::Auditor) => "監査担当者",
        Some(Role::Viewer) => "閲覧者",
        None => role,
    };
    escape(language.say(role, japanese))
}
