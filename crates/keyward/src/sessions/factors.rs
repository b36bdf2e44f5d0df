//! Second factors: time-based codes (RFC 6238) and backup codes, each accepted once, and the step-up that proves identity
//! anew within a session.

use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::secret::Secret;
use keyward_core::time::Timestamp;
use qrcode::QrCode;
use qrcode::render::svg;
use serde_json::json;
use totp_rs::{Algorithm, Builder, Totp};

use super::sql as statements;
use super::{Client, IssuedTokens, PersonRow, Present, Sessions, Shown, attempts};
use crate::announce::Subject;
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::{row, sql};
use crate::error::{Error, Result};

/// RFC 4226, 4: at least 128 bits, 160 recommended.
const SECRET_BYTES: usize = 20;
/// Codes of one step earlier and later are accepted: clocks differ, and typing takes time.
const SKEW_STEPS: u16 = 1;
const BACKUP_CODES: usize = 10;
/// 80 bits as 16 letters of base 32.
const BACKUP_BYTES: usize = 10;
const ISSUER: &str = "Keyward";

row! {
    struct TotpRow { sealed: Vec<u8>, last_step: i64, confirmed_at: Option<Timestamp> }
}

/// A kind of second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factor {
    Totp,
    BackupCode,
}

/// A code, and what it is said to be.
pub struct Proof {
    pub factor: Factor,
    pub code: String,
}

impl Proof {
    pub(super) fn method(&self) -> &'static str {
        match self.factor {
            Factor::Totp => "totp",
            Factor::BackupCode => "backup_code",
        }
    }
}

/// What an authenticator needs, shown once.
pub struct Enrolment {
    pub secret: Secret<String>,
    pub uri: Secret<String>,
    pub qr_svg: Secret<String>,
}

fn stale() -> Error {
    Error::new(Code::InsufficientUserAuthentication, Code::InsufficientUserAuthentication.meaning())
}

impl Sessions {
    /// Whether a second factor is set up and confirmed.
    pub(super) async fn has_factor(&self, person: Id<id::User>) -> Result<bool> {
        let row: Option<TotpRow> = sql(statements::FIND_TOTP).bind(person).optional(&self.ground.db).await?;
        Ok(row.is_some_and(|row| row.confirmed_at.is_some()))
    }

    /// Begins to set up an authenticator. It is asked for only once a code of it was confirmed.
    pub async fn enroll(&self, context: &Context, present: &Present) -> Result<Enrolment> {
        if !present.is_fresh(self.ground.now()) {
            return Err(stale());
        }
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).expect("the operating system gives randomness");
        let mut change = Change::begin(&self.ground, context).await?;
        let sealed = self.vault.seal(&purpose(present.person), &secret);
        let put = sql(statements::PUT_TOTP).bind(present.person).bind(sealed).bind(change.now());
        if put.execute(change.tx()).await? == 0 {
            return Err(Error::new(Code::Conflict, "An authenticator is set up already; disable it first."));
        }
        change.commit(Event::new(EventType::Security, "totp_enrolment_begun", "user", present.person)).await?;
        let totp = totp(&secret, &present.email)?;
        let uri = totp.to_url().map_err(internal)?;
        let qr = QrCode::new(uri.as_bytes()).map_err(internal)?;
        Ok(Enrolment {
            secret: Secret::new(base32(&secret)),
            qr_svg: Secret::new(qr.render::<svg::Color<'_>>().min_dimensions(240, 240).build()),
            uri: Secret::new(uri),
        })
    }

    /// Confirms the authenticator with its first code; answers new backup codes.
    pub async fn confirm(&self, context: &Context, present: &Present, code: &str) -> Result<Vec<String>> {
        let confirmed = self.try_confirming(context, present, code).await;
        self.note_unproven(context, present, "totp_enabled", confirmed).await
    }

    async fn try_confirming(&self, context: &Context, present: &Present, code: &str) -> Result<Vec<String>> {
        self.count_code(&present.person.to_string()).await?;
        let mut change = Change::begin(&self.ground, context).await?;
        let row: Option<TotpRow> = sql(statements::FIND_TOTP).bind(present.person).optional(change.tx()).await?;
        let row = row.filter(|row| row.confirmed_at.is_none());
        let row = row.ok_or_else(|| Error::new(Code::Conflict, "There is no enrolment to confirm."))?;
        self.use_totp(&mut change, present.person, &row, code).await?;
        let now = change.now();
        sql(statements::CONFIRM_TOTP).bind(present.person).bind(now).execute(change.tx()).await?;
        let codes = self.new_backup_codes(&mut change, present.person).await?;
        let note = sql(statements::NOTE_PROOF).bind(present.session).bind(now).bind(now);
        note.execute(change.tx()).await?;
        change.touch(Subject::Person(present.person));
        change.commit(Event::new(EventType::Security, "totp_enabled", "user", present.person)).await?;
        self.forget_codes(&present.person.to_string()).await?;
        Ok(codes)
    }

