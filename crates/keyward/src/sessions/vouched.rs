//! A sign-in that an identity provider vouches for: it stands in for the password. Keyward's own second factor is asked for as
//! after a password, unless the provider has asked for one and the settings believe it. Who the person is was decided before.

use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use serde_json::json;

use super::login::Attempt;
use super::shown::{Asked, Shown};
use super::{Client, IdentityRow, Sessions, SignedIn, as_person, sql as statements};
use crate::audit::{Event, EventType};
use crate::context::Context;
use crate::db::sql;
use crate::error::{Error, Result};

/// As events and sessions name it.
pub(super) const METHOD: &str = "oidc";

/// What the provider says.
pub(crate) struct Vouched<'a> {
    pub person: Id<id::User>,
    pub issuer: &'a str,
    /// It has asked for a second factor, and that counts.
    pub has_factor: bool,
    pub asked: Asked,
    /// The token of a device that the account's owner trusts.
    pub device: Option<&'a str>,
}

impl Sessions {
    /// Refuses somebody whose account is closed.
    pub(crate) async fn require_open(&self, person: Id<id::User>) -> Result<()> {
        match self.person(person).await?.disabled_at {
            Some(_) => Err(Error::new(Code::ProviderRefused, "the account is closed")),
            None => Ok(()),
        }
    }

    /// Opens a session for somebody whose account is open, or waits for the second factor.
    pub(crate) async fn log_in_vouched(
        &self,
        context: &Context,
        client: &Client,
        vouched: &Vouched<'_>,
    ) -> Result<SignedIn> {
        let person = self.person(vouched.person).await?;
        let is_trusted = match vouched.device {
            Some(device) => self.is_trusted(device, person.id).await?,
            None => false,
        };
        let factors = self.factors(person.id).await?;
        let context = as_person(context, &person);
        let mut change = self.begin_as(&context, &person).await.map_err(|refused| match refused.code {
            Code::InvalidCredentials => Error::new(Code::ProviderRefused, "the account was changed meanwhile"),
            _ => refused,
        })?;
        // Unlinked since the provider's word was taken.
        let linked = sql(statements::FIND_IDENTITY).bind(person.id).bind(vouched.issuer);
        if linked.optional::<IdentityRow>(change.tx()).await?.is_none() {
            return Err(Error::new(Code::ProviderRefused, "the account was unlinked meanwhile"));
        }
        if factors.is_any() && !is_trusted && !vouched.has_factor {
            return self.await_factor(change, client, &person, &factors, vouched.asked.clone()).await;
        }
        let shown = Shown::now(change.now(), true, vouched.has_factor.then_some(METHOD)).to(vouched.asked.clone());
        let issued = self.open_session(&mut change, person.id, client, shown).await?;
        let event = Event::new(EventType::Security, "login", "session", issued.session).named(&person.email);
        change.commit(event.details(json!({ "method": METHOD, "issuer": vouched.issuer }))).await?;
        Ok(SignedIn::Done(issued))
    }

    /// One event for each sign-in by a provider that came to nothing; `account` is what the provider calls the visitor.
    pub(crate) async fn note_refused(&self, context: &Context, account: &str, why: &str) {
        self.note_failure(context, Attempt { method: METHOD, vouched_account: Some(account) }, None, why).await;
    }
}
