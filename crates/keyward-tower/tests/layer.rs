//! The layer from the outside: a real application behind it, a stand-in for Keyward that it asks over HTTP.

mod stand_in;

use std::sync::Arc;
use std::time::Duration;

use keyward_core::verdict::{Outcome, Request, Verdict};
use keyward_tower::{CannotJudge, KeywardLayer, Remote, Verify};
use reqwest::Response;
use serde_json::{Value, json};
use stand_in::{App, StandIn, nowhere};

/// Asserts a refusal: status, `code`, problem type and challenge.
#[track_caller]
fn check(response: &Response, problem: &Value, status: u16, code: &str, kind: &str, challenge: Option<&str>) {
    assert_eq!(response.status().as_u16(), status, "{code}");
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{code}");
    let told = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap());
    assert_eq!(told, challenge, "{code}");
    assert_eq!(problem["status"], status, "{code}");
    assert_eq!(problem["code"], code);
    assert_eq!(problem["type"], format!("/errors/{kind}"), "{code}");
}

/// The answer, and its body as JSON.
async fn send(request: reqwest::RequestBuilder) -> (Response, Value) {
    let mut response = request.send().await.unwrap();
    let body = response.chunk().await.unwrap().unwrap_or_default();
    (response, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_valid_key_is_served_and_the_service_knows_whose_it_is() {
    let (keyward, remote) = StandIn::start().await;
    let layer = KeywardLayer::new(remote).require_scope("invoices:read").require_scope("a:b").environment("live");
    let app = App::start(layer.cost(3)).await;
    let response = app.get().bearer_auth("say-valid").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.unwrap(), "billing of org_01h455vb4pex5vsknk084sn02q");
    let asked = json!({
        "key": "say-valid", "scopes": ["invoices:read", "a:b"], "environment": "live", "cost": 3, "limits": [],
        "ip": "127.0.0.1", "method": "GET", "path": "/invoices/7", "dry_run": false,
    });
    assert_eq!(keyward.calls(), [asked]);
}

#[tokio::test]
async fn without_a_key_nobody_is_asked() {
    let (keyward, remote) = StandIn::start().await;
    let app = App::start(KeywardLayer::new(remote)).await;
    for request in [app.get(), app.get().basic_auth("say-valid", Some("x"))] {
        let (response, problem) = send(request).await;
        check(&response, &problem, 401, "unauthenticated", "unauthenticated", Some("Bearer"));
    }
    let (response, problem) = send(app.get().bearer_auth("short")).await;
    check(&response, &problem, 401, "malformed", "unauthenticated", Some("Bearer error=\"invalid_token\""));
    assert_eq!((keyward.calls().len(), app.served()), (0, 0));
}

#[tokio::test]
async fn every_refusal_has_its_status_its_code_and_its_challenge() {
    let (_, remote) = StandIn::start().await;
    let app = App::start(KeywardLayer::new(remote).require_scope("invoices:read").require_scope("a:b")).await;
    for outcome in Outcome::ALL.iter().copied().filter(|outcome| !outcome.is_valid()) {
        let (response, problem) = send(app.get().bearer_auth(format!("say-{}", outcome.as_str()))).await;
        let (kind, challenge) = match (outcome.gateway_status(), outcome) {
            (401, _) => ("unauthenticated", Some("Bearer error=\"invalid_token\"")),
            (_, Outcome::InsufficientScope) => {
                ("key_refused", Some("Bearer error=\"insufficient_scope\", scope=\"invoices:read a:b\""))
            }
            (403, _) => ("key_refused", None),
            _ => (outcome.as_str(), None),
        };
        check(&response, &problem, outcome.gateway_status(), outcome.as_str(), kind, challenge);
        let wait = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        let told = match outcome {
            Outcome::RateLimited => Some("17"),
            Outcome::QuotaExceeded => Some("1"),
            _ => None,
        };
        assert_eq!(wait.as_deref(), told, "{outcome:?}");
    }
    assert_eq!(app.served(), 0);
}

#[tokio::test]
async fn the_key_is_read_from_bearer_and_then_from_the_configured_header() {
    let (keyward, remote) = StandIn::start().await;
    let usual = App::start(KeywardLayer::new(remote.clone())).await;
    let own = App::start(KeywardLayer::new(remote).key_header("x-invoice-key".parse().unwrap())).await;
    for (request, status) in [
        (usual.get().header("x-api-key", "say-valid"), 200),
        (usual.get().header("x-api-key", "say-valid").bearer_auth("say-revoked"), 401),
        (usual.get().header("x-api-key", "say-valid").header("authorization", "Basic eDp5"), 200),
        (own.get().header("x-invoice-key", "say-valid"), 200),
        (own.get().header("x-api-key", "say-valid"), 401),
    ] {
        assert_eq!(request.send().await.unwrap().status().as_u16(), status);
    }
    assert_eq!(keyward.calls().len(), 4);
}

#[tokio::test]
async fn forwarded_addresses_count_only_behind_trusted_proxies() {
    let (keyward, remote) = StandIn::start().await;
    let bare = App::start(KeywardLayer::new(remote.clone())).await;
    let behind = App::start(KeywardLayer::new(remote).trusted_proxies(1)).await;
    for app in [&bare, &behind] {
        let forged = app.get().header("x-forwarded-for", "6.6.6.6, 203.0.113.7");
        assert_eq!(forged.bearer_auth("say-valid").send().await.unwrap().status(), 200);
    }
    let told: Vec<Value> = keyward.calls().iter().map(|call| call["ip"].clone()).collect();
    assert_eq!(told, ["127.0.0.1", "203.0.113.7"]);
}

#[tokio::test]
async fn without_a_verdict_nothing_is_served() {
    let (_, url) = StandIn::start_at_url().await;
    let remote = |url: &str, service_key| Remote::new(url, service_key).unwrap().timeout(Duration::from_millis(500));
    for (why, remote, key) in [
        ("nobody listens", remote(&nowhere().await, stand_in::SERVICE_KEY), "say-valid"),
        ("the service key is wrong", remote(&url, "kw_live_other"), "say-valid"),
        ("the path is wrong", remote(&format!("{url}/elsewhere"), stand_in::SERVICE_KEY), "say-valid"),
        ("the code is not known", remote(&url, stand_in::SERVICE_KEY), "say-splendid"),
        ("no answer comes", remote(&url, stand_in::SERVICE_KEY), "say-nothing"),
    ] {
        let app = App::start(KeywardLayer::new(remote)).await;
        let (response, problem) = send(app.get().bearer_auth(key)).await;
        check(&response, &problem, 503, "not_ready", "not_ready", None);
        assert_eq!(response.headers()["retry-after"], "1", "{why}");
        assert_eq!(app.served(), 0, "{why}");
    }
}

/// Judges in process, as the platform's verifier does. It is not `Clone`, so a layer shares it in an `Arc`.
struct Nobody;

impl Verify for Nobody {
    async fn verify(&self, _: &str, request: &Request<'_>) -> Result<Verdict, CannotJudge> {
        // Calls even a stranger valid when nothing is required: the layer must still let nobody in.
        let outcome = if request.scopes.is_empty() { Outcome::Valid } else { Outcome::NotFound };
        Ok(Verdict::unknown(outcome, false))
    }
}

#[tokio::test]
async fn a_verifier_in_process_is_shared_and_a_valid_stranger_stays_outside() {
    let nobody = Arc::new(Nobody);
    let strict = App::start(KeywardLayer::new(nobody.clone()).require_scope("a")).await;
    let lax = App::start(KeywardLayer::new(nobody)).await;
    assert_eq!(strict.get().bearer_auth("some-key").send().await.unwrap().status(), 401);
    assert_eq!(lax.get().bearer_auth("some-key").send().await.unwrap().status(), 503);
    assert_eq!(strict.served() + lax.served(), 0);
}

#[test]
#[should_panic(expected = "is not a scope")]
fn a_scope_that_no_key_can_hold_is_a_mistake_of_the_program() {
    let _ = KeywardLayer::new(Arc::new(Nobody)).require_scope("invoices read");
}
