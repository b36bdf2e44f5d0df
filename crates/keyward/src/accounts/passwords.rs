//! Passwords: what may be one, and their Argon2id hashes, a bounded number at a time. Who signs in with one is decided
//! elsewhere.

use std::sync::Arc;

use argon2::password_hash::phc::Output;
use argon2::{Algorithm, Argon2, Block, Params, PasswordHash, PasswordHasher, Version};
use keyward_core::problem::{Code, FieldFault};
use keyward_core::secret::Secret;
use zxcvbn::{Score, zxcvbn};

use super::hashing::{Hashing, Memory};
use crate::config::PeopleSettings;
use crate::error::{Error, Result};

/// NIST SP 800-63B-4, 3.1.1.2: where the password is the only factor, and where a second one is required.
const MIN_CHARS: usize = 15;
const MIN_CHARS_WITH_FACTOR: usize = 8;
/// Longest password, in bytes.
pub const MAX_BYTES: usize = 512;
/// What is guessed first stands at the front; estimating long texts takes quadratic time.
const MAX_JUDGED_CHARS: usize = 100;

/// More than these, and a sign-in takes longer than anybody waits.
const MOST_MEMORY_KIB: u32 = 1_048_576;
const MOST_PASSES: u32 = 20;

/// Hashing, bounded in number.
pub struct Passwords {
    hasher: Argon2<'static>,
    hashing: Hashing,
    /// Of a password that nobody knows: unknown accounts take as long as known ones.
    nobodys: String,
}

/// What a password turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    pub is_right: bool,
    /// Its hash was made with weaker parameters than today's.
    pub is_outdated: bool,
}

impl Passwords {
    pub(crate) fn new(settings: &PeopleSettings) -> Self {
        let mut random = [0; 32];
        getrandom::fill(&mut random).expect("the operating system gives randomness");
        let (memory, passes) = (settings.hash_memory_kib, settings.hash_passes);
        let least = Params::DEFAULT;
        let params = Params::new(
            memory.clamp(least.m_cost(), MOST_MEMORY_KIB),
            passes.clamp(least.t_cost(), MOST_PASSES),
            1,
            None,
        );
        let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.expect("they are within Argon2's bounds"));
        Self {
            nobodys: hash_with(&hasher, &random).expect("a hash without limits of its own"),
            hasher,
            hashing: Hashing::start(settings.concurrent_hashes, settings.waiting_hashes),
        }
    }

    /// The hash of a new password, in PHC form.
    pub async fn hash(self: &Arc<Self>, password: &Secret<String>) -> Result<String> {
        let (password, passwords) = (password.clone(), self.clone());
        self.hashing.run(move |_| hash_with(&passwords.hasher, password.expose().as_bytes())).await?
    }

    /// Whether the password is the one; with no hash, as long as with one, and never.
    pub async fn verify(self: &Arc<Self>, password: &Secret<String>, stored: Option<String>) -> Result<Verified> {
        let (password, passwords) = (password.clone(), self.clone());
        let verify = move |memory: &mut Memory| {
            let encoded = stored.as_deref().unwrap_or(&passwords.nobodys);
            let hash = PasswordHash::new(encoded);
            let fits = |hash| fits(password.expose().as_bytes(), hash, memory) == Some(true);
            let is_right = hash.as_ref().is_ok_and(fits) && stored.is_some();
            Verified { is_right, is_outdated: hash.is_ok_and(|hash| is_weaker(&hash, passwords.hasher.params())) }
        };
        self.hashing.run(verify).await
    }
}

/// Argon2id with the crate's defaults (m = 19 MiB, t = 2, p = 1), the first choice of OWASP.
pub(crate) fn hash_now(password: &[u8]) -> Result<String> {
    hash_with(&Argon2::default(), password)
}

fn hash_with(hasher: &Argon2<'_>, password: &[u8]) -> Result<String> {
    let hash = hasher.hash_password(password);
    Ok(hash
        .map_err(|error| Error::new(Code::Internal, Code::Internal.meaning()).with_source(error.to_string()))?
        .to_string())
}

