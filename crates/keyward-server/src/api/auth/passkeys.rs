//! Passkeys over HTTP. Each ceremony has two calls: `begin` answers what goes to `navigator.credentials` as `publicKey`, and
//! what it gives comes back with the challenge's id.

use axum::Json as Answer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use keyward::limits::callers::Call::Authentication;
use keyward::sessions::passkeys::{Assertion, Credential, NewCredential, PasskeyRow, Question};
use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{SIGNS_IN, TokensView, Visitor, issued, session_of, to_its_end};
use crate::api::caller::{Caller, Target};
use crate::api::json::Json;
use crate::api::page::List;
use crate::api::route::{
    Access::{Open, Person},
    Route, delete, get, patch, post,
};
use crate::app::SharedApp;
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    let (asks, one) = ("/v1/auth/passkeys/second-factor/begin", "/v1/auth/passkeys/{id}");
    vec![
        post("/v1/auth/passkeys/register/begin", Person, "Begin to register a passkey", begin_registration)
            .answers::<QuestionView>(200)
            .limited(Authentication),
        post("/v1/auth/passkeys/register/finish", Person, "Register a passkey", register)
            .takes::<NewPasskeyBody>()
            .answers::<PasskeyView>(201)
            .limited(Authentication),
        post(
            "/v1/auth/passkeys/login/begin",
            Open(SIGNS_IN),
            "Begin a sign-in with nothing but a passkey",
            begin_login,
        )
        .answers::<QuestionView>(200)
        .limited(Authentication),
        post("/v1/auth/passkeys/login/finish", Open(SIGNS_IN), "Sign in with a passkey", log_in)
            .takes::<PasskeyLoginBody>()
            .answers::<TokensView>(200)
            .limited(Authentication),
        post(asks, Open(SIGNS_IN), "Ask for a passkey as the second step of a sign-in", begin_second_factor)
            .takes::<SecondFactorQuestionBody>()
            .answers::<QuestionView>(200)
            .limited(Authentication),
        post(
            "/v1/auth/passkeys/step-up/begin",
            Person,
            "Ask for a passkey as a fresh proof of identity",
            begin_step_up,
        )
        .answers::<QuestionView>(200)
        .limited(Authentication),
        get("/v1/auth/passkeys", Person, "List one's own passkeys", list).answers::<List<PasskeyView>>(200),
        get(one, Person, "Read one of one's own passkeys", show).answers::<PasskeyView>(200),
        patch(one, Person, "Rename a passkey", rename).takes::<PasskeyNameBody>().answers::<PasskeyView>(200),
        delete(one, Person, "Take a passkey away", remove).answers_nothing(),
    ]
}

/// What an authenticator is asked, good once and for five minutes.
#[derive(Debug, Serialize, JsonSchema)]
struct QuestionView {
    #[schemars(with = "String")]
    challenge_id: Id<id::Challenge>,
    /// For `navigator.credentials`, in WebAuthn's own words: `parseCreationOptionsFromJSON()` and
    /// `parseRequestOptionsFromJSON()` read it.
    #[serde(rename = "publicKey")]
    #[schemars(with = "Map<String, Value>")]
    public_key: Value,
}

