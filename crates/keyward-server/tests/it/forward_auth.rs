//! Forward-auth as a proxy sees it: statuses, headers, and whose address counts.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Backend, Node};

/// A proxy's question about a request with this key.
async fn ask(node: &Node, key: &str, query: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = node.bare(Method::GET, &format!("/v1/forward-auth{query}"));
    request = request.header("x-keyward-service-key", &node.service_key).header("x-forwarded-method", "GET");
    request = request.header("x-forwarded-uri", "/invoices/7?page=2");
    if !key.is_empty() {
        request = request.bearer_auth(key);
    }
    Answer::of(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code()), (status, code), "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.header("www-authenticate").is_empty(), status != 401);
    assert_eq!(answer.json["request_id"], answer.header("request-id"));
}

async fn start(backend: Backend) -> Node {
    let proxies = vec!["127.0.0.1".to_owned(), "10.0.0.0/8".to_owned()];
    Node::start_with(backend, |layers| layers.flag("server.trusted_proxies", proxies)).await
}

async fn statuses_and_headers(backend: Backend) {
    let node = start(backend).await;
    let issued = node.new_key(json!({ "scopes": ["invoices:*"], "allowed_routes": ["GET /invoices/*"] })).await;
    let key = issued["key"].as_str().unwrap();
    let admitted = ask(&node, key, "?scope=invoices:read&scope=invoices:list&cost=2", &[]).await;
    assert_eq!((admitted.status, admitted.text.as_str()), (204, ""), "{admitted:?}");
    let headers = ["x-keyward-key-id", "x-keyward-organization-id", "x-keyward-scopes", "x-keyward-environment"];
    let told = headers.map(|name| admitted.header(name));
    assert_eq!(told, [issued["id"].as_str().unwrap(), &node.organization, "invoices:*", "live"]);

    for (key, code, challenge) in [
        ("", "not_found", r#"Bearer realm="keyward""#),
        ("nonsense", "malformed", r#"Bearer realm="keyward", error="invalid_token""#),
    ] {
        let refused = ask(&node, key, "", &[]).await;
        assert_refused(&refused, 401, code);
        assert_eq!(refused.header("www-authenticate"), challenge);
    }
    assert_refused(&ask(&node, key, "?scope=users:read", &[]).await, 403, "insufficient_scope");
    let other = [("x-original-uri", "/x"), ("x-forwarded-uri", "/users")];
    let mut request = node.bare(Method::POST, "/v1/forward-auth").header("x-keyward-service-key", &node.service_key);
    request = request.header("x-api-key", key).header("x-original-method", "GET").header(other[1].0, other[1].1);
    assert_refused(&Answer::of(request).await, 403, "route_forbidden");
    // What the client made up beside what the proxy set is believed no more than the proxy.
    for [made_up, set] in [["x-forwarded", "x-original"], ["x-original", "x-forwarded"]] {
        let of = |family: &str, method: Method, uri: &str| {
            [(format!("{family}-method"), method.to_string()), (format!("{family}-uri"), uri.to_owned())]
        };
        let headers = [of(made_up, Method::GET, "/invoices/1"), of(set, Method::POST, "/admin/delete")].concat();
        let request = node
            .bare(Method::GET, "/v1/forward-auth")
            .header("x-keyward-service-key", &node.service_key)
            .bearer_auth(key);
        let answer =
            Answer::of(headers.iter().fold(request, |request, (name, value)| request.header(name, value))).await;
        assert_eq!((answer.status, answer.code()), (400, "malformed_request"), "{set}: {answer:?}");
    }
    let alike = [("x-original-uri", "https://api.example.com/invoices/7?page=2"), ("x-original-method", "GET")];
    assert_eq!(ask(&node, key, "", &alike).await.status, 204);
    for query in [
        "?scope=a%20b",
        "?cost=0",
        "?cost=x",
        "?scope=%ff",
        "?scope",
        "?scopes=admin",
        "?cost=1&cost=2",
        "?environment=live",
    ] {
        assert_eq!(ask(&node, key, query, &[]).await.status, 400, "{query}");
    }
    node.post(&format!("/v1/api-keys/{}/revoke", issued["id"].as_str().unwrap()), json!({})).await;
    assert_refused(&ask(&node, key, "", &[]).await, 401, "revoked");

    let without = Answer::of(node.bare(Method::GET, "/v1/forward-auth").bearer_auth(&node.service_key)).await;
    assert_eq!((without.status, without.code()), (401, "unauthenticated"), "the proxy itself must be known");
}

async fn the_clients_address(backend: Backend) {
    let node = start(backend).await;
    let issued = node.new_key(json!({ "allowed_ips": ["203.0.113.7"] })).await;
    let key = issued["key"].as_str().unwrap();
    for (forwarded, status) in [
        ("203.0.113.7", 204),
        ("198.51.100.1, 203.0.113.7", 204),
        ("203.0.113.7, 10.1.1.1, 10.2.2.2", 204),
        ("::ffff:203.0.113.7", 204),
        // What the client itself wrote further left is not believed.
        ("203.0.113.7, 198.51.100.1", 403),
        ("203.0.113.7, 198.51.100.1, 10.1.1.1", 403),
        ("203.0.113.7, nonsense, 10.1.1.1", 403),
    ] {
        let answer = ask(&node, key, "", &[("x-forwarded-for", forwarded)]).await;
        assert_eq!(answer.status, status, "{forwarded}: {answer:?}");
    }
    assert_eq!(ask(&node, key, "", &[]).await.status, 403, "the proxy's own address");
    let place = node.place.clone();
    let untrusting = node.join(place, |layers| layers.flag("server.trusted_proxies", Vec::<String>::new())).await;
    let spoofed = ask(&untrusting, key, "", &[("x-forwarded-for", "203.0.113.7")]).await;
    assert_refused(&spoofed, 403, "ip_forbidden");
    assert_ne!(spoofed.json, Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_told_by_status_and_headers_on_sqlite() {
    statuses_and_headers(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_told_by_status_and_headers_on_postgres() {
    statuses_and_headers(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_address_is_counted_from_the_right_on_sqlite() {
    the_clients_address(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_address_is_counted_from_the_right_on_postgres() {
    the_clients_address(Backend::Postgres).await;
}
