//! Keys that another system issued: every algorithm verifies, is re-hashed on its first use, and can then be revoked.

use argon2::PasswordHasher;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};

use crate::support::{Node, on_both, sha256_hex};

const HMAC_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A key string of another system and its hash.
fn items() -> Vec<(String, Value)> {
    let text = |kind: &str| format!("sk_live_{kind}_0123456789abcdefghijklmn");
    let mut mac = Hmac::<Sha256>::new_from_slice(&(0..32).collect::<Vec<u8>>()).unwrap();
    mac.update(text("hmac").as_bytes());
    let mut pbkdf2 = [0; 32];
    pbkdf2::pbkdf2_hmac::<Sha256>(text("pbkdf2").as_bytes(), b"salt", 1_000, &mut pbkdf2);
    let hashes = [
        ("sha", "sha256", sha256_hex(&text("sha"))),
        ("sha64", "sha256", STANDARD.encode(Sha256::digest(text("sha64").as_bytes()))),
        ("sha512", "sha512", STANDARD.encode(Sha512::digest(text("sha512").as_bytes()))),
        ("hmac", "hmac-sha256", STANDARD.encode(mac.finalize().into_bytes())),
        ("pbkdf2", "pbkdf2-sha256", format!("pbkdf2_sha256$1000$salt${}", STANDARD.encode(pbkdf2))),
        ("bcrypt", "bcrypt", bcrypt::hash(text("bcrypt"), 4).unwrap()),
        ("argon", "argon2id", argon2::Argon2::default().hash_password(text("argon").as_bytes()).unwrap().to_string()),
    ];
    let item = |(kind, algorithm, hash): (&str, &str, String)| {
        let hint = "klmn";
        (
            text(kind),
            json!({ "name": kind, "hash": hash, "algorithm": algorithm, "hint": hint, "prefix": "sk_live", "scopes": ["a:b"] }),
        )
    };
    hashes.map(item).into()
}

/// Asks until the key's use has been written down, which comes after its re-hash.
async fn wait_until_rehashed(node: &Node) {
    let mut tries = tokio::time::interval(std::time::Duration::from_millis(20));
    for _ in 0..500 {
        tries.tick().await;
        let events = node.get("/v1/audit-events?action=keys_imported").await;
        assert_eq!(events.status, 200);
        if node.app.keyward.verifier.remembered_count() > 7 {
            return;
        }
        for (key, _) in items() {
            node.code_of(&key).await;
        }
    }
    panic!("the imported keys were never remembered");
}

mod every_algorithm {
    use super::*;
    use crate::support::Backend;

