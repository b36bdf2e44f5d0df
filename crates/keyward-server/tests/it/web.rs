//! What browsers are told and held to: cookies, forged requests, headers.

use http::Method;
use keyward_core::access::Role;
use serde_json::json;

use crate::people::{PASSWORD, me, person};
use crate::support::browser::Browser;
use crate::support::{Answer, Backend, Node, on_both};

on_both! {
    async fn s_02_w_01_and_w_02_browsers_get_cookies_that_only_our_pages_can_use(node: Node) {
        person(&node, "a@example.com", Role::Owner).await;
        let request = node.bare(Method::POST, "/v1/auth/login").header("x-keyward-client", "browser").header("sec-fetch-site", "same-origin");
        let answer = Answer::of(request.json(&json!({ "email": "a@example.com", "password": PASSWORD }))).await;
        assert_eq!(answer.json, json!({ "signed_in": true, "expires_in": 900, "refresh_expires_in": 604_800 }));
        assert_eq!(answer.header("cache-control"), "no-store");
        let cookies = answer.cookies();
        for cookie in &cookies {
            assert!(cookie.starts_with("__Host-keyward_") && cookie.contains("; Path=/;"), "{cookie}");
            assert!(cookie.contains("; Secure; HttpOnly; SameSite=Lax") && !cookie.contains("Domain"), "{cookie}");
        }
        let pairs: Vec<&str> = cookies.iter().map(|cookie| cookie.split(';').next().unwrap()).collect();
        let jar = pairs.join("; ");
        let seen = Answer::of(node.bare(Method::GET, "/v1/auth/me").header("cookie", &jar)).await;
        assert_eq!(seen.status, 200, "{seen:?}");
        // As a bearer token it is no good.
        let access = pairs.iter().find_map(|pair| pair.strip_prefix("__Host-keyward_access=")).unwrap();
        assert_eq!(me(&node, access).await, 401);
        let both = Answer::of(node.bare(Method::GET, "/v1/auth/me").header("cookie", &jar).bearer_auth(&node.service_key)).await;
        assert_eq!((both.status, both.code()), (400, "ambiguous_credentials"));

        // W-01, W-02: a change needs our own origin and the token of this session.
        let change = async |jar: &str, headers: &[(&str, &str)]| {
            let mut request = node.bare(Method::POST, "/v1/auth/logout").header("cookie", jar);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = Answer::of(request).await;
            (answer.status, answer.code().to_owned())
        };
        let given = Answer::of(node.bare(Method::GET, "/v1/security/csrf-token").header("cookie", &jar)).await;
        let token = given.json["csrf_token"].as_str().unwrap().to_owned();
        let with_token = format!("{jar}; __Host-keyward_csrf={token}");
        let failed = (403, "csrf_failed".to_owned());
        let flipped = format!("{}x", &token[..token.len() - 1]);
        for headers in [
            vec![("sec-fetch-site", "cross-site"), ("x-csrf-token", token.as_str())], vec![("sec-fetch-site", "same-site"), ("x-csrf-token", &token)],
            vec![("x-csrf-token", &token)], vec![("origin", "https://evil.example"), ("x-csrf-token", &token)],
            vec![("sec-fetch-site", "same-origin")], vec![("sec-fetch-site", "same-origin"), ("x-csrf-token", &flipped)],
        ] {
            assert_eq!(change(&with_token, &headers).await, failed, "{headers:?}");
        }
        assert_eq!(change(&jar, &[("sec-fetch-site", "same-origin"), ("x-csrf-token", &token)]).await, failed, "without its cookie");
        node.clock.advance_seconds(3_600 - 900);
        let own = [("origin", node.url.as_str()), ("x-csrf-token", token.as_str())];
        assert_eq!(change(&with_token, &own).await.0, 401, "the access cookie has run out");
        let renew = node.bare(Method::POST, "/v1/auth/refresh").header("x-keyward-client", "browser").header("sec-fetch-site", "same-origin");
        let renewed = Answer::of(renew.header("cookie", &jar)).await;
        assert_eq!(renewed.status, 200, "{renewed:?}");
        let fresh: Vec<String> = renewed.cookies().iter().map(|cookie| cookie.split(';').next().unwrap().to_owned()).collect();
        let fresh = format!("{}; __Host-keyward_csrf={token}", fresh.join("; "));
        node.clock.advance_seconds(899);
        assert_eq!(change(&fresh, &own).await.0, 204);
        assert_eq!(change(&fresh, &own).await.0, 401, "the session has ended");
    }

    async fn w_05_and_w_06_headers_stand_on_every_answer(node: Node) {
        for path in ["/health", "/docs", "/nothing", "/v1/api-keys", "/v1/forward-auth", "/openapi.json", "/"] {
            let answer = Answer::of(node.bare(Method::GET, path).header("origin", "null")).await;
            for (name, value) in [
                ("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer"), ("cross-origin-resource-policy", "same-origin"),
                ("x-frame-options", "DENY"), ("x-xss-protection", "0"), ("access-control-allow-origin", ""), ("server", ""),
            ] {
                assert_eq!(answer.header(name), value, "{path} {name}");
            }
            let policy = answer.header("content-security-policy");
            assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        }
        let told = node.get("/v1/security/headers").await.json;
        assert_eq!(told["headers"]["x-frame-options"], "DENY");
    }

    async fn w_07_browsers_report_what_a_pages_policy_has_stopped(node: Node) {
        let page = Answer::of(node.bare(Method::GET, "/docs")).await;
        let policy = page.header("content-security-policy");
        assert!(policy.contains("; report-uri /v1/security/csp-report; report-to csp"), "{policy}");
        assert_eq!(page.header("reporting-endpoints"), "csp=\"/v1/security/csp-report\"");
        let send = async |kind: &str, body: String| {
            let request = node.bare(Method::POST, "/v1/security/csp-report").header("content-type", kind);
            Answer::of(request.body(body)).await.status
        };
        let counted = async || {
            let metrics = Answer::of(node.bare(Method::GET, "/metrics")).await.text;
            let line = metrics.lines().find_map(|line| line.strip_prefix("keyward_csp_reports_total ")).unwrap().to_owned();
            line.parse::<u64>().unwrap()
        };
        let old = json!({ "csp-report": { "document-uri": "https://k.example/docs?secret=1", "violated-directive": "script-src", "blocked-uri": "inline" } });
        let new = json!({ "type": "csp-violation", "body": { "documentURL": "https://k.example/docs", "effectiveDirective": "script-src-elem", "blockedURL": "https://evil.example/\nx" } });
        assert_eq!(send("application/csp-report", old.to_string()).await, 204);
        assert_eq!((send("application/reports+json; charset=utf-8", json!([new, new]).to_string()).await, counted().await), (204, 3));
        assert_eq!((send("application/reports+json", json!(vec![new; 50]).to_string()).await, counted().await), (204, 13), "ten of one body");
        for (kind, body, status) in [
            ("application/json", old.to_string(), 415), ("application/csp-report", "{".to_owned(), 400), ("application/csp-report", format!("\"{}\"", "x".repeat(70_000)), 413),
            ("application/csp-report", "[7, null, {\"body\": 3}]".to_owned(), 204), ("application/reports+json", format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)), 400),
        ] {
            assert_eq!(send(kind, body.clone()).await, status, "{kind} {:.40}", body);
        }
        assert_eq!(counted().await, 13);
    }
}

/// Every kind of page that there is, in a browser that knows what a policy forbids.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w_07_no_page_breaks_its_own_policy() {
    let node = Node::start(Backend::Sqlite).await;
    let origin = node.url.replace("127.0.0.1", "localhost");
    let browser = Browser::at(&format!("{origin}/")).await;
    for path in [
        "/docs",
        "/errors",
        "/errors/forbidden",
        "/setup",
        "/sign-in/second-factor",
        "/invitation?token=kwi_0",
        "/forgot-password",
        "/reset-password?token=kwp_0",
    ] {
        browser.go(&format!("{origin}{path}")).await;
        assert_eq!(browser.script("return document.querySelectorAll('h1').length").await, json!(1), "{path} is a page");
        assert_eq!(browser.stopped().await, Vec::<String>::new(), "{path}");
    }
    // What is stopped would have been seen.
    browser.go(&format!("{origin}/docs")).await;
    browser.script("document.body.setAttribute('style', 'color: red')").await;
    assert_eq!(browser.stopped().await.len(), 1);
}