    /// Takes the authenticator, the backup codes and the trusted devices away.
    pub async fn disable_factor(&self, context: &Context, present: &Present) -> Result<()> {
        if !present.is_fresh(self.ground.now()) {
            return Err(stale());
        }
        self.remove_factor(context, present.person, "totp_disabled").await
    }

    /// The same for somebody who has lost it, by whoever may manage members.
    pub async fn reset_factor(&self, context: &Context, person: Id<id::User>) -> Result<()> {
        self.remove_factor(context, person, "factors_reset").await
    }

    async fn remove_factor(&self, context: &Context, person: Id<id::User>, action: &'static str) -> Result<()> {
        let mut change = Change::begin(&self.ground, context).await?;
        for statement in [statements::DELETE_TOTP, statements::DELETE_BACKUP_CODES, statements::DELETE_DEVICES] {
            sql(statement).bind(person).execute(change.tx()).await?;
        }
        change.touch(Subject::Person(person));
        change.commit(Event::new(EventType::Security, action, "user", person)).await?;
        Ok(())
    }

    /// Ten new backup codes; the old ones end.
    pub async fn renew_backup_codes(&self, context: &Context, present: &Present) -> Result<Vec<String>> {
        if !present.has_factor || !present.is_fresh(self.ground.now()) {
            return Err(stale());
        }
        let mut change = Change::begin(&self.ground, context).await?;
        let codes = self.new_backup_codes(&mut change, present.person).await?;
        change.commit(Event::new(EventType::Security, "backup_codes_renewed", "user", present.person)).await?;
        Ok(codes)
    }

    /// Backup codes that were not used yet.
    pub async fn backup_codes_left(&self, person: Id<id::User>) -> Result<i64> {
        let (left,) = sql(statements::COUNT_BACKUP_CODES).bind(person).one::<(i64,)>(&self.ground.db).await?;
        Ok(left)
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
        self.note_unproven(context, present, "stepped_up", stepped_up).await
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
        if proof.is_some() {
            self.count_code(&person.id.to_string()).await?;
        }
        let mut change = Change::begin(&self.ground, context).await?;
        if let Some(proof) = proof {
            self.prove(&mut change, &person, proof).await?;
        }
        self.hold(&mut change, &person).await?;
        let now = change.now();
        // Of two at the same time, one finds the session still there.
        if self.end_within(&mut change, present.session, present.person, "stepped_up").await? == 0 {
            return Err(Error::new(Code::Unauthenticated, Code::Unauthenticated.meaning()));
        }
        let shown = Shown {
            authenticated_at: if password.is_some() { now } else { present.authenticated_at },
            factor_at: if proof.is_some() { Some(now) } else { present.factor_at },
            until: Some(present.expires_at),
        };
        let issued = self.open_session(&mut change, present.person, client, shown).await?;
        let event = Event::new(EventType::Security, "stepped_up", "session", issued.session);
        change.commit(event.details(json!({ "before": present.session }))).await?;
        self.outbox.wake();
        if proof.is_some() {
            self.forget_codes(&person.id.to_string()).await?;
        }
        Ok(issued)
    }

    /// One event for a password or a code that was wrong within a session; other refusals are noted where they are answered.
    pub(super) async fn note_unproven<T>(
        &self,
        context: &Context,
        present: &Present,
        action: &'static str,
        outcome: Result<T>,
    ) -> Result<T> {
        if let Err(refused) = &outcome
            && matches!(refused.code, Code::InvalidCredentials | Code::InvalidCode | Code::CodeUsed)
        {
            let event = Event::new(EventType::Security, action, "session", present.session);
            self.audit.note(context, event.failed(refused.detail.clone())).await?;
        }
        outcome
    }

