//! An ID token is checked here, in full and without IO: its signature, whom it is from, whom it is for, when, and in answer to
//! what (OpenID Connect Core 3.1.3.7, RFC 8725). Which account it opens is decided elsewhere.

use aws_lc_rs::digest;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use keyward_core::time::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Longest token that is looked at, in bytes.
const MAX_BYTES: usize = 32 * 1024;
/// How far the provider's clock may be from ours.
const SKEW_SECONDS: i64 = 60;
/// A token that answers a code of ours is new.
const OLDEST_SECONDS: i64 = 600;

/// How a token may be signed: a closed list (statement S-11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

/// A public key of the provider (RFC 7517); what else stands in it is not needed.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// What the token must answer to.
pub(super) struct Expected<'a> {
    pub issuer: &'a str,
    pub client_id: &'a str,
    pub nonce: &'a str,
    pub access_token: Option<&'a str>,
    pub now: Timestamp,
}

/// What a token says, once it is believed.
#[derive(Debug)]
pub(super) struct Claims(pub Map<String, Value>);

/// Why a token is not believed: for the book and the log, never for the visitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// No key of the provider has signed it; perhaps one that is not known here yet.
    UnknownKey,
    Because(&'static str),
}

impl Refused {
    pub fn why(self) -> &'static str {
        match self {
            Self::UnknownKey => "the ID token is signed by a key that the provider does not publish",
            Self::Because(why) => why,
        }
    }
}

use Refused::Because;

/// Reads a token and checks everything about it.
pub(super) fn verify(token: &str, keys: &[Jwk], expected: &Expected<'_>) -> Result<Claims, Refused> {
    if token.len() > MAX_BYTES {
        return Err(Because("the ID token is too long"));
    }
    let shape = Because("the ID token is not a signed JWT");
    let (message, signature) = token.rsplit_once('.').ok_or(shape)?;
    let (header, payload) = message.split_once('.').filter(|(_, payload)| !payload.contains('.')).ok_or(shape)?;
    let decode = |part: &str| BASE64.decode(part).map_err(|_| shape);
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| shape)?;
    if header.crit.is_some() {
        return Err(Because("the ID token asks for an extension"));
    }
    let algorithm = Algorithm::of(&header.alg).ok_or(Because("the ID token's algorithm is not allowed"))?;
    let key = find(keys, algorithm, header.kid.as_deref()).ok_or(Refused::UnknownKey)?;
    if !key.has_signed(algorithm, message.as_bytes(), &decode(signature)?) {
        return Err(Because("the ID token's signature is wrong"));
    }
    let claims: Map<String, Value> = serde_json::from_slice(&decode(payload)?).map_err(|_| shape)?;
    let claims = Claims(claims);
    claims.check(algorithm, expected)?;
    Ok(claims)
}

/// The key that the header names; without a name the only one that fits.
fn find<'a>(keys: &'a [Jwk], algorithm: Algorithm, kid: Option<&str>) -> Option<&'a Jwk> {
    let mut fitting = keys.iter().filter(|key| key.fits(algorithm) && (kid.is_none() || key.kid.as_deref() == kid));
    let first = fitting.next()?;
    if fitting.next().is_some() { None } else { Some(first) }
}

impl Algorithm {
    fn of(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }

    /// Name, type of key and curve.
    fn words(self) -> (&'static str, &'static str, Option<&'static str>) {
        match self {
            Self::Rs256 => ("RS256", "RSA", None),
            Self::Es256 => ("ES256", "EC", Some("P-256")),
            Self::EdDsa => ("EdDSA", "OKP", Some("Ed25519")),
        }
    }

    /// The hash of `at_hash`: the one that the signature uses.
    fn hash(self) -> &'static digest::Algorithm {
        match self {
            Self::Rs256 | Self::Es256 => &digest::SHA256,
            Self::EdDsa => &digest::SHA512,
        }
    }
}

impl Jwk {
    fn fits(&self, algorithm: Algorithm) -> bool {
        let (name, kty, curve) = algorithm.words();
        self.kty == kty
            && (curve.is_none() || self.crv.as_deref() == curve)
            && self.alg.as_deref().is_none_or(|alg| alg == name)
            && self.r#use.as_deref().is_none_or(|used| used == "sig")
    }

    fn has_signed(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let part = |text: &Option<String>| text.as_deref().and_then(|text| BASE64.decode(text).ok());
        let verified = match algorithm {
            Algorithm::Rs256 => part(&self.n).zip(part(&self.e)).and_then(|(n, e)| {
                PublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).ok()
            }),
            Algorithm::Es256 => part(&self.x).zip(part(&self.y)).and_then(|(x, y)| {
                let point = [&[4], x.as_slice(), &y].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).ok()
            }),
            Algorithm::EdDsa => {
                part(&self.x).and_then(|x| UnparsedPublicKey::new(&ED25519, x).verify(message, signature).ok())
            }
        };
        verified.is_some()
    }
}

impl Claims {
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// Whether a claim is left out because it would be too long (Core 5.6.2).
    pub fn has_too_many(&self, name: &str) -> bool {
        self.0.get("_claim_names").is_some_and(|names| names.get(name).is_some())
    }

    fn check(&self, algorithm: Algorithm, expected: &Expected<'_>) -> Result<(), Refused> {
        let must = |holds: bool, why| if holds { Ok(()) } else { Err(Because(why)) };
        let seconds = |name: &str| self.0.get(name).and_then(Value::as_f64).map(|at| at as i64);
        let now = expected.now.as_seconds();
        must(self.text("iss") == Some(expected.issuer), "the ID token is from another issuer")?;
        let (is_for_us, is_for_others) = match self.0.get("aud") {
            Some(Value::String(one)) => (one == expected.client_id, false),
            Some(Value::Array(many)) => (many.iter().any(|one| one == expected.client_id), many.len() > 1),
            _ => (false, false),
        };
        must(is_for_us, "the ID token is for another client")?;
        must(
            !is_for_others || self.0.contains_key("azp"),
            "the ID token is for several clients, and does not say for whom",
        )?;
        let azp = self.0.get("azp");
        must(azp.is_none_or(|azp| azp == expected.client_id), "the ID token was given to another client")?;
        let exp = seconds("exp").ok_or(Because("the ID token does not say when it runs out"))?;
        must(exp > now - SKEW_SECONDS, "the ID token has run out")?;
        let iat = seconds("iat").ok_or(Because("the ID token does not say when it was made"))?;
        must(iat <= now + SKEW_SECONDS, "the ID token is from the future")?;
        must(iat >= now - OLDEST_SECONDS - SKEW_SECONDS, "the ID token is old")?;
        let nbf = seconds("nbf");
        must(nbf.is_none_or(|nbf| nbf <= now + SKEW_SECONDS), "the ID token is not good yet")?;
        must(self.text("nonce") == Some(expected.nonce), "the ID token answers another sign-in")?;
        let subject = self.text("sub").unwrap_or_default();
        must(!subject.is_empty() && subject.len() <= 255, "the ID token names nobody")?;
        if let Some(at_hash) = self.0.get("at_hash") {
            let hash = |token: &str| {
                let hash = digest::digest(algorithm.hash(), token.as_bytes());
                BASE64.encode(&hash.as_ref()[..hash.as_ref().len() / 2])
            };
            must(expected.access_token.is_some_and(|token| *at_hash == hash(token)), "the access token is another's")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod vectors;
