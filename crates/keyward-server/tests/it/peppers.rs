//! Peppers: a new one takes over while keys go on working, and a wrong one keeps the node from starting.

use keyward::Keyward;
use keyward::config::Layers;
use keyward_core::time::Clock;
use serde_json::json;

use crate::support::{Backend, Node, start_of_time};

fn pepper(version: u32, digit: char) -> String {
    format!("{version}:{}", digit.to_string().repeat(64))
}

async fn check(backend: Backend) {
    let first = |layers: &mut Layers| layers.flag("keys.peppers", vec![pepper(1, 'a')]);
    let both = |layers: &mut Layers| {
        layers.flag("keys.peppers", vec![pepper(2, 'b'), pepper(1, 'a')]);
        layers.flag("verify.flush_millis", 20);
    };
    let one = Node::start_with(backend, first).await;
    let issued = one.new_key(json!({})).await;
    let (id, key) = (issued["id"].as_str().unwrap(), issued["key"].as_str().unwrap());
    let two = one.join(one.place.clone(), both).await;
    one.stop().await;

    let mut tries = tokio::time::interval(std::time::Duration::from_millis(20));
    for _ in 0..500 {
        assert_eq!(two.code_of(key).await, "valid", "under the older pepper and while it is replaced");
        // The service key and this one: both are remembered once their digests are replaced.
        if two.app.keyward.verifier.remembered_count() == 2 {
            break;
        }
        tries.tick().await;
    }
    assert_eq!(two.app.keyward.verifier.remembered_count(), 2);

    let only_new = |layers: &mut Layers| layers.flag("keys.peppers", vec![pepper(2, 'b')]);
    let three = two.join(two.place.clone(), only_new).await;
    two.stop().await;
    assert_eq!(three.code_of(key).await, "valid", "the older pepper is no longer needed");
    three.post(&format!("/v1/api-keys/{id}/revoke"), json!({})).await;
    assert_eq!(three.code_of(key).await, "revoked");

    let place = three.place.clone();
    three.stop().await;
    let wrong = place.settings(|layers| layers.flag("keys.peppers", vec![pepper(2, 'c')]));
    let refused = Keyward::open(wrong, Clock::Manual(start_of_time())).await.err().expect("a wrong pepper is refused");
    assert!(refused.to_string().contains("pepper 2"), "{refused}");
    let none = place.settings(|_| {});
    assert!(Keyward::open(none, Clock::Manual(start_of_time())).await.is_err(), "a missing pepper is refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_pepper_takes_over_on_sqlite() {
    check(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_pepper_takes_over_on_postgres() {
    check(Backend::Postgres).await;
}
