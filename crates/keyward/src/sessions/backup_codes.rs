//! Backup codes: each opens the account once, in place of the second factor. Only keyed digests of them are stored.

use keyward_core::id::{self, Id};

use super::factors::{stale, wrong_code};
use super::sql as statements;
use super::totp::base32;
use super::{PersonRow, Present, Sessions};
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::sql;
use crate::error::Result;

const BACKUP_CODES: usize = 10;
/// 80 bits as 16 letters of base 32.
const BACKUP_BYTES: usize = 10;

impl Sessions {
    /// Ten new backup codes; the old ones end.
    pub async fn renew_backup_codes(&self, context: &Context, present: &Present) -> Result<Vec<String>> {
        if !present.has_factor || !present.is_fresh(self.ground.now()) {
            return Err(stale());
        }
        let mut change = self.begin_for(context, present.person).await?;
        let codes = self.new_backup_codes(&mut change, present.person).await?;
        change.commit(Event::new(EventType::Security, "backup_codes_renewed", "user", present.person)).await?;
        Ok(codes)
    }

    /// Backup codes that were not used yet.
    pub async fn backup_codes_left(&self, person: Id<id::User>) -> Result<i64> {
        let (left,) = sql(statements::COUNT_BACKUP_CODES).bind(person).one::<(i64,)>(&self.ground.db).await?;
        Ok(left)
    }

    /// Accepts a backup code, once, and tells its owner.
    pub(super) async fn use_backup_code(&self, change: &mut Change<'_>, person: &PersonRow, code: &str) -> Result<()> {
        let mut used = 0;
        for digest in self.backup_digest(person.id, code) {
            let now = change.now();
            let attempt = sql(statements::USE_BACKUP_CODE).bind(person.id).bind(digest).bind(now);
            used += attempt.execute(change.tx()).await?;
        }
        if used == 0 {
            return Err(wrong_code());
        }
        let text = "A backup code of your account was used to sign in. If this was not you, change your password.";
        self.outbox.put(change, &person.email, "A backup code was used", text).await
    }

    pub(super) async fn new_backup_codes(&self, change: &mut Change<'_>, person: Id<id::User>) -> Result<Vec<String>> {
        sql(statements::DELETE_BACKUP_CODES).bind(person).execute(change.tx()).await?;
        let mut codes = Vec::with_capacity(BACKUP_CODES);
        for _ in 0..BACKUP_CODES {
            let mut random = [0; BACKUP_BYTES];
            getrandom::fill(&mut random).expect("the operating system gives randomness");
            let letters = base32(&random).to_lowercase();
            let code =
                letters.as_bytes().chunks(4).map(|part| String::from_utf8_lossy(part)).collect::<Vec<_>>().join("-");
            let digest = self.backup_digest(person, &code).next().expect("there is a current pepper");
            sql(statements::INSERT_BACKUP_CODE).bind(person).bind(digest).execute(change.tx()).await?;
            codes.push(code);
        }
        Ok(codes)
    }

    /// Digests under each accepted pepper; how a code is written does not matter.
    fn backup_digest(&self, person: Id<id::User>, code: &str) -> std::vec::IntoIter<Vec<u8>> {
        let letters =
            code.chars().filter(|letter| letter.is_ascii_alphanumeric()).map(|letter| letter.to_ascii_lowercase());
        let message = format!("{person} {}", letters.collect::<String>());
        let digests: Vec<Vec<u8>> =
            self.vault.macs("backup code", message.as_bytes()).map(|mac| mac.to_vec()).collect();
        digests.into_iter()
    }
}
