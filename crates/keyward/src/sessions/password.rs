//! Changing a password, and resetting one that was forgotten, by a link in a mail.

use keyward_core::access::Role;
use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::secret::Secret;

use super::attempts::{self, Subjects};
use super::sql as statements;
use super::{PersonRow, Present, Sessions, address_of, as_person, end_all_within, vault};
use crate::accounts::invitations::Invitation;
use crate::accounts::passwords;
use crate::accounts::people::People;
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::sql;
use crate::error::{Error, Result};

const RESET_PREFIX: &str = "kwp";
const RESET_SECONDS: i64 = 30 * 60;

/// Whose password a link sets, and how long the new one must be.
#[derive(Debug, Clone)]
pub struct Resettable {
    pub email: String,
    pub least_chars: usize,
}

impl Sessions {
    /// Sets a new password after the current one was shown; all other sessions end unless told otherwise.
    pub async fn change_password(
        &self,
        context: &Context,
        present: &Present,
        current: &Secret<String>,
        new: &Secret<String>,
        keep_sessions: bool,
    ) -> Result<()> {
        let changed = self.try_changing_password(context, present, current, new, keep_sessions).await;
        self.note_unproven(context, present, ("password_changed", "password"), changed).await
    }

    async fn try_changing_password(
        &self,
        context: &Context,
        present: &Present,
        current: &Secret<String>,
        new: &Secret<String>,
        keep_sessions: bool,
    ) -> Result<()> {
        let person = self.person(present.person).await?;
        let source = attempts::source_of(context.ip);
        let subjects = Subjects::of(&person.email, &source, false);
        self.count_try(&subjects).await?;
        if !self.passwords.verify(current, person.password_hash.clone()).await?.is_right {
            return Err(Error::new(Code::InvalidCredentials, Code::InvalidCredentials.meaning()));
        }
        self.forget_tries(&subjects).await?;
        let mut change = self.set_password(context, &person, new, present.has_factor, "/new_password").await?;
        if keep_sessions {
            change.touch(crate::announce::Subject::Person(person.id));
        } else {
            end_all_within(&mut change, person.id, Some(present.session), "password_changed").await?;
        }
        change.commit(Event::new(EventType::Security, "password_changed", "user", person.id)).await?;
        self.outbox.wake();
        Ok(())
    }

    /// Mails a link to whoever has this address; answers alike, and does alike, when nobody has.
    pub async fn ask_reset(&self, context: &Context, email: &str) -> Result<()> {
        let person = self.person_by_email(&address_of(email)).await?.filter(|person| person.disabled_at.is_none());
        let token = vault::new_token(RESET_PREFIX);
        let target = person.as_ref().map_or_else(|| "unknown".to_owned(), |person| person.id.to_string());
        let mut change = Change::begin(&self.ground, context).await?;
        if let Some(person) = &person {
            let expires_at = change.now().plus_seconds(RESET_SECONDS);
            let insert = sql(statements::INSERT_RESET).bind(vault::digest(&token)).bind(person.id).bind(expires_at);
            insert.execute(change.tx()).await?;
            let link = self.link("/reset-password", &token);
            let text =
                format!("Set a new password within 30 minutes:\n\n{link}\n\nIf you did not ask for this, ignore it.");
            self.outbox.put(&mut change, &person.email, "Reset your password", &text).await?;
        }
        change.commit(Event::new(EventType::Security, "password_reset_asked", "user", target)).await?;
        self.outbox.wake();
        Ok(())
    }

    /// Whose password the link of a mail sets, while it is good.
    pub async fn resettable(&self, token: &str) -> Result<Resettable> {
        let person = self.person_of_reset(token).await?;
        let least_chars = passwords::least_chars(self.has_factor(person.id).await?);
        Ok(Resettable { email: person.email, least_chars })
    }

    async fn person_of_reset(&self, token: &str) -> Result<PersonRow> {
        let find = sql(statements::FIND_RESET).bind(vault::digest(token)).bind(self.ground.now());
        let found: Option<(Id<id::User>,)> = find.optional(&self.ground.db).await?;
        let (person,) = found.ok_or_else(gone)?;
        self.person(person).await
    }

    /// Sets a new password by the link of a mail. A second factor stays asked for.
    pub async fn reset_password(&self, context: &Context, token: &str, new: &Secret<String>) -> Result<()> {
        let person = self.person_of_reset(token).await?;
        let has_factor = self.has_factor(person.id).await?;
        let context = as_person(context, &person);
        let mut change = self.set_password(&context, &person, new, has_factor, "/new_password").await?;
        let now = change.now();
        if sql(statements::USE_RESET).bind(vault::digest(token)).bind(now).execute(change.tx()).await? == 0 {
            return Err(gone());
        }
        end_all_within(&mut change, person.id, None, "password_reset").await?;
        change.commit(Event::new(EventType::Security, "password_reset", "user", person.id)).await?;
        self.forget_account(&person.email).await?;
        self.outbox.wake();
        Ok(())
    }

    /// Begins the change that sets the password; the caller commits it with its own event.
    async fn set_password<'a>(
        &'a self,
        context: &'a Context,
        person: &PersonRow,
        new: &Secret<String>,
        has_factor: bool,
        pointer: &str,
    ) -> Result<Change<'a>> {
        passwords::check(new.expose(), &[&person.email, &person.name], has_factor, pointer)?;
        let hash = self.passwords.hash(new).await?;
        let mut change = Change::begin(&self.ground, context).await?;
        let now = change.now();
        sql(statements::SET_PASSWORD).bind(person.id).bind(hash).bind(now).execute(change.tx()).await?;
        // Nor does a sign-in go on that began with the old one.
        sql(statements::END_PENDING_OF).bind(person.id).execute(change.tx()).await?;
        let text = "The password of your account was changed. If this was not you, reset it at once.";
        self.outbox.put(&mut change, &person.email, "Your password was changed", text).await?;
        Ok(change)
    }

    /// Invites somebody and mails them the link; answers the link and its token, once.
    pub async fn invite(
        &self,
        people: &People,
        context: &Context,
        organization: Id<id::Organization>,
        email: &str,
        role: Role,
    ) -> Result<(Invitation, Secret<String>, Secret<String>)> {
        let mut change = Change::begin(&self.ground, context).await?;
        let (invitation, token, event) = people.invite_within(&mut change, context, organization, email, role).await?;
        let link = self.link("/invitation", token.expose());
        let text = format!("You were invited. Accept within seven days:\n\n{link}");
        self.outbox.put(&mut change, &invitation.email, "You were invited to Keyward", &text).await?;
        change.commit(event).await?;
        self.outbox.wake();
        Ok((invitation, token, Secret::new(link)))
    }
}

fn gone() -> Error {
    Error::new(Code::Gone, Code::Gone.meaning())
}
