//! Time-based codes (RFC 6238) of an authenticator: set up, confirmed by a first code, and each accepted once.

use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::secret::Secret;
use keyward_core::time::Timestamp;
use qrcode::QrCode;
use qrcode::render::svg;
use totp_rs::{Algorithm, Builder, Totp};

use super::factors::{stale, wrong_code};
use super::shown::note_shown;
use super::sql as statements;
use super::{Present, Sessions};
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
const ISSUER: &str = "Keyward";

row! {
    struct TotpRow { sealed: Vec<u8>, last_step: i64, confirmed_at: Option<Timestamp> }
}

/// What an authenticator needs, shown once.
pub struct Enrolment {
    pub secret: Secret<String>,
    pub uri: Secret<String>,
    pub qr_svg: Secret<String>,
}

impl Sessions {
    /// Begins to set up an authenticator. It is asked for only once a code of it was confirmed.
    pub async fn enroll(&self, context: &Context, present: &Present) -> Result<Enrolment> {
        if !present.is_fresh(self.ground.now()) {
            return Err(stale());
        }
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).expect("the operating system gives randomness");
        let mut change = self.begin_for(context, present.person).await?;
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
        self.note_unproven(context, present, ("totp_enabled", "totp"), confirmed).await
    }

    async fn try_confirming(&self, context: &Context, present: &Present, code: &str) -> Result<Vec<String>> {
        self.count_code(&present.person.to_string()).await?;
        let mut change = self.begin_for(context, present.person).await?;
        let row: Option<TotpRow> = sql(statements::FIND_TOTP).bind(present.person).optional(change.tx()).await?;
        let row = row.filter(|row| row.confirmed_at.is_none());
        let row = row.ok_or_else(|| Error::new(Code::Conflict, "There is no enrolment to confirm."))?;
        self.use_totp(&mut change, present.person, &row, code).await?;
        let now = change.now();
        sql(statements::CONFIRM_TOTP).bind(present.person).bind(now).execute(change.tx()).await?;
        let codes = self.new_backup_codes(&mut change, present.person).await?;
        note_shown(&mut change, present.session, false, Some("totp")).await?;
        change.touch(Subject::Person(present.person));
        change.commit(Event::new(EventType::Security, "totp_enabled", "user", present.person)).await?;
        self.forget_codes(&present.person.to_string()).await?;
        Ok(codes)
    }

    /// Accepts a code of a confirmed authenticator, once.
    pub(super) async fn use_code(&self, change: &mut Change<'_>, person: Id<id::User>, code: &str) -> Result<()> {
        let row: Option<TotpRow> = sql(statements::FIND_TOTP).bind(person).optional(change.tx()).await?;
        let row = row.filter(|row| row.confirmed_at.is_some()).ok_or_else(wrong_code)?;
        self.use_totp(change, person, &row, code).await
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
}

fn purpose(person: Id<id::User>) -> String {
    format!("totp {person}")
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
pub(super) fn base32(bytes: &[u8]) -> String {
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
