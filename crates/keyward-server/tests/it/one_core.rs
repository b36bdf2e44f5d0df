//! The real binary where it has one core: all of its work is on one thread then.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::process::{Process, set_up};
use crate::support::{Answer, Backend, Place};

const CLIENTS: usize = 20;

async fn check(backend: Backend) {
    let place = Place::new(backend).await;
    let service_key = set_up(&place);
    let client = reqwest::Client::new();
    let server = Process::start_on_one_core(&place);
    let post = async |path: &str, body: Value| {
        Answer::of(client.post(format!("{}{path}", server.url)).bearer_auth(&service_key).json(&body)).await
    };
    let issued = post("/v1/api-keys", json!({ "name": "k" })).await.json;
    let (id, key) = (issued["id"].as_str().expect("an id"), issued["key"].as_str().expect("a key"));
    let ask = |_| {
        let url = format!("{}/v1/forward-auth", server.url);
        Answer::of(client.get(url).header("x-keyward-service-key", &service_key).bearer_auth(key))
    };
    let body = json!({ "key": key });
    let (judged, admitted) = tokio::join!(
        join_all((0..CLIENTS).map(|_| post("/v1/api-keys/verify", body.clone()))),
        join_all((0..CLIENTS).map(ask)),
    );
    assert!(judged.iter().all(|verdict| verdict.code() == "valid"), "{judged:?}");
    assert!(admitted.iter().all(|answer| answer.status == 204), "{admitted:?}");
    // A slow hash, and another request beside it.
    let (login, health) = tokio::join!(
        post("/v1/auth/login", json!({ "email": "owner@example.com", "password": "not the owner's" })),
        Answer::of(client.get(format!("{}/health", server.url))),
    );
    assert_eq!((login.status, health.status), (401, 200));
    assert_eq!(post(&format!("/v1/api-keys/{id}/revoke?wait=true"), json!({})).await.status, 200);
    assert_eq!(post("/v1/api-keys/verify", body.clone()).await.code(), "revoked");
    assert!(server.stop(), "it ends well");

    // What it had counted was written when it stopped.
    let server = Process::start(&place, &[]);
    let summary = client.get(format!("{}/v1/usage/summary", server.url)).bearer_auth(&service_key);
    let counted = &Answer::of(summary).await.json["verifications"]["by_code"];
    assert_eq!(counted, &json!({ "valid": 2 * CLIENTS, "revoked": 1 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_one_core_does_the_same_on_sqlite() {
    check(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_one_core_does_the_same_on_postgres() {
    check(Backend::Postgres).await;
}
