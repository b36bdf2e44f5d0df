//! Limits of the management API, as they are by default.

use ::http::Method;
use keyward::audit::EventFilter;
use keyward::config::Layers;
use keyward::context::Context;
use keyward::page::PageRequest;
use serde_json::{Value, json};

use crate::support::{Answer, Backend, Node};

/// A node with the limits of the defaults.
async fn strict_node() -> Node {
    Node::start_with(Backend::Sqlite, as_by_default).await
}

fn as_by_default(layers: &mut Layers) {
    let defaults: toml::Table = keyward::config::DEFAULTS.parse().expect("the defaults are TOML");
    for (name, value) in defaults["caller_limits"].as_table().expect("a section") {
        layers.flag(&format!("caller_limits.{name}"), value.as_integer().expect("a number"));
    }
}

/// Calls until it is refused; answers how often it was not, and the refusal.
async fn until_limited(
    node: &Node,
    credential: &str,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> (usize, Answer) {
    for passed in 0..200 {
        let answer = node.call_as(credential, method.clone(), path, body.clone()).await;
        if answer.status == 429 {
            return (passed, answer);
        }
    }
    panic!("{path} is never limited");
}

#[tokio::test]
async fn each_kind_of_call_has_its_limit_and_frees_again() {
    let node = strict_node().await;
    let key = node.new_key(json!({})).await;
    let of_key = |end: &str| format!("/v1/api-keys/{}{end}", key["id"].as_str().expect("an id"));
    // One was made already.
    for (method, path, body, expected) in [
        (Method::POST, "/v1/api-keys".to_owned(), Some(json!({ "name": "x" })), 4),
        (Method::GET, "/v1/api-keys".to_owned(), None, 30),
        (Method::GET, "/v1/api-keys/stats".to_owned(), None, 30),
        (Method::GET, "/v1/api-keys/health".to_owned(), None, 20),
        (Method::POST, of_key("/rotate"), Some(json!({})), 10),
        (Method::POST, of_key("/disable"), None, 10),
        (Method::POST, "/v1/api-keys/revoke-all".to_owned(), Some(json!({ "confirm": false })), 2),
    ] {
        let (passed, refused) = until_limited(&node, &node.service_key, method.clone(), &path, body.clone()).await;
        assert_eq!(passed, expected, "{path}");
        assert_eq!((refused.code(), refused.header("retry-after")), ("rate_limited", "60"), "{path}");
        assert_eq!(refused.json["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
        let policy = refused.json["violated-policies"][0].as_str().expect("a policy").to_owned();
        assert_eq!(refused.header("ratelimit"), format!("{policy:?};r=0;t=60"));
    }
    node.clock.advance_seconds(60);
    assert_eq!(node.post("/v1/api-keys", json!({ "name": "x" })).await.status, 201);
    let events = node.get("/v1/audit-events?limit=200").await;
    let limited =
        events.json["items"].as_array().expect("events").iter().filter(|event| event["action"] == "rate_limited");
    assert_eq!(limited.count(), 7, "each refusal stands in the book");
}

#[tokio::test]
async fn a_caller_is_limited_alone_and_verify_not_at_all() {
    let node = strict_node().await;
    let other = node.new_key(json!({ "permissions": ["keys:create", "keys:verify"] })).await;
    let other = other["key"].as_str().expect("a key");
    until_limited(&node, &node.service_key, Method::POST, "/v1/api-keys", Some(json!({ "name": "x" }))).await;
    assert_eq!(node.call_as(other, Method::POST, "/v1/api-keys", Some(json!({ "name": "x" }))).await.status, 201);
    for _ in 0..150 {
        assert_eq!(node.verify(json!({ "key": other })).await.status, 200);
    }
}

/// B-04: another header or body gives no fresh bucket; statement B-04 of the security statements.
#[tokio::test]
async fn b_04_nobody_gets_a_fresh_bucket_by_changing_headers() {
    let node = Node::start_with(Backend::Sqlite, |layers| {
        as_by_default(layers);
        layers.flag("server.trusted_proxies", Vec::<String>::new());
    })
    .await;
    for index in 0..100 {
        let forged = node.bare(Method::GET, "/v1/api-keys").header("x-forwarded-for", format!("198.51.100.{index}"));
        assert_eq!(Answer::of(forged.bearer_auth(format!("kw_live_{index}"))).await.status, 401);
    }
    for (name, value) in [
        ("X-Forwarded-For", "203.0.113.9"),
        ("x-FORWARDED-for", "2001:db8::1"),
        ("x-real-ip", "203.0.113.9"),
        ("user-agent", "other"),
    ] {
        let answer = Answer::of(node.bare(Method::GET, "/v1/api-keys").header(name, value)).await;
        assert_eq!((answer.status, answer.code()), (429, "rate_limited"), "{name}");
    }
    // Whoever has a credential is not hindered by strangers behind the same address; nor are probes.
    assert_eq!(node.get("/v1/api-keys").await.status, 200);
    assert_eq!(Answer::of(node.bare(Method::GET, "/health")).await.status, 200);
    let filter = EventFilter { action: Some("rate_limited".into()), ..EventFilter::default() };
    let page = PageRequest::new(None, None).expect("a page");
    let events = node.app.keyward.audit.list(&Context::system("test"), None, &filter, &page).await.expect("the book");
    assert_eq!(events.items.len(), 1, "the first refusal stands in the book, not each of a flood");
}

/// The client's address is counted from the right, past trusted proxies only, and IPv6 by /64.
#[tokio::test]
async fn b_04_behind_a_trusted_proxy_each_network_counts_for_itself() {
    let node = strict_node().await;
    let ask = async |forwarded: String| {
        Answer::of(node.bare(Method::GET, "/v1/api-keys").header("x-forwarded-for", forwarded)).await.status
    };
    for index in 0..100 {
        // What stands left of the last hop is what the client says of itself.
        assert_eq!(ask(format!("203.0.113.{index}, 2001:db8:1:1::{index:x}")).await, 401);
    }
    assert_eq!(ask("2001:db8:1:1:ffff::1".to_owned()).await, 429);
    assert_eq!(ask("2001:db8:1:2::1".to_owned()).await, 401);
}

#[tokio::test]
async fn the_set_up_form_is_guessed_at_most_ten_times_a_minute() {
    let node = strict_node().await;
    let guess = async || {
        let form = node.bare(Method::POST, "/setup").header("content-type", "application/x-www-form-urlencoded");
        Answer::of(form.body("token=guess&email=a%40example.com&organization=A")).await.status
    };
    for _ in 0..10 {
        assert_eq!(guess().await, 410);
    }
    assert_eq!(guess().await, 429);
}

#[tokio::test]
async fn an_answer_within_a_limit_tells_what_is_left() {
    let node = strict_node().await;
    for remaining in [29, 28] {
        let answer = node.get("/v1/api-keys").await;
        assert_eq!(answer.header("ratelimit-policy"), "\"list\";q=30;w=60");
        assert_eq!(answer.header("ratelimit"), format!("\"list\";r={remaining};t=60"));
    }
}
