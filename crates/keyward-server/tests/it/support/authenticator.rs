//! An authenticator in software (WebAuthn Level 3, section 6) with the browser before it, so that a test can have every answer,
//! the wrong ones too. It keeps one passkey.

use std::sync::Arc;

use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const USER_PRESENT: u8 = 1;
const USER_VERIFIED: u8 = 1 << 2;
const HOLDS_KEY: u8 = 1 << 6;

/// What it does is what its fields say; a test changes them. A copy has the same key, as a thief's would.
#[derive(Clone)]
pub struct Authenticator {
    pub origin: String,
    /// Whether the page stands in one of another origin.
    pub is_framed: bool,
    /// The host name that it answers for.
    pub host: String,
    pub verifies_user: bool,
    /// It is there without a touch.
    pub asks_user: bool,
    /// How often the passkey was used, where it counts.
    pub count: u32,
    pub counts: bool,
    pub credential_id: Vec<u8>,
    /// Whose the passkey is, in base64; told with each answer, unless it is absent.
    pub user: Option<String>,
    key: Arc<EcdsaKeyPair>,
}

impl Authenticator {
    pub fn on(origin: &str) -> Self {
        let mut credential_id = vec![0; 16];
        rand::fill(&mut credential_id).expect("randomness");
        Self {
            origin: origin.to_owned(),
            host: origin.split(['/', ':']).rfind(|part| part.contains('.')).expect("a host name").to_owned(),
            is_framed: false,
            verifies_user: true,
            asks_user: true,
            count: 0,
            counts: true,
            credential_id,
            user: None,
            key: new_key(),
        }
    }

    /// Answers are signed by another key from now on.
    pub fn change_key(&mut self) {
        self.key = new_key();
    }

    /// `navigator.credentials.create({ publicKey })`, as `toJSON()` tells it.
    pub fn create(&mut self, options: &Value) -> Value {
        self.user = Some(text(&options["user"]["id"]));
        let mut answer = self.bytes(HOLDS_KEY);
        // No model is told (section 6.5.1).
        answer.extend([0; 16]);
        answer.extend((self.credential_id.len() as u16).to_be_bytes());
        answer.extend(&self.credential_id);
        answer.extend(self.public_key());
        let mut object = vec![0xa3];
        cbor_text(&mut object, "fmt");
        cbor_text(&mut object, "none");
        cbor_text(&mut object, "attStmt");
        object.push(0xa0);
        cbor_text(&mut object, "authData");
        cbor_bytes(&mut object, &answer);
        self.credential(json!({
            "clientDataJSON": BASE64.encode(self.client("webauthn.create", options)),
            "attestationObject": BASE64.encode(object), "transports": ["internal"],
        }))
    }

    /// `navigator.credentials.get({ publicKey })`, as `toJSON()` tells it.
    pub fn get(&mut self, options: &Value) -> Value {
        self.count += u32::from(self.counts);
        let (answer, client) = (self.bytes(0), self.client("webauthn.get", options));
        let signed = [answer.as_slice(), Sha256::digest(&client).as_slice()].concat();
        let signature = self.key.sign(&SystemRandom::new(), &signed).expect("a signature");
        self.credential(json!({
            "clientDataJSON": BASE64.encode(client), "authenticatorData": BASE64.encode(answer),
            "signature": BASE64.encode(signature), "userHandle": self.user,
        }))
    }

    fn credential(&self, response: Value) -> Value {
        let id = BASE64.encode(&self.credential_id);
        json!({
            "id": id, "rawId": id, "type": "public-key", "authenticatorAttachment": "platform", "response": response,
            "clientExtensionResults": {},
        })
    }

    fn client(&self, kind: &str, options: &Value) -> Vec<u8> {
        let told = json!({ "type": kind, "challenge": options["challenge"], "origin": self.origin, "crossOrigin": self.is_framed });
        told.to_string().into_bytes()
    }

    /// Authenticator data up to the credential (section 6.1).
    fn bytes(&self, flags: u8) -> Vec<u8> {
        let asked = if self.asks_user { USER_PRESENT } else { 0 };
        let verified = if self.verifies_user { USER_VERIFIED } else { 0 };
        let host = Sha256::digest(self.host.as_bytes());
        [host.as_slice(), &[flags | asked | verified], &self.count.to_be_bytes()].concat()
    }

    /// COSE (RFC 9053, 7.1): an elliptic curve key, ES256, on P-256.
    fn public_key(&self) -> Vec<u8> {
        let point = self.key.public_key().as_ref();
        let mut key = vec![0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01];
        for (name, coordinate) in [(0x21, &point[1..33]), (0x22, &point[33..65])] {
            key.push(name);
            cbor_bytes(&mut key, coordinate);
        }
        key
    }
}

fn new_key() -> Arc<EcdsaKeyPair> {
    Arc::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key"))
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// A short text (RFC 8949, 3.1).
fn cbor_text(out: &mut Vec<u8>, text: &str) {
    out.push(0x60 | text.len() as u8);
    out.extend(text.as_bytes());
}

fn cbor_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(0x59);
    out.extend((bytes.len() as u16).to_be_bytes());
    out.extend(bytes);
}
