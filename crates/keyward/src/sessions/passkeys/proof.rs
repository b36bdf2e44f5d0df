//! What an authenticator's answer proves: it is this person's passkey, its user was verified, and it has not been copied.

use keyward_core::id::{self, Id};
use serde_json::{Value, json};
use webauthn_rs::prelude::{DiscoverableAuthentication, WebauthnError};

use super::super::factors::Proven;
use super::super::{PersonRow, Sessions};
use super::{Credential, CredentialRow, refused, sql as statements};
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::{Actor, ActorKind, Context};
use crate::db::{Json, sql};
use crate::error::Result;

impl Sessions {
    /// Begins the change in which the passkey's use is counted, with the person held. The challenge was spent before.
    pub(in crate::sessions) async fn prove_by_passkey<'a>(
        &'a self,
        context: &'a Context,
        person: &PersonRow,
        credential: &Credential,
        asked: DiscoverableAuthentication,
    ) -> Result<Proven<'a>> {
        let relying_party = self.relying_party()?;
        let mut change = self.begin_as(context, person).await?;
        let find = sql(statements::LOCK).bind(credential.get_credential_id().to_vec());
        let row: Option<CredentialRow> = find.optional(change.tx()).await?;
        let is_theirs = credential.get_user_unique_id().is_none_or(|handle| handle == person.id.uuid().as_bytes());
        let row = row.filter(|row| row.person_id == person.id && is_theirs);
        let row = row.ok_or_else(|| refused(&WebauthnError::CredentialNotFound))?;
        if is_framed(credential) {
            return Err(refused(&WebauthnError::CredentialCrossOrigin));
        }
        let CredentialRow { id, name, credential: Json(mut passkey), .. } = row;
        let used = match relying_party.finish_discoverable_authentication_v2(credential, asked, &passkey) {
            Ok(used) => used,
            Err(error) => {
                drop(change);
                if matches!(error, WebauthnError::CredentialPossibleCompromise) {
                    self.warn_of_copy(context, person, id, &name).await?;
                }
                return Err(refused(&error));
            }
        };
        passkey.update_credential(&used);
        let now = change.now();
        let note = sql(statements::USE).bind(id).bind(Json(&passkey)).bind(used.counter()).bind(now);
        note.execute(change.tx()).await?;
        Ok((change, json!({ "method": "passkey", "passkey": id })))
    }

    /// A count that does not rise means that two hold the key, or that its authenticator counts wrongly. Which of them it is
    /// only its owner can know, so the passkey stays, refused, until they remove it.
    async fn warn_of_copy(
        &self,
        context: &Context,
        person: &PersonRow,
        passkey: Id<id::Passkey>,
        name: &str,
    ) -> Result<()> {
        let event = Event::new(EventType::Security, "passkey_copy_suspected", "passkey", passkey).named(name);
        let event = event.failed(refused(&WebauthnError::CredentialPossibleCompromise).detail);
        let actor = Actor { kind: ActorKind::External, id: "authenticator".to_owned(), name: None };
        let context = Context { actor, ..context.clone() };
        let mut change = Change::begin(&self.ground, &context).await?;
        let text = format!(
            "The passkey {name:?} of your account was refused: it has been used more often elsewhere, so somebody may have a \
             copy of it. Remove it, unless you know better, and register a new one."
        );
        self.outbox.put(&mut change, &person.email, "A passkey may have been copied", &text).await?;
        change.commit(event).await?;
        self.outbox.wake();
        Ok(())
    }
}

/// Whether our page stood in a page of another origin (WebAuthn, 7.2, step 14). The crate asks this of new passkeys only.
fn is_framed(credential: &Credential) -> bool {
    let client: Value = serde_json::from_slice(&credential.response.client_data_json).unwrap_or_default();
    client["crossOrigin"] == json!(true)
}
