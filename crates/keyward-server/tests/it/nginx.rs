//! Forward-auth behind a real nginx (`auth_request`).

use serde_json::json;

use crate::support::nginx::Nginx;
use crate::support::{Answer, on_both};

on_both! {
    async fn nginx_lets_only_valid_keys_through(node: Node) {
        let nginx = Nginx::before(&node.url, &node.service_key).await;
        let client = reqwest::Client::new();
        let get = |key: &str| client.get(format!("{}/api/invoices", nginx.url)).bearer_auth(key);
        let good = node.new_key(json!({ "scopes": ["invoices:*"], "allowed_routes": ["GET /api/invoices"], "allowed_ips": ["127.0.0.1"] })).await;
        let key = good["key"].as_str().unwrap();

        let passed = Answer::of(get(key)).await;
        assert_eq!((passed.status, passed.text.as_str()), (200, "served"));
        assert_eq!((passed.header("x-seen-key-id"), passed.header("x-seen-scopes")), (good["id"].as_str().unwrap(), "invoices:*"));

        let made_up = get(key).header("x-forwarded-uri", "/api/orders").header("x-forwarded-method", "DELETE");
        assert_eq!(Answer::of(made_up).await.status, 200, "the client's own word does not count");
        let other_route = client.get(format!("{}/api/orders", nginx.url)).bearer_auth(key);
        assert_eq!(Answer::of(other_route).await.status, 403);
        assert_eq!(Answer::of(client.get(format!("{}/api/invoices", nginx.url))).await.status, 401);
        let narrow = node.new_key(json!({ "scopes": ["orders:read"] })).await;
        assert_eq!(Answer::of(get(narrow["key"].as_str().unwrap())).await.status, 403);

        let id = good["id"].as_str().unwrap();
        node.post(&format!("/v1/api-keys/{id}/revoke"), json!({})).await;
        assert_eq!(Answer::of(get(key)).await.status, 401);
    }
}
