//! Challenges: what an authenticator is asked, kept in the database for five minutes, so that any node takes the answer. Each
//! is bound to what it was asked for, and spent by the first answer, right or wrong.

use std::time::Duration;

use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::{Client, Present, Sessions, vault};
use super::{Question, sql as statements};
use crate::db::{Json, sql};
use crate::error::{Error, Result};

pub(super) const LIFETIME: Duration = Duration::from_secs(5 * 60);

/// What a challenge is asked for. It can be answered for nothing else.
pub(in crate::sessions) enum Ceremony<'a> {
    /// A new passkey, within this session.
    Register(Id<id::Session>),
    /// A sign-in with nothing but a passkey, from this client.
    LogIn(&'a Client),
    /// The second step of the sign-in with this token.
    SecondFactor(&'a str),
    /// A fresh proof within this session.
    StepUp(Id<id::Session>),
}

impl Ceremony<'_> {
    fn mark(&self) -> Vec<u8> {
        let text = match self {
            Self::Register(session) => format!("register\n{session}"),
            Self::LogIn(client) => format!("log in\n{:?}", client.mark()),
            Self::SecondFactor(login_token) => format!("second factor\n{login_token}"),
            Self::StepUp(session) => format!("step up\n{session}"),
        };
        vault::digest(&text)
    }
}

impl Sessions {
    /// Asks whoever is there for a passkey; the authenticator offers those that it has.
    pub async fn ask_passkey_to_log_in(&self, client: &Client) -> Result<Question> {
        self.ask_passkey(&Ceremony::LogIn(client), &[]).await
    }

    /// Asks for a passkey as the second step of a sign-in.
    pub async fn ask_passkey_as_second_factor(&self, client: &Client, login_token: &str) -> Result<Question> {
        let person = self.pending(client, login_token).await?;
        self.ask_passkey_of(person, &Ceremony::SecondFactor(login_token)).await
    }

    /// Asks for a passkey as a fresh proof within a session.
    pub async fn ask_passkey_to_step_up(&self, present: &Present) -> Result<Question> {
        self.ask_passkey_of(present.person, &Ceremony::StepUp(present.session)).await
    }

    async fn ask_passkey_of(&self, person: Id<id::User>, ceremony: &Ceremony<'_>) -> Result<Question> {
        let allowed = self.credential_ids(person).await?;
        if allowed.is_empty() {
            return Err(Error::new(Code::Conflict, "There is no passkey; show another second factor."));
        }
        self.ask_passkey(ceremony, &allowed).await
    }

    /// `allowed`: the credentials that may answer; any when empty.
    async fn ask_passkey(&self, ceremony: &Ceremony<'_>, allowed: &[Vec<u8>]) -> Result<Question> {
        let (asked, state) =
            self.relying_party()?.start_discoverable_authentication().map_err(|error| internal(&error))?;
        let mut options = json!(asked.public_key);
        options["allowCredentials"] =
            allowed.iter().map(|id| json!({ "type": "public-key", "id": base64(id) })).collect();
        self.ask(ceremony, options, &state).await
    }

    /// Keeps what the answer will be judged by.
    pub(super) async fn ask<S: Serialize>(
        &self,
        ceremony: &Ceremony<'_>,
        options: Value,
        state: &S,
    ) -> Result<Question> {
        let challenge = self.ground.new_id::<id::Challenge>();
        let expires_at = self.ground.now().plus_seconds(LIFETIME.as_secs().cast_signed());
        let insert = sql(statements::INSERT_CHALLENGE).bind(challenge).bind(ceremony.mark());
        insert.bind(Json(state)).bind(expires_at).execute(&self.ground.db).await?;
        Ok(Question { challenge, options })
    }

    /// Takes a challenge out of the world, in a transaction of its own: whatever its answer is, there is no second one.
    pub(in crate::sessions) async fn spend_challenge<S: DeserializeOwned>(
        &self,
        challenge: Id<id::Challenge>,
        ceremony: &Ceremony<'_>,
    ) -> Result<S> {
        let spend = sql(statements::SPEND_CHALLENGE).bind(challenge).bind(ceremony.mark()).bind(self.ground.now());
        let mut tx = self.ground.db.begin().await?;
        let state: Option<(Json<S>,)> = spend.optional(&mut tx).await?;
        tx.commit().await?;
        let unknown =
            "The challenge is unknown, has run out or was answered already, or it was asked for something else.";
        state.map(|(Json(state),)| state).ok_or_else(|| Error::new(Code::InvalidPasskey, unknown))
    }

    pub(super) async fn credential_ids(&self, person: Id<id::User>) -> Result<Vec<Vec<u8>>> {
        let ids: Vec<(Vec<u8>,)> = sql(statements::CREDENTIAL_IDS).bind(person).all(&self.ground.db).await?;
        Ok(ids.into_iter().map(|(id,)| id).collect())
    }
}

pub(super) fn internal(error: &webauthn_rs::prelude::WebauthnError) -> Error {
    Error::new(Code::Internal, Code::Internal.meaning()).with_source(error.to_string())
}

/// As WebAuthn writes bytes in JSON.
fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
