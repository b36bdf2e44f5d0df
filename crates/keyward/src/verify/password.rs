//! Imported hashes that are slow on purpose (bcrypt, Argon2id, PBKDF2): found by their hint, computed off the async
//! threads, a bounded number at once. The first success ends it: from then on the key is found by its digest.

use argon2::{Argon2, PasswordHash, PasswordVerifier};
use keyward_core::id::{self, Id};
use keyward_core::key;
use keyward_core::problem::Code;

use super::{Verifier, sql as statements};
use crate::aside::{self, Share};
use crate::db::{row, sql};
use crate::error::{Error, Result};
use crate::keys::foreign::Pbkdf2;

row! {
    struct SaltedRow { id: Id<id::KeySecret>, scheme: String, encoded: String }
}

impl Verifier {
    /// The imported secret whose slow hash fits the presented string.
    pub(super) async fn find_salted(&self, presented: &str) -> Result<Option<Id<id::KeySecret>>> {
        let candidates: Vec<SaltedRow> =
            sql(statements::SALTED).bind(key::hint(presented)).all(&self.ground.db).await?;
        if candidates.is_empty() {
            return Ok(None);
        }
        let Ok(permit) = self.slow_hashes.clone().try_acquire_owned() else {
            return Err(Error::new(Code::Overloaded, "Too many imported keys are being checked for the first time."));
        };
        let presented = keyward_core::secret::Secret::new(presented.to_owned());
        let search = move || {
            // Held as long as it computes, whether or not the caller still waits.
            let _permit = permit;
            candidates.into_iter().find(|row| fits(&row.scheme, &row.encoded, presented.expose())).map(|row| row.id)
        };
        aside::compute(Share::Tenth, search).await
    }
}

fn fits(scheme: &str, encoded: &str, presented: &str) -> bool {
    match scheme {
        "bcrypt" => bcrypt::verify(presented, encoded).unwrap_or(false),
        "argon2id" => PasswordHash::new(encoded)
            .is_ok_and(|hash| Argon2::default().verify_password(presented.as_bytes(), &hash).is_ok()),
        "pbkdf2-sha256" => Pbkdf2::read(encoded).is_some_and(|hash| hash.fits(presented)),
        _ => false,
    }
}
