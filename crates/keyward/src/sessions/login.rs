//! Signing in: the password first, then the second factor where there is one.

use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::secret::Secret;
use keyward_core::time::Timestamp;
use serde_json::{Value, json};

use super::attempts::{Subjects, source_of};
use super::factors::{Factors, Proof};
use super::passkeys::Ceremony;
use super::shown::{Asked, Shown};
use super::sql as statements;
use super::{Client, IssuedTokens, PersonRow, Sessions, address_of, as_person, vault};
use crate::accounts::passwords::MAX_BYTES;
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::{Actor, ActorKind, Context};
use crate::db::{row, sql};
use crate::error::{Error, Result};

/// How long the second step may take, and how many codes it may try (statements T-05, T-06).
pub const PENDING_SECONDS: i64 = 5 * 60;
const PENDING_TRIES: i64 = 5;
const PENDING_PREFIX: &str = "kwl";
const DEVICE_PREFIX: &str = "kwd";
/// How long a device is trusted.
const DEVICE_DAYS: i64 = 30;

row! {
    /// A sign-in that waits for its second factor, with what a provider that vouches for it has said.
    struct PendingRow {
        person_id: Id<id::User>,
        vouched_methods: Option<String>,
        vouched_class: Option<String>,
        vouched_at: Option<Timestamp>,
    }
}

/// What somebody signs in with.
pub struct Credentials {
    pub email: String,
    pub password: Secret<String>,
    /// The token of a device that the account's owner trusts.
    pub device: Option<String>,
}

/// What a failed sign-in was, as the book is told.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub method: &'static str,
    /// What an identity provider calls the visitor.
    pub vouched_account: Option<&'a str>,
}

/// Where a sign-in stands.
pub enum SignedIn {
    Done(IssuedTokens),
    /// The second factor is awaited.
    Pending {
        login_token: Secret<String>,
        methods: Vec<&'static str>,
    },
}

impl Sessions {
    /// The first step. Unknown account, wrong password and disabled account answer alike, and take alike.
    pub async fn log_in(&self, context: &Context, client: &Client, credentials: &Credentials) -> Result<SignedIn> {
        // No account has such a password; hashing it would only cost time.
        if credentials.password.expose().len() > MAX_BYTES {
            return Err(Error::field("/password", format!("is longer than {MAX_BYTES} bytes")));
        }
        let known = self.person_by_email(&credentials.email).await?;
        let signed_in = self.try_password(context, client, credentials, known.clone()).await;
        if let Err(refused) = &signed_in {
            let attempt = Attempt { method: "password", vouched_account: None };
            self.note_failure(context, attempt, known.as_ref(), &refused.detail).await;
        }
        signed_in
    }

    async fn try_password(
        &self,
        context: &Context,
        client: &Client,
        credentials: &Credentials,
        person: Option<PersonRow>,
    ) -> Result<SignedIn> {
        let device = match (&credentials.device, &person) {
            (Some(device), Some(person)) if self.is_trusted(device, person.id).await? => Some(device),
            _ => None,
        };
        let source = device.cloned().unwrap_or_else(|| source_of(context.ip));
        let subjects = Subjects::of(&address_of(&credentials.email), &source, device.is_some());
        self.count_try(&subjects).await?;
        let stored = person.as_ref().and_then(|person| person.password_hash.clone());
        let verified = self.passwords.verify(&credentials.password, stored).await?;
        let Some(mut person) = person.filter(|person| verified.is_right && person.disabled_at.is_none()) else {
            return Err(Error::new(Code::InvalidCredentials, Code::InvalidCredentials.meaning()));
        };
        self.forget_tries(&subjects).await?;
        if verified.is_outdated {
            self.rehash(&mut person, &credentials.password).await?;
        }
        let context = as_person(context, &person);
        let factors = self.factors(person.id).await?;
        let mut change = self.begin_as(&context, &person).await?;
        if factors.is_any() && device.is_none() {
            return self.await_factor(change, client, &person, &factors, Asked::default()).await;
        }
        let shown = Shown::now(change.now(), true, None);
        let issued = self.open_session(&mut change, person.id, client, shown).await?;
        change.commit(signed_in(&issued, &person, json!({ "method": "password" }))).await?;
        Ok(SignedIn::Done(issued))
    }

    pub(super) async fn await_factor(
        &self,
        mut change: Change<'_>,
        client: &Client,
        person: &PersonRow,
        factors: &Factors,
        asked: Asked,
    ) -> Result<SignedIn> {
        let token = vault::new_token(PENDING_PREFIX);
        let expires_at = change.now().plus_seconds(PENDING_SECONDS);
        let insert = sql(statements::INSERT_PENDING).bind(vault::digest(&token)).bind(person.id).bind(client.mark());
        let insert = insert.bind(expires_at).bind(asked.methods).bind(asked.class);
        insert.bind(asked.at).execute(change.tx()).await?;
        change.commit(Event::new(EventType::Security, "second_factor_awaited", "user", person.id)).await?;
        let methods = factors.methods(self.relying_party.is_some());
        Ok(SignedIn::Pending { login_token: Secret::new(token), methods })
    }

