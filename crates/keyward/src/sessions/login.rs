//! Signing in: the password first, then the second factor where there is one.

use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::secret::Secret;
use serde_json::{Value, json};

use super::attempts::{Subjects, source_of};
use super::factors::{Factors, Proof};
use super::passkeys::Ceremony;
use super::sql as statements;
use super::{Client, IssuedTokens, PersonRow, Sessions, Shown, address_of, as_person, vault};
use crate::accounts::passwords::MAX_BYTES;
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::{Actor, ActorKind, Context};
use crate::db::sql;
use crate::error::{Error, Result};

/// How long the second step may take, and how many codes it may try (statements T-05, T-06).
pub const PENDING_SECONDS: i64 = 5 * 60;
const PENDING_TRIES: i64 = 5;
const PENDING_PREFIX: &str = "kwl";
const DEVICE_PREFIX: &str = "kwd";
/// How long a device is trusted.
const DEVICE_DAYS: i64 = 30;

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
        let account = address_of(&credentials.email);
        let known = self.person_by_email(&account).await?;
        let person = known.clone();
        let device = match (&credentials.device, &person) {
            (Some(device), Some(person)) if self.is_trusted(device, person.id).await? => Some(device),
            _ => None,
        };
        let source = device.cloned().unwrap_or_else(|| source_of(context.ip));
        let subjects = Subjects::of(&account, &source, device.is_some());
        let attempt = Attempt { method: "password", vouched_account: None };
        if let Err(refused) = self.count_try(&subjects).await {
            self.note_failure(context, attempt, known.as_ref(), &refused.detail).await;
            return Err(refused);
        }
        let stored = person.as_ref().and_then(|person| person.password_hash.clone());
        let verified = match self.passwords.verify(&credentials.password, stored).await {
            Ok(verified) => verified,
            Err(refused) => {
                self.note_failure(context, attempt, known.as_ref(), &refused.detail).await;
                return Err(refused);
            }
        };
        let Some(mut person) = person.filter(|person| verified.is_right && person.disabled_at.is_none()) else {
            let refused = Error::new(Code::InvalidCredentials, Code::InvalidCredentials.meaning());
            self.note_failure(context, attempt, known.as_ref(), "wrong e-mail address or password").await;
            return Err(refused);
        };
        self.forget_tries(&subjects).await?;
        if verified.is_outdated {
            self.rehash(&mut person, &credentials.password).await?;
        }
        let context = as_person(context, &person);
        let factors = self.factors(person.id).await?;
        let mut change = Change::begin(&self.ground, &context).await?;
        self.hold(&mut change, &person).await?;
        if factors.is_any() && device.is_none() {
            return self.await_factor(change, client, &person, &factors).await;
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
    ) -> Result<SignedIn> {
        let token = vault::new_token(PENDING_PREFIX);
        let expires_at = change.now().plus_seconds(PENDING_SECONDS);
        let insert = sql(statements::INSERT_PENDING).bind(vault::digest(&token)).bind(person.id).bind(client.mark());
        insert.bind(expires_at).execute(change.tx()).await?;
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
        let digest = vault::digest(login_token);
        let attempt = sql(statements::TRY_PENDING).bind(digest.clone()).bind(client.mark()).bind(self.ground.now());
        let mut tx = self.ground.db.begin().await?;
        let person: Option<(Id<id::User>,)> = attempt.bind(PENDING_TRIES).optional(&mut tx).await?;
        tx.commit().await?;
        let Some((person,)) = person else {
            return Err(Error::new(Code::InvalidToken, Code::InvalidToken.meaning()));
        };
        let person = self.person(person).await?;
        let context = as_person(context, &person);
        let attempt = Attempt { method: proof.method(), vouched_account: None };
        if let Err(refused) = self.count_code(&person.id.to_string()).await {
            self.note_failure(&context, attempt, Some(&person), &refused.detail).await;
            return Err(refused);
        }
        let proven = self.prove(&context, &person, proof, &Ceremony::SecondFactor(login_token)).await;
        let (mut change, told) = match proven {
            Ok(proven) => proven,
            Err(refused) => {
                self.note_failure(&context, attempt, Some(&person), &refused.detail).await;
                return Err(refused);
            }
        };
        // Two right codes at the same time: only one finds the sign-in still waiting. A new password ends the waiting.
        if sql(statements::END_PENDING).bind(digest).execute(change.tx()).await? == 0 {
            return Err(Error::new(Code::InvalidToken, Code::InvalidToken.meaning()));
        }
        self.hold(&mut change, &person).await?;
        let now = change.now();
        let shown = Shown::now(now, true, Some(proof.method()));
        let issued = self.open_session(&mut change, person.id, client, shown).await?;
        let device = trust.then(|| vault::new_token(DEVICE_PREFIX));
        if let Some(device) = &device {
            let insert = sql(statements::INSERT_DEVICE).bind(vault::digest(device)).bind(person.id);
            insert.bind(now.plus_days(DEVICE_DAYS)).execute(change.tx()).await?;
        }
        change.commit(signed_in(&issued, &person, told)).await?;
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
