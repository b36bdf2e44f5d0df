//! Hashes of other systems, read into what can be looked up or computed.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use keyward_core::text::from_hex;
use pbkdf2::pbkdf2_hmac;
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// An imported hash: looked up by its digest, or computed for a candidate.
#[derive(Debug, PartialEq, Eq)]
pub enum ForeignHash {
    /// 32 bytes (SHA-256, HMAC-SHA-256) or 64 (SHA-512).
    Digest(Vec<u8>),
    /// A salted hash in its own text form.
    Encoded(String),
}

/// The algorithms that can be imported.
pub const ALGORITHMS: [&str; 6] = ["sha256", "sha512", "hmac-sha256", "pbkdf2-sha256", "bcrypt", "argon2id"];

/// Reads a hash as another system wrote it. The fault reads as the end of a sentence about the hash.
pub fn read(algorithm: &str, hash: &str) -> Result<ForeignHash, &'static str> {
    match algorithm {
        "sha256" | "hmac-sha256" => read_digest(hash, 32).ok_or("is not 32 bytes in hex or base64"),
        "sha512" => read_digest(hash, 64).ok_or("is not 64 bytes in hex or base64"),
        "bcrypt" => hash.parse::<bcrypt::HashParts>().map(|_| encoded(hash)).map_err(|_| "is not a bcrypt hash"),
        "argon2id" => read_argon2id(hash).ok_or("is not an Argon2id hash within 256 MiB and 10 passes"),
        "pbkdf2-sha256" => {
            Pbkdf2::read(hash).map(|_| encoded(hash)).ok_or("is not a PBKDF2-SHA-256 hash of at most 10,000,000 rounds")
        }
        _ => Err("has an unknown algorithm"),
    }
}

fn encoded(hash: &str) -> ForeignHash {
    ForeignHash::Encoded(hash.to_owned())
}

fn read_digest(hash: &str, len: usize) -> Option<ForeignHash> {
    let bytes = from_hex(hash).or_else(|| read_base64(hash))?;
    (bytes.len() == len).then_some(ForeignHash::Digest(bytes))
}

fn read_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text)).or_else(|_| URL_SAFE_NO_PAD.decode(text)).ok()
}

/// Bounds the cost that a stranger's hash can ask of us.
fn read_argon2id(hash: &str) -> Option<ForeignHash> {
    let parsed = argon2::PasswordHash::new(hash).ok()?;
    let params = argon2::Params::try_from(&parsed).ok()?;
    let fair = parsed.algorithm.as_str() == "argon2id" && params.m_cost() <= 256 * 1024 && params.t_cost() <= 10;
    fair.then(|| encoded(hash))
}

/// A PBKDF2-HMAC-SHA-256 hash, as Django (`pbkdf2_sha256$rounds$salt$hash`), passlib (`$pbkdf2-sha256$rounds$salt$hash`)
/// or a PHC string (`$pbkdf2-sha256$i=rounds,l=32$salt$hash`) writes it.
pub struct Pbkdf2 {
    rounds: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Pbkdf2 {
    pub fn read(text: &str) -> Option<Self> {
        let django = text.strip_prefix("pbkdf2_sha256$");
        let mut parts = django.or_else(|| text.strip_prefix("$pbkdf2-sha256$"))?.split('$');
        let (rounds, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
        let rounds = rounds.split(',').find_map(|part| part.strip_prefix("i=")).unwrap_or(rounds).parse().ok()?;
        // passlib writes base64 with `.` for `+`; Django's salt is plain text.
        let bytes = |text: &str| read_base64(&text.replace('.', "+"));
        let salt = if django.is_some() { salt.as_bytes().to_vec() } else { bytes(salt)? };
        let hash = bytes(hash)?;
        let fair = parts.next().is_none() && (1..=10_000_000).contains(&rounds) && (16..=64).contains(&hash.len());
        fair.then_some(Self { rounds, salt, hash })
    }

    pub fn fits(&self, presented: &str) -> bool {
        let mut computed = vec![0; self.hash.len()];
        pbkdf2_hmac::<Sha256>(presented.as_bytes(), &self.salt, self.rounds, &mut computed);
        computed.ct_eq(&self.hash).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pbkdf2_texts_of_three_systems() {
        // Computed with Python: hashlib.pbkdf2_hmac("sha256", b"secret-key", b"salt-of-sixteen!", 1000).
        let hash = "d8YHj3btz/Zxj/GSifn0n9GwMxSvEEVNob3Cb3u/JKw=";
        let (salt, bare) = (STANDARD_NO_PAD.encode("salt-of-sixteen!"), hash.trim_end_matches('='));
        for text in [
            format!("pbkdf2_sha256$1000$salt-of-sixteen!${hash}"),
            format!("$pbkdf2-sha256$1000${}${}", salt.replace('+', "."), bare.replace('+', ".")),
            format!("$pbkdf2-sha256$i=1000,l=32${salt}${bare}"),
        ] {
            let read = Pbkdf2::read(&text).expect(&text);
            assert!(read.fits("secret-key") && !read.fits("secret-kez"), "{text}");
        }
        for bad in ["", "pbkdf2_sha256$x$s$h", "$pbkdf2-sha256$0$c2FsdA$aGFzaA", "pbkdf2_sha256$1000$salt"] {
            assert!(Pbkdf2::read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn digests_in_hex_and_base64() {
        let hex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let base64 = STANDARD.encode(from_hex(hex).unwrap());
        assert_eq!(read("sha256", hex), read("sha256", &base64));
        assert!(read("sha256", "abcd").is_err() && read("sha512", hex).is_err() && read("md5", hex).is_err());
        assert!(
            read("bcrypt", "$2b$10$short").is_err()
                && read("argon2id", "$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA").is_err()
        );
    }
}