    /// Whose second step this token awaits, from the client that took the first.
    pub(super) async fn pending(&self, client: &Client, login_token: &str) -> Result<Id<id::User>> {
        let find = sql(statements::FIND_PENDING).bind(vault::digest(login_token)).bind(client.mark());
        let find = find.bind(self.ground.now()).bind(PENDING_TRIES);
        let person: Option<(Id<id::User>,)> = find.optional(&self.ground.db).await?;
        person.map(|(person,)| person).ok_or_else(|| Error::new(Code::InvalidToken, Code::InvalidToken.meaning()))
    }

    /// The second step, from the client that took the first. With `trust`, answers also the token of a trusted device.
    pub async fn log_in_with_factor(
        &self,
        context: &Context,
        client: &Client,
        login_token: &str,
        proof: &Proof,
        trust: bool,
    ) -> Result<(IssuedTokens, Option<Secret<String>>)> {
        let attempt = Attempt { method: proof.method(), vouched_account: None };
        let digest = vault::digest(login_token);
        let count = sql(statements::TRY_PENDING).bind(digest).bind(client.mark()).bind(self.ground.now());
        let mut tx = self.ground.db.begin().await?;
        let waiting: Option<PendingRow> = count.bind(PENDING_TRIES).optional(&mut tx).await?;
        tx.commit().await?;
        let Some(waiting) = waiting else {
            self.note_failure(context, attempt, None, Code::InvalidToken.meaning()).await;
            return Err(Error::new(Code::InvalidToken, Code::InvalidToken.meaning()));
        };
        let person = self.person(waiting.person_id).await?;
        let context = as_person(context, &person);
        let signed_in = self.try_factor(&context, client, (&person, waiting), (login_token, proof), trust).await;
        if let Err(refused) = &signed_in {
            self.note_failure(&context, attempt, Some(&person), &refused.detail).await;
        }
        signed_in
    }

    async fn try_factor(
        &self,
        context: &Context,
        client: &Client,
        (person, waiting): (&PersonRow, PendingRow),
        (login_token, proof): (&str, &Proof),
        trust: bool,
    ) -> Result<(IssuedTokens, Option<Secret<String>>)> {
        self.count_code(&person.id.to_string()).await?;
        let ceremony = Ceremony::SecondFactor(login_token);
        let (mut change, told) = self.prove(context, person, proof, &ceremony).await?;
        // Two right codes at the same time: only one finds the sign-in still waiting. A new password ends the waiting.
        let end = sql(statements::END_PENDING).bind(vault::digest(login_token));
        if end.execute(change.tx()).await? == 0 {
            return Err(Error::new(Code::InvalidToken, Code::InvalidToken.meaning()));
        }
        let now = change.now();
        let asked = Asked { methods: waiting.vouched_methods, class: waiting.vouched_class, at: waiting.vouched_at };
        let shown = Shown::now(now, true, Some(proof.method())).to(asked);
        let issued = self.open_session(&mut change, person.id, client, shown).await?;
        let device = trust.then(|| vault::new_token(DEVICE_PREFIX));
        if let Some(device) = &device {
            let insert = sql(statements::INSERT_DEVICE).bind(vault::digest(device)).bind(person.id);
            insert.bind(now.plus_days(DEVICE_DAYS)).execute(change.tx()).await?;
        }
        change.commit(signed_in(&issued, person, told)).await?;
        self.outbox.wake();
        self.forget_codes(&person.id.to_string()).await?;
        Ok((issued, device.map(Secret::new)))
    }

    pub(super) async fn is_trusted(&self, device: &str, person: Id<id::User>) -> Result<bool> {
        let find = sql(statements::FIND_DEVICE).bind(vault::digest(device)).bind(person).bind(self.ground.now());
        Ok(find.optional::<(i64,)>(&self.ground.db).await?.is_some())
    }

    /// The same password, hashed as passwords are hashed today; unless it was changed meanwhile.
    async fn rehash(&self, person: &mut PersonRow, password: &Secret<String>) -> Result<()> {
        let hash = self.passwords.hash(password).await?;
        let set = sql(statements::SET_HASH).bind(person.id).bind(hash.clone()).bind(person.password_hash.clone());
        if set.execute(&self.ground.db).await? == 1 {
            person.password_hash = Some(hash);
        }
        Ok(())
    }

    /// One event for each failure. What was typed as an address is kept only where it is an account's: people type
    /// passwords there.
    pub(super) async fn note_failure(
        &self,
        context: &Context,
        attempt: Attempt<'_>,
        person: Option<&PersonRow>,
        why: &str,
    ) {
        self.metrics.failed_logins.inc();
        let target = person.map_or_else(|| "unknown".to_owned(), |person| person.id.to_string());
        let mut event = Event::new(EventType::Security, "login_failed", "user", target).failed(why);
        event.resource.name = person.map(|person| person.email.clone());
        let mut told = json!({ "method": attempt.method });
        if let Some(account) = attempt.vouched_account {
            told["account"] = account.chars().take(254).collect::<String>().into();
        }
        let event = event.details(told);
        let actor = Actor { kind: ActorKind::External, id: "sign-in".to_owned(), name: None };
        if let Err(error) = self.audit.note(&Context { actor, ..context.clone() }, event).await {
            tracing::error!(%error, "a failed sign-in could not be noted");
        }
    }
}

/// `told` says by which method.
pub(super) fn signed_in(issued: &IssuedTokens, person: &PersonRow, told: Value) -> Event {
    Event::new(EventType::Security, "login", "session", issued.session).named(&person.email).details(told)
}