/// Whether the hash is the password's, computed in memory that is there already; `None` for a hash of another kind.
fn fits(password: &[u8], hash: &PasswordHash, memory: &mut Memory) -> Option<bool> {
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
    let version = hash.version.map_or(Ok(Version::default()), Version::try_from).ok()?;
    let hasher = Argon2::new(algorithm, version, Params::try_from(hash).ok()?);
    let (salt, stored) = (hash.salt.as_ref()?, hash.hash.as_ref()?);
    let mut computed = vec![0; stored.len()];
    memory.resize(hasher.params().block_count(), Block::new());
    hasher.hash_password_into_with_memory(password, salt, &mut computed, memory).ok()?;
    // Outputs are compared in constant time.
    Some(Output::new(&computed).ok()? == *stored)
}

/// Whether a hash costs whoever guesses less than today's parameters; one that costs more is left as it is.
fn is_weaker(hash: &PasswordHash, today: &Params) -> bool {
    let is_argon2id = hash.algorithm.as_str() == Algorithm::Argon2id.as_str();
    let params = Params::try_from(hash).ok().filter(|_| is_argon2id);
    params.is_none_or(|params| params.m_cost() < today.m_cost() || params.t_cost() < today.t_cost())
}

/// The fewest characters of a new password.
pub fn least_chars(has_factor: bool) -> usize {
    if has_factor { MIN_CHARS_WITH_FACTOR } else { MIN_CHARS }
}

/// Refuses a new password that is too short, too long, or tried first by those who guess. `about` are the texts of the
/// account that it must not be made of.
pub fn check(password: &str, about: &[&str], has_factor: bool, pointer: &str) -> Result<()> {
    let least = least_chars(has_factor);
    let refuse =
        |code: Code, detail: String| Err(Error::fields(code, vec![FieldFault { pointer: pointer.to_owned(), detail }]));
    if password.len() > MAX_BYTES {
        return refuse(Code::InvalidField, format!("is longer than {MAX_BYTES} bytes"));
    }
    if password.chars().count() < least {
        return refuse(Code::PasswordTooShort, format!("needs at least {least} characters"));
    }
    let judged: String = password.chars().take(MAX_JUDGED_CHARS).collect();
    if zxcvbn(&judged, &[]).score() <= Score::One {
        return refuse(Code::PasswordCompromised, "is among the passwords that are tried first".to_owned());
    }
    let words: Vec<&str> = about.iter().flat_map(|text| text.split(|letter: char| !letter.is_alphanumeric())).collect();
    let words: Vec<&str> =
        about.iter().copied().chain(words).chain(["keyward"]).filter(|word| word.chars().count() > 2).collect();
    if is_made_of(password, &words) || zxcvbn(&judged, &words).score() <= Score::One {
        return refuse(Code::PasswordContextual, "is made of the account's own words".to_owned());
    }
    Ok(())
}

/// Whether little is left of a password without the words.
fn is_made_of(password: &str, words: &[&str]) -> bool {
    let mut words: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    let rest = words.iter().fold(password.to_lowercase(), |rest, word| rest.replace(word, ""));
    rest.len() < password.len()
        && rest.chars().filter(|letter| letter.is_alphanumeric()).count() < MIN_CHARS_WITH_FACTOR
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(password: &str) -> Option<Code> {
        check(password, &["maria@example.com", "Maria Weiß"], false, "/password").err().map(|error| error.code)
    }

    #[test]
    fn what_may_be_a_password() {
        assert_eq!(code("qzxkvjwbgfpmyudlnhrc"), None, "lower-case letters alone");
        assert_eq!(code("four quiet river stones 🪨"), None);
        assert_eq!(code(&format!("x7-{}", "pleated wren ".repeat(39))), None, "510 bytes");
        assert_eq!(code("short but odd!"), Some(Code::PasswordTooShort));
        assert_eq!(code(&"a b".repeat(171)), Some(Code::InvalidField));
        assert_eq!(code("passwordpassword"), Some(Code::PasswordCompromised));
        assert_eq!(code("123456789012345"), Some(Code::PasswordCompromised));
        assert_eq!(code("maria@example.com"), Some(Code::PasswordContextual));
        assert_eq!(code("Keyward-maria-weiß-2026"), Some(Code::PasswordContextual));
        assert_eq!(check("tr0ub4dor&3x", &[], true, "/password").ok(), Some(()), "eight are enough beside a factor");
    }
}
