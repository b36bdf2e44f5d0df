//! Leak reports in the form of GitHub's secret-scanning partner program: a list of tokens, signed with ECDSA P-256
//! over the raw body by a key that the operator has configured.

use anyhow::Context as _;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

/// The public keys of partners, by identifier.
#[derive(Default)]
pub struct PartnerKeys(Vec<(String, Vec<u8>)>);

const IDENTIFIER: &str = "github-public-key-identifier";
const SIGNATURE: &str = "github-public-key-signature";

impl PartnerKeys {
    /// Reads `identifier:path of a PEM file` or `identifier:base64 of the DER`.
    pub fn read(texts: &[String]) -> anyhow::Result<Self> {
        texts.iter().map(|text| read_key(text)).collect::<anyhow::Result<_>>().map(Self)
    }

    /// Whether the request is signed at all, rightly or not.
    pub fn is_signed(headers: &HeaderMap) -> bool {
        headers.contains_key(SIGNATURE)
    }

    /// Whether the body is signed by the partner's key that the headers name.
    pub fn accept(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let (Some(identifier), Some(signature)) = (header(IDENTIFIER), header(SIGNATURE)) else { return false };
        let Ok(signature) = STANDARD.decode(signature) else { return false };
        let key = self.0.iter().find(|(known, _)| known == identifier);
        key.is_some_and(|(_, der)| {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, der).verify(body, &signature).is_ok()
        })
    }
}

fn read_key(text: &str) -> anyhow::Result<(String, Vec<u8>)> {
    let (identifier, source) = text.split_once(':').context("leaks.partner_keys: needs identifier:key")?;
    let encoded = match std::fs::read_to_string(source) {
        Ok(pem) => pem.lines().filter(|line| !line.starts_with("-----")).collect(),
        Err(_) => source.to_owned(),
    };
    let der = STANDARD
        .decode(encoded.trim())
        .with_context(|| format!("leaks.partner_keys: {identifier}: neither a PEM file that can be read nor base64"))?;
    Ok((identifier.to_owned(), der))
}
