//! Refresh tokens. A token's successor is derived from it, so a repeated request gets the same one; only digests are kept.
//!
//! The parent of the newest token is accepted for ten seconds (two tabs), and for as long as neither the newest token nor
//! its access token was used (a lost answer). Every other second use means that two hold the token: the session ends.
//!
//! What is handed out is as old as the session's last refresh, which no clock that is set back makes earlier.

use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::time::Timestamp;
use serde_json::json;

use super::sql as statements;
use super::{Client, IssuedTokens, PersonRow, SessionRow, Sessions, as_person, insert_refresh, vault};
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::{row, sql};
use crate::error::{Error, Result};

pub(super) const PREFIX: &str = "kwr";
const PURPOSE: &str = "refresh token";
/// For how long two tabs may send the same token.
const GRACE_SECONDS: i64 = 10;

row! {
    struct RefreshRow { session_id: Id<id::Session>, generation: i64 }
}

fn invalid() -> Error {
    Error::new(Code::InvalidToken, Code::InvalidToken.meaning())
}

impl Sessions {
    /// Gives new tokens for a refresh token.
    pub async fn refresh(&self, context: &Context, client: &Client, token: &str) -> Result<IssuedTokens> {
        let found: Option<RefreshRow> =
            sql(statements::FIND_REFRESH).bind(vault::digest(token)).optional(&self.ground.db).await?;
        let presented = found.ok_or_else(invalid)?;
        let find = || sql(statements::FIND_SESSION).bind(presented.session_id);
        let row: Option<SessionRow> = find().optional(&self.ground.db).await?;
        let person: Option<PersonRow> = match row {
            Some(row) => sql(statements::PERSON_BY_ID).bind(row.person_id).optional(&self.ground.db).await?,
            None => None,
        };
        let person = person.filter(|person| person.disabled_at.is_none()).ok_or_else(invalid)?;
        let context = as_person(context, &person);
        let mut change = Change::begin(&self.ground, &context).await?;
        let now = change.now();
        sql(statements::LOCK_SESSION).bind(presented.session_id).execute(change.tx()).await?;
        let row: Option<SessionRow> = find().optional(change.tx()).await?;
        let row = row.filter(|row| self.is_in_force(row, now) && row.browser == client.browser).ok_or_else(invalid)?;

        if presented.generation == row.generation {
            return self.rotate(change, row, token, now).await;
        }
        let is_parent = presented.generation + 1 == row.generation;
        let is_at_once = row.refreshed_at.plus_seconds(GRACE_SECONDS) > now;
        if is_parent && !self.settings.strict_refresh && (is_at_once || !row.confirmed) {
            let newest: (Vec<u8>,) =
                sql(statements::DIGEST_OF_GENERATION).bind(row.id).bind(row.generation).one(change.tx()).await?;
            // A pepper may have been replaced since: the successor is the one that fits.
            let successor = self.successors(token).find(|successor| vault::digest(successor) == newest.0);
            let successor = successor.ok_or_else(invalid)?;
            if is_at_once {
                return self.issue(&row, successor, now);
            }
            return self.hand_out(change, row, successor, now).await;
        }
        self.end_for_reuse(change, &row, &person).await?;
        Err(Error::new(Code::RefreshReuse, Code::RefreshReuse.meaning()))
    }

    async fn rotate(
        &self,
        mut change: Change<'_>,
        row: SessionRow,
        token: &str,
        now: Timestamp,
    ) -> Result<IssuedTokens> {
        let successor = self.successors(token).next().expect("there is a current pepper");
        let row = SessionRow { generation: row.generation + 1, ..row };
        insert_refresh(change.tx(), &successor, row.id, row.generation).await?;
        self.hand_out(change, row, successor, now).await
    }

    /// Writes down that the tokens of the row's generation are handed out now, and unused so far.
    async fn hand_out(
        &self,
        mut change: Change<'_>,
        row: SessionRow,
        refresh: String,
        now: Timestamp,
    ) -> Result<IssuedTokens> {
        let row = SessionRow { refreshed_at: now.max(row.refreshed_at), ..row };
        let rotate = sql(statements::ROTATE).bind(row.id).bind(row.generation).bind(row.refreshed_at).bind(false);
        rotate.execute(change.tx()).await?;
        let issued = self.issue(&row, refresh, now)?;
        // What is remembered of the session knows the earlier generation.
        change.touch(crate::announce::Subject::Person(row.person_id));
        let event = Event::new(EventType::Security, "token_refreshed", "session", row.id);
        change.commit(event.details(json!({ "generation": row.generation }))).await?;
        Ok(issued)
    }

    fn is_in_force(&self, row: &SessionRow, now: Timestamp) -> bool {
        row.ended_at.is_none() && row.expires_at > now && row.refreshed_at.plus_seconds(self.idle_seconds()) > now
    }

    fn successors<'a>(&'a self, token: &'a str) -> impl Iterator<Item = String> + 'a {
        self.vault.macs(PURPOSE, token.as_bytes()).map(|secret| vault::token_of(PREFIX, &secret))
    }

    /// In the change that found it, so that of several at the same time one is told.
    async fn end_for_reuse(&self, mut change: Change<'_>, row: &SessionRow, person: &PersonRow) -> Result<()> {
        self.end_within(&mut change, row.id, row.person_id, "refresh_reuse").await?;
        let event = Event::new(EventType::Security, "refresh_reuse", "session", row.id).named(&person.email);
        let text = "A refresh token of one of your sessions was used twice. Somebody may have had a copy of it, so the session \
                    was ended. Sign in again; if this was not you, change your password.";
        self.outbox.put(&mut change, &person.email, "A session was ended", text).await?;
        change.commit(event.failed("a refresh token was used a second time")).await?;
        self.outbox.wake();
        Ok(())
    }

    /// Ends the session of a token, refresh or access (RFC 7009). What is no token of ours, or no longer in force, changes
    /// nothing and looks the same.
    pub async fn revoke(&self, context: &Context, token: &str) -> Result<()> {
        let by_refresh: Option<RefreshRow> =
            sql(statements::FIND_REFRESH).bind(vault::digest(token)).optional(&self.ground.db).await?;
        let session = match by_refresh {
            Some(row) => Some(row.session_id),
            None => self.identify(token).await?.map(|present| present.session),
        };
        let Some(session) = session else { return Ok(()) };
        let row: Option<SessionRow> = sql(statements::FIND_SESSION).bind(session).optional(&self.ground.db).await?;
        let Some(row) = row.filter(|row| row.ended_at.is_none()) else { return Ok(()) };
        let context = as_person(context, &self.person(row.person_id).await?);
        let mut change = Change::begin(&self.ground, &context).await?;
        self.end_within(&mut change, row.id, row.person_id, "revoked").await?;
        change.commit(Event::new(EventType::Security, "token_revoked", "session", row.id)).await?;
        Ok(())
    }
}