    async fn check(backend: Backend) {
        let node = Node::start_with(backend, |layers| {
            layers.flag("keys.import_hmac_keys", vec![HMAC_KEY.to_owned()]);
            layers.flag("verify.flush_millis", 20);
        })
        .await;
        let (keys, items): (Vec<String>, Vec<Value>) = items().into_iter().unzip();
        let answer = node.post("/v1/api-keys/import", json!({ "items": items })).await;
        let ids: Vec<&str> =
            answer.json["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().expect("an id")).collect();
        for key in &keys {
            assert_eq!(node.code_of(key).await, "valid", "{key}");
            assert_eq!(node.code_of(&format!("{}x", &key[..key.len() - 1])).await, "not_found");
        }
        wait_until_rehashed(&node).await;
        for (key, id) in keys.iter().zip(ids) {
            assert_eq!(node.code_of(key).await, "valid", "{key} after its re-hash");
            node.post(&format!("/v1/api-keys/{id}/revoke"), json!({})).await;
            assert_eq!(node.code_of(key).await, "revoked", "{key} on the next call");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn sqlite() {
        check(Backend::Sqlite).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        check(Backend::Postgres).await;
    }
}

on_both! {
    async fn each_item_is_told_of(node: Node) {
        let good = sha256_hex("another-system-key-1");
        let items = json!([
            { "name": "good", "hash": good, "algorithm": "sha256", "external_id": "cus_1", "metadata": { "tier": 2 } },
            { "name": "again", "hash": good, "algorithm": "sha256" },
            { "name": "short", "hash": "abcd", "algorithm": "sha256" },
            { "name": "unknown", "hash": good, "algorithm": "md5" },
            { "name": "", "hash": sha256_hex("x"), "algorithm": "sha256" },
            { "name": "costly", "hash": "$argon2id$v=19$m=4194304,t=100,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA", "algorithm": "argon2id" },
        ]);
        let answer = node.post("/v1/api-keys/import", json!({ "items": items })).await;
        let outcomes = answer.json["items"].as_array().unwrap();
        assert!(outcomes[0]["id"].is_string() && outcomes[0]["error"].is_null(), "{answer:?}");
        for (index, outcome) in outcomes.iter().enumerate().skip(1) {
            assert!(outcome["id"].is_null() && outcome["error"].is_string() && outcome["index"] == index, "{outcome}");
        }
        assert_eq!(node.code_of("another-system-key-1").await, "valid");
        assert_eq!(node.post("/v1/api-keys/import", json!({ "items": [] })).await.status, 422);
    }

    async fn a_slow_hash_is_known_before_and_after_it_is_replaced(node: Node) {
        let keys: Vec<String> = (0..20).map(|n| format!("sk_live_slow_{n}_0123456789abcdefghijk")).collect();
        let item = |key: &String| json!({ "name": key, "hash": bcrypt::hash(key, 4).unwrap(), "algorithm": "bcrypt", "prefix": "sk_live" });
        let imported = node.post("/v1/api-keys/import", json!({ "items": keys.iter().map(item).collect::<Vec<_>>() })).await;
        assert_eq!(imported.status, 200, "{imported:?}");
        for key in &keys {
            // The first asks for its digest of ours, which comes while the others look.
            for _ in 0..6 {
                assert_eq!(node.code_of(key).await, "valid", "{key}");
            }
        }
    }

    async fn one_string_imported_under_two_algorithms_stays_one_key(node: Node) {
        // Which of the two rows is read first is the database's choice: several strings, so that both cases are there.
        let keys: Vec<String> = (0..8).map(|n| format!("sk_live_twice_{n}_0123456789abcdefghijk")).collect();
        let both = |key: &String| {
            let hashes = [("sha256", sha256_hex(key)), ("sha512", STANDARD.encode(Sha512::digest(key.as_bytes())))];
            hashes.map(|(algorithm, hash)| json!({ "name": key, "hash": hash, "algorithm": algorithm, "prefix": "sk_live" }))
        };
        let items: Vec<Value> = keys.iter().flat_map(both).collect();
        let imported = node.post("/v1/api-keys/import", json!({ "items": items })).await.json;
        let mut first = Vec::new();
        for key in &keys {
            let answer = node.verify(json!({ "key": key })).await;
            assert_eq!(answer.code(), "valid", "{answer:?}");
            first.push(answer.json["key_id"].clone());
        }
        for id in &first {
            node.wait_for_use(id.as_str().unwrap()).await;
        }
        // Each is read from the database again.
        for item in imported["items"].as_array().unwrap() {
            let path = format!("/v1/api-keys/{}", item["id"].as_str().expect("an id"));
            assert_eq!(node.patch(&path, json!({ "name": "changed" })).await.status, 200);
        }
        for (key, id) in keys.iter().zip(&first) {
            let answer = node.verify(json!({ "key": key })).await;
            assert_eq!((answer.code(), &answer.json["key_id"]), ("valid", id), "{answer:?}");
        }
        // And nothing that was noted with it is held up.
        let other = node.new_key(json!({})).await;
        assert_eq!(node.code_of(other["key"].as_str().unwrap()).await, "valid");
        node.wait_for_use(other["id"].as_str().unwrap()).await;
    }

    async fn an_import_stops_at_the_plan(node: Node) {
        let organization = node.new_organization("small", "pro").await;
        let items: Vec<Value> = (0..8).map(|n| json!({ "name": "k", "hash": sha256_hex(&n.to_string()), "algorithm": "sha256" })).collect();
        let answer = node.post(&format!("/v1/organizations/{organization}/api-keys/import"), json!({ "items": items })).await;
        let made = answer.json["items"].as_array().unwrap().iter().filter(|item| item["id"].is_string()).count();
        assert_eq!(made, 5);
    }

    async fn what_an_import_refuses_takes_no_room(node: Node) {
        let organization = node.new_organization("roomy", "pro").await;
        let path = format!("/v1/organizations/{organization}/api-keys");
        let items = json!([
            { "name": "one", "hash": sha256_hex("roomy 1"), "algorithm": "sha256" },
            { "name": "again", "hash": sha256_hex("roomy 1"), "algorithm": "sha256" },
            { "name": "", "hash": sha256_hex("roomy 2"), "algorithm": "sha256" },
            { "name": "two", "hash": sha256_hex("roomy 3"), "algorithm": "sha256" },
        ]);
        let answer = node.post(&format!("{path}/import"), json!({ "items": items })).await;
        let made = answer.json["items"].as_array().unwrap().iter().filter(|item| item["id"].is_string()).count();
        assert_eq!(made, 2);
        for expected in [201, 201, 201, 409] {
            let answer = node.post(&path, json!({ "name": "more" })).await;
            assert_eq!(answer.status, expected, "of five keys two were imported: {answer:?}");
        }
    }
}
