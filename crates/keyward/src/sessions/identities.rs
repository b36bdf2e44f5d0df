//! At which identity providers somebody is known: listed, and unlinked, by themselves or by whoever manages members. How
//! somebody is linked is decided in `oidc`.

use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::time::Timestamp;
use serde_json::json;

use super::factors::stale;
use super::sql as statements;
use super::{PersonRow, Present, Sessions};
use crate::announce::Subject;
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::{row, sql};
use crate::error::{Error, Result};

row! {
    /// Somebody as a provider knows them; at each provider they are one.
    pub struct IdentityRow {
        pub issuer: String,
        pub subject: String,
        pub created_at: Timestamp,
        pub last_used_at: Timestamp,
    }
}

row! {
    /// What opens the account beside a provider.
    struct WaysRow { password: bool, passkey: bool }
}

impl Sessions {
    /// The providers that know this person, the newest link first.
    pub async fn identities(&self, person: Id<id::User>) -> Result<Vec<IdentityRow>> {
        Ok(sql(statements::IDENTITIES).bind(person).all(&self.ground.db).await?)
    }

    /// Whether people can sign in by that provider now.
    pub fn is_in_use(&self, issuer: &str) -> bool {
        !issuer.is_empty() && issuer == self.provider
    }

    /// Unlinks the provider from the caller's own account, with a fresh proof of identity (statement T-07).
    pub async fn unlink_own(&self, context: &Context, present: &Present, issuer: &str) -> Result<()> {
        if !present.is_fresh(self.ground.now()) {
            return Err(stale());
        }
        self.unlink(context, present.person, issuer, Some(present.session)).await
    }

    /// Unlinks the provider from an account. Sessions that it has vouched for end, but for the one that is kept; roles that
    /// it gave stay until somebody takes them. The last way to sign in stays: an account is closed by disabling it.
    pub async fn unlink(
        &self,
        context: &Context,
        person: Id<id::User>,
        issuer: &str,
        kept: Option<Id<id::Session>>,
    ) -> Result<()> {
        let person = self.person(person).await?;
        let mut change = self.begin_for(context, person.id).await?;
        let find = sql(statements::FIND_IDENTITY).bind(person.id).bind(issuer);
        let found: Option<IdentityRow> = find.optional(change.tx()).await?;
        let identity = found.ok_or_else(Error::not_found)?;
        // Another provider's link opens nothing: there is one provider at a time.
        let ways: WaysRow = sql(statements::OTHER_WAYS).bind(person.id).one(change.tx()).await?;
        if self.is_in_use(issuer) && !self.opens(&ways) {
            return Err(Error::new(Code::LastWayToSignIn, Code::LastWayToSignIn.meaning()));
        }
        sql(statements::DELETE_IDENTITY).bind(person.id).bind(issuer).execute(change.tx()).await?;
        sql(statements::END_PENDING_OF).bind(person.id).execute(change.tx()).await?;
        let now = change.now();
        let end = sql(statements::END_VOUCHED).bind(person.id).bind(now).bind("identity_unlinked").bind(kept);
        let ended = end.execute(change.tx()).await?;
        change.touch(Subject::Person(person.id));
        self.tell_unlinked(&mut change, &person, issuer).await?;
        let event = Event::new(EventType::Security, "identity_unlinked", "user", person.id).named(&person.email);
        let told = json!({ "issuer": issuer, "subject": identity.subject, "sessions": ended });
        change.commit(event.details(told)).await?;
        self.outbox.wake();
        Ok(())
    }

    /// Whether one of them is there. Passkeys open nothing where the settings name no host for them.
    fn opens(&self, ways: &WaysRow) -> bool {
        ways.password || (ways.passkey && self.relying_party.is_some())
    }

    async fn tell_unlinked(&self, change: &mut Change<'_>, person: &PersonRow, issuer: &str) -> Result<()> {
        let text = format!(
            "Your account can no longer be opened by the identity provider {issuer}. If this was not you, change your \
             password."
        );
        self.outbox.put(change, &person.email, "An identity provider was unlinked", &text).await
    }
}
