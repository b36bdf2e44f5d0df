//! A sign-in with nothing but a passkey: the authenticator says whose it is.

use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use webauthn_rs::prelude::{DiscoverableAuthentication, WebauthnError};

use super::super::login::{Attempt, signed_in};
use super::super::shown::Shown;
use super::super::{Client, IssuedTokens, PersonRow, Sessions, as_person};
use super::challenges::Ceremony;
use super::{Assertion, Credential, refused, sql as statements};
use crate::context::Context;
use crate::db::sql;
use crate::error::Result;

impl Sessions {
    /// Signs in with a passkey. An unknown one and one of a disabled account answer alike.
    pub async fn log_in_with_passkey(
        &self,
        context: &Context,
        client: &Client,
        assertion: &Assertion,
    ) -> Result<IssuedTokens> {
        let owner = self.owner_of(&assertion.credential).await?;
        let signed_in = self.try_passkey(context, client, owner.as_ref(), assertion).await;
        if let Err(refused) = &signed_in {
            let attempt = Attempt { method: "passkey", vouched_account: None };
            self.note_failure(context, attempt, owner.as_ref(), &refused.detail).await;
        }
        signed_in
    }

    async fn try_passkey(
        &self,
        context: &Context,
        client: &Client,
        owner: Option<&PersonRow>,
        assertion: &Assertion,
    ) -> Result<IssuedTokens> {
        let asked: DiscoverableAuthentication =
            self.spend_challenge(assertion.challenge, &Ceremony::LogIn(client)).await?;
        let unknown = || refused(&WebauthnError::CredentialNotFound);
        let person = owner.ok_or_else(unknown)?;
        // WebAuthn, 7.2, step 6: nobody was named before, so the answer must name its owner.
        if assertion.credential.get_user_unique_id().is_none() {
            return Err(unknown());
        }
        self.count_code(&person.id.to_string()).await?;
        let context = as_person(context, person);
        let proven = self.prove_by_passkey(&context, person, &assertion.credential, asked).await;
        let (mut change, told) = proven.map_err(|refused| match refused.code {
            Code::InvalidCredentials => unknown(),
            _ => refused,
        })?;
        let shown = Shown::now(change.now(), false, Some("passkey"));
        let issued = self.open_session(&mut change, person.id, client, shown).await?;
        change.commit(signed_in(&issued, person, told)).await?;
        self.forget_codes(&person.id.to_string()).await?;
        Ok(issued)
    }

    async fn owner_of(&self, credential: &Credential) -> Result<Option<PersonRow>> {
        let find = sql(statements::OWNER).bind(credential.get_credential_id().to_vec());
        let owner: Option<(Id<id::User>,)> = find.optional(&self.ground.db).await?;
        match owner {
            Some((person,)) => self.person(person).await.map(Some),
            None => Ok(None),
        }
    }
}
