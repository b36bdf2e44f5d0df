//! Reports of leaked keys: our own form, and GitHub's with its signature.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Backend, Node, on_both};

on_both! {
    async fn a_reported_key_is_disabled_and_noted(node: Node) {
        let issued = node.new_key(json!({})).await;
        let (id, key) = (issued["id"].as_str().unwrap(), issued["key"].as_str().unwrap());
        let report = json!({ "key": key, "source": "scanner", "url": "https://example.com/paste" });
        let answer = node.post("/v1/leaked-keys", report).await;
        assert_eq!((answer.json["matched"].as_bool(), answer.json["key_id"].as_str()), (Some(true), Some(id)), "{answer:?}");
        assert_eq!(node.code_of(key).await, "disabled");
        let events = node.get("/v1/audit-events?action=key_leaked").await;
        assert_eq!(events.json["items"].as_array().unwrap().len(), 1);
        assert!(!events.text.contains(key));

        let unknown = node.post("/v1/leaked-keys", json!({ "key": format!("kw_live_{}", "x".repeat(43)) })).await;
        assert_eq!((unknown.status, unknown.json["matched"].as_bool()), (200, Some(false)));
    }
}

struct Partner(EcdsaKeyPair);

impl Partner {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    fn configured(&self) -> String {
        use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        format!("partner-1:{}", STANDARD.encode(der.as_ref()))
    }

    async fn report(&self, node: &Node, body: &str, signed: &str) -> Answer {
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        let request = node
            .bare(Method::POST, "/v1/leaked-keys")
            .header("content-type", "application/json")
            .header("Github-Public-Key-Identifier", "partner-1")
            .header("Github-Public-Key-Signature", STANDARD.encode(signature.as_ref()))
            .body(body.to_owned());
        Answer::of(request).await
    }
}

async fn check_partner(backend: Backend) {
    let partner = Partner::new();
    let node = Node::start_with(backend, |layers| {
        layers.flag("leaks.partner_keys", vec![partner.configured()]);
        layers.flag("leaks.policy", "rotate");
    })
    .await;
    let issued = node.new_key(json!({})).await;
    let (id, key) = (issued["id"].as_str().unwrap(), issued["key"].as_str().unwrap());
    let body = json!([{ "token": key, "type": "keyward_key", "url": "https://example.com/repo", "source": "content" },
        { "token": "kw_live_nothing", "type": "keyward_key", "url": "", "source": "commit" }])
    .to_string();

    assert_eq!(partner.report(&node, &body, "another body").await.status, 401);
    assert_eq!(Partner::new().report(&node, &body, &body).await.status, 401);
    assert_eq!(node.code_of(key).await, "valid", "an unsigned report changes nothing");

    let answer = partner.report(&node, &body, &body).await;
    let labels: Vec<&Value> = answer.json.as_array().unwrap().iter().map(|item| &item["label"]).collect();
    assert_eq!(labels, ["true_positive", "false_positive"], "{answer:?}");
    assert_eq!(node.code_of(key).await, "revoked", "the leaked secret has ended");
    let rotated = node.post(&format!("/v1/api-keys/{id}/rotate"), json!({})).await;
    assert_eq!(node.code_of(rotated.json["key"].as_str().unwrap()).await, "valid", "the key lives on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_partner_report_ends_the_secret_on_sqlite() {
    check_partner(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_partner_report_ends_the_secret_on_postgres() {
    check_partner(Backend::Postgres).await;
}