    /// Accepts a code of a second factor, once. Its try was counted before the change began.
    pub(super) async fn prove(&self, change: &mut Change<'_>, person: &PersonRow, proof: &Proof) -> Result<()> {
        match proof.factor {
            Factor::Totp => {
                let row: Option<TotpRow> = sql(statements::FIND_TOTP).bind(person.id).optional(change.tx()).await?;
                let row = row.filter(|row| row.confirmed_at.is_some()).ok_or_else(wrong_code)?;
                self.use_totp(change, person.id, &row, &proof.code).await
            }
            Factor::BackupCode => {
                let digest = self.backup_digest(person.id, &proof.code);
                let mut used = 0;
                for digest in digest {
                    let now = change.now();
                    let attempt = sql(statements::USE_BACKUP_CODE).bind(person.id).bind(digest).bind(now);
                    used += attempt.execute(change.tx()).await?;
                }
                if used == 0 {
                    return Err(wrong_code());
                }
                let left =
                    "A backup code of your account was used to sign in. If this was not you, change your password.";
                self.outbox.put(change, &person.email, "A backup code was used", left).await
            }
        }
    }

    async fn use_totp(&self, change: &mut Change<'_>, person: Id<id::User>, row: &TotpRow, code: &str) -> Result<()> {
        let secret = self.vault.open(&purpose(person), &row.sealed).ok_or_else(wrong_code)?;
        let seconds = u64::try_from(change.now().as_seconds()).unwrap_or(0);
        let step = totp(&secret, "account")?.check(code.trim(), seconds).ok_or_else(wrong_code)? as i64;
        if row.last_step >= step || sql(statements::USE_STEP).bind(person).bind(step).execute(change.tx()).await? == 0 {
            return Err(Error::new(Code::CodeUsed, Code::CodeUsed.meaning()));
        }
        Ok(())
    }

    async fn new_backup_codes(&self, change: &mut Change<'_>, person: Id<id::User>) -> Result<Vec<String>> {
        sql(statements::DELETE_BACKUP_CODES).bind(person).execute(change.tx()).await?;
        let mut codes = Vec::with_capacity(BACKUP_CODES);
        for _ in 0..BACKUP_CODES {
            let mut random = [0; BACKUP_BYTES];
            getrandom::fill(&mut random).expect("the operating system gives randomness");
            let letters = base32(&random).to_lowercase();
            let code =
                letters.as_bytes().chunks(4).map(|part| String::from_utf8_lossy(part)).collect::<Vec<_>>().join("-");
            let digest = self.backup_digest(person, &code).next().expect("there is a current pepper");
            sql(statements::INSERT_BACKUP_CODE).bind(person).bind(digest).execute(change.tx()).await?;
            codes.push(code);
        }
        Ok(codes)
    }

    /// Digests under each accepted pepper; how a code is written does not matter.
    fn backup_digest(&self, person: Id<id::User>, code: &str) -> std::vec::IntoIter<Vec<u8>> {
        let letters =
            code.chars().filter(|letter| letter.is_ascii_alphanumeric()).map(|letter| letter.to_ascii_lowercase());
        let message = format!("{person} {}", letters.collect::<String>());
        let digests: Vec<Vec<u8>> =
            self.vault.macs("backup code", message.as_bytes()).map(|mac| mac.to_vec()).collect();
        digests.into_iter()
    }
}

fn purpose(person: Id<id::User>) -> String {
    format!("totp {person}")
}

fn wrong_code() -> Error {
    Error::new(Code::InvalidCode, Code::InvalidCode.meaning())
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::new(Code::Internal, Code::Internal.meaning()).with_source(error.to_string())
}

/// SHA-1, six digits, 30 seconds: what every authenticator understands.
fn totp(secret: &[u8], account: &str) -> Result<Totp> {
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_skew(SKEW_STEPS)
        .with_secret(secret.to_vec())
        .with_account_name(account.replace(':', " "))
        .with_issuer(Some(ISSUER))
        .build()
        .map_err(internal)
}

/// RFC 4648, 6, without padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let bits: Vec<u8> = bits.collect();
    let letter = |five: &[u8]| {
        let value = five.iter().chain([0; 4].iter()).take(5).fold(0, |value, bit| value << 1 | bit);
        ALPHABET[value as usize] as char
    };
    bits.chunks(5).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_as_in_the_rfc() {
        for (bytes, text) in [("", ""), ("f", "MY"), ("fo", "MZXQ"), ("foobar", "MZXW6YTBOI")] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn codes_as_in_rfc_6238() {
        let totp = totp(b"12345678901234567890", "a").unwrap();
        for (at, code) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
            assert_eq!(totp.check(code, at), Some(at / 30), "{at}");
            assert_eq!(totp.check(code, at + 61), None, "two steps later");
        }
        assert!(totp.to_url().unwrap().starts_with("otpauth://totp/"));
    }
}
