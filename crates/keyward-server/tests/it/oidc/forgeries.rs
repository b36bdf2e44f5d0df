//! What a provider must not get away with, and what it may: by a provider of our own making.

use std::collections::HashSet;
use std::sync::Arc;

use reqwest::Url;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{assert_refused, by, events};
use crate::support::forger::{Forger, Key, base64, hs256, message};
use crate::support::identity::Browser;
use crate::support::{Answer, Backend, Node};

/// A node that believes the forger, who vouches for somebody.
pub async fn started() -> (Node, Arc<Forger>) {
    let forger = Forger::start().await;
    let node = Node::start_with(Backend::Sqlite, by(&forger.issuer, &[], true)).await;
    (node, forger)
}

/// The same on either database, with the key that the forger signs by.
pub async fn started_with(backend: Backend) -> (Node, Arc<Forger>, Key) {
    let (forger, key) = (Forger::start().await, Key::ed());
    forger.say(|said| said.keys = vec![key.jwk("one")]);
    let node = Node::start_with(backend, by(&forger.issuer, &[], true)).await;
    (node, forger, key)
}

/// Sends the browser to the forger, who lets Ann in and says this about it; answers the way back.
pub async fn vouched(node: &Node, forger: &Forger, key: &Key, browser: &mut Browser, about: &Value) -> String {
    let location = browser.depart(node, "/").await;
    let mut claims = claims(node, forger, &location);
    for (name, value) in about.as_object().expect("claims") {
        claims[name] = value.clone();
    }
    forger.say(|said| said.tokens = json!({ "id_token": key.token(&json!({ "alg": key.alg() }), &claims) }));
    format!("/v1/auth/oidc/callback?code=x&state={}", parameter(&location, "state"))
}

pub fn parameter(location: &str, name: &str) -> String {
    let url = Url::parse(location).unwrap();
    url.query_pairs().find(|(known, _)| known == name).unwrap().1.into_owned()
}

/// What a right token says now, in answer to that request.
fn claims(node: &Node, forger: &Forger, location: &str) -> Value {
    let now = node.app.keyward.clock.now().as_seconds();
    json!({
        "iss": forger.issuer, "aud": "keyward", "sub": "ann", "nonce": parameter(location, "nonce"), "iat": now, "exp": now + 300,
        "email": "ann@example.com", "email_verified": true,
    })
}

/// Makes a token of the right claims.
type Forgery<'a> = Box<dyn Fn(Value) -> String + 'a>;

/// A sign-in whose answer the test makes of what was asked.
pub async fn sign_in(node: &Node, forger: &Forger, answer: impl FnOnce(&str, Value) -> Value) -> Answer {
    let mut browser = Browser::default();
    let location = browser.depart(node, "/").await;
    let tokens = answer(&location, claims(node, forger, &location));
    forger.say(|said| said.tokens = tokens);
    let state = parameter(&location, "state");
    browser.get(node, &format!("/v1/auth/oidc/callback?code=the-code&state={state}")).await
}

