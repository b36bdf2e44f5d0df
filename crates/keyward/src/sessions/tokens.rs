//! Access tokens: JWTs of RFC 9068, signed with Ed25519. A token is accepted only when its header is, byte for byte, one that
//! this instance writes: so there is no algorithm to choose, no key to fetch, and nothing in a header to misunderstand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};

use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::sql as statements;
use super::vault::Vault;
use crate::config::PeopleSettings;
use crate::db::{row, sql};
use crate::error::{Error, Result};
use crate::ground::Ground;

const PURPOSE: &str = "signing key";
/// Longest token that is looked at, in bytes.
const MAX_BYTES: usize = 4_096;
/// Verified tokens that are remembered: a signature costs more than everything else about a call.
const MAX_REMEMBERED: usize = 20_000;

row! {
    struct KeyRow {
        id: Id<id::SigningKey>,
        sealed: Vec<u8>,
        public_key: Vec<u8>,
        active_at: Timestamp,
        retires_at: Timestamp,
    }
}

/// What an access token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    pub iss: String,
    pub aud: String,
    pub sub: String,
    pub client_id: String,
    pub sid: String,
    /// The generation of the refresh token that it came with.
    pub r#gen: i64,
    pub jti: String,
    pub iat: i64,
    pub exp: i64,
    pub auth_time: i64,
    pub amr: Vec<String>,
    /// The class that an identity provider names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
}

/// One key in memory.
struct SigningKey {
    id: Id<id::SigningKey>,
    /// `{"alg":"EdDSA",…}` in base64url, as every token of this key begins.
    header: String,
    pair: Ed25519KeyPair,
    public_key: Vec<u8>,
    active_at: Timestamp,
    retires_at: Timestamp,
}

/// Makes and reads access tokens.
pub struct Tokens {
    ground: Ground,
    vault: Vault,
    pub(super) issuer: String,
    key_days: i64,
    pub(super) access_seconds: i64,
    keys: RwLock<Arc<Vec<SigningKey>>>,
    verified: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

impl Tokens {
    pub(super) async fn open(
        ground: Ground,
        vault: Vault,
        settings: &PeopleSettings,
        public_url: &str,
    ) -> Result<Self> {
        let issuer = [settings.issuer.as_str(), public_url, "keyward"].into_iter().find(|text| !text.is_empty());
        let tokens = Self {
            issuer: issuer.unwrap_or_default().trim_end_matches('/').to_owned(),
            key_days: i64::from(settings.signing_key_days.clamp(1, 365)),
            access_seconds: i64::from(settings.access_token_seconds.clamp(30, 900)),
            ground,
            vault,
            keys: RwLock::default(),
            verified: Mutex::default(),
        };
        tokens.rotate().await?;
        Ok(tokens)
    }

    /// Makes the keys of the present and the next period where they are missing, forgets those whose last token has run
    /// out, and reads what other nodes have made. Run from time to time.
    pub(crate) async fn rotate(&self) -> Result<()> {
        let now = self.ground.now();
        let mut tx = self.ground.db.begin().await?;
        sql(statements::SWEEP_SIGNING_KEYS).bind(now.plus_seconds(-2 * self.access_seconds)).execute(&mut tx).await?;
        let mut keys: Vec<KeyRow> = sql(statements::SIGNING_KEYS).all(&mut tx).await?;
        keys.retain(|key| self.pair_of(key).is_some());
        // The next key is published a quarter of a period before it signs.
        let needed_until = now.plus_seconds(self.key_days * 86_400 / 4);
        while keys.last().is_none_or(|last| last.retires_at <= needed_until) {
            let active_at = keys.last().map_or(now, |last| last.retires_at.max(now));
            let key = self.new_key(active_at)?;
            let insert = sql(statements::INSERT_SIGNING_KEY).bind(key.id).bind(key.sealed.clone());
            let insert = insert.bind(key.public_key.clone()).bind(key.active_at).bind(key.retires_at);
            insert.execute(&mut tx).await?;
            keys.push(key);
        }
        tx.commit().await?;
        self.reread().await
    }

    fn new_key(&self, active_at: Timestamp) -> Result<KeyRow> {
        let internal = |_| Error::new(keyward_core::problem::Code::Internal, "A signing key could not be made.");
        let pair = Ed25519KeyPair::generate().map_err(internal)?;
        let seed = pair.seed().map_err(internal)?;
        let seed: Curve25519SeedBin<'_> = seed.as_be_bytes().map_err(internal)?;
        Ok(KeyRow {
            id: self.ground.new_id(),
            sealed: self.vault.seal(PURPOSE, seed.as_ref()),
            public_key: pair.public_key().as_ref().to_vec(),
            active_at,
            retires_at: active_at.plus_days(self.key_days),
        })
    }

