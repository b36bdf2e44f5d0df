//! Secrets that Keyward itself has to read again: sealed under keys that are derived from the instance's peppers. A copy of
//! the database alone opens nothing where the peppers are held outside.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use hmac::{Hmac, KeyInit, Mac};
use keyward_core::key::Pepper;
use sha2::{Digest, Sha256};

use crate::keys::peppers::Peppers;

const VERSION_LEN: usize = 4;

#[derive(Clone)]
pub(crate) struct Vault {
    peppers: Arc<Peppers>,
}

impl Vault {
    pub fn new(peppers: Arc<Peppers>) -> Self {
        Self { peppers }
    }

    /// Seals for a purpose; another purpose does not open it.
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> Vec<u8> {
        let pepper = self.peppers.current();
        let mut sealed = plain.to_vec();
        let nonce = key(pepper)
            .seal_in_place_append_tag(Aad::from(purpose.as_bytes()), &mut sealed)
            .expect("a secret is not too long to seal");
        [pepper.version().to_le_bytes().as_slice(), nonce.as_ref(), &sealed].concat()
    }

    /// What was sealed for the purpose, under any pepper that is still accepted.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (version, rest) = sealed.split_first_chunk::<VERSION_LEN>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let version = u32::from_le_bytes(*version);
        let pepper = self.all().find(|pepper| pepper.version() == version)?;
        let mut sealed = sealed.to_vec();
        let opened = key(pepper).open_in_place(Nonce::from(nonce), Aad::from(purpose.as_bytes()), &mut sealed);
        opened.ok().map(|plain| plain.to_vec())
    }

    /// A keyed digest for a purpose, under each accepted pepper, the current one first.
    pub fn macs<'a>(&'a self, purpose: &'a str, message: &'a [u8]) -> impl Iterator<Item = [u8; 32]> + 'a {
        self.all().map(move |pepper| {
            let secret = pepper.digest(&format!("keyward mac: {purpose}"));
            let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
            mac.update(message);
            mac.finalize().into_bytes().into()
        })
    }

    fn all(&self) -> impl Iterator<Item = &Pepper> {
        std::iter::once(self.peppers.current()).chain(self.peppers.older())
    }
}

/// No key string has a space, so no stored digest is ever this.
fn key(pepper: &Pepper) -> RandomizedNonceKey {
    let secret = pepper.digest("keyward sealing key");
    RandomizedNonceKey::new(&AES_256_GCM, secret.as_bytes()).expect("the key has 256 bits")
}

/// 256 random bits as text, behind a prefix that tells what they are.
pub(crate) fn new_token(prefix: &str) -> String {
    let mut random = [0; 32];
    getrandom::fill(&mut random).expect("the operating system gives randomness");
    token_of(prefix, &random)
}

pub(crate) fn token_of(prefix: &str, secret: &[u8; 32]) -> String {
    use base64::Engine as _;
    format!("{prefix}_{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret))
}

/// What is stored of a token: it has 256 random bits, so a plain digest tells nothing about it.
pub(crate) fn digest(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}