pub async fn with_token(node: &Node, forger: &Forger, make: impl FnOnce(Value) -> String) -> Answer {
    sign_in(
        node,
        forger,
        |_, claims| json!({ "id_token": make(claims), "access_token": "an access token", "token_type": "Bearer" }),
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_11_tokens_of_three_algorithms_are_believed() {
    let (node, forger) = started().await;
    for key in [Key::rsa(), Key::ec(), Key::ed()] {
        forger.say(|said| said.keys = vec![key.jwk("one"), json!({ "kty": "oct", "k": "AAAA" }), json!({ "kty": 7 })]);
        node.clock.advance_seconds(30);
        let signed_in = with_token(&node, &forger, |mut claims| {
            claims["aud"] = json!(["another", "keyward"]);
            claims["azp"] = json!("keyward");
            let hash: Vec<u8> = match key {
                Key::Ed(_) => sha2::Sha512::digest("an access token")[..32].to_vec(),
                _ => Sha256::digest("an access token")[..16].to_vec(),
            };
            claims["at_hash"] = json!(base64(&hash));
            key.token(&json!({ "alg": key.alg(), "kid": "one", "typ": "JWT" }), &claims)
        });
        assert_eq!(signed_in.await.status, 302, "{}", key.alg());
        // The only key that fits needs no name.
        let unnamed = with_token(&node, &forger, |claims| key.token(&json!({ "alg": key.alg() }), &claims)).await;
        assert_eq!(unnamed.status, 302, "{}: {unnamed:?}", key.alg());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_07_a_token_that_is_wrong_in_one_thing_is_refused() {
    let (node, forger) = started().await;
    let (key, other) = (Key::rsa(), Key::rsa());
    forger.say(|said| said.keys = vec![key.jwk("one")]);
    let header = json!({ "alg": "RS256", "kid": "one" });
    let now = node.app.keyward.clock.now().as_seconds();
    let right = with_token(&node, &forger, |claims| key.token(&header, &claims)).await;
    assert_eq!(right.status, 302, "{right:?}");

    let long = "x".repeat(256);
    for (claim, value) in [
        ("iss", json!("https://evil.example")),
        ("iss", json!(format!("{}/", forger.issuer))),
        ("iss", Value::Null),
        ("aud", json!("another")),
        ("aud", json!(["another"])),
        ("aud", json!(["keyward", "another"])),
        ("aud", json!([])),
        ("aud", Value::Null),
        ("azp", json!("another")),
        ("nonce", json!("another")),
        ("nonce", Value::Null),
        ("nonce", json!("")),
        ("exp", json!(now - 61)),
        ("exp", Value::Null),
        ("exp", json!((now + 300).to_string())),
        ("iat", json!(now + 61)),
        ("iat", json!(now - 661)),
        ("iat", Value::Null),
        ("nbf", json!(now + 61)),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("sub", Value::Null),
        ("sub", json!(long)),
        ("at_hash", json!("AAAAAAAAAAAAAAAAAAAAAA")),
        ("at_hash", json!(7)),
    ] {
        let refused = with_token(&node, &forger, |mut claims| {
            claims[claim] = value.clone();
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(claim);
            }
            key.token(&header, &claims)
        });
        let refused = refused.await;
        assert_refused(&refused);
        let told = events(&node, "login_failed").await;
        assert!(
            told[0]["error_message"].is_string() && !told[0].to_string().contains("ann@example.com"),
            "{claim} {value}: {}",
            told[0]
        );
    }

    let modulus = key.jwk("one")["n"].as_str().unwrap().to_owned();
    let shapes: [(&str, Forgery<'_>); 16] = [
        ("none", Box::new(|claims| format!("{}.", message(&json!({ "alg": "none" }), &claims)))),
        ("None", Box::new(|claims| format!("{}.", message(&json!({ "alg": "None", "kid": "one" }), &claims)))),
        (
            "HS256 with the public key",
            Box::new(|claims| hs256(modulus.as_bytes(), &json!({ "alg": "HS256", "kid": "one" }), &claims)),
        ),
        (
            "HS256 with the client's secret",
            Box::new(|claims| hs256(b"a secret: with/signs", &json!({ "alg": "HS256" }), &claims)),
        ),
        ("RS512", Box::new(|claims| key.token(&json!({ "alg": "RS512", "kid": "one" }), &claims))),
        ("ES256 by an RSA key", Box::new(|claims| key.token(&json!({ "alg": "ES256", "kid": "one" }), &claims))),
        ("another's key", Box::new(|claims| other.token(&header, &claims))),
        (
            "another's key, brought along",
            Box::new(|claims| {
                other.token(
                    &json!({ "alg": "RS256", "kid": "one", "jwk": other.jwk("one"), "jku": "https://evil.example" }),
                    &claims,
                )
            }),
        ),
        ("an unknown name", Box::new(|claims| key.token(&json!({ "alg": "RS256", "kid": "two" }), &claims))),
        ("crit", Box::new(|claims| key.token(&json!({ "alg": "RS256", "kid": "one", "crit": ["exp"] }), &claims))),
        ("no signature", Box::new(|claims| format!("{}.", message(&header, &claims)))),
        (
            "a changed payload",
            Box::new(|mut claims| {
                let token = key.token(&header, &claims);
                claims["sub"] = json!("another");
                format!("{}.{}", message(&header, &claims), token.rsplit('.').next().unwrap())
            }),
        ),
        ("four parts", Box::new(|claims| format!("{}.x", key.token(&header, &claims)))),
        ("padding", Box::new(|claims| format!("{}=", key.token(&header, &claims)))),
        ("no JSON", Box::new(|_| format!("{0}.{0}.{0}", base64(b"nonsense")))),
        (
            "too long",
            Box::new(|mut claims| {
                claims["more"] = json!("x".repeat(40_000));
                key.token(&header, &claims)
            }),
        ),
    ];
    for (what, make) in shapes {
        let refused = with_token(&node, &forger, make).await;
        assert_eq!(refused.status, 401, "{what}");
        assert_refused(&refused);
    }
    for tokens in
        [json!({ "access_token": "x" }), json!({ "id_token": 7 }), json!([]), json!({ "error": "invalid_grant" })]
    {
        assert_refused(&sign_in(&node, &forger, |_, _| tokens).await);
    }
    // Each was refused for its own reason.
    let told = events(&node, "login_failed").await;
    let told: HashSet<&str> = told.iter().map(|event| event["error_message"].as_str().unwrap()).collect();
    for why in [
        "is from another issuer",
        "is for another client",
        "is for several clients, and does not say for whom",
        "was given to another client",
        "answers another sign-in",
        "has run out",
        "does not say when it runs out",
        "is from the future",
        "is old",
        "does not say when it was made",
        "is not good yet",
        "names nobody",
        "algorithm is not allowed",
        "is signed by a key that the provider does not publish",
        "signature is wrong",
        "asks for an extension",
        "is not a signed JWT",
        "is too long",
        "access token is another's",
        "does not exchange the code",
    ] {
        assert!(told.iter().any(|told| told.contains(why)), "{why}: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_factor_at_the_provider_counts_only_where_the_settings_say_so() {
    for trusted in [false, true] {
        let forger = Forger::start().await;
        let settings = by(&forger.issuer, &[], true);
        let node = Node::start_with(Backend::Sqlite, |layers| {
            settings(layers);
            layers.flag("oidc.trust_second_factor", trusted);
            layers.flag("people.second_factor_required", true);
        })
        .await;
        let key = Key::ed();
        forger.say(|said| said.keys = vec![key.jwk("one")]);
        for (amr, counts) in [(json!(["pwd"]), false), (json!(["pwd", "mfa"]), trusted), (json!("mfa"), false)] {
            let mut browser = Browser::default();
            let location = browser.depart(&node, "/").await;
            let mut claims = claims(&node, &forger, &location);
            claims["amr"] = amr;
            forger.say(|said| said.tokens = json!({ "id_token": key.token(&json!({ "alg": "EdDSA" }), &claims) }));
            browser.get(&node, &format!("/v1/auth/oidc/callback?code=x&state={}", parameter(&location, "state"))).await;
            let me = browser.get(&node, "/v1/auth/me").await.json;
            assert_eq!(
                (&me["second_factor_required"], me["second_factor_at"].is_string()),
                (&json!(!counts), counts),
                "{trusted} {me}"
            );
        }
    }
}
