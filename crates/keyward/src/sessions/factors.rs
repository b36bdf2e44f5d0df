//! Second factors, whichever they are: which of them somebody has, the proof of one, the step-up that proves identity anew
//! within a session, and their end. Each kind has a file of its own: `totp`, `backup_codes`, `passkeys`.

use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::secret::Secret;
use serde_json::{Value, json};

use super::passkeys::{Assertion, Ceremony};
use super::shown::Shown;
use super::sql as statements;
use super::{Client, IssuedTokens, PersonRow, Present, SessionRow, Sessions, attempts};
use crate::announce::Subject;
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::{Tx, row, sql};
use crate::error::{Error, Result};

/// What is shown as a second factor.
pub enum Proof {
    Totp(String),
    BackupCode(String),
    Passkey(Box<Assertion>),
}

impl Proof {
    /// As the API and the book call it.
    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Totp(_) => "totp",
            Self::BackupCode(_) => "backup_code",
            Self::Passkey(_) => "passkey",
        }
    }
}

row! {
    /// What somebody has set up.
    pub(super) struct Factors { totp: bool, passkey: bool, backup_code: bool }
}

impl Factors {
    /// Whether a second factor is asked for. Backup codes stand in for one; alone they are none.
    pub fn is_any(&self) -> bool {
        self.totp || self.passkey
    }

    /// By their names, as a sign-in lists them. Without a host name nobody can show a passkey.
    pub fn methods(&self, asks_passkeys: bool) -> Vec<&'static str> {
        let passkey = self.passkey && asks_passkeys;
        let all = [(self.totp, "totp"), (self.backup_code, "backup_code"), (passkey, "passkey")];
        all.into_iter().filter_map(|(has, method)| has.then_some(method)).collect()
    }
}

/// A change that is to go on, in which a second factor was used up; and what the book is told of the factor.
pub(super) type Proven<'a> = (Change<'a>, Value);

pub(super) fn stale() -> Error {
    Error::new(Code::InsufficientUserAuthentication, Code::InsufficientUserAuthentication.meaning())
}

pub(super) fn wrong_code() -> Error {
    Error::new(Code::InvalidCode, Code::InvalidCode.meaning())
}

impl Sessions {
    pub(super) async fn factors(&self, person: Id<id::User>) -> Result<Factors> {
        Ok(sql(statements::FACTORS).bind(person).one(&self.ground.db).await?)
    }

    /// Whether a second factor is set up and confirmed.
    pub(super) async fn has_factor(&self, person: Id<id::User>) -> Result<bool> {
        Ok(self.factors(person).await?.is_any())
    }

    /// Takes the authenticator away.
    pub async fn disable_factor(&self, context: &Context, present: &Present) -> Result<()> {
        if !present.is_fresh(self.ground.now()) {
            return Err(stale());
        }
        self.remove_factors(context, present.person, &[statements::DELETE_TOTP], "totp_disabled").await
    }

    /// Takes every second factor away, passkeys as well, from somebody who has lost them; by whoever may manage members.
    pub async fn reset_factor(&self, context: &Context, person: Id<id::User>) -> Result<()> {
        let all = [statements::DELETE_TOTP, statements::DELETE_PASSKEYS];
        self.remove_factors(context, person, &all, "factors_reset").await
    }

