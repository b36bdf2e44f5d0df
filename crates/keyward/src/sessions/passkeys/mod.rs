//! Passkeys (WebAuthn Level 3): one is registered, shows who somebody is, alone or beside a password, is renamed and taken
//! away. What an authenticator's answer proves is judged by `webauthn-rs`; here stands what Keyward makes of it.

mod challenges;
mod login;
mod proof;
mod registration;
pub(super) mod sql;

use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::text;
use keyward_core::time::Timestamp;
use serde_json::{Value, json};
use webauthn_rs::prelude::{Passkey, Url, Webauthn, WebauthnBuilder, WebauthnError};

use self::sql as statements;
use super::factors::{end_what_stood_in, stale};
use super::{Present, Sessions};
use crate::announce::Subject;
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::{Json, row, sql};
use crate::error::{Error, Result};

pub(super) use challenges::Ceremony;
/// What `navigator.credentials.get()` gave, as its `toJSON()` tells it.
pub use webauthn_rs::prelude::PublicKeyCredential as Credential;
/// What `navigator.credentials.create()` gave, as its `toJSON()` tells it.
pub use webauthn_rs::prelude::RegisterPublicKeyCredential as NewCredential;

/// Keyward as authenticators know it: a host name, and the one origin that its pages have.
pub(super) type RelyingParty = Webauthn;

const MAX_NAME_CHARS: usize = 64;

row! {
    /// A passkey as its owner sees it.
    pub struct PasskeyRow {
        pub id: Id<id::Passkey>,
        pub name: String,
        pub created_at: Timestamp,
        pub last_used_at: Option<Timestamp>,
    }
}

row! {
    struct CredentialRow { id: Id<id::Passkey>, person_id: Id<id::User>, name: String, credential: Json<Passkey> }
}

/// What an authenticator is asked; `options` go to `navigator.credentials` as `publicKey`.
pub struct Question {
    pub challenge: Id<id::Challenge>,
    pub options: Value,
}

/// An authenticator's answer to a challenge.
pub struct Assertion {
    pub challenge: Id<id::Challenge>,
    pub credential: Credential,
}

/// Browsers make passkeys only for a host name, over HTTPS or on the machine itself; `None` when the address is none such.
pub(super) fn relying_party(public_url: &str) -> Option<RelyingParty> {
    let url = Url::parse(public_url).ok()?;
    let host = url.domain()?;
    let is_local = host == "localhost" || host.ends_with(".localhost");
    if url.scheme() != "https" && !(is_local && url.scheme() == "http") {
        return None;
    }
    WebauthnBuilder::new(host, &url).ok()?.rp_name("Keyward").timeout(challenges::LIFETIME).build().ok()
}

impl Sessions {
    fn relying_party(&self) -> Result<&RelyingParty> {
        self.relying_party.as_ref().ok_or_else(|| {
            let detail = "Passkeys belong to a host name: set server.public_url to the https:// address that people use, or \
                          to http://localhost with its port.";
            Error::new(Code::Conflict, detail)
        })
    }

    /// The passkeys of a person, newest first.
    pub async fn passkeys(&self, person: Id<id::User>) -> Result<Vec<PasskeyRow>> {
        Ok(sql(statements::LIST).bind(person).all(&self.ground.db).await?)
    }

    /// One of them; another's looks absent.
    pub async fn passkey(&self, person: Id<id::User>, passkey: Id<id::Passkey>) -> Result<PasskeyRow> {
        let row = sql(statements::FIND).bind(passkey).bind(person).optional(&self.ground.db).await?;
        row.ok_or_else(Error::not_found)
    }

    pub async fn rename_passkey(
        &self,
        context: &Context,
        person: Id<id::User>,
        passkey: Id<id::Passkey>,
        name: &str,
    ) -> Result<PasskeyRow> {
        check_name(name)?;
        let mut change = Change::begin(&self.ground, context).await?;
        let row = sql(statements::FIND).bind(passkey).bind(person).optional(change.tx()).await?;
        let row: PasskeyRow = row.ok_or_else(Error::not_found)?;
        sql(statements::RENAME).bind(passkey).bind(person).bind(name).execute(change.tx()).await?;
        let event = Event::new(EventType::Security, "passkey_renamed", "passkey", passkey).named(name);
        change.commit(event.change(&json!({ "name": row.name }), &json!({ "name": name }))).await?;
        Ok(PasskeyRow { name: name.to_owned(), ..row })
    }

    /// Takes a passkey away, from a session with a fresh proof of identity (statement T-07).
    pub async fn remove_passkey(&self, context: &Context, present: &Present, passkey: Id<id::Passkey>) -> Result<()> {
        if !present.is_fresh(self.ground.now()) {
            return Err(stale());
        }
        let mut change = self.begin_for(context, present.person).await?;
        let find = sql(statements::FIND).bind(passkey).bind(present.person);
        let row: Option<PasskeyRow> = find.optional(change.tx()).await?;
        let row = row.ok_or_else(Error::not_found)?;
        sql(statements::DELETE).bind(passkey).bind(present.person).execute(change.tx()).await?;
        end_what_stood_in(change.tx(), present.person).await?;
        change.touch(Subject::Person(present.person));
        let text = format!(
            "The passkey {:?} of your account was removed. If this was not you, change your password.",
            row.name
        );
        self.outbox.put(&mut change, &present.email, "A passkey was removed", &text).await?;
        let event = Event::new(EventType::Security, "passkey_removed", "passkey", passkey);
        change.commit(event.named(&row.name)).await?;
        self.outbox.wake();
        Ok(())
    }
}

fn check_name(name: &str) -> Result<()> {
    text::label(name, MAX_NAME_CHARS).map_err(|fault| Error::field("/name", fault))
}

/// Why an answer was refused, as whoever gave it and the book are told. None of it tells anything about an account.
fn refused(error: &WebauthnError) -> Error {
    let detail = match error {
        WebauthnError::InvalidRPOrigin => "The answer was given on another origin.",
        WebauthnError::CredentialCrossOrigin => "The answer was given within a page of another origin.",
        WebauthnError::InvalidRPIDHash => "The answer is for another host name.",
        WebauthnError::MismatchedChallenge => "The answer is to another challenge.",
        WebauthnError::UserNotVerified => "The authenticator has not verified its user.",
        WebauthnError::UserNotPresent => "The authenticator has not asked its user.",
        WebauthnError::CredentialPossibleCompromise => {
            "The passkey has been used more often elsewhere: it may have been copied."
        }
        _ => Code::InvalidPasskey.meaning(),
    };
    Error::new(Code::InvalidPasskey, detail).with_source(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::relying_party;

    #[test]
    fn passkeys_are_for_host_names_that_browsers_trust() {
        for good in [
            "https://keys.example.com",
            "https://keys.example.com:8443/at",
            "http://localhost:8080",
            "http://a.localhost",
        ] {
            assert!(relying_party(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "keys.example.com",
            "http://keys.example.com",
            "https://192.0.2.1",
            "http://127.0.0.1:8080",
            "ftp://localhost",
        ] {
            assert!(relying_party(bad).is_none(), "{bad}");
        }
    }
}
