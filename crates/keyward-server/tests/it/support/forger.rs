//! An identity provider that says whatever a test wants: tokens that are wrong in one way each, and right ones.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key that signs, and how it is published.
pub enum Key {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Key {
    pub fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"))
    }

    pub fn ec() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"))
    }

    pub fn ed() -> Self {
        Self::Ed(Ed25519KeyPair::generate().expect("a key"))
    }

    pub fn alg(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
        }
    }

    pub fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Rsa(pair) => {
                // SEQUENCE { INTEGER n of 256 bytes behind a zero, INTEGER e of three bytes } (RFC 8017).
                let public = pair.public_key().as_ref();
                let (n, e) = (&public[9..265], &public[267..270]);
                json!({ "kty": "RSA", "kid": kid, "use": "sig", "n": base64(n), "e": base64(e) })
            }
            Self::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": base64(&point[1..33]), "y": base64(&point[33..]) })
            }
            Self::Ed(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64(pair.public_key().as_ref()) })
            }
        }
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("a signature");
                signature
            }
            Self::Ec(pair) => pair.sign(&random, message).expect("a signature").as_ref().to_vec(),
            Self::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A token of this key.
    pub fn token(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        format!("{message}.{}", base64(&self.sign(message.as_bytes())))
    }
}

/// Header and claims as they are signed.
pub fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", base64(header.to_string().as_bytes()), base64(claims.to_string().as_bytes()))
}

/// A token that is signed with a secret, as `HS256` says.
pub fn hs256(secret: &[u8], header: &Value, claims: &Value) -> String {
    let message = message(header, claims);
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length");
    mac.update(message.as_bytes());
    format!("{message}.{}", base64(&mac.finalize().into_bytes()))
}

/// What the provider answers next.
#[derive(Default)]
pub struct Said {
    pub keys: Vec<Value>,
    /// The answer of the token endpoint.
    pub tokens: Value,
    /// The answer of the userinfo endpoint.
    pub about: Value,
    /// Every answer is this, if it is set.
    pub broken: Option<(u16, &'static str)>,
    pub issuer: Option<String>,
    /// The form and the credential of the last exchange.
    pub form: HashMap<String, String>,
    pub authorization: String,
}

pub struct Forger {
    pub issuer: String,
    pub said: Mutex<Said>,
    pub keys_fetched: AtomicUsize,
}

type Shared = State<Arc<Forger>>;

impl Forger {
    pub async fn start() -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let issuer = format!("http://{}", listener.local_addr().expect("an address"));
        let forger = Arc::new(Self { issuer, said: Mutex::default(), keys_fetched: AtomicUsize::new(0) });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(describe))
            .route("/keys", get(keys))
            .route("/token", post(exchange))
            .route("/about", get(about))
            .with_state(forger.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        forger
    }

    pub fn say(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.said.lock().expect("no one panics while saying"));
    }

    fn answer(&self, answer: impl FnOnce(&mut Said) -> Value) -> Response {
        let mut said = self.said.lock().expect("no one panics while saying");
        match said.broken {
            Some((status, body)) => {
                (StatusCode::from_u16(status).expect("a status"), [("location", "/about")], body).into_response()
            }
            None => Json(answer(&mut said)).into_response(),
        }
    }
}

async fn describe(State(forger): Shared) -> Response {
    forger.answer(|said| {
        let address = |path: &str| format!("{}{path}", forger.issuer);
        json!({
            "issuer": said.issuer.clone().unwrap_or_else(|| forger.issuer.clone()), "authorization_endpoint": address("/authorize"),
            "token_endpoint": address("/token"), "jwks_uri": address("/keys"), "userinfo_endpoint": address("/about"),
        })
    })
}

async fn keys(State(forger): Shared) -> Response {
    forger.keys_fetched.fetch_add(1, Ordering::SeqCst);
    forger.answer(|said| json!({ "keys": said.keys }))
}

async fn exchange(State(forger): Shared, headers: HeaderMap, Form(form): Form<HashMap<String, String>>) -> Response {
    forger.answer(|said| {
        said.form = form;
        said.authorization = headers.get("authorization").map_or("", |value| value.to_str().expect("ASCII")).to_owned();
        said.tokens.clone()
    })
}

async fn about(State(forger): Shared) -> Response {
    forger.answer(|said| said.about.clone())
}
