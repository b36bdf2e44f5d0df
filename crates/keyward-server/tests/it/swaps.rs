//! Statement S-09: each secret is good in its own place and in no other. Every kind is shown at every door.

use http::Method;
use keyward_core::access::Role;
use serde_json::{Value, json};

use crate::people::{NEW_PASSWORD, PASSWORD, code, enroll, log_in, pair, person, post, reset_token, tokens, with};
use crate::support::{Answer, Node, on_both};

/// What may be mistaken for another, by name.
async fn secrets(node: &Node) -> Vec<(&'static str, String)> {
    person(node, "a@example.com", Role::Owner).await;
    let (access, refresh) = tokens(node, "a@example.com").await;
    let (secret, codes) = enroll(node, &access).await;
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let invited = json!({ "email": "new@example.com", "role": "viewer" });
    let invited = with(node, &access, Method::POST, "/v1/invitations", invited).await;
    let invitation = text(&invited.json["token"]);
    let reset = reset_token(node, "a@example.com").await;
    let issued = node.new_key(json!({ "scopes": ["a:b"] })).await;
    node.clock.advance_seconds(30);

    let browser = async |path: &str, body: Value| {
        let request = node.bare(Method::POST, path).header("x-keyward-client", "browser");
        Answer::of(request.header("sec-fetch-site", "same-origin").json(&body)).await
    };
    let first = browser("/v1/auth/login", json!({ "email": "a@example.com", "password": PASSWORD })).await;
    let step = json!({ "login_token": first.json["login_token"], "method": "totp", "code": code(node, &secret, 0), "trust_device": true });
    let done = browser("/v1/auth/login/second-factor", step).await;
    assert_eq!(done.status, 200, "{done:?}");
    let cookie = |name: &str| {
        let cookies = done.cookies();
        let found = cookies.iter().find_map(|cookie| cookie.strip_prefix(&format!("__Host-keyward_{name}=")));
        found.expect("a cookie").split(';').next().expect("a value").to_owned()
    };
    let jar = format!("__Host-keyward_access={}", cookie("access"));
    let csrf = Answer::of(node.bare(Method::GET, "/v1/security/csrf-token").header("cookie", jar)).await;
    let pending = text(&log_in(node, "a@example.com", PASSWORD).await.json["login_token"]);
    vec![
        ("access token", access),
        ("refresh token", refresh),
        ("a browser's access token", cookie("access")),
        ("a browser's refresh token", cookie("refresh")),
        ("login token", pending),
        ("device token", cookie("device")),
        ("forgery token", text(&csrf.json["csrf_token"])),
        ("invitation", invitation),
        ("reset link", reset),
        ("backup code", codes[0].clone()),
        ("authenticator secret", secret),
        ("API key", text(&issued["key"])),
        ("service key", node.service_key.clone()),
    ]
}

on_both! {
    async fn s_09_each_secret_is_good_in_its_own_place_only(node: Node) {
        let secrets = secrets(&node).await;
        let cookie = async |name: &str, secret: &str, path: &str| {
            let method = if path.ends_with("refresh") { Method::POST } else { Method::GET };
            let request = node.bare(method, path).header("cookie", format!("__Host-keyward_{name}={secret}"));
            Answer::of(request.header("x-keyward-client", "browser").header("sec-fetch-site", "same-origin")).await.status
        };
        for (name, secret) in &secrets {
            // Each door, whose secret it takes, and what everything else is told there.
            let me = with(&node, secret, Method::GET, "/v1/auth/me", Value::Null).await.status;
            let wanted = match *name { "access token" => 200, "service key" | "API key" => 403, _ => 401 };
            assert!(me == wanted || (*name == "API key" && me == 401), "{name} as an access token: {me}");
            let plans = with(&node, secret, Method::GET, "/v1/plans", Value::Null).await.status;
            assert_eq!(plans == 200, ["access token", "service key"].contains(name), "{name} as a service key: {plans}");
            let verdict = node.verify(json!({ "key": secret })).await.json;
            assert_eq!(verdict["valid"] == true, ["API key", "service key"].contains(name), "{name} as an API key: {verdict}");
            let own = *name == "a browser's access token";
            assert_eq!(cookie("access", secret, "/v1/auth/me").await == 200, own, "{name} as the access cookie");
            // Doors whose own secret is used up by showing it are shown only the others.
            if *name != "refresh token" {
                assert_eq!(post(&node, "/v1/auth/refresh", json!({ "refresh_token": secret })).await.status, 401, "{name} as a refresh token");
            }
            if *name != "a browser's refresh token" {
                assert_eq!(cookie("refresh", secret, "/v1/auth/refresh").await, 401, "{name} as the refresh cookie");
            }
            if *name != "login token" {
                let body = json!({ "login_token": secret, "method": "totp", "code": "000000" });
                assert_eq!(post(&node, "/v1/auth/login/second-factor", body).await.code(), "invalid_token", "{name} as a login token");
            }
            if *name != "invitation" {
                let body = json!({ "token": secret, "name": "N", "password": PASSWORD });
                assert_eq!(post(&node, "/v1/auth/invitations/accept", body).await.code(), "gone", "{name} as an invitation");
            }
            if *name != "reset link" {
                let body = json!({ "token": secret, "new_password": NEW_PASSWORD });
                assert_eq!(post(&node, "/v1/auth/password/reset", body).await.code(), "gone", "{name} as a reset link");
            }
            let form = [("token", secret.as_str()), ("email", "x@example.com"), ("organization", "X")];
            assert_eq!(Answer::of(node.bare(Method::POST, "/setup").form(&form)).await.status, 410, "{name} as a set-up link");
        }
        // A device that is not trusted asks for the second factor; a forgery token of nobody lets nothing pass.
        let jar = |name: &str| secrets.iter().find(|(known, _)| *known == name).expect("it is there").1.clone();
        for (name, secret) in &secrets {
            let request = node.bare(Method::POST, "/v1/auth/login").header("x-keyward-client", "browser").header("sec-fetch-site", "same-origin");
            let request = request.header("cookie", format!("__Host-keyward_device={secret}"));
            let signed_in = Answer::of(request.json(&json!({ "email": "a@example.com", "password": PASSWORD }))).await;
            assert_eq!(signed_in.json["signed_in"] == true, *name == "device token", "{name} as a device: {signed_in:?}");
            let cookies = format!("__Host-keyward_access={}; __Host-keyward_csrf={secret}", jar("a browser's access token"));
            let request = node.bare(Method::POST, "/v1/security/csrf-verify").header("cookie", cookies);
            let request = request.header("sec-fetch-site", "same-origin").header("x-csrf-token", secret);
            let status = Answer::of(request.json(&json!({ "csrf_token": secret }))).await.status;
            assert_eq!(status == 200, *name == "forgery token", "{name} against forgeries: {status}");
        }
        // And each of them was good where it belongs, after all that.
        assert_eq!(post(&node, "/v1/auth/refresh", json!({ "refresh_token": jar("refresh token") })).await.status, 200);
        let body = json!({ "login_token": jar("login token"), "method": "backup_code", "code": jar("backup code") });
        let done = post(&node, "/v1/auth/login/second-factor", body).await;
        assert_eq!(done.status, 200, "{done:?}");
        assert!(!pair(&done).0.is_empty());
        let body = json!({ "token": jar("invitation"), "name": "New", "password": PASSWORD });
        assert_eq!(post(&node, "/v1/auth/invitations/accept", body).await.status, 200);
        let body = json!({ "token": jar("reset link"), "new_password": NEW_PASSWORD });
        assert_eq!(post(&node, "/v1/auth/password/reset", body).await.status, 204);
    }
}
