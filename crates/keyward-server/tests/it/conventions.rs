//! What every answer has in common: request ids, problems, methods, media types, idempotency, and the service's pages.

use std::collections::HashSet;

use http::Method;
use keyward_core::verdict::Outcome;
use serde_json::json;

use crate::support::{Answer, Node, on_both};

/// The shape of every error (RFC 9457), and that its `type` is a page.
async fn assert_problem(node: &Node, answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code()), (status, code), "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.json["status"], status);
    assert_eq!(answer.json["request_id"], answer.header("request-id"));
    for field in ["title", "detail"] {
        assert!(!answer.json[field].as_str().unwrap().is_empty(), "{field}: {answer:?}");
    }
    let kind = answer.json["type"].as_str().unwrap();
    let page = node.get(&kind[kind.find("/errors/").unwrap()..]).await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
}

on_both! {
    async fn every_answer_has_its_own_request_id(node: Node) {
        let mut seen = HashSet::new();
        for path in ["/health", "/", "/docs", "/v1/api-keys", "/v1/none", "/v1/forward-auth", "/v1/api-keys/verify"] {
            let answer = Answer::of(node.bare(Method::GET, path)).await;
            let id = answer.header("request-id").to_owned();
            assert!(id.starts_with("req_") && id.len() == 30, "{path}: {id}");
            assert!(seen.insert(id));
        }
    }

    async fn errors_have_the_shape_of_a_problem(node: Node) {
        let get = |path: &'static str| Answer::of(node.bare(Method::GET, path));
        assert_problem(&node, &get("/v1/api-keys").await, 401, "unauthenticated").await;
        assert!(get("/v1/api-keys").await.header("www-authenticate").starts_with("Bearer"));
        assert_problem(&node, &get("/v1/nothing-here").await, 404, "not_found").await;
        assert_problem(&node, &node.get("/v1/api-keys?limit=0").await, 400, "malformed_request").await;
        assert_problem(&node, &node.get("/v1/api-keys?lim=1").await, 400, "malformed_request").await;
        let invalid = node.post("/v1/api-keys", json!({ "name": "x", "allowed_ips": ["a"] })).await;
        assert_problem(&node, &invalid, 422, "invalid_field").await;
        assert_eq!(invalid.pointer(), "/allowed_ips/0");
        let request = node.request_as(&node.service_key, Method::GET, "/v1/api-keys").header("x-api-key", "other");
        assert_problem(&node, &Answer::of(request).await, 400, "ambiguous_credentials").await;
        let same = node.bare(Method::GET, "/v1/api-keys").header("x-api-key", &node.service_key);
        assert_eq!(Answer::of(same).await.status, 200);
    }

    async fn w_03_another_method_is_405_with_the_methods_that_are_allowed(node: Node) {
        let cases = [
            (Method::PUT, "/v1/api-keys", &["GET", "POST"][..]), (Method::DELETE, "/v1/plans", &["GET", "POST"]),
            (Method::GET, "/v1/api-keys/verify", &["POST"]), (Method::POST, "/health", &["GET"]),
            (Method::TRACE, "/v1/organizations", &["GET", "POST"]),
        ];
        for (method, path, allowed) in cases {
            let answer = node.call_as(&node.service_key, method.clone(), path, None).await;
            assert_problem(&node, &answer, 405, "method_not_allowed").await;
            for name in allowed {
                assert!(answer.header("allow").contains(name), "{method} {path}: {}", answer.header("allow"));
            }
        }
        // Nor does a GET change anything by calling itself something else.
        let key = node.new_key(json!({})).await;
        let path = format!("/v1/api-keys/{}", key["id"].as_str().unwrap());
        for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
            let read = node.request_as(&node.service_key, Method::GET, &path).header(name, "DELETE");
            assert_eq!(Answer::of(read).await.status, 200, "{name}");
            let posted = node.request_as(&node.service_key, Method::POST, &path).header(name, "DELETE");
            assert_eq!(Answer::of(posted).await.status, 405, "{name}");
        }
        assert_eq!(node.code_of(key["key"].as_str().unwrap()).await, "valid");
    }

    async fn w_04_only_json_is_taken(node: Node) {
        for path in ["/v1/api-keys", "/v1/api-keys/verify", "/v1/api-keys/verify/batch", "/v1/organizations"] {
            for media_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
                let request = node.request_as(&node.service_key, Method::POST, path).header("content-type", media_type);
                assert_problem(&node, &Answer::of(request.body("{}")).await, 415, "unsupported_media_type").await;
            }
        }
    }

    async fn what_is_created_says_where_it_is(node: Node) {
        let key = node.post("/v1/api-keys", json!({ "name": "x" })).await;
        assert_eq!(key.status, 201);
        let path = format!("/v1/organizations/{}/api-keys/{}", node.organization, key.json["id"].as_str().unwrap());
        assert_eq!(key.header("location"), path);
        assert_eq!(key.header("cache-control"), "no-store");
        let read = node.get(&path).await;
        assert_eq!((read.status, read.json.get("key")), (200, None));
    }

    async fn a_repeated_create_gets_the_first_answer(node: Node) {
        let send = |key: &'static str, body: serde_json::Value| {
            let request = node.request_as(&node.service_key, Method::POST, "/v1/api-keys");
            Answer::of(request.header("idempotency-key", key).json(&body))
        };
        let first = send("one", json!({ "name": "a" })).await;
        let again = send("one", json!({ "name": "a" })).await;
        assert_eq!((first.status, again.status), (201, 201));
        assert_eq!(again.text, first.text, "with the key, once made");
        assert_eq!(again.header("location"), first.header("location"));
        assert_ne!(again.header("request-id"), first.header("request-id"));
        assert_eq!([first.header("idempotent-replayed"), again.header("idempotent-replayed")], ["", "true"]);
        let other = send("one", json!({ "name": "b" })).await;
        assert_problem(&node, &other, 409, "idempotency_conflict").await;
        assert_ne!(send("two", json!({ "name": "a" })).await.text, first.text);
        assert_eq!(node.get("/v1/api-keys?q=a").await.json["items"].as_array().unwrap().len(), 2);

        let refused = send("three", json!({ "name": "" })).await;
        assert_eq!(refused.status, 422);
        assert_eq!(send("three", json!({ "name": "c" })).await.status, 201, "a refusal is not kept");
        node.clock.advance_seconds(24 * 3600 + 1);
        assert_ne!(send("one", json!({ "name": "a" })).await.text, first.text, "kept for a day");
    }

    async fn the_document_is_openapi_3_1_and_names_every_route(node: Node) {
        let document = Answer::of(node.bare(Method::GET, "/openapi.json")).await.json;
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
        let mut operations = HashSet::new();
        for route in keyward_server::api::routes() {
            for path in route.paths() {
                let path = path.replace("{*", "{");
                let operation = &document["paths"][&path][route.method.as_str().to_lowercase()];
                assert!(operation["responses"].is_object(), "{} {path}", route.method);
                assert!(operations.insert(operation["operationId"].as_str().unwrap().to_owned()), "twice: {path}");
            }
        }
        for reference in document.to_string().split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }

    async fn the_pages_fetch_nothing_from_elsewhere(node: Node) {
        for path in ["/docs", "/errors", "/errors/forbidden", "/"] {
            let page = Answer::of(node.bare(Method::GET, path)).await;
            assert_eq!(page.status, 200, "{path}");
            for outside in ["src=\"http", "src='http", "src=\"//", "href=\"http", "@import", "url(http"] {
                assert!(!page.text.contains(outside), "{path} contains {outside}");
            }
        }
        let unknown = Answer::of(node.bare(Method::GET, "/errors/none")).await;
        assert_problem(&node, &unknown, 404, "not_found").await;
    }

    async fn probes_and_metrics_answer_everybody(node: Node) {
        let health = Answer::of(node.bare(Method::GET, "/health")).await;
        assert_eq!((health.status, health.json), (200, json!({ "status": "ok" })));
        let ready = Answer::of(node.bare(Method::GET, "/ready")).await;
        assert_eq!((ready.status, ready.json), (200, json!({ "status": "ready" })));
        node.code_of(&node.service_key).await;
        let metrics = Answer::of(node.bare(Method::GET, "/metrics")).await;
        assert_eq!(metrics.status, 200);
        assert!(metrics.text.contains("# TYPE") && metrics.text.ends_with("# EOF\n"), "{}", metrics.text);
        assert!(!metrics.text.contains(&node.service_key) && !metrics.text.contains("org_"));
    }


    async fn a_query_that_is_not_utf_8_is_refused(node: Node) {
        for query in ["q=%ff", "q=%zz", "q=%00", "limit=x"] {
            let answer = node.get(&format!("/v1/api-keys?{query}")).await;
            assert_problem(&node, &answer, 400, "malformed_request").await;
            assert_eq!(answer.header("cache-control"), "no-store");
        }
        let refused = node.get("/v1/api-keys?limit=x").await;
        assert_eq!(refused.json["detail"], "A parameter of the query is not valid: limit: invalid digit found in string.");
    }

    async fn every_code_of_a_verdict_has_a_page(node: Node) {
        let key = node.new_key(json!({ "scopes": ["a"] })).await;
        let request = node.bare(Method::GET, "/v1/forward-auth?scope=b").header("x-keyward-service-key", &node.service_key);
        let refused = Answer::of(request.bearer_auth(key["key"].as_str().unwrap())).await;
        assert_problem(&node, &refused, 403, "insufficient_scope").await;
        assert_eq!(refused.header("cache-control"), "no-store");
        let all = node.get("/errors").await.text;
        for outcome in Outcome::ALL.iter().filter(|outcome| !outcome.is_valid()) {
            let path = format!("/errors/{}", outcome.as_str());
            assert_eq!(node.get(&path).await.status, 200, "{path}");
            assert!(all.contains(&path), "{path}");
        }
    }

    async fn answers_of_the_hot_routes_are_kept_by_nobody_and_vary_by_origin(node: Node) {
        let key = node.new_key(json!({})).await["key"].as_str().unwrap().to_owned();
        for answer in [node.verify(json!({ "key": key })).await, node.forward_auth(&key).await] {
            assert_eq!((answer.header("cache-control"), answer.header("vary")), ("no-store", "origin"), "{answer:?}");
        }
    }
}
