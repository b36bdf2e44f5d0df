//! Statement L-01: each thing that matters for security writes exactly one event, with who, what, when, where, what became of it
//! and in which request. One table: a call, and the line that it must leave.

use http::Method;
use keyward::audit::EventFilter;
use keyward::context::Context;
use keyward::page::PageRequest;
use keyward_core::access::Role;
use serde_json::{Value, json};

use crate::people::{
    NEW_PASSWORD, PASSWORD, code, enroll, log_in, pair, person, post, refresh, reset_token, second, tokens, with,
};
use crate::support::{Answer, Node, on_both};

/// What a call must leave in the book.
struct Line<'a> {
    action: &'a str,
    /// Kind and id of who did it.
    actor: (&'a str, &'a str),
    resource: (&'a str, &'a str),
    success: bool,
}

/// Checks that the call of this answer has left one line, and this one; answers its details.
async fn left(node: &Node, answer: &Answer, status: u16, line: Line<'_>) -> Value {
    let told = format!("{}: {answer:?}", line.action);
    assert_eq!(answer.status, status, "{told}");
    let (system, page) = (Context::system("test"), PageRequest::new(Some(200), None).unwrap());
    let book = node.app.keyward.audit.list(&system, None, &EventFilter::default(), &page).await.unwrap();
    let request = answer.header("request-id");
    let events: Vec<_> = book.items.iter().filter(|event| event.request_id.as_deref() == Some(request)).collect();
    assert_eq!(events.len(), 1, "{told}: {events:#?}");
    let event = events[0];
    assert_eq!((event.action.as_str(), event.success), (line.action, line.success), "{told}");
    assert_eq!((event.actor_type.as_str(), event.actor_id.as_str()), line.actor, "{told}");
    let resource = (event.resource_type.as_str(), event.resource_id.as_str());
    assert_eq!(resource.0, line.resource.0, "{told}");
    assert!(line.resource.1 == "*" && !resource.1.is_empty() || resource.1 == line.resource.1, "{told}: {resource:?}");
    assert_eq!(
        (event.ip_address.as_deref(), event.occurred_at),
        (Some("127.0.0.1"), node.app.keyward.clock.now()),
        "{told}"
    );
    assert_eq!(event.error_message.is_some(), !line.success, "{told}");
    event.details.0.clone()
}

/// A call, its status, and the action and the resource of its line.
type Row<'a> = (Method, String, Value, u16, &'a str, (&'a str, &'a str));

