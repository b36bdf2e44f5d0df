//! Reservations: taken at once, settled once, given back when nobody settles.

use keyward_core::access::Role;
use serde_json::{Value, json};

use crate::security::member;
use crate::support::{Answer, Node, on_both};

async fn reserve(node: &Node, key: &Value, cost: u64) -> Answer {
    node.post("/v1/usage/reservations", json!({ "key": key["key"], "cost": cost, "ttl_seconds": 60 })).await
}

async fn left(node: &Node, key: &Value) -> (Value, Value) {
    let answer = node.verify(json!({ "key": key["key"], "dry_run": true })).await;
    (answer.json["limits"][0]["remaining"].clone(), answer.json["quota"]["remaining"].clone())
}

async fn new_key(node: &Node) -> Value {
    let limits = json!([{ "name": "requests", "limit": 100, "window_seconds": 3600 }, { "name": "tokens", "limit": 1000, "window_seconds": 3600 }]);
    node.new_key(json!({ "limits": limits, "quota": { "limit": 50, "period": "month" } })).await
}

on_both! {
    async fn what_is_reserved_counts_until_it_is_settled(node: Node) {
        let key = new_key(&node).await;
        let reserved = reserve(&node, &key, 30).await;
        assert_eq!((reserved.status, reserved.json["valid"].clone(), reserved.json["code"].clone()), (201, json!(true), json!("valid")));
        assert_eq!(left(&node, &key).await, (json!(70), json!(20)));
        assert_eq!(reserve(&node, &key, 21).await.json["code"], "quota_exceeded");
        let path = format!("/v1/usage/reservations/{}", reserved.json["id"].as_str().expect("an id"));
        let settled = node.post(&format!("{path}/commit"), json!({ "cost": 12 })).await;
        assert_eq!((settled.status, settled.json["refunded"].clone()), (200, json!(18)));
        assert_eq!(left(&node, &key).await, (json!(88), json!(38)));
        // Settled is settled.
        for (end, body) in [("commit", json!({ "cost": 1 })), ("release", json!({}))] {
            assert_eq!(node.post(&format!("{path}/{end}"), body).await.status, 404);
        }
        assert_eq!(left(&node, &key).await, (json!(88), json!(38)));
    }

    async fn it_may_cost_more_in_the_end_or_nothing(node: Node) {
        let key = new_key(&node).await;
        let dear = reserve(&node, &key, 10).await;
        let path = format!("/v1/usage/reservations/{}", dear.json["id"].as_str().expect("an id"));
        let settled = node.post(&format!("{path}/commit"), json!({ "cost": 15 })).await;
        assert_eq!((settled.json["refunded"].clone(), left(&node, &key).await), (json!(-5), (json!(85), json!(35))));
        let free = reserve(&node, &key, 10).await;
        let path = format!("/v1/usage/reservations/{}", free.json["id"].as_str().expect("an id"));
        assert_eq!(node.post(&format!("{path}/release"), json!({})).await.status, 200);
        assert_eq!(left(&node, &key).await, (json!(85), json!(35)));
    }

    async fn what_nobody_settles_is_given_back(node: Node) {
        let key = new_key(&node).await;
        let reserved = reserve(&node, &key, 30).await;
        let path = format!("/v1/usage/reservations/{}/commit", reserved.json["id"].as_str().expect("an id"));
        node.clock.advance_seconds(60);
        assert_eq!(node.post(&path, json!({ "cost": 1 })).await.status, 404);
        node.app.keyward.settle_due().await.expect("what is due is done");
        assert_eq!(left(&node, &key).await, (json!(100), json!(50)));
    }

    async fn fifty_that_settle_at_once_settle_once(node: Node) {
        let key = new_key(&node).await;
        let reserved = reserve(&node, &key, 30).await;
        let path = format!("/v1/usage/reservations/{}/release", reserved.json["id"].as_str().expect("an id"));
        let answers = futures_util::future::join_all((0..50).map(|_| node.post(&path, json!({})))).await;
        assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
        assert_eq!(left(&node, &key).await, (json!(100), json!(50)));
    }

    async fn refused_keys_and_bad_input_reserve_nothing(node: Node) {
        let key = new_key(&node).await;
        let refused = node.post("/v1/usage/reservations", json!({ "key": key["key"], "scopes": ["a:b"], "cost": 5 })).await;
        assert_eq!((refused.status, refused.json["id"].clone(), refused.json["code"].clone()), (200, Value::Null, json!("insufficient_scope")));
        for body in [
            json!({ "key": key["key"], "cost": 0 }), json!({ "key": key["key"], "cost": -1 }), json!({ "key": key["key"], "cost": 1.5 }),
            json!({ "key": key["key"], "ttl_seconds": 0 }), json!({ "key": key["key"], "ttl_seconds": 86_401 }),
            json!({ "key": key["key"], "limits": [{ "name": "nobody", "cost": 1 }] }), json!({ "key": key["key"], "dry_run": true }), json!({}),
        ] {
            assert_eq!(node.post("/v1/usage/reservations", body.clone()).await.status, 422, "{body}");
        }
        let reserved = reserve(&node, &key, 5).await;
        let path = format!("/v1/usage/reservations/{}/commit", reserved.json["id"].as_str().expect("an id"));
        for body in [json!({}), json!({ "cost": -1 }), json!({ "cost": 9_007_199_254_740_992u64 })] {
            assert_eq!(node.post(&path, body.clone()).await.status, 422, "{body}");
        }
        assert_eq!(left(&node, &key).await, (json!(95), json!(45)));
    }

    async fn another_organizations_reservation_is_none(node: Node) {
        let key = new_key(&node).await;
        let reserved = reserve(&node, &key, 5).await;
        let other = node.new_organization("other", "pro").await;
        let (_, credential) = member(&node, "other@example.com", &other, Role::Owner).await;
        let path = format!("/v1/usage/reservations/{}/release", reserved.json["id"].as_str().expect("an id"));
        let answer = node.call_as(&credential, ::http::Method::POST, &path, Some(json!({}))).await;
        assert_eq!(answer.status, 404, "{answer:?}");
        assert_eq!(left(&node, &key).await, (json!(95), json!(45)));
    }
}
