//! The key that signs checkpoints (Ed25519): from the settings, or made once and kept in the database, sealed under the instance's
//! peppers.

use std::sync::Arc;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use keyward_core::note::{Checkpoint, NoteKey, Signature, SignedCheckpoint, Use, is_name};
use keyward_core::problem::Code;
use keyward_core::text::from_hex;

use super::sql;
use crate::config::AuditSettings;
use crate::db::{row, sql as statement};
use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::keys::peppers::Peppers;
use crate::sessions::vault::Vault;

const PURPOSE: &str = "audit signer";
/// Bytes of an Ed25519 seed (RFC 8032, 5.1.5).
const SEED: usize = 32;

pub struct Signer {
    pair: Ed25519KeyPair,
    key: NoteKey,
}

row! {
    struct SignerRow { sealed: Vec<u8>, origin: String }
}

impl Signer {
    /// The name of the log is fixed when it first signs: what others hold of it must stay comparable.
    pub(super) async fn open(
        ground: &Ground,
        peppers: Arc<Peppers>,
        settings: &AuditSettings,
        public_url: &str,
    ) -> Result<Self> {
        let vault = Vault::new(peppers);
        let mut seed = [0; SEED];
        getrandom::fill(&mut seed).expect("the operating system gives randomness");
        let origin = format!("{}/audit", host_of(public_url).unwrap_or("keyward"));
        let first = statement(sql::FIRST_SIGNER).bind(&origin).bind(vault.seal(PURPOSE, &seed)).bind(ground.now());
        first.execute(&ground.db).await?;
        let row: SignerRow = statement(sql::SIGNER).one(&ground.db).await?;
        let stored = vault.open(PURPOSE, &row.sealed);
        if let Some(seed) = &stored {
            // Under the present pepper, so that older ones can go.
            statement(sql::SEAL_SIGNER).bind(vault.seal(PURPOSE, seed)).execute(&ground.db).await?;
        }
        let unopened = "The stored key cannot be opened; are keys.peppers those that sealed it?";
        let seed = match settings.signing_key.trim() {
            "" => stored.ok_or_else(|| unusable(unopened))?,
            text => from_hex(text)
                .filter(|seed| seed.len() == SEED)
                .ok_or_else(|| unusable("audit.signing_key must be 32 bytes in hexadecimal digits."))?,
        };
        Self::new(row.origin, &seed).ok_or_else(|| unusable("The key is not an Ed25519 seed."))
    }

    /// A signer by its name and seed; `None` when the name cannot be one (C2SP signed-note) or the seed has not 32 bytes.
    pub fn new(name: String, seed: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok().filter(|_| is_name(&name))?;
        let public = pair.public_key().as_ref().try_into().ok()?;
        Some(Self { pair, key: NoteKey { name, purpose: Use::Log, public } })
    }

    pub fn key(&self) -> &NoteKey {
        &self.key
    }

    pub fn sign(&self, checkpoint: Checkpoint) -> SignedCheckpoint {
        let signature = self.pair.sign(checkpoint.text().as_bytes());
        SignedCheckpoint::new(checkpoint, Signature::by(&self.key, signature.as_ref()))
    }

    /// The checkpoint of a note that this key signed.
    pub fn check(&self, note: &str) -> Option<Checkpoint> {
        check(&self.key, note)
    }
}

/// The checkpoint of a note, if the key of its log signed it.
pub(super) fn check(key: &NoteKey, note: &str) -> Option<Checkpoint> {
    let signed = SignedCheckpoint::parse(note)?;
    let public = UnparsedPublicKey::new(&ED25519, key.public);
    let is_ours = signed.by(key).any(|signature| public.verify(signed.text.as_bytes(), &signature.bytes).is_ok());
    (is_ours && signed.checkpoint.origin == key.name).then_some(signed.checkpoint)
}

fn host_of(url: &str) -> Option<&str> {
    let host = url.split_once("://")?.1.split(['/', '?', '#']).next()?;
    (!host.is_empty() && is_name(host)).then_some(host)
}

fn unusable(why: &str) -> Error {
    Error::new(Code::NotReady, format!("Checkpoints of the audit log cannot be signed. {why}"))
}
