//! What a provider is asked: for tokens, keys and what a token leaves out; and what becomes of a sign-in when it does not answer.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::forgeries::{parameter, sign_in, started, with_token};
use super::{assert_refused, events};
use crate::support::Answer;
use crate::support::forger::{Key, base64};
use crate::support::identity::Browser;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_code_is_exchanged_with_its_verifier_and_our_secret() {
    let (node, forger) = started().await;
    let key = Key::ed();
    forger.say(|said| said.keys = vec![key.jwk("one")]);
    let mut challenge = String::new();
    let signed_in = sign_in(&node, &forger, |location, claims| {
        challenge = parameter(location, "code_challenge");
        json!({ "id_token": key.token(&json!({ "alg": "EdDSA", "kid": "one" }), &claims) })
    });
    assert_eq!(signed_in.await.status, 302);
    let said = forger.said.lock().unwrap();
    assert_eq!(base64(&Sha256::digest(&said.form["code_verifier"])), challenge, "RFC 7636, S256");
    assert_eq!((said.form["code"].as_str(), said.form["grant_type"].as_str()), ("the-code", "authorization_code"));
    assert_eq!(said.form["redirect_uri"], "https://keys.example.com/v1/auth/oidc/callback");
    // `keyward:a+secret%3A+with%2Fsigns`, as RFC 6749 2.3.1 asks for.
    assert_eq!(said.authorization, "Basic a2V5d2FyZDphK3NlY3JldCUzQSt3aXRoJTJGc2lnbnM=");
    assert!(!said.form.contains_key("client_secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_keys_are_fetched_when_they_are_needed_and_not_more_often() {
    let (node, forger) = started().await;
    let (old, new) = (Key::ed(), Key::ed());
    forger.say(|said| said.keys = vec![old.jwk("old")]);
    let by_key = async |key: &Key, kid: &str| {
        let header = json!({ "alg": "EdDSA", "kid": kid });
        with_token(&node, &forger, |claims| key.token(&header, &claims)).await.status
    };
    let fetched = || forger.keys_fetched.load(Ordering::SeqCst);
    assert_eq!((by_key(&old, "old").await, by_key(&old, "old").await, fetched()), (302, 302, 1));
    forger.say(|said| said.keys = vec![old.jwk("old"), new.jwk("new")]);
    for _ in 0..5 {
        assert_eq!((by_key(&new, "new").await, fetched()), (401, 1), "too soon");
    }
    node.clock.advance_seconds(30);
    assert_eq!((by_key(&new, "new").await, fetched()), (302, 2));
    node.clock.advance_seconds(30);
    for _ in 0..5 {
        assert_eq!((by_key(&new, "made-up").await, fetched()), (401, 3));
    }
    // A key that the provider takes back is not believed for longer than an hour.
    forger.say(|said| said.keys = vec![new.jwk("new")]);
    node.clock.advance_seconds(3_600);
    assert_eq!((by_key(&old, "old").await, by_key(&new, "new").await, fetched()), (401, 302, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_token_leaves_out_is_asked_for_and_must_be_about_the_same_person() {
    let (node, forger) = started().await;
    let key = Key::ed();
    forger.say(|said| said.keys = vec![key.jwk("one")]);
    let short = async |about: Value, verified: bool| {
        forger.say(|said| said.about = about);
        with_token(&node, &forger, |mut claims| {
            claims.as_object_mut().unwrap().remove("email_verified");
            if verified {
                claims.as_object_mut().unwrap().remove("email");
                claims["email_verified"] = json!(true);
            }
            key.token(&json!({ "alg": "EdDSA" }), &claims)
        })
        .await
    };
    assert_refused(&short(json!({ "sub": "bob", "email": "ann@example.com", "email_verified": true }), false).await);
    assert_refused(&short(json!({ "email": "ann@example.com", "email_verified": true }), false).await);
    // One address is not verified by what is said of another.
    assert_refused(&short(json!({ "sub": "ann", "email_verified": true }), false).await);
    assert_refused(&short(json!({ "sub": "ann", "email": "bob@example.com" }), true).await);
    assert_eq!(
        short(json!({ "sub": "ann", "email": "bob@example.com", "email_verified": true }), false).await.status,
        302
    );
    let linked = events(&node, "identity_linked").await;
    assert_eq!((linked.len(), &linked[0]["resource"]["name"]), (1, &json!("bob@example.com")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_refuses_or_is_broken_lets_nobody_in() {
    let (node, forger) = started().await;
    let key = Key::ed();
    forger.say(|said| said.broken = Some((503, "down")));
    let start = Answer::of(node.bare(http::Method::GET, "/v1/auth/oidc/start")).await;
    assert_eq!((start.status, start.code(), start.header("retry-after")), (503, "not_ready", "1"), "{start:?}");
    forger.say(|said| (said.broken, said.issuer) = (None, Some("https://evil.example".to_owned())));
    node.clock.advance_seconds(5);
    assert_eq!(
        Answer::of(node.bare(http::Method::GET, "/v1/auth/oidc/start")).await.status,
        503,
        "it calls itself another"
    );
    forger.say(|said| (said.issuer, said.keys) = (None, vec![key.jwk("one")]));
    let resting = Answer::of(node.bare(http::Method::GET, "/v1/auth/oidc/start")).await;
    assert_eq!(resting.status, 503, "it is left alone for a while");
    node.clock.advance_seconds(5);
    let good = async || with_token(&node, &forger, |claims| key.token(&json!({ "alg": "EdDSA" }), &claims)).await;
    assert_eq!(good().await.status, 302);

    let arrive = async |query: &str| {
        node.clock.advance_seconds(1);
        let mut browser = Browser::default();
        let location = browser.depart(&node, "/").await;
        browser.get(&node, &format!("/v1/auth/oidc/callback?state={}{query}", parameter(&location, "state"))).await
    };
    for query in
        ["&error=access_denied&error_description=no", "&error=%0aforged%20line", "", "&code=x&iss=https://evil.example"]
    {
        assert_refused(&arrive(query).await);
    }
    let told = events(&node, "login_failed").await;
    let told: Vec<&str> =
        told.iter().rev().skip(told.len() - 4).map(|event| event["error_message"].as_str().unwrap()).collect();
    let wanted = [
        "the provider says access_denied",
        "the provider says forgedline",
        "the provider gives no code",
        "the answer is from another issuer",
    ];
    assert_eq!(told, wanted);

    // A redirect of the provider is not followed, and neither is what it says there.
    for broken in [(500, "no"), (302, "elsewhere"), (200, "no JSON")] {
        let mut browser = Browser::default();
        let location = browser.depart(&node, "/").await;
        forger.say(|said| said.broken = Some(broken));
        let answer =
            browser.get(&node, &format!("/v1/auth/oidc/callback?code=x&state={}", parameter(&location, "state"))).await;
        assert!(
            matches!(answer.code(), "not_ready" | "provider_refused") && answer.cookies().is_empty(),
            "{broken:?}: {answer:?}"
        );
        forger.say(|said| said.broken = None);
    }
    assert_eq!(good().await.status, 302);
    // What the provider has said of itself stays in use while it is down.
    node.clock.advance_seconds(3_600);
    forger.say(|said| said.broken = Some((503, "down")));
    assert_eq!(Answer::of(node.bare(http::Method::GET, "/v1/auth/oidc/start")).await.status, 302);
}
