//! Passwords as they are kept and told apart: each statement by its number.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use keyward::config::Layers;
use keyward::context::Context;
use keyward_core::access::Role;
use serde_json::{Value, json};

use crate::people::{NEW_PASSWORD, PASSWORD, enroll, log_in, me, person, post, tokens, with};
use crate::support::{Answer, Backend, Node, on_both};

/// The three ways to fail: nobody, the wrong password, a closed account with the right one.
const FAILURES: [(&str, &str); 3] = [("nobody", PASSWORD), ("known", "four quiet river stonez"), ("closed", PASSWORD)];
const TRIES: usize = 200;
/// Accounts of each kind: none of them comes to a hundred failures.
const ACCOUNTS: usize = 3;

fn address(kind: &str, account: usize) -> String {
    format!("{kind}{account}@example.com")
}

/// A try from a source of its own, so that nobody has to wait.
async fn fail(node: &Node, email: &str, password: &str, source: usize) -> Answer {
    let request =
        node.bare(Method::POST, "/v1/auth/login").header("x-forwarded-for", format!("2001:db8:{source:x}::1"));
    Answer::of(request.json(&json!({ "email": email, "password": password }))).await
}

async fn accounts(node: &Node, round: usize) {
    for account in 0..ACCOUNTS {
        person(node, &address("known", round * ACCOUNTS + account), Role::Viewer).await;
        let closed = person(node, &address("closed", round * ACCOUNTS + account), Role::Viewer).await;
        let organization = node.organization.parse().unwrap();
        node.app.keyward.people.set_disabled(&Context::system("test"), organization, closed, true).await.unwrap();
    }
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

on_both! {
    async fn a_04_unknown_wrong_and_disabled_answer_the_same_bytes(node: Node) {
        accounts(&node, 0).await;
        let mut answers = Vec::new();
        for (kind, password) in FAILURES {
            let refused = fail(&node, &address(kind, 0), password, 1).await;
            assert_eq!((refused.status, refused.code()), (401, "invalid_credentials"));
            let headers = refused.headers.iter().filter(|(name, _)| !["date", "request-id"].contains(&name.as_str()));
            let headers: Vec<String> = headers.map(|(name, value)| format!("{name}: {value:?}")).collect();
            answers.push((refused.text.replace(refused.header("request-id"), ""), headers));
        }
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    }

    async fn a_02_what_no_password_can_be_is_refused_before_it_is_hashed(node: Node) {
        let long = log_in(&node, "a@example.com", &"x".repeat(513)).await;
        assert_eq!((long.status, long.pointer()), (422, "/password"), "{long:?}");
        assert_eq!(log_in(&node, "a@example.com", &"x".repeat(512)).await.status, 401);
    }

    async fn a_05_hashes_are_argon2id(node: Node) {
        person(&node, "a@example.com", Role::Viewer).await;
        assert_eq!(node.tell(&hashed("$argon2id$v=19$m=19456,t=2,p=1$")).await, 1);
        assert_eq!(node.tell("SELECT count(*) AS value FROM person WHERE password_hash IS NOT NULL").await, 1);
    }

    async fn a_06_nobody_acts_as_somebody_else(node: Node) {
        let other = person(&node, "other@example.com", Role::Owner).await;
        person(&node, "a@example.com", Role::Viewer).await;
        let (access, _) = tokens(&node, "a@example.com").await;
        let change = json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD });
        let calls = [
            ("/v1/auth/password", change), ("/v1/auth/step-up", json!({ "password": PASSWORD })), ("/v1/auth/totp/confirm", json!({ "code": "000000" })),
            ("/v1/security/csrf-verify", json!({ "csrf_token": "x" })), ("/v1/auth/totp/enroll", json!({})), ("/v1/auth/totp/disable", json!({})),
            ("/v1/auth/backup-codes", json!({})), ("/v1/auth/logout", json!({})),
        ];
        let before = node.tell("SELECT count(*) AS value FROM audit_event").await;
        for (path, body) in &calls {
            for field in ["user_id", "person_id", "actor", "email", "sub"] {
                let mut body = body.clone();
                body[field] = json!(other);
                let refused = with(&node, &access, Method::POST, path, body).await;
                assert_eq!((refused.status, refused.code(), refused.pointer()), (422, "unknown_field", format!("/{field}").as_str()), "{path}");
            }
            assert_eq!(post(&node, path, body.clone()).await.status, 401, "{path}");
        }
        for (name, value) in [("x-user-id", other.to_string()), ("x-forwarded-user", other.to_string()), ("remote-user", "other@example.com".to_owned())] {
            let seen = Answer::of(node.request_as(&access, Method::GET, &format!("/v1/auth/me?user_id={other}")).header(name, value.clone())).await;
            assert_eq!(seen.json["email"], "a@example.com", "{name}");
            assert_eq!(Answer::of(node.bare(Method::GET, "/v1/auth/me").header(name, value)).await.status, 401);
        }
        assert_eq!(node.tell("SELECT count(*) AS value FROM audit_event").await, before, "nothing was written");
        assert_eq!(log_in(&node, "other@example.com", PASSWORD).await.status, 200);
    }

    async fn a_10_an_administrator_begins_a_reset_and_sets_no_password(node: Node) {
        let member = person(&node, "a@example.com", Role::Viewer).await;
        person(&node, "admin@example.com", Role::Owner).await;
        let (admin, _) = tokens(&node, "admin@example.com").await;
        enroll(&node, &admin).await;
        let path = format!("/v1/members/{member}");
        for (method, path, body) in [
            (Method::PATCH, path.clone(), json!({ "role": "viewer", "password": NEW_PASSWORD })), (Method::PATCH, path.clone(), json!({ "password": NEW_PASSWORD })),
            (Method::POST, format!("{path}/reset-password"), json!({ "password": NEW_PASSWORD })), (Method::POST, format!("{path}/reset-password"), json!({ "new_password": NEW_PASSWORD })),
            (Method::POST, "/v1/invitations".to_owned(), json!({ "email": "new@example.com", "role": "viewer", "password": NEW_PASSWORD })),
        ] {
            let refused = with(&node, &admin, method.clone(), &path, body).await;
            assert_eq!((refused.status, refused.code()), (422, "unknown_field"), "{method} {path}: {refused:?}");
        }
        let before = node.place.mails.count();
        let begun = with(&node, &admin, Method::POST, &format!("{path}/reset-password"), json!({})).await;
        assert_eq!((begun.status, begun.text.as_str()), (202, ""), "the link is not told");
        let mail = node.place.mails.mail(before, "a@example.com", "token=").await;
        let token = mail.text.split("token=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
        let shown = with(&node, &admin, Method::GET, &path, Value::Null).await.text;
        assert!(!shown.contains("password") && !shown.contains("argon2"), "{shown}");
        assert_eq!(log_in(&node, "a@example.com", PASSWORD).await.status, 200, "until its owner sets another");
        assert_eq!(post(&node, "/v1/auth/password/reset", json!({ "token": token, "new_password": NEW_PASSWORD })).await.status, 204);
        assert_eq!(log_in(&node, "a@example.com", NEW_PASSWORD).await.status, 200);
    }
}