on_both! {
    async fn l_01_people_who_sign_in_and_out(node: Node) {
        let a = person(&node, "a@example.com", Role::Owner).await.to_string();
        let (user, visitor, sign_in) = (("user", a.as_str()), ("external", "visitor"), ("external", "sign-in"));
        let line = |action, actor, resource, success| Line { action, actor, resource, success };
        let login = log_in(&node, "a@example.com", PASSWORD).await;
        left(&node, &login, 200, line("login", user, ("session", "*"), true)).await;
        left(&node, &log_in(&node, "a@example.com", "wrong").await, 401, line("login_failed", sign_in, ("user", &a), false)).await;
        left(&node, &log_in(&node, "nobody@example.com", "wrong").await, 401, line("login_failed", sign_in, ("user", "unknown"), false)).await;
        let (access, _) = pair(&login);
        let call = async |access: &str, path: &str, body: Value| with(&node, access, Method::POST, path, body).await;

        let wrong = json!({ "current_password": "wrong", "new_password": NEW_PASSWORD });
        left(&node, &call(&access, "/v1/auth/password", wrong).await, 401, line("password_changed", user, ("session", "*"), false)).await;
        let right = json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD });
        left(&node, &call(&access, "/v1/auth/password", right).await, 204, line("password_changed", user, ("user", &a), true)).await;
        let forgot = post(&node, "/v1/auth/password/forgot", json!({ "email": "a@example.com" })).await;
        left(&node, &forgot, 202, line("password_reset_asked", visitor, ("user", &a), true)).await;
        let token = reset_token(&node, "a@example.com").await;
        let reset = post(&node, "/v1/auth/password/reset", json!({ "token": token, "new_password": PASSWORD })).await;
        left(&node, &reset, 204, line("password_reset", user, ("user", &a), true)).await;

        let (access, _) = tokens(&node, "a@example.com").await;
        let begun = call(&access, "/v1/auth/totp/enroll", json!({})).await;
        left(&node, &begun, 200, line("totp_enrolment_begun", user, ("user", &a), true)).await;
        let secret = begun.json["secret"].as_str().unwrap().to_owned();
        left(&node, &call(&access, "/v1/auth/totp/confirm", json!({ "code": "000000" })).await, 401, line("totp_enabled", user, ("session", "*"), false)).await;
        let confirmed = call(&access, "/v1/auth/totp/confirm", json!({ "code": code(&node, &secret, 0) })).await;
        left(&node, &confirmed, 200, line("totp_enabled", user, ("user", &a), true)).await;
        let renewed = call(&access, "/v1/auth/backup-codes", json!({})).await;
        left(&node, &renewed, 200, line("backup_codes_renewed", user, ("user", &a), true)).await;

        node.clock.advance_seconds(30);
        let first = log_in(&node, "a@example.com", PASSWORD).await;
        left(&node, &first, 200, line("second_factor_awaited", user, ("user", &a), true)).await;
        let login_token = first.json["login_token"].as_str().unwrap().to_owned();
        left(&node, &second(&node, &login_token, "totp", "000000").await, 401, line("login_failed", sign_in, ("user", &a), false)).await;
        left(&node, &second(&node, "kwl_unknown", "totp", "000000").await, 401, line("login_failed", sign_in, ("user", "unknown"), false)).await;
        let done = second(&node, &login_token, "totp", &code(&node, &secret, 0)).await;
        left(&node, &done, 200, line("login", user, ("session", "*"), true)).await;
        let (access, held) = pair(&done);
        for (shown, method) in [
            (json!({ "password": "wrong" }), "password"),
            (json!({ "password": "wrong", "code": code(&node, &secret, 1) }), "password"),
            (json!({ "code": "000000" }), "totp"),
            (json!({ "password": PASSWORD, "method": "backup_code", "code": "no" }), "backup_code"),
        ] {
            let told = left(&node, &call(&access, "/v1/auth/step-up", shown).await, 401, line("step_up_failed", user, ("session", "*"), false)).await;
            assert_eq!(told, json!({ "method": method }));
        }
        let stepped = call(&access, "/v1/auth/step-up", json!({ "password": PASSWORD })).await;
        let told = left(&node, &stepped, 200, line("stepped_up", user, ("session", "*"), true)).await;
        let before = crate::sessions::claims(&access)["sid"].clone();
        assert_eq!(told, json!({ "method": "password", "password": true, "continues": before }));
        assert_eq!(refresh(&node, &held).await.status, 401);
        let (access, held) = pair(&stepped);
        left(&node, &call(&access, "/v1/auth/totp/disable", json!({})).await, 204, line("totp_disabled", user, ("user", &a), true)).await;

        let refreshed = refresh(&node, &held).await;
        left(&node, &refreshed, 200, line("token_refreshed", user, ("session", "*"), true)).await;
        let (_, next) = pair(&refreshed);
        assert_eq!(refresh(&node, &next).await.status, 200);
        left(&node, &refresh(&node, &held).await, 401, line("refresh_reuse", user, ("session", "*"), false)).await;
        let (access, held) = tokens(&node, "a@example.com").await;
        left(&node, &post(&node, "/v1/auth/revoke", json!({ "token": held })).await, 200, line("token_revoked", user, ("session", "*"), true)).await;
        assert_eq!(crate::people::me(&node, &access).await, 401);
        let (access, _) = tokens(&node, "a@example.com").await;
        left(&node, &call(&access, "/v1/auth/logout", json!({})).await, 204, line("logout", user, ("session", "*"), true)).await;

        for _ in 0..5 {
            log_in(&node, "b@example.com", "wrong").await;
        }
        left(&node, &log_in(&node, "b@example.com", "wrong").await, 429, line("login_failed", sign_in, ("user", "unknown"), false)).await;
        let (access, _) = tokens(&node, "a@example.com").await;
        for _ in 0..5 {
            call(&access, "/v1/auth/step-up", json!({ "password": "wrong" })).await;
        }
        let limited = call(&access, "/v1/auth/step-up", json!({ "password": "wrong" })).await;
        left(&node, &limited, 429, line("rate_limited", user, ("route", "POST /v1/auth/step-up"), false)).await;
    }

    async fn l_01_requests_that_are_not_from_our_pages(node: Node) {
        let a = person(&node, "a@example.com", Role::Owner).await.to_string();
        let login = async |site: &str| {
            let request = node.bare(Method::POST, "/v1/auth/login").header("x-keyward-client", "browser").header("sec-fetch-site", site);
            Answer::of(request.json(&json!({ "email": "a@example.com", "password": PASSWORD }))).await
        };
        let line = Line { action: "access_denied", actor: ("external", "visitor"), resource: ("route", "POST /v1/auth/login"), success: false };
        left(&node, &login("cross-site").await, 403, line).await;
        let jar: Vec<String> = login("same-origin").await.cookies().iter().map(|cookie| cookie.split(';').next().unwrap().to_owned()).collect();
        let forged = Answer::of(node.bare(Method::POST, "/v1/auth/logout").header("cookie", jar.join("; ")).header("sec-fetch-site", "cross-site")).await;
        let line = Line { action: "access_denied", actor: ("user", &a), resource: ("route", "POST /v1/auth/logout"), success: false };
        left(&node, &forged, 403, line).await;
    }

    async fn l_01_keys_roles_and_settings(node: Node) {
        let owner = person(&node, "owner2@example.com", Role::Owner).await.to_string();
        let member = person(&node, "a@example.com", Role::Viewer).await.to_string();
        let (access, _) = tokens(&node, "owner2@example.com").await;
        enroll(&node, &access).await;
        let made = with(&node, &access, Method::POST, "/v1/api-keys", json!({ "name": "k" })).await;
        let key = made.json["id"].as_str().unwrap().to_owned();
        left(&node, &made, 201, Line { action: "key_created", actor: ("user", &owner), resource: ("key", &key), success: true }).await;
        let (keys, members) = (format!("/v1/api-keys/{key}"), format!("/v1/members/{member}"));
        let organization = node.organization.clone();
        let table: [Row<'_>; 16] = [
            (Method::PATCH, keys.clone(), json!({ "name": "other" }), 200, "key_updated", ("key", &key)),
            (Method::POST, format!("{keys}/rotate"), json!({}), 200, "key_rotated", ("key", &key)),
            (Method::POST, format!("{keys}/disable"), json!({}), 200, "key_disabled", ("key", &key)),
            (Method::POST, format!("{keys}/enable"), json!({}), 200, "key_enabled", ("key", &key)),
            (Method::POST, format!("{keys}/revoke"), json!({}), 200, "key_revoked", ("key", &key)),
            (Method::DELETE, keys, Value::Null, 204, "key_deleted", ("key", &key)),
            (Method::PATCH, members.clone(), json!({ "role": "auditor" }), 200, "role_assigned", ("user", &member)),
            (Method::POST, format!("{members}/disable"), json!({}), 200, "person_disabled", ("user", &member)),
            (Method::POST, format!("{members}/enable"), json!({}), 200, "person_enabled", ("user", &member)),
            (Method::DELETE, format!("{members}/sessions"), Value::Null, 204, "sessions_revoked", ("user", &member)),
            (Method::POST, format!("{members}/reset-factors"), json!({}), 204, "factors_reset", ("user", &member)),
            (Method::POST, format!("{members}/reset-password"), json!({}), 202, "password_reset_asked", ("user", &member)),
            (Method::DELETE, members, Value::Null, 204, "role_removed", ("user", &member)),
            (Method::POST, "/v1/invitations".to_owned(), json!({ "email": "new@example.com", "role": "viewer" }), 201, "member_invited", ("invitation", "*")),
            (Method::PATCH, "/v1/security/policy".to_owned(), json!({ "second_factor_required": true }), 200, "second_factor_policy_changed", ("organization", &organization)),
            (Method::POST, "/v1/api-keys/revoke-all".to_owned(), json!({ "confirm": true }), 200, "keys_revoked_all", ("organization", &organization)),
        ];
        for (method, path, body, status, action, resource) in table {
            let answer = with(&node, &access, method, &path, body).await;
            left(&node, &answer, status, Line { action, actor: ("user", &owner), resource, success: true }).await;
        }
        person(&node, "b@example.com", Role::Viewer).await;
        let viewer = person(&node, "c@example.com", Role::Viewer).await.to_string();
        // The policy asks for a second factor now.
        let (access, _) = tokens(&node, "c@example.com").await;
        enroll(&node, &access).await;
        let refused = with(&node, &access, Method::POST, "/v1/api-keys", json!({ "name": "k" })).await;
        left(&node, &refused, 403, Line { action: "access_denied", actor: ("user", &viewer), resource: ("route", "POST /v1/api-keys"), success: false }).await;
    }
}
