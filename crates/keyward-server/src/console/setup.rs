//! The set-up page behind the one-time link that the first start prints.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use keyward::accounts::passwords::least_chars;
use keyward::accounts::setup::SetupRequest;
use keyward::context::Context;
use keyward_core::problem::Code;
use keyward_core::secret::Secret;
use serde::Deserialize;

use super::form::{Fault, Field, Form};
use super::link::Reader;
use super::page::escape;
use crate::app::SharedApp;

const PATH: &str = "/setup";

pub fn router() -> Router<SharedApp> {
    Router::new().route(PATH, get(ask).post(found))
}

#[derive(Default, Deserialize)]
struct Answers {
    token: String,
    email: String,
    organization: String,
    #[serde(default)]
    password: String,
    again: Option<String>,
}

async fn ask(State(app): State<SharedApp>, request: Request) -> Response {
    let reader = match Reader::arrived(&app, request).await {
        Ok(reader) => reader,
        Err(answer) => return answer,
    };
    match app.keyward.setup.check_token(reader.token()).await {
        Ok(()) => {
            let page = || {
                let empty = Answers { token: reader.token().to_owned(), ..Answers::default() };
                shown(&reader, StatusCode::OK, &empty, &[])
            };
            reader.put_aside(PATH).unwrap_or_else(page)
        }
        Err(error) => gone(&reader, error),
    }
}

async fn found(State(app): State<SharedApp>, request: Request) -> Response {
    let (reader, answers) = match Reader::sent::<Answers>(&app, request).await {
        Ok(sent) => sent,
        Err(answer) => return answer,
    };
    let keyward = &app.keyward;
    if let Err(error) = keyward.setup.check_token(&answers.token).await {
        return gone(&reader, error);
    }
    let wrong = |faults: &[Fault]| shown(&reader, StatusCode::UNPROCESSABLE_ENTITY, &answers, faults);
    let differing = Fault::unless_same(&answers.password, answers.again.as_deref(), reader.language);
    if !differing.is_empty() {
        return wrong(&differing);
    }
    let request = SetupRequest {
        email: answers.email.clone(),
        organization: answers.organization.clone(),
        password: Some(answers.password.clone()).filter(|password| !password.is_empty()).map(Secret::new),
    };
    match keyward.keys.set_up(&keyward.setup, &Context::system("setup"), &request, Some(&answers.token)).await {
        Ok(issued) => {
            let (title, meaning) = reader.language.say(
                ("Ready", "This is your first service key. It is shown only now; keep it safe."),
                (
                    "準備ができました",
                    "最初のサービスキーです。表示されるのは今回だけですので、安全な場所に保管してください。",
                ),
            );
            let next = reader.language.say(
                "Next: <a href=\"/docs\">the API reference</a>.",
                "次は<a href=\"/docs\">API リファレンス</a>（英語）をご覧ください。",
            );
            let key = escape(issued.secret.expose());
            let body = format!("<h1>{title}</h1><p class=\"lead\">{meaning}</p><pre>{key}</pre><p>{next}</p>");
            reader.forgetting(reader.answer(StatusCode::CREATED, title, &body))
        }
        Err(error) if error.code.status() == 422 => wrong(&Fault::of(&error, reader.language)),
        Err(error) => gone(&reader, error),
    }
}

fn shown(reader: &Reader, status: StatusCode, answers: &Answers, faults: &[Fault]) -> Response {
    let language = reader.language;
    let email = Field {
        name: "email",
        label: language.say("E-mail", "メールアドレス"),
        attributes: "type=\"email\" required maxlength=\"254\" autocomplete=\"username\"",
        value: &answers.email,
        ..Field::default()
    };
    let organization = Field {
        name: "organization",
        label: language.say("Organization", "組織名"),
        attributes: "required maxlength=\"200\" autocomplete=\"organization\"",
        value: &answers.organization,
        ..Field::default()
    };
    let least = least_chars(false);
    let hint = language.say(
        format!("May be left out for now; else {least} characters or more."),
        format!("今は省略できます。設定する場合は{least}文字以上にしてください。"),
    );
    let form = Form::to(PATH, Some(("token", &answers.token)), faults, language).field(&email).field(&organization);
    let form = form.new_password("password", &hint, &format!("minlength=\"{least}\""), language);
    let form = form.button(language.say("Set up", "設定する"));
    let title = language.say("Set up Keyward", "Keyward の初期設定");
    let lead = language.say(
        "The first organization, its owner, and a service key.",
        "最初の組織とそのオーナー、サービスキーを作成します。",
    );
    reader.answer(status, title, &format!("<h1>{title}</h1><p class=\"lead\">{lead}</p>{form}"))
}

fn gone(reader: &Reader, mut error: keyward::Error) -> Response {
    // Somebody else was faster: the link is as good as used.
    if error.code == Code::Conflict {
        error.code = Code::Gone;
    }
    let title = reader.language.say("This link is no longer valid", "このリンクは無効です");
    let meaning = reader.language.say(
        "It was used, or is older than 15 minutes. If this instance is not set up yet, restart the server for a new link, or run \
         <code>keyward setup</code>.",
        "使用済みか、発行から15分が過ぎています。初期設定がまだの場合は、サーバーを再起動して新しいリンクを表示するか、\
         <code>keyward setup</code>を実行してください。",
    );
    reader.gone(error, title, meaning)
}