/// Counts the people whose hash begins so.
fn hashed(begin: &str) -> String {
    format!("SELECT count(*) AS value FROM person WHERE password_hash LIKE '{begin}%'")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_04_unknown_wrong_and_disabled_take_the_same_time() {
    let node = Node::start(Backend::Sqlite).await;
    let mut gap = f64::MAX;
    // A measurement that something else on the machine spoiled is made again.
    for round in 0..3 {
        accounts(&node, round).await;
        let mut times = [const { Vec::new() }; 3];
        for attempt in 0..TRIES {
            for turn in 0..3 {
                // Each comes first as often as the others.
                let kind = (attempt + turn) % 3;
                let email = address(FAILURES[kind].0, round * ACCOUNTS + attempt % ACCOUNTS);
                let began = Instant::now();
                let refused = fail(&node, &email, FAILURES[kind].1, attempt).await;
                times[kind].push(began.elapsed());
                assert_eq!(refused.status, 401, "{refused:?}");
            }
        }
        let medians = times.map(|mut times| median(&mut times));
        let (least, most) =
            (medians.iter().copied().fold(f64::MAX, f64::min), medians.iter().copied().fold(0.0, f64::max));
        gap = gap.min(most / least - 1.0);
        println!("medians {medians:?}, {:.2} % apart", 100.0 * (most / least - 1.0));
        if gap < 0.05 {
            return;
        }
    }
    panic!("{:.1} % apart", 100.0 * gap);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_05_raised_parameters_hash_anew_at_the_next_sign_in() {
    let raised = |layers: &mut Layers| layers.flag("people.hash_passes", 3);
    let lowered = |layers: &mut Layers| {
        layers.flag("people.hash_passes", 1);
        layers.flag("people.hash_memory_kib", 64);
    };
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let one = Node::start(backend).await;
        person(&one, "a@example.com", Role::Viewer).await;
        let two = one.join(one.place.clone(), raised).await;
        one.stop().await;
        assert_eq!(log_in(&two, "a@example.com", "wrong").await.status, 401);
        assert_eq!(two.tell(&hashed("$argon2id$v=19$m=19456,t=2,p=1$")).await, 1, "only its owner has the password");
        let (access, _) = tokens(&two, "a@example.com").await;
        assert_eq!((me(&two, &access).await, two.tell(&hashed("$argon2id$v=19$m=19456,t=3,p=1$")).await), (200, 1));
        let three = two.join(two.place.clone(), lowered).await;
        two.stop().await;
        tokens(&three, "a@example.com").await;
        assert_eq!(three.tell(&hashed("$argon2id$v=19$m=19456,t=3,p=1$")).await, 1, "never hashed for less");
        person(&three, "b@example.com", Role::Viewer).await;
        assert_eq!(three.tell(&hashed("$argon2id$v=19$m=19456,t=2,p=1$")).await, 1, "nor below the least");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_05_too_many_hashes_at_once_are_refused() {
    let narrow = |layers: &mut Layers| {
        layers.flag("people.concurrent_hashes", 1);
        layers.flag("people.waiting_hashes", 2);
    };
    let node = Node::start_with(Backend::Sqlite, narrow).await;
    let emails: Vec<String> = (0..40).map(|account| address("nobody", account)).collect();
    let answers = join_all(emails.iter().map(|email| log_in(&node, email, PASSWORD))).await;
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(answers.iter().all(|answer| [401, 503].contains(&answer.status)));
    assert!(!refused.is_empty() && refused.len() < 40, "{} refused", refused.len());
    for answer in refused {
        assert_eq!((answer.code(), answer.header("retry-after")), ("overloaded", "1"));
    }
    assert_eq!(log_in(&node, "nobody@example.com", PASSWORD).await.status, 401, "and then there is room again");
}
