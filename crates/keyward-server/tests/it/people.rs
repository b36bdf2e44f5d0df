//! Signing in: passwords, guessing, sessions, tokens; each statement of the security page by its number. Here is also what other
//! tests need of people.

use std::process::Command;

use http::Method;
use keyward::context::Context;
use keyward_core::access::Role;
use keyward_core::id::{self, Id};
use serde_json::{Value, json};

use crate::support::{Answer, Backend, Node, on_both};

pub const PASSWORD: &str = "four quiet river stones";
pub const NEW_PASSWORD: &str = "eleven loud paper boats";

/// A person with a role in the node's own organization, who can sign in.
pub async fn person(node: &Node, email: &str, role: Role) -> Id<id::User> {
    let (keyward, system) = (&node.app.keyward, Context::system("test"));
    let person = keyward.people.create(&system, email, "Somebody").await.unwrap();
    let organization = node.organization.parse().unwrap();
    keyward.people.assign_role(&system, person, Some(organization), role).await.unwrap();
    let token = reset_token(node, email).await;
    let set = post(node, "/v1/auth/password/reset", json!({ "token": token, "new_password": PASSWORD })).await;
    assert_eq!(set.status, 204, "{set:?}");
    person
}

/// The token of a new reset mail.
pub async fn reset_token(node: &Node, email: &str) -> String {
    let before = node.place.mails.count();
    assert_eq!(post(node, "/v1/auth/password/forgot", json!({ "email": email })).await.status, 202);
    let mail = node.place.mails.mail(before, email, "token=").await;
    mail.text.split("token=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
}

/// Without any credential.
pub async fn post(node: &Node, path: &str, body: Value) -> Answer {
    Answer::of(node.bare(Method::POST, path).json(&body)).await
}

pub async fn log_in(node: &Node, email: &str, password: &str) -> Answer {
    post(node, "/v1/auth/login", json!({ "email": email, "password": password })).await
}

/// The tokens of somebody who has no second factor.
pub async fn tokens(node: &Node, email: &str) -> (String, String) {
    let answer = log_in(node, email, PASSWORD).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    pair(&answer)
}

pub fn pair(answer: &Answer) -> (String, String) {
    let text = |field: &str| answer.json[field].as_str().unwrap_or_default().to_owned();
    (text("access_token"), text("refresh_token"))
}

pub async fn with(node: &Node, token: &str, method: Method, path: &str, body: Value) -> Answer {
    let body = (method != Method::GET).then_some(body);
    node.call_as(token, method, path, body).await
}

pub async fn me(node: &Node, token: &str) -> u16 {
    with(node, token, Method::GET, "/v1/auth/me", Value::Null).await.status
}

pub async fn refresh(node: &Node, token: &str) -> Answer {
    post(node, "/v1/auth/refresh", json!({ "refresh_token": token })).await
}

/// What an authenticator shows at the node's time, in the words of another program.
pub fn code(node: &Node, secret: &str, steps: i64) -> String {
    let at = node.app.keyward.clock.now().as_seconds() + 30 * steps;
    let shown =
        Command::new("oathtool").args(["--totp", "-b", secret, "--now", &format!("@{at}")]).output().expect("oathtool");
    String::from_utf8(shown.stdout).unwrap().trim().to_owned()
}

/// Sets an authenticator up; answers its secret and the backup codes.
pub async fn enroll(node: &Node, token: &str) -> (String, Vec<String>) {
    let made = with(node, token, Method::POST, "/v1/auth/totp/enroll", json!({})).await;
    assert_eq!(made.status, 200, "{made:?}");
    let secret = made.json["secret"].as_str().unwrap().to_owned();
    let confirmed =
        with(node, token, Method::POST, "/v1/auth/totp/confirm", json!({ "code": code(node, &secret, 0) })).await;
    assert_eq!(confirmed.status, 200, "{confirmed:?}");
    let codes = confirmed.json["backup_codes"].as_array().unwrap().iter();
    (secret, codes.map(|code| code.as_str().unwrap().to_owned()).collect())
}

pub async fn second(node: &Node, login_token: &str, method: &str, code: &str) -> Answer {
    post(node, "/v1/auth/login/second-factor", json!({ "login_token": login_token, "method": method, "code": code }))
        .await
}

on_both! {
    async fn a_01_to_a_03_what_may_be_a_password(node: Node) {
        person(&node, "a@example.com", Role::Viewer).await;
        let (access, _) = tokens(&node, "a@example.com").await;
        let change = async |new: &str| {
            with(&node, &access, Method::POST, "/v1/auth/password", json!({ "current_password": PASSWORD, "new_password": new })).await
        };
        for (new, code) in [
            ("sevench", "password_too_short"), (&"x".repeat(513), "invalid_field"), ("passwordpassword", "password_compromised"),
            ("a@example.com a@example.com", "password_contextual"),
        ] {
            let refused = change(new).await;
            assert_eq!((refused.status, refused.code(), refused.pointer()), (422, code, "/new_password"), "{new}");
        }
        let long = format!("{} 🪨 {}", "kettle lantern vow ".repeat(11), "z".repeat(270));
        assert_eq!(change(&long[..long.len().min(512)]).await.status, 204);
        let mut wrong = long.clone().into_bytes();
        wrong[200] ^= 1;
        assert_eq!(log_in(&node, "a@example.com", &String::from_utf8_lossy(&wrong)).await.status, 401, "nothing is cut off");
        assert_eq!(log_in(&node, "a@example.com", &long).await.status, 200);
    }

    async fn a_08_a_changed_password_ends_the_other_sessions(node: Node) {
        person(&node, "a@example.com", Role::Viewer).await;
        let (access, _) = tokens(&node, "a@example.com").await;
        let (other, _) = tokens(&node, "a@example.com").await;
        let path = "/v1/auth/password";
        let without = with(&node, &access, Method::POST, path, json!({ "new_password": NEW_PASSWORD })).await;
        assert_eq!((without.status, without.pointer()), (422, "/current_password"));
        let wrong = with(&node, &access, Method::POST, path, json!({ "current_password": "no", "new_password": NEW_PASSWORD })).await;
        assert_eq!((wrong.status, wrong.code()), (401, "invalid_credentials"));
        let changed = with(&node, &access, Method::POST, path, json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD })).await;
        assert_eq!(changed.status, 204, "{changed:?}");
        assert_eq!((me(&node, &access).await, me(&node, &other).await), (200, 401));
        assert_eq!(log_in(&node, "a@example.com", PASSWORD).await.status, 401);
        assert_eq!(log_in(&node, "a@example.com", NEW_PASSWORD).await.status, 200);
    }

    async fn a_09_a_reset_link_is_good_once_and_for_half_an_hour(node: Node) {
        person(&node, "a@example.com", Role::Viewer).await;
        let unknown = post(&node, "/v1/auth/password/forgot", json!({ "email": "nobody@example.com" })).await;
        assert_eq!((unknown.status, unknown.text.as_str()), (202, ""));
        let token = reset_token(&node, "a@example.com").await;
        let reset = async |token: &str| post(&node, "/v1/auth/password/reset", json!({ "token": token, "new_password": NEW_PASSWORD })).await;
        assert_eq!(reset(&token).await.status, 204);
        assert_eq!(reset(&token).await.code(), "gone");
        let late = reset_token(&node, "a@example.com").await;
        node.clock.advance_seconds(30 * 60);
        assert_eq!(reset(&late).await.code(), "gone");
        assert_eq!(log_in(&node, "a@example.com", NEW_PASSWORD).await.status, 200);
    }

    async fn b_01_and_b_05_failures_make_guessing_wait(node: Node) {
        person(&node, "a@example.com", Role::Viewer).await;
        for email in ["a@example.com", "nobody@example.com"] {
            for _ in 0..5 {
                assert_eq!(log_in(&node, email, "wrong").await.status, 401);
            }
            // The address may be written as it likes: it is the same account (statement B-04).
            for (email, password) in [(email, "wrong"), (email, PASSWORD), (&email.to_uppercase(), "wrong")] {
                let limited = log_in(&node, email, password).await;
                assert_eq!((limited.status, limited.code(), limited.header("retry-after")), (429, "rate_limited", "30"), "{email}");
            }
        }
        node.clock.advance_seconds(30);
        assert_eq!(log_in(&node, "a@example.com", PASSWORD).await.status, 200);
        assert_eq!(log_in(&node, "a@example.com", "wrong").await.status, 401, "the count began anew");
    }

    async fn b_02_a_hundred_failures_ask_for_a_reset(node: Node) {
        person(&node, "a@example.com", Role::Viewer).await;
        for _ in 0..100 {
            assert_eq!(log_in(&node, "a@example.com", "wrong").await.status, 401);
            node.clock.advance_seconds(900);
        }
        let refused = log_in(&node, "a@example.com", PASSWORD).await;
        assert_eq!((refused.status, refused.code()), (403, "password_reset_required"));
        let token = reset_token(&node, "a@example.com").await;
        assert_eq!(post(&node, "/v1/auth/password/reset", json!({ "token": token, "new_password": NEW_PASSWORD })).await.status, 204);
        assert_eq!(log_in(&node, "a@example.com", NEW_PASSWORD).await.status, 200);
    }

    async fn b_03_a_trusted_device_is_let_in_while_others_guess(node: Node) {
        person(&node, "a@example.com", Role::Viewer).await;
        let (access, _) = tokens(&node, "a@example.com").await;
        let (secret, _) = enroll(&node, &access).await;
        node.clock.advance_seconds(30);
        let browser = async |path: &str, cookie: &str, body: Value| {
            let request = node.bare(Method::POST, path).header("x-keyward-client", "browser").header("sec-fetch-site", "same-origin");
            Answer::of(request.header("cookie", cookie).json(&body)).await
        };
        let first = browser("/v1/auth/login", "", json!({ "email": "a@example.com", "password": PASSWORD })).await;
        let body = json!({ "login_token": first.json["login_token"], "method": "totp", "code": code(&node, &secret, 0), "trust_device": true });
        let done = browser("/v1/auth/login/second-factor", "", body).await;
        assert_eq!(done.status, 200, "{done:?}");
        let device = done.cookies().into_iter().find(|cookie| cookie.starts_with("__Host-keyward_device=")).expect("a device");
        let device = device.split(';').next().unwrap().to_owned();
        for _ in 0..6 {
            log_in(&node, "a@example.com", "wrong").await;
        }
        assert_eq!(log_in(&node, "a@example.com", PASSWORD).await.status, 429);
        let owner = browser("/v1/auth/login", &device, json!({ "email": "a@example.com", "password": PASSWORD })).await;
        assert_eq!((owner.status, &owner.json["signed_in"]), (200, &json!(true)), "{owner:?}");
    }

    async fn s_04_to_s_06_sessions_end_at_once_and_are_ones_own(node: Node) {
        let one = person(&node, "one@example.com", Role::Admin).await;
        person(&node, "two@example.com", Role::Viewer).await;
        let ((first, first_refresh), (second, _)) = (tokens(&node, "one@example.com").await, tokens(&node, "one@example.com").await);
        let (theirs, _) = tokens(&node, "two@example.com").await;
        let listed = with(&node, &first, Method::GET, "/v1/auth/sessions", Value::Null).await.json;
        let listed = listed["items"].as_array().unwrap().clone();
        assert_eq!(listed.iter().filter(|session| session["current"] == true).count(), 1);
        let other = listed.iter().find(|session| session["current"] == false).unwrap()["id"].as_str().unwrap().to_owned();
        let path = format!("/v1/auth/sessions/{other}");
        assert_eq!(with(&node, &theirs, Method::DELETE, &path, Value::Null).await.status, 404);
        assert_eq!(with(&node, &first, Method::DELETE, &path, Value::Null).await.status, 204);
        assert_eq!((me(&node, &first).await, me(&node, &second).await), (200, 401));
        assert_eq!(with(&node, &first, Method::POST, "/v1/auth/logout", json!({})).await.status, 204);
        assert_eq!(me(&node, &first).await, 401);
        assert_eq!(refresh(&node, &first_refresh).await.code(), "invalid_token");

        let (access, _) = tokens(&node, "one@example.com").await;
        let create = async || with(&node, &access, Method::POST, "/v1/api-keys", json!({ "name": "k" })).await.status;
        assert_eq!(create().await, 201);
        let (people, system, organization) = (&node.app.keyward.people, Context::system("test"), node.organization.parse().unwrap());
        people.assign_role(&system, one, Some(organization), Role::Viewer).await.unwrap();
        assert_eq!(create().await, 403);
        people.set_disabled(&system, organization, one, true).await.unwrap();
        assert_eq!(create().await, 401);
    }

    async fn s_07_only_tokens_of_our_own_making_are_read(node: Node) {
        person(&node, "a@example.com", Role::Owner).await;
        let (access, refresh_token) = tokens(&node, "a@example.com").await;
        let parts: Vec<&str> = access.split('.').collect();
        let encode = |value: Value| {
            use base64_of::encode;
            encode(value.to_string().as_bytes())
        };
        let claims = parts[1];
        let mut forged = vec![
            format!("{}.{claims}.", encode(json!({ "alg": "none", "typ": "at+jwt" }))),
            format!("{}.{claims}.{}", encode(json!({ "alg": "HS256", "typ": "at+jwt" })), parts[2]),
            format!("{}.{claims}.{}", encode(json!({ "alg": "EdDSA", "typ": "at+jwt", "jku": "https://evil.example" })), parts[2]),
            format!("{}.{claims}.{}", encode(json!({ "alg": "EdDSA", "kid": "unknown", "typ": "at+jwt" })), parts[2]),
            format!("{}.{}.{}", parts[0], encode(json!({ "sub": "usr_x", "exp": 9_999_999_999u64 })), parts[2]),
            format!("{}.{claims}.", parts[0]), format!("{}.{claims}", parts[0]), format!("{access}.x"), format!("{access}="),
            format!(".{claims}.{}", parts[2]), "..".to_owned(), format!("{}.{claims}.{}", "e".repeat(3_000), parts[2]),
            refresh_token.clone(), format!("{refresh_token}.a.b"), node.service_key.replace('_', "."),
        ];
        for place in [5, parts[0].len() + 9, access.len() - 9] {
            let mut bytes = access.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            forged.push(String::from_utf8(bytes).unwrap());
        }
        for token in forged {
            assert_eq!(me(&node, &token).await, 401, "{token}");
        }
        assert_eq!(me(&node, &access).await, 200);
        assert_eq!(refresh(&node, &access).await.code(), "invalid_token", "S-09");
        node.clock.advance_seconds(899);
        assert_eq!(me(&node, &access).await, 200);
        node.clock.advance_seconds(1);
        assert_eq!(me(&node, &access).await, 401, "S-01");
    }

    async fn s_12_and_s_13_one_token_has_one_successor(node: Node) {
        person(&node, "a@example.com", Role::Viewer).await;
        let (_, first) = tokens(&node, "a@example.com").await;
        let answers = futures_util::future::join_all((0..50).map(|_| refresh(&node, &first))).await;
        let successors: std::collections::HashSet<String> = answers.iter().map(|answer| pair(answer).1).collect();
        assert!(answers.iter().all(|answer| answer.status == 200), "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
        assert_eq!(successors.len(), 1);
        // The answer was lost, hours pass, nothing of it was used: the same again.
        node.clock.advance_seconds(6 * 3_600);
        let again = refresh(&node, &first).await;
        assert_eq!((again.status, successors.contains(&pair(&again).1)), (200, true), "{again:?}");
        assert_eq!(node.tell("SELECT count(*) AS value FROM refresh_token").await, 2);
    }

    async fn s_14_a_token_that_two_hold_ends_the_session(node: Node) {
        person(&node, "a@example.com", Role::Viewer).await;
        let (_, first) = tokens(&node, "a@example.com").await;
        let (access, next) = pair(&refresh(&node, &first).await);
        assert_eq!(me(&node, &access).await, 200);
        assert_eq!(refresh(&node, &first).await.status, 200, "two tabs, within ten seconds");
        node.clock.advance_seconds(11);
        let reused = refresh(&node, &first).await;
        assert_eq!((reused.status, reused.code()), (401, "refresh_reuse"));
        assert_eq!(me(&node, &access).await, 401);
        assert_eq!(refresh(&node, &next).await.code(), "invalid_token");
        assert_eq!(node.tell("SELECT count(*) AS value FROM audit_event WHERE action = 'refresh_reuse'").await, 1);
        node.place.mails.mail(0, "a@example.com", "used twice").await;
    }

    async fn s_18_revoking_what_is_no_ones_changes_nothing(node: Node) {
        person(&node, "a@example.com", Role::Viewer).await;
        let (access, refresh_token) = tokens(&node, "a@example.com").await;
        for nothing in ["", "nonsense", "kwr_AAAA", &node.service_key] {
            assert_eq!(post(&node, "/v1/auth/revoke", json!({ "token": nothing })).await.status, 200);
        }
        assert_eq!(me(&node, &access).await, 200);
        assert_eq!(post(&node, "/v1/auth/revoke", json!({ "token": refresh_token })).await.status, 200);
        assert_eq!(me(&node, &access).await, 401);
    }

    async fn s_10_keys_are_published_before_they_sign_and_after(node: Node) {
        person(&node, "a@example.com", Role::Viewer).await;
        let published = async || {
            let keys = node.get("/.well-known/jwks.json").await;
            assert!(keys.header("cache-control").contains("max-age"));
            assert!(!keys.text.contains("\"d\""), "no private part");
            keys.json["keys"].as_array().unwrap().len()
        };
        assert_eq!(published().await, 1);
        node.clock.advance_seconds(25 * 86_400);
        node.app.keyward.sessions.sweep().await.unwrap();
        assert_eq!(published().await, 2);
        node.clock.advance_seconds(5 * 86_400 - 60);
        let (old, _) = tokens(&node, "a@example.com").await;
        node.clock.advance_seconds(120);
        let (new, _) = tokens(&node, "a@example.com").await;
        assert_ne!(old.split('.').next(), new.split('.').next());
        assert_eq!((me(&node, &old).await, me(&node, &new).await, published().await), (200, 200, 2));
    }
}

/// RFC 4648, 5, for forged headers.
mod base64_of {
    pub fn encode(bytes: &[u8]) -> String {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
        let letter = |six: &[u8]| {
            LETTERS[six.iter().chain(&[0; 5]).take(6).fold(0, |sum, bit| sum << 1 | usize::from(*bit))] as char
        };
        bits.chunks(6).map(letter).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_05_a_logout_is_in_force_on_every_node() {
    let one = Node::start(Backend::Postgres).await;
    let two = one.join(one.place.clone(), |_| {}).await;
    person(&one, "a@example.com", Role::Viewer).await;
    let (access, refresh_token) = tokens(&one, "a@example.com").await;
    assert_eq!((me(&one, &access).await, me(&two, &access).await), (200, 200), "signed by one, read by the other");
    let (newer, _) = pair(&refresh(&two, &refresh_token).await);
    assert_eq!(me(&one, &newer).await, 200);
    assert_eq!(with(&one, &newer, Method::POST, "/v1/auth/logout", json!({})).await.status, 204);
    let ended = async || {
        while me(&two, &newer).await == 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(1), ended()).await.expect("within a second");
}
