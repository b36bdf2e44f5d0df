//! Answers to requests that came with an Idempotency-Key, kept for a day so that a repeated request gets the same one.
//!
//! An answer may hold a new key in clear, so it is sealed under a key made from the caller's own secret: the database
//! alone cannot open it.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use hmac::{Hmac, KeyInit, Mac};
use keyward_core::problem::Code;
use keyward_core::secret::Secret;
use sha2::{Digest, Sha256};

use crate::db::{row, sql};
use crate::error::{Error, Result};
use crate::ground::Ground;

/// How long an answer is kept.
const KEPT_DAYS: i64 = 1;
/// A request that was begun and not ended for this long has died with its node.
const ABANDONED_SECONDS: i64 = 60;

const BEGIN: &str = "INSERT INTO idempotency (caller, idempotency_key, fingerprint, created_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (caller, idempotency_key) DO UPDATE SET fingerprint = excluded.fingerprint, created_at = excluded.created_at,
      status = NULL, answer = NULL
    WHERE idempotency.created_at < $5 OR idempotency.status IS NULL AND idempotency.created_at < $6";
const FIND: &str = "SELECT fingerprint, status, answer FROM idempotency WHERE caller = $1 AND idempotency_key = $2";
const END: &str = "UPDATE idempotency SET status = $3, answer = $4 WHERE caller = $1 AND idempotency_key = $2";
const ABANDON: &str = "DELETE FROM idempotency WHERE caller = $1 AND idempotency_key = $2 AND status IS NULL";
const FORGET: &str = "DELETE FROM idempotency WHERE created_at < $1";

row! {
    struct Kept { fingerprint: Vec<u8>, status: Option<i64>, answer: Option<Vec<u8>> }
}

/// The store of kept answers.
#[derive(Clone)]
pub struct Idempotency {
    pub(crate) ground: Ground,
}

/// A request that was begun under its key and must be ended.
pub struct Begun {
    caller: String,
    key: String,
    seal: Secret<[u8; 32]>,
}

/// What is known of a request under its key.
pub enum Begin {
    /// It is new: do it, then `end` it.
    New(Begun),
    /// It was done: status and body as they were.
    Done { status: u16, body: Vec<u8> },
}

impl Idempotency {
    /// Begins a request. `caller` names who calls, `credential` is what they presented, `request` is everything that
    /// must be the same when it is repeated.
    pub async fn begin(&self, caller: &str, credential: &str, key: &str, request: &[&[u8]]) -> Result<Begin> {
        if key.is_empty() || key.len() > 255 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::new(Code::MalformedRequest, "Idempotency-Key must be 1–255 visible ASCII characters."));
        }
        let fingerprint = fingerprint(request);
        let now = self.ground.now();
        let insert = sql(BEGIN).bind(caller).bind(key).bind(fingerprint.clone()).bind(now);
        let insert = insert.bind(now.plus_days(-KEPT_DAYS)).bind(now.plus_seconds(-ABANDONED_SECONDS));
        let begun = Begun { caller: caller.to_owned(), key: key.to_owned(), seal: seal_key(credential, key) };
        if insert.execute(&self.ground.db).await? == 1 {
            return Ok(Begin::New(begun));
        }
        let kept: Option<Kept> = sql(FIND).bind(caller).bind(key).optional(&self.ground.db).await?;
        let conflict = |detail: &str| Err(Error::new(Code::IdempotencyConflict, detail));
        match kept {
            Some(kept) if kept.fingerprint != fingerprint => {
                conflict("This Idempotency-Key was used for a different request.")
            }
            Some(Kept { status: Some(status), answer: Some(answer), .. }) => match begun.open(answer) {
                Some(body) => Ok(Begin::Done { status: status as u16, body }),
                None => conflict("This Idempotency-Key was used with another secret of the same key."),
            },
            _ => conflict("The first request with this Idempotency-Key is still running."),
        }
    }

    /// Keeps the answer of a request.
    pub async fn end(&self, begun: Begun, status: u16, body: &[u8]) -> Result<()> {
        let answer = begun.seal(body);
        let update = sql(END).bind(&begun.caller).bind(&begun.key).bind(i64::from(status)).bind(answer);
        update.execute(&self.ground.db).await?;
        Ok(())
    }

    /// Forgets a request that had no effect, so that it can be tried again.
    pub async fn abandon(&self, begun: Begun) -> Result<()> {
        sql(ABANDON).bind(&begun.caller).bind(&begun.key).execute(&self.ground.db).await?;
        Ok(())
    }

    pub(crate) async fn forget(&self) -> Result<()> {
        sql(FORGET).bind(self.ground.now().plus_days(-KEPT_DAYS)).execute(&self.ground.db).await?;
        Ok(())
    }
}

impl Begun {
    fn seal(&self, body: &[u8]) -> Vec<u8> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, self.seal.expose()).expect("the key has 256 bits");
        let mut sealed = body.to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::empty(), &mut sealed).expect("an answer is not too long to seal");
        [nonce.as_ref().as_slice(), &sealed].concat()
    }

    fn open(&self, mut answer: Vec<u8>) -> Option<Vec<u8>> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, self.seal.expose()).expect("the key has 256 bits");
        let mut sealed = answer.split_off(NONCE_LEN.min(answer.len()));
        let nonce = Nonce::try_assume_unique_for_key(&answer).ok()?;
        key.open_in_place(nonce, Aad::empty(), &mut sealed).ok().map(|body| body.to_vec())
    }
}

fn seal_key(credential: &str, key: &str) -> Secret<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(credential.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(b"keyward idempotency 1\0");
    mac.update(key.as_bytes());
    Secret::new(mac.finalize().into_bytes().into())
}

fn fingerprint(parts: &[&[u8]]) -> Vec<u8> {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().to_vec()
}
