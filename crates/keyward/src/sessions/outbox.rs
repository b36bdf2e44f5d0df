//! Mails on their way: written in the transaction of the change that they tell of, sealed, and sent beside the requests, so that
//! nobody learns from the time that an answer takes whether a mail was sent, and none is lost when the process dies. A mail may
//! come twice: when a node dies after it was taken and before that was written down.

use keyward_core::id::{self, Id};
use tokio::sync::Notify;

use super::sql as statements;
use super::vault::Vault;
use crate::change::Change;
use crate::db::{row, sql};
use crate::error::Result;
use crate::ground::Ground;
use crate::mail::{Mail, Mailer};

const PURPOSE: &str = "mail";
/// The wait after the first try; each further one doubles it, up to the longest.
const FIRST_WAIT_SECONDS: i64 = 30;
const LONGEST_WAIT_SECONDS: i64 = 3_600;
/// Then it is given up: the links in it are no longer good.
const MOST_ATTEMPTS: i64 = 12;

row! {
    struct MailRow { id: Id<id::Mail>, sealed: Vec<u8>, attempts: i64 }
}

/// What waits to be sent.
pub(super) struct Outbox {
    ground: Ground,
    vault: Vault,
    mailer: Mailer,
    wanted: Notify,
}

impl Outbox {
    pub fn new(ground: Ground, vault: Vault, mailer: Mailer) -> Self {
        Self { ground, vault, mailer, wanted: Notify::new() }
    }

    /// Writes a mail within a change. It is sent once that is committed.
    pub async fn put(&self, change: &mut Change<'_>, to: &str, subject: &str, text: &str) -> Result<()> {
        let mail = Mail { to: to.to_owned(), subject: subject.to_owned(), text: text.to_owned() };
        let plain = serde_json::to_vec(&mail).expect("a mail can be written as JSON");
        let insert = sql(statements::PUT_MAIL).bind(self.ground.new_id::<id::Mail>());
        insert.bind(self.vault.seal(PURPOSE, &plain)).bind(change.now()).execute(change.tx()).await?;
        Ok(())
    }

    /// Something was put and committed.
    pub fn wake(&self) {
        self.wanted.notify_one();
    }

    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Sends what is due, one after the other.
    pub async fn deliver(&self) -> Result<()> {
        while let Some(row) = self.take().await? {
            let opened = self.vault.open(PURPOSE, &row.sealed);
            let mail: Option<Mail> = opened.and_then(|plain| serde_json::from_slice(&plain).ok());
            let sent = match &mail {
                Some(mail) => self.mailer.send(mail).await,
                None => Err("it cannot be opened; is a pepper missing?".to_owned()),
            };
            match sent {
                Ok(()) => {}
                Err(error) if row.attempts < MOST_ATTEMPTS => {
                    tracing::warn!(mail = %row.id, error, "a mail was not taken; it is tried again");
                    continue;
                }
                Err(error) => tracing::error!(mail = %row.id, error, "a mail was not taken, and is given up"),
            }
            sql(statements::FORGET_MAIL).bind(row.id).execute(&self.ground.db).await?;
        }
        Ok(())
    }

    /// Takes the mail that is due longest, and puts it off for the case that it is not taken.
    async fn take(&self) -> Result<Option<MailRow>> {
        let now = self.ground.now();
        let due: Option<MailRow> = sql(statements::DUE_MAIL).bind(now).optional(&self.ground.db).await?;
        let Some(row) = due else { return Ok(None) };
        let wait = (FIRST_WAIT_SECONDS << row.attempts.clamp(0, 10)).min(LONGEST_WAIT_SECONDS);
        let take = sql(statements::TAKE_MAIL).bind(row.id).bind(now).bind(now.plus_seconds(wait));
        let mut tx = self.ground.db.begin().await?;
        let taken = take.optional(&mut tx).await?;
        tx.commit().await?;
        Ok(taken)
    }
}
