//! A new passkey: asked for with a fresh proof of identity (statement T-07), kept when the authenticator's answer is right.

use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use serde_json::{Value, json};
use webauthn_rs::prelude::{Credential as Stored, Passkey, PasskeyRegistration};

use super::super::factors::stale;
use super::super::shown::note_shown;
use super::super::{Present, Sessions};
use super::challenges::{Ceremony, internal};
use super::{NewCredential, PasskeyRow, Question, check_name, refused, sql as statements};
use crate::announce::Subject;
use crate::audit::{Event, EventType};
use crate::context::Context;
use crate::db::{Json, sql};
use crate::error::{Error, Result};

/// More would only make a sign-in's list of them long.
const MAX_PASSKEYS: usize = 20;

impl Sessions {
    /// Asks for a new passkey.
    pub async fn ask_new_passkey(&self, present: &Present) -> Result<Question> {
        if !present.is_fresh(self.ground.now()) {
            return Err(stale());
        }
        let relying_party = self.relying_party()?;
        let known = self.credential_ids(present.person).await?;
        if known.len() >= MAX_PASSKEYS {
            return Err(Error::new(
                Code::Conflict,
                format!("There are {MAX_PASSKEYS} passkeys already; remove one first."),
            ));
        }
        let display_name = if present.name.is_empty() { &present.email } else { &present.name };
        let (asked, state) = relying_party
            .start_passkey_registration(present.person.uuid(), &present.email, display_name, Some(known))
            .map_err(|error| internal(&error))?;
        let options = discoverable(json!(asked.public_key));
        self.ask(&Ceremony::Register(present.session), options, &state).await
    }

    /// Keeps a new passkey under a name that its owner gives it.
    pub async fn register_passkey(
        &self,
        context: &Context,
        present: &Present,
        challenge: Id<id::Challenge>,
        name: &str,
        credential: &NewCredential,
    ) -> Result<PasskeyRow> {
        check_name(name)?;
        let subject = present.person.to_string();
        self.count_code(&subject).await?;
        let passkey = match self.judge_registration(present, challenge, credential).await {
            Ok(passkey) => passkey,
            Err(refused) => {
                let event = Event::new(EventType::Security, "passkey_registration_failed", "user", present.person);
                self.audit.note(context, event.failed(refused.detail.clone())).await?;
                return Err(refused);
            }
        };
        let row = self.keep(context, present, name, passkey).await?;
        self.forget_codes(&subject).await?;
        Ok(row)
    }

    async fn judge_registration(
        &self,
        present: &Present,
        challenge: Id<id::Challenge>,
        credential: &NewCredential,
    ) -> Result<Passkey> {
        let asked: PasskeyRegistration = self.spend_challenge(challenge, &Ceremony::Register(present.session)).await?;
        self.relying_party()?.finish_passkey_registration(credential, &asked).map_err(|error| refused(&error))
    }

    async fn keep(&self, context: &Context, present: &Present, name: &str, passkey: Passkey) -> Result<PasskeyRow> {
        let mut change = self.begin_for(context, present.person).await?;
        let (id, now) = (self.ground.new_id::<id::Passkey>(), change.now());
        let insert = sql(statements::INSERT).bind(id).bind(present.person).bind(name);
        let insert = insert.bind(passkey.cred_id().to_vec()).bind(Json(&passkey));
        let insert = insert.bind(Stored::from(passkey).counter).bind(now);
        if insert.execute(change.tx()).await? == 0 {
            return Err(Error::new(Code::Conflict, "This passkey is registered already."));
        }
        // The authenticator has just verified whom it belongs to.
        note_shown(&mut change, present.session, false, Some("passkey")).await?;
        change.touch(Subject::Person(present.person));
        let text =
            format!("The passkey {name:?} was added to your account. If this was not you, change your password.");
        self.outbox.put(&mut change, &present.email, "A passkey was added", &text).await?;
        change.commit(Event::new(EventType::Security, "passkey_registered", "passkey", id).named(name)).await?;
        self.outbox.wake();
        Ok(PasskeyRow { id, name: name.to_owned(), created_at: now, last_used_at: None })
    }
}

/// The authenticator must keep the passkey itself, so that it can be found without a name of an account. `webauthn-rs` does
/// not ask for this, because no answer proves it; a passkey that is not kept is still a second factor.
fn discoverable(mut options: Value) -> Value {
    let selection = &mut options["authenticatorSelection"];
    selection["residentKey"] = json!("required");
    selection["requireResidentKey"] = json!(true);
    options
}