impl From<Question> for QuestionView {
    fn from(question: Question) -> Self {
        Self { challenge_id: question.challenge, public_key: question.options }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct PasskeyView {
    #[schemars(with = "String")]
    id: Id<id::Passkey>,
    name: String,
    #[schemars(with = "String")]
    created_at: Timestamp,
    #[schemars(with = "Option<String>")]
    last_used_at: Option<Timestamp>,
}

impl From<PasskeyRow> for PasskeyView {
    fn from(row: PasskeyRow) -> Self {
        let PasskeyRow { id, name, created_at, last_used_at } = row;
        Self { id, name, created_at, last_used_at }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewPasskeyBody {
    #[schemars(with = "String")]
    challenge_id: Id<id::Challenge>,
    /// What its owner calls it, e.g. "work laptop".
    name: String,
    /// What `navigator.credentials.create()` gave, by `toJSON()` (WebAuthn Level 3, RegistrationResponseJSON).
    #[schemars(with = "Map<String, Value>")]
    credential: NewCredential,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PasskeyLoginBody {
    #[schemars(with = "String")]
    challenge_id: Id<id::Challenge>,
    /// What `navigator.credentials.get()` gave, by `toJSON()` (WebAuthn Level 3, AuthenticationResponseJSON).
    #[schemars(with = "Map<String, Value>")]
    credential: Credential,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SecondFactorQuestionBody {
    login_token: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PasskeyNameBody {
    name: String,
}

const NO_STORE: [(header::HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

async fn begin_registration(State(app): State<SharedApp>, caller: Caller) -> Result<Answer<QuestionView>, Problem> {
    Ok(Answer(app.keyward.sessions.ask_new_passkey(session_of(&caller)?).await?.into()))
}

async fn register(
    State(app): State<SharedApp>,
    caller: Caller,
    Json(body): Json<NewPasskeyBody>,
) -> Result<impl IntoResponse, Problem> {
    let NewPasskeyBody { challenge_id, name, credential } = body;
    let (sessions, present) = (&app.keyward.sessions, session_of(&caller)?);
    let row = sessions.register_passkey(&caller.context, present, challenge_id, &name, &credential).await?;
    let location = format!("/v1/auth/passkeys/{}", row.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Answer(PasskeyView::from(row))))
}

async fn begin_login(State(app): State<SharedApp>, visitor: Visitor) -> Result<impl IntoResponse, Problem> {
    let question = app.keyward.sessions.ask_passkey_to_log_in(&visitor.client).await?;
    Ok((NO_STORE, Answer(QuestionView::from(question))))
}

async fn log_in(
    State(app): State<SharedApp>,
    visitor: Visitor,
    Json(body): Json<PasskeyLoginBody>,
) -> Result<Response, Problem> {
    let assertion = Assertion { challenge: body.challenge_id, credential: body.credential };
    let client = visitor.client.clone();
    let trying =
        async move { app.keyward.sessions.log_in_with_passkey(&visitor.context, &visitor.client, &assertion).await };
    Ok(issued(&client, &to_its_end(trying).await?))
}

async fn begin_second_factor(
    State(app): State<SharedApp>,
    visitor: Visitor,
    Json(body): Json<SecondFactorQuestionBody>,
) -> Result<impl IntoResponse, Problem> {
    let sessions = &app.keyward.sessions;
    let question = sessions.ask_passkey_as_second_factor(&visitor.client, &body.login_token).await?;
    Ok((NO_STORE, Answer(QuestionView::from(question))))
}

async fn begin_step_up(State(app): State<SharedApp>, caller: Caller) -> Result<Answer<QuestionView>, Problem> {
    Ok(Answer(app.keyward.sessions.ask_passkey_to_step_up(session_of(&caller)?).await?.into()))
}

async fn list(State(app): State<SharedApp>, caller: Caller) -> Result<Answer<List<PasskeyView>>, Problem> {
    let rows = app.keyward.sessions.passkeys(session_of(&caller)?.person).await?;
    Ok(Answer(List { items: rows.into_iter().map(Into::into).collect(), next_cursor: None }))
}

async fn show(
    State(app): State<SharedApp>,
    caller: Caller,
    Target(passkey): Target<id::Passkey>,
) -> Result<Answer<PasskeyView>, Problem> {
    Ok(Answer(app.keyward.sessions.passkey(session_of(&caller)?.person, passkey).await?.into()))
}

async fn rename(
    State(app): State<SharedApp>,
    caller: Caller,
    Target(passkey): Target<id::Passkey>,
    Json(body): Json<PasskeyNameBody>,
) -> Result<Answer<PasskeyView>, Problem> {
    let (sessions, person) = (&app.keyward.sessions, session_of(&caller)?.person);
    Ok(Answer(sessions.rename_passkey(&caller.context, person, passkey, &body.name).await?.into()))
}

async fn remove(
    State(app): State<SharedApp>,
    caller: Caller,
    Target(passkey): Target<id::Passkey>,
) -> Result<StatusCode, Problem> {
    app.keyward.sessions.remove_passkey(&caller.context, session_of(&caller)?, passkey).await?;
    Ok(StatusCode::NO_CONTENT)
}
