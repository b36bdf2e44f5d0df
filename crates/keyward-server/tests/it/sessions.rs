//! How sessions begin, go on and end: each statement by its number. What many clients do at the same time is in
//! `session_history.rs`.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use http::Method;
use keyward::context::Context;
use keyward_core::access::Role;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::people::{
    NEW_PASSWORD, PASSWORD, code, enroll, log_in, me, pair, person, post, refresh, reset_token, second, tokens, with,
};
use crate::support::process::Process;
use crate::support::{Answer, Backend, Node, on_both};

/// What an access token says, unverified.
pub fn claims(access: &str) -> Value {
    let payload = access.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON")
}

fn number(access: &str, claim: &str) -> i64 {
    claims(access)[claim].as_i64().expect("a number")
}

fn session(access: &str) -> String {
    claims(access)["sid"].as_str().expect("a session").to_owned()
}

fn now(node: &Node) -> i64 {
    node.app.keyward.clock.now().as_seconds()
}

async fn step_up(node: &Node, access: &str, body: Value) -> Answer {
    with(node, access, Method::POST, "/v1/auth/step-up", body).await
}

on_both! {
    async fn s_03_each_proof_begins_a_new_session(node: Node) {
        person(&node, "a@example.com", Role::Admin).await;
        let (access, _) = tokens(&node, "a@example.com").await;
        let (other, _) = tokens(&node, "a@example.com").await;
        assert_ne!(session(&access), session(&other));
        let (secret, _) = enroll(&node, &access).await;
        node.clock.advance_seconds(30);
        let login_token = log_in(&node, "a@example.com", PASSWORD).await.json["login_token"].as_str().unwrap().to_owned();
        assert_eq!(me(&node, &login_token).await, 401, "what waits for the second factor is no session");
        let (access, old_refresh) = pair(&second(&node, &login_token, "totp", &code(&node, &secret, 0)).await);
        assert_eq!(second(&node, &login_token, "totp", &code(&node, &secret, 1)).await.code(), "invalid_token", "it ended with it");

        node.clock.advance_seconds(400);
        let both = json!({ "password": PASSWORD, "code": code(&node, &secret, 0) });
        let stepped = step_up(&node, &access, both).await;
        assert_eq!((stepped.status, stepped.header("cache-control")), (200, "no-store"), "{stepped:?}");
        let (new, new_refresh) = pair(&stepped);
        assert_ne!(session(&new), session(&access));
        assert_eq!((me(&node, &access).await, me(&node, &new).await), (401, 200), "the old id is dead");
        assert_eq!(refresh(&node, &old_refresh).await.code(), "invalid_token");
        assert_eq!(refresh(&node, &new_refresh).await.status, 200);
        let seen = with(&node, &new, Method::GET, "/v1/auth/me", Value::Null).await.json;
        assert_eq!(seen["session_id"], session(&new));
        // It lasts no longer than the one that it continues.
        let listed = with(&node, &new, Method::GET, "/v1/auth/sessions", Value::Null).await.json;
        let current = listed["items"].as_array().unwrap().iter().find(|item| item["current"] == true).unwrap().clone();
        assert_eq!(current["expires_at"], "2026-12-20T12:00:30Z");

        // Of two at the same time one goes on.
        let tries = join_all((0..2).map(|_| step_up(&node, &new, json!({ "password": PASSWORD })))).await;
        let mut statuses: Vec<u16> = tries.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 401]);
    }

    async fn s_03_a_browser_gets_new_cookies(node: Node) {
        person(&node, "a@example.com", Role::Admin).await;
        let from_page = |request: reqwest::RequestBuilder| request.header("x-keyward-client", "browser").header("sec-fetch-site", "same-origin");
        let jar = |answer: &Answer| answer.cookies().iter().map(|cookie| cookie.split(';').next().unwrap().to_owned()).collect::<Vec<_>>().join("; ");
        let login = from_page(node.bare(Method::POST, "/v1/auth/login")).json(&json!({ "email": "a@example.com", "password": PASSWORD }));
        let old = jar(&Answer::of(login).await);
        let given = Answer::of(node.bare(Method::GET, "/v1/security/csrf-token").header("cookie", &old)).await;
        let token = given.json["csrf_token"].as_str().unwrap().to_owned();
        let cookies = format!("{old}; __Host-keyward_csrf={token}");
        let request = from_page(node.bare(Method::POST, "/v1/auth/step-up")).header("cookie", cookies).header("x-csrf-token", token);
        let stepped = Answer::of(request.json(&json!({ "password": PASSWORD }))).await;
        assert_eq!((stepped.status, &stepped.json["signed_in"], &stepped.json["access_token"]), (200, &json!(true), &Value::Null), "{stepped:?}");
        let seen = async |jar: &str| Answer::of(node.bare(Method::GET, "/v1/auth/me").header("cookie", jar)).await.status;
        assert_eq!((seen(&old).await, seen(&jar(&stepped)).await), (401, 200));
    }

    async fn a_warm_check_reads_no_database(node: Node) {
        person(&node, "a@example.com", Role::Viewer).await;
        let (access, _) = tokens(&node, "a@example.com").await;
        assert_eq!(me(&node, &access).await, 200);
        for table in ["session", "signing_key", "person", "role_binding", "totp", "passkey", "backup_code"] {
            node.tamper(&format!("ALTER TABLE {table} RENAME TO {table}_away")).await;
        }
        assert_eq!(me(&node, &access).await, 200, "nothing is asked of the database");
        // When it was last used is written once a minute; and on PostgreSQL memory is trusted for a second only.
        node.clock.advance_seconds(60);
        assert_eq!(me(&node, &access).await, 500, "the tables are gone indeed");
    }

    async fn s_01_lifetimes_are_as_documented(node: Node) {
        person(&node, "a@example.com", Role::Viewer).await;
        let given = log_in(&node, "a@example.com", PASSWORD).await;
        assert_eq!((&given.json["expires_in"], &given.json["refresh_expires_in"]), (&json!(900), &json!(604_800)));
        let (access, mut held) = pair(&given);
        let idle = pair(&log_in(&node, "a@example.com", PASSWORD).await).1;
        node.clock.advance_seconds(899);
        assert_eq!(me(&node, &access).await, 200);
        node.clock.advance_seconds(1);
        assert_eq!(me(&node, &access).await, 401, "15 minutes");
        node.clock.advance_seconds(7 * 86_400 - 900 - 1);
        let kept = refresh(&node, &held).await;
        assert_eq!(kept.status, 200, "{kept:?}");
        held = pair(&kept).1;
        node.clock.advance_seconds(1);
        assert_eq!(refresh(&node, &idle).await.code(), "invalid_token", "7 days idle");
        // However often it is refreshed, on the thirtieth day it ends.
        for _ in 0..3 {
            node.clock.advance_seconds(7 * 86_400 - 2);
            let kept = refresh(&node, &held).await;
            assert_eq!(kept.status, 200, "{kept:?}");
            held = pair(&kept).1;
        }
        node.clock.advance_seconds(2 * 86_400 + 5);
        let last = refresh(&node, &held).await;
        assert_eq!((last.status, &last.json["expires_in"], &last.json["refresh_expires_in"]), (200, &json!(1), &json!(1)), "{last:?}");
        held = pair(&last).1;
        node.clock.advance_seconds(1);
        assert_eq!((me(&node, &pair(&last).0).await, refresh(&node, &held).await.code()), (401, "invalid_token"), "30 days");
    }

    async fn s_14_of_many_second_uses_one_is_told(node: Node) {
        person(&node, "a@example.com", Role::Viewer).await;
        let (_, first) = tokens(&node, "a@example.com").await;
        let (_, next) = pair(&refresh(&node, &first).await);
        let (_, newest) = pair(&refresh(&node, &next).await);
        let answers = join_all((0..10).map(|_| refresh(&node, &first))).await;
        assert!(answers.iter().all(|answer| answer.status == 401), "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| answer.code() == "refresh_reuse").count(), 1);
        assert_eq!(node.tell("SELECT count(*) AS value FROM audit_event WHERE action = 'refresh_reuse'").await, 1);
        assert_eq!(refresh(&node, &newest).await.code(), "invalid_token");
    }

    async fn s_16_a_refresh_never_gives_back_what_was_taken(node: Node) {
        let (people, system) = (&node.app.keyward.people, Context::system("test"));
        let organization = node.organization.parse().unwrap();
        let one = person(&node, "one@example.com", Role::Admin).await;
        let (_, held) = tokens(&node, "one@example.com").await;
        people.assign_role(&system, one, Some(organization), Role::Viewer).await.unwrap();
        let (access, held) = pair(&refresh(&node, &held).await);
        let create = async |access: &str| with(&node, access, Method::POST, "/v1/api-keys", json!({ "name": "k" })).await.status;
        assert_eq!(create(&access).await, 403, "a role that was lowered");
        people.remove_role(&system, one, Some(organization)).await.unwrap();
        let (access, held) = pair(&refresh(&node, &held).await);
        let seen = with(&node, &access, Method::GET, "/v1/auth/me", Value::Null).await.json;
        assert_eq!(seen["roles"], json!([]));
        assert_eq!(with(&node, &access, Method::GET, "/v1/api-keys", Value::Null).await.status, 403, "a role that was taken away");

        people.assign_role(&system, one, Some(organization), Role::Viewer).await.unwrap();
        people.set_disabled(&system, organization, one, true).await.unwrap();
        assert_eq!(refresh(&node, &held).await.code(), "invalid_token");
        people.set_disabled(&system, organization, one, false).await.unwrap();
        assert_eq!(refresh(&node, &held).await.code(), "invalid_token", "an account that opens again opens no old session");
        assert_eq!(me(&node, &access).await, 401);

        let (access, own) = tokens(&node, "one@example.com").await;
        let (_, other) = tokens(&node, "one@example.com").await;
        let change = json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD });
        assert_eq!(with(&node, &access, Method::POST, "/v1/auth/password", change).await.status, 204);
        assert_eq!(refresh(&node, &other).await.code(), "invalid_token", "a password of before");
        assert_eq!(refresh(&node, &own).await.status, 200);
    }

    async fn s_16_a_sign_in_with_the_old_password_does_not_outlive_it(node: Node) {
        person(&node, "a@example.com", Role::Admin).await;
        let (access, _) = tokens(&node, "a@example.com").await;
        let (secret, _) = enroll(&node, &access).await;
        node.clock.advance_seconds(30);
        let waiting = log_in(&node, "a@example.com", PASSWORD).await.json["login_token"].as_str().unwrap().to_owned();
        person(&node, "b@example.com", Role::Admin).await;
        for email in ["a@example.com", "b@example.com"] {
            let token = reset_token(&node, email).await;
            let body = json!({ "token": token, "new_password": NEW_PASSWORD });
            let (reset, logins) = tokio::join!(post(&node, "/v1/auth/password/reset", body), join_all((0..4).map(|_| log_in(&node, email, PASSWORD))));
            assert_eq!(reset.status, 204, "{reset:?}");
            for login in logins.iter().filter(|login| login.json["access_token"].is_string()) {
                assert_eq!(me(&node, &pair(login).0).await, 401, "{login:?}");
            }
        }
        assert_eq!(second(&node, &waiting, "totp", &code(&node, &secret, 0)).await.code(), "invalid_token");
    }

    async fn s_17_no_clock_makes_a_token_older_than_its_parent_or_immortal(node: Node) {
        const HOUR: i64 = 3_600;
        person(&node, "a@example.com", Role::Viewer).await;
        let began = now(&node);
        let (first, first_refresh) = tokens(&node, "a@example.com").await;
        let mut family = vec![first];
        // An hour too fast, and the answer is lost twice.
        node.clock.advance_seconds(60);
        refresh(&node, &first_refresh).await;
        node.clock.advance_seconds(HOUR);
        assert_eq!(me(&node, &family[0]).await, 401, "it has run out, by this clock");
        let (access, mut held) = pair(&refresh(&node, &first_refresh).await);
        family.push(access);
        // Set right again, twice, and an hour too slow.
        for step in [-HOUR, 10, -HOUR, 2 * HOUR, 10] {
            node.clock.advance_seconds(step);
            let answer = refresh(&node, &held).await;
            assert_eq!(answer.status, 200, "{step}: {answer:?}");
            let (access, next) = pair(&answer);
            assert_eq!(me(&node, &access).await, 200, "{step}");
            (family, held) = ([family, vec![access]].concat(), next);
        }
        for pair in family.windows(2) {
            assert!(number(&pair[0], "iat") <= number(&pair[1], "iat"), "{pair:?}");
        }
        let ends = began + 30 * 86_400;
        for access in &family {
            let (made, until) = (number(access, "iat"), number(access, "exp"));
            assert!(until - made <= 900 && until <= ends, "{access}");
        }
        // Refreshed every six days, it ends where it was to end from the first.
        for _ in 0..4 {
            node.clock.advance_seconds(6 * 86_400);
            held = pair(&refresh(&node, &held).await).1;
        }
        node.clock.advance_seconds(ends - now(&node) - 1);
        let (last, held) = pair(&refresh(&node, &held).await);
        assert_eq!((me(&node, &last).await, number(&last, "exp")), (200, ends));
        node.clock.advance_seconds(1);
        assert_eq!((me(&node, &last).await, refresh(&node, &held).await.code()), (401, "invalid_token"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_01_settings_make_them_shorter_and_never_longer() {
    let lives = async |access: u32, idle: u32, whole: u32| {
        let node = Node::start_with(Backend::Sqlite, |layers| {
            layers.flag("people.access_token_seconds", access);
            layers.flag("people.refresh_idle_seconds", idle);
            layers.flag("people.session_seconds", whole);
        });
        let node = node.await;
        person(&node, "a@example.com", Role::Viewer).await;
        let given = log_in(&node, "a@example.com", PASSWORD).await.json;
        let until = number(given["access_token"].as_str().unwrap(), "exp");
        (until - now(&node), given["refresh_expires_in"].as_i64().unwrap())
    };
    assert_eq!(lives(60, 3_600, 86_400).await, (60, 3_600));
    assert_eq!(lives(60, 3_600, 1_800).await, (60, 1_800), "no token outlives its session");
    assert_eq!(lives(100_000, 10_000_000, 100_000_000).await, (900, 604_800));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_14_the_setting_strict_makes_every_second_use_reuse() {
    let strict = |layers: &mut keyward::config::Layers| layers.flag("people.strict_refresh", true);
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let node = Node::start_with(backend, strict).await;
        person(&node, "a@example.com", Role::Viewer).await;
        let (_, first) = tokens(&node, "a@example.com").await;
        let (access, next) = pair(&refresh(&node, &first).await);
        assert_eq!(
            (refresh(&node, &first).await.code(), me(&node, &access).await),
            ("refresh_reuse", 401),
            "unused, at once"
        );
        assert_eq!(refresh(&node, &next).await.code(), "invalid_token");

        let (_, first) = tokens(&node, "a@example.com").await;
        let answers = join_all((0..20).map(|_| refresh(&node, &first))).await;
        let codes: Vec<&str> = answers.iter().filter(|answer| answer.status != 200).map(Answer::code).collect();
        assert_eq!(codes.len(), 19, "one got tokens");
        assert_eq!(
            codes.iter().collect::<HashSet<_>>().len(),
            2,
            "one was told of the reuse, the others find nothing: {codes:?}"
        );
        let (access, _) = pair(answers.iter().find(|answer| answer.status == 200).unwrap());
        assert_eq!(me(&node, &access).await, 401);
        assert_eq!(node.tell("SELECT count(*) AS value FROM audit_event WHERE action = 'refresh_reuse'").await, 2);
    }
}

const TOKENS: &str = "SELECT count(*) AS value FROM refresh_token";

/// The real binary is killed once the successor is written, or as soon as it may be; nobody has read the answer.
async fn killed_before_the_answer(backend: Backend) {
    let node = Node::start(backend).await;
    person(&node, "a@example.com", Role::Viewer).await;
    let place = node.place.clone();
    node.stop().await;
    let client = reqwest::Client::new();
    for round in 0..4 {
        let mut server = Process::start(&place, &[]);
        let send = async |url: &str, path: &str, body: Value| {
            Answer::of(client.post(format!("{url}{path}")).json(&body)).await
        };
        let (_, held) =
            pair(&send(&server.url, "/v1/auth/login", json!({ "email": "a@example.com", "password": PASSWORD })).await);
        let before = place.tell(TOKENS).await;
        let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
        let body = json!({ "refresh_token": held }).to_string();
        let head =
            "POST /v1/auth/refresh HTTP/1.1\r\nHost: keyward\r\nContent-Type: application/json\r\nContent-Length:";
        stream.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
        let committed = async {
            while place.tell(TOKENS).await == before {
                tokio::task::yield_now().await;
            }
        };
        if round % 2 == 0 {
            tokio::time::timeout(std::time::Duration::from_secs(10), committed).await.expect("it is written");
        }
        server.kill();

        let server = Process::start(&place, &[]);
        let again = send(&server.url, "/v1/auth/refresh", json!({ "refresh_token": held })).await;
        assert_eq!(again.status, 200, "round {round}: {again:?}");
        let once_more = send(&server.url, "/v1/auth/refresh", json!({ "refresh_token": held })).await;
        assert_eq!(pair(&once_more).1, pair(&again).1, "round {round}: one successor");
        assert_eq!(place.tell(TOKENS).await, before + 1, "round {round}: one branch");
        let (access, held) = pair(&again);
        let seen = client.get(format!("{}/v1/auth/me", server.url)).bearer_auth(access);
        assert_eq!(Answer::of(seen).await.status, 200);
        assert_eq!(send(&server.url, "/v1/auth/refresh", json!({ "refresh_token": held })).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_15_killed_before_the_answer_on_sqlite() {
    killed_before_the_answer(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s_15_killed_before_the_answer_on_postgres() {
    killed_before_the_answer(Backend::Postgres).await;
}