    async fn remove_factors(
        &self,
        context: &Context,
        person: Id<id::User>,
        deletes: &[&'static str],
        action: &'static str,
    ) -> Result<()> {
        let mut change = self.begin_for(context, person).await?;
        for statement in deletes {
            sql(statement).bind(person).execute(change.tx()).await?;
        }
        end_what_stood_in(change.tx(), person).await?;
        change.touch(Subject::Person(person));
        change.commit(Event::new(EventType::Security, action, "user", person)).await?;
        Ok(())
    }

    /// Proves identity anew: the password, the second factor, or both. The session goes on under another id, with other
    /// tokens; whoever had the old ones has gained nothing (statement S-03).
    pub async fn step_up(
        &self,
        context: &Context,
        present: &Present,
        client: &Client,
        password: Option<&Secret<String>>,
        proof: Option<&Proof>,
    ) -> Result<IssuedTokens> {
        let stepped_up = self.try_stepping_up(context, present, client, password, proof).await;
        let method = proof.map_or("password", Proof::method);
        self.note_unproven(context, present, ("step_up_failed", method), stepped_up).await
    }

    async fn try_stepping_up(
        &self,
        context: &Context,
        present: &Present,
        client: &Client,
        password: Option<&Secret<String>>,
        proof: Option<&Proof>,
    ) -> Result<IssuedTokens> {
        let person = self.person(present.person).await?;
        if let Some(password) = password {
            let source = attempts::source_of(context.ip);
            let subjects = attempts::Subjects::of(&person.email, &source, false);
            self.count_try(&subjects).await?;
            if !self.passwords.verify(password, person.password_hash.clone()).await?.is_right {
                return Err(Error::new(Code::InvalidCredentials, Code::InvalidCredentials.meaning()));
            }
            self.forget_tries(&subjects).await?;
        }
        let (mut change, mut told) = match proof {
            Some(proof) => {
                self.count_code(&person.id.to_string()).await?;
                self.prove(context, &person, proof, &Ceremony::StepUp(present.session)).await?
            }
            None => (self.begin_as(context, &person).await?, json!({ "method": "password" })),
        };
        // Of two at the same time, one finds the session still there.
        if self.end_within(&mut change, present.session, present.person, "stepped_up").await? == 0 {
            return Err(Error::new(Code::Unauthenticated, Code::Unauthenticated.meaning()));
        }
        let before: SessionRow = sql(statements::FIND_SESSION).bind(present.session).one(change.tx()).await?;
        let shown = Shown::beside(before, change.now(), password.is_some(), proof.map(Proof::method));
        let issued = self.open_session(&mut change, present.person, client, shown).await?;
        // Beside the factor: whether the password was shown as well, and which session goes on in this one.
        told["password"] = json!(password.is_some());
        told["continues"] = json!(present.session);
        let event = Event::new(EventType::Security, "stepped_up", "session", issued.session);
        change.commit(event.details(told)).await?;
        self.outbox.wake();
        if proof.is_some() {
            self.forget_codes(&person.id.to_string()).await?;
        }
        Ok(issued)
    }

    /// One event, of this action, for a password, a code or a passkey that was wrong within a session; other refusals are noted
    /// where they are answered. The method is that of the second factor, where one was shown.
    pub(super) async fn note_unproven<T>(
        &self,
        context: &Context,
        present: &Present,
        (action, method): (&'static str, &'static str),
        outcome: Result<T>,
    ) -> Result<T> {
        let Err(refused) = &outcome else { return outcome };
        let method = match refused.code {
            Code::InvalidCredentials => "password",
            Code::InvalidCode | Code::CodeUsed | Code::InvalidPasskey => method,
            _ => return outcome,
        };
        let event = Event::new(EventType::Security, action, "session", present.session);
        let event = event.failed(refused.detail.clone()).details(json!({ "method": method }));
        self.audit.note(context, event).await?;
        outcome
    }

    /// Begins the change in which a second factor is used up, once, with the person held. Its try was counted before.
    pub(super) async fn prove<'a>(
        &'a self,
        context: &'a Context,
        person: &PersonRow,
        proof: &Proof,
        ceremony: &Ceremony<'_>,
    ) -> Result<Proven<'a>> {
        let told = json!({ "method": proof.method() });
        match proof {
            Proof::Totp(code) => {
                let mut change = self.begin_as(context, person).await?;
                self.use_code(&mut change, person.id, code).await?;
                Ok((change, told))
            }
            Proof::BackupCode(code) => {
                let mut change = self.begin_as(context, person).await?;
                self.use_backup_code(&mut change, person, code).await?;
                Ok((change, told))
            }
            Proof::Passkey(assertion) => {
                // The challenge is spent whatever comes of it, so before the change and apart from it.
                let asked = self.spend_challenge(assertion.challenge, ceremony).await?;
                self.prove_by_passkey(context, person, &assertion.credential, asked).await
            }
        }
    }
}

/// With the last second factor go the backup codes and the trusted devices, which stood in for it.
pub(super) async fn end_what_stood_in(tx: &mut Tx, person: Id<id::User>) -> Result<()> {
    let left: Factors = sql(statements::FACTORS).bind(person).one(&mut *tx).await?;
    if left.is_any() {
        return Ok(());
    }
    for statement in [statements::DELETE_BACKUP_CODES, statements::DELETE_DEVICES] {
        sql(statement).bind(person).execute(&mut *tx).await?;
    }
    Ok(())
}