    async fn reread(&self) -> Result<()> {
        let rows: Vec<KeyRow> = sql(statements::SIGNING_KEYS).all(&self.ground.db).await?;
        let keys = rows.into_iter().filter_map(|row| {
            let pair = self.pair_of(&row)?;
            let header = json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": row.id });
            let header = BASE64.encode(header.to_string());
            let KeyRow { id, public_key, active_at, retires_at, .. } = row;
            Some(SigningKey { id, header, pair, public_key, active_at, retires_at })
        });
        *self.keys.write().expect("no one panics while writing keys") = Arc::new(keys.collect());
        Ok(())
    }

    /// The pair of a stored key. One that cannot be opened, or whose halves do not fit, is none of ours: it signs nothing
    /// and verifies nothing, so that whoever can only write into the database makes no tokens.
    fn pair_of(&self, row: &KeyRow) -> Option<Ed25519KeyPair> {
        let seed = self.vault.open(PURPOSE, &row.sealed)?;
        Ed25519KeyPair::from_seed_and_public_key(&seed, &row.public_key).ok()
    }

    fn keys(&self) -> Arc<Vec<SigningKey>> {
        self.keys.read().expect("no one panics while writing keys").clone()
    }

    /// Signs with the key of this time.
    pub(super) fn sign(&self, claims: &Claims, now: Timestamp) -> Result<String> {
        let keys = self.keys();
        // A clock that was set back finds no key of its time: the oldest one signs then.
        let Some(key) = keys.iter().rev().find(|key| key.active_at <= now).or(keys.first()) else {
            return Err(Error::new(
                keyward_core::problem::Code::NotReady,
                "No signing key can be opened; is a pepper missing?",
            ));
        };
        let payload = BASE64.encode(serde_json::to_vec(claims).expect("claims can be written as JSON"));
        let message = format!("{}.{payload}", key.header);
        let signature = BASE64.encode(key.pair.sign(message.as_bytes()));
        Ok(format!("{message}.{signature}"))
    }

    /// What a genuine token says; whether it is still in force is decided elsewhere.
    pub(super) async fn read(&self, token: &str) -> Result<Option<Arc<Claims>>> {
        if token.len() > MAX_BYTES || token.bytes().filter(|byte| *byte == b'.').count() != 2 {
            return Ok(None);
        }
        let mark: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(claims) = self.verified.lock().expect("no one panics while remembering").get(&mark) {
            return Ok(Some(claims.clone()));
        }
        let claims = match self.verify(token) {
            Some(claims) => claims,
            // Perhaps another node has made a key since.
            None if self.may_be_newer(token) => {
                self.reread().await?;
                match self.verify(token) {
                    Some(claims) => claims,
                    None => return Ok(None),
                }
            }
            None => return Ok(None),
        };
        let claims = Arc::new(claims);
        let mut verified = self.verified.lock().expect("no one panics while remembering");
        if verified.len() >= MAX_REMEMBERED {
            verified.clear();
        }
        verified.insert(mark, claims.clone());
        Ok(Some(claims))
    }

    /// When a genuine token runs out, in seconds since 1970.
    pub async fn expires_at(&self, token: &str) -> Result<Option<i64>> {
        Ok(self.read(token).await?.map(|claims| claims.exp))
    }

    fn verify(&self, token: &str) -> Option<Claims> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        let keys = self.keys();
        let key = keys.iter().find(|key| key.header == header)?;
        let signature = BASE64.decode(signature).ok()?;
        UnparsedPublicKey::new(&ED25519, &key.public_key).verify(message.as_bytes(), &signature).ok()?;
        let claims: Claims = serde_json::from_slice(&BASE64.decode(payload).ok()?).ok()?;
        (claims.iss == self.issuer && claims.aud == self.issuer).then_some(claims)
    }

    /// Whether the header is like ours, of a key that is not known here.
    fn may_be_newer(&self, token: &str) -> bool {
        let keys = self.keys();
        let header = token.split('.').next().unwrap_or_default();
        keys.iter().all(|key| key.header != header) && keys.first().is_some_and(|key| key.header.len() == header.len())
    }

    /// The keys that verify tokens (RFC 7517): the present, the next, and retired ones whose tokens may still be in force.
    pub fn jwks(&self) -> Value {
        let now = self.ground.now();
        let oldest = now.plus_seconds(-self.access_seconds);
        let keys = self.keys();
        let public = |key: &SigningKey| {
            json!({
                "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": key.id,
                "x": BASE64.encode(&key.public_key),
            })
        };
        json!({ "keys": keys.iter().filter(|key| key.retires_at > oldest).map(public).collect::<Vec<_>>() })
    }
}
