//! Guessing: what is counted together, that every guess is counted, and what happens where nothing can be counted. Each
//! statement by its number; the plain waits are in `people.rs`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use keyward_core::access::Role;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::people::{PASSWORD, code, enroll, log_in, pair, person, tokens, with};
use crate::support::process::Process;
use crate::support::proxy::Proxy;
use crate::support::{Answer, Backend, Node, on_both};

const OWNER: &str = "a@example.com";

/// A sign-in with a wrong password, as from another address behind the trusted proxy.
async fn guess_from(node: &Node, email: &str, address: &str) -> Answer {
    let request = node.bare(Method::POST, "/v1/auth/login").header("x-forwarded-for", address);
    Answer::of(request.json(&json!({ "email": email, "password": "wrong" }))).await
}

/// Every failure that is counted, of accounts or of accounts and sources: both stand in one table.
const COUNTED: &str = "SELECT CAST(coalesce(max(failures), 0) AS BIGINT) AS value FROM login_failure";
const NOTED: &str = "SELECT count(*) AS value FROM audit_event WHERE action = 'login_failed'";

on_both! {
    async fn b_04_one_account_is_one_bucket_however_it_is_written(node: Node) {
        person(&node, OWNER, Role::Viewer).await;
        for _ in 0..5 {
            assert_eq!(guess_from(&node, OWNER, "2001:db8:1:2::1").await.status, 401);
        }
        for email in ["A@Example.COM", " a@example.com", "a@example.com.", "a@example.com..", "a@example.com. ", "a@example.com .", "\ta@EXAMPLE.com\n"] {
            assert_eq!(guess_from(&node, email, "2001:db8:1:2::1").await.status, 429, "{email:?}");
        }
        for address in ["2001:db8:1:2::2", "2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:0DB8:0001:0002::3", "198.51.100.7, 2001:db8:1:2::4"] {
            assert_eq!(guess_from(&node, OWNER, address).await.status, 429, "{address}");
        }
        assert_eq!(guess_from(&node, OWNER, "2001:db8:1:3::1").await.status, 401, "another network");
        // A field that the call does not know is no way round: it is refused before anything is tried.
        for (field, value) in [("remember", json!(true)), ("user_id", json!(node.user)), ("Email", json!(OWNER)), ("x", Value::Null)] {
            let mut body = json!({ "email": OWNER, "password": "wrong" });
            body[field] = value;
            let request = node.bare(Method::POST, "/v1/auth/login").header("x-forwarded-for", "2001:db8:1:2::1");
            let refused = Answer::of(request.json(&body)).await;
            assert_eq!((refused.status, refused.code()), (422, "unknown_field"), "{field}");
        }
    }

    async fn b_06_a_hundred_guesses_at_the_same_time_count_a_hundred(node: Node) {
        person(&node, OWNER, Role::Viewer).await;
        let addresses: Vec<String> = (1..=100).map(|host| format!("198.51.100.{host}")).collect();
        let answers = join_all(addresses.iter().map(|address| guess_from(&node, OWNER, address))).await;
        // Some find too many hashing already. They count as well.
        assert!(answers.iter().all(|answer| [401, 503].contains(&answer.status)), "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
        assert_eq!((node.tell(COUNTED).await, node.tell(NOTED).await), (100, 100));
        let refused = log_in(&node, OWNER, PASSWORD).await;
        assert_eq!((refused.status, refused.code()), (403, "password_reset_required"), "the ceiling is reached: {refused:?}");
    }

    async fn b_06_from_one_source_five_are_judged_and_the_others_wait(node: Node) {
        person(&node, OWNER, Role::Viewer).await;
        let answers = join_all((0..100).map(|_| log_in(&node, OWNER, "wrong"))).await;
        let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
        assert_eq!((count(401), count(429)), (5, 95));
        // What was not judged is no failure: nobody closes another's account with a hundred calls in a second.
        assert_eq!((node.tell(COUNTED).await, node.tell(NOTED).await), (5, 100));
    }

    async fn b_06_who_does_not_wait_for_the_answer_is_counted(node: Node) {
        person(&node, OWNER, Role::Viewer).await;
        let body = json!({ "email": OWNER, "password": "wrong" }).to_string();
        let head = "POST /v1/auth/login HTTP/1.1\r\nHost: keyward\r\nContent-Type: application/json\r\nContent-Length:";
        let request = format!("{head} {}\r\n\r\n{body}", body.len());
        let guess_and_go = async {
            while node.tell(NOTED).await < 5 {
                let mut stream = TcpStream::connect(node.url.trim_start_matches("http://")).await.expect("a connection");
                stream.write_all(request.as_bytes()).await.expect("it is sent");
            }
        };
        soon(guess_and_go).await;
        assert_eq!(node.tell(COUNTED).await, 5);
        assert_eq!(log_in(&node, OWNER, PASSWORD).await.status, 429);
    }

    async fn b_07_where_nothing_can_be_counted_nobody_signs_in(node: Node) {
        person(&node, OWNER, Role::Admin).await;
        let (access, _) = tokens(&node, OWNER).await;
        let (secret, _) = enroll(&node, &access).await;
        node.clock.advance_seconds(30);
        let waiting = log_in(&node, OWNER, PASSWORD).await.json["login_token"].clone();
        let issued = node.new_key(json!({})).await;
        node.tamper("ALTER TABLE login_failure RENAME TO login_failure_away").await;
        let refused = log_in(&node, OWNER, PASSWORD).await;
        assert_eq!((refused.status, refused.code(), refused.header("retry-after")), (503, "not_ready", "1"), "{refused:?}");
        let body = json!({ "login_token": waiting, "method": "totp", "code": code(&node, &secret, 0) });
        assert_eq!(crate::people::post(&node, "/v1/auth/login/second-factor", body.clone()).await.status, 503);
        let step_up = with(&node, &access, Method::POST, "/v1/auth/step-up", json!({ "password": PASSWORD })).await;
        assert_eq!(step_up.status, 503);
        // Keys do not depend on it, and those who are signed in stay so.
        assert_eq!(node.code_of(issued["key"].as_str().unwrap()).await, "valid");
        assert_eq!(crate::people::me(&node, &access).await, 200);
        assert_eq!(node.tell(NOTED).await, 2, "each closed door is in the book");
        node.tamper("ALTER TABLE login_failure_away RENAME TO login_failure").await;
        assert_eq!(crate::people::post(&node, "/v1/auth/login/second-factor", body).await.status, 200);
    }
}

/// Nobody but the trusted proxy says where a call comes from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_04_an_untrusted_peer_does_not_say_where_it_comes_from() {
    let untrusting = |layers: &mut keyward::config::Layers| layers.flag("server.trusted_proxies", Vec::<String>::new());
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let node = Node::start_with(backend, untrusting).await;
        person(&node, OWNER, Role::Viewer).await;
        for host in 0..5 {
            assert_eq!(guess_from(&node, OWNER, &format!("198.51.100.{host}")).await.status, 401);
        }
        for (name, value) in [
            ("x-forwarded-for", "198.51.100.9"),
            ("X-FORWARDED-FOR", "2001:db8::9"),
            ("forwarded", "for=198.51.100.9"),
            ("x-real-ip", "198.51.100.9"),
            ("true-client-ip", "198.51.100.9"),
            ("user-agent", "another"),
            ("cookie", "__Host-keyward_device=kwd_x"),
        ] {
            let request =
                node.bare(Method::POST, "/v1/auth/login").header(name, value).header("sec-fetch-site", "same-origin");
            let refused = Answer::of(request.json(&json!({ "email": OWNER, "password": PASSWORD }))).await;
            assert_eq!((refused.status, refused.code()), (429, "rate_limited"), "{name}");
        }
    }
}

/// The real binary, cut off from its PostgreSQL: nobody signs in, keys are judged as the setting says (`closed`; the other is
/// shown in `nodes.rs`), and the log tells both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_07_cut_off_from_the_database_the_doors_stay_closed() {
    let node = Node::start(Backend::Postgres).await;
    person(&node, OWNER, Role::Viewer).await;
    let (place, service_key) = (node.place.clone(), node.service_key.clone());
    let port = place.database_url().unwrap().rsplit_once('/').unwrap().0.rsplit_once(':').unwrap().1.parse().unwrap();
    node.stop().await;
    let proxy = Proxy::before(port).await;
    let mut server = Process::start_logging(&place.through(proxy.port), &[], Stdio::piped());
    let log = server.log();
    let client = reqwest::Client::new();
    let verify = async || {
        let request = client.post(format!("{}/v1/api-keys/verify", server.url)).bearer_auth(&service_key);
        Answer::of(request.json(&json!({ "key": service_key }))).await
    };
    let log_in = async || {
        let request = client.post(format!("{}/v1/auth/login", server.url));
        Answer::of(request.json(&json!({ "email": OWNER, "password": PASSWORD }))).await
    };
    assert_eq!(verify().await.code(), "valid");
    proxy.cut();
    let refused = log_in().await;
    assert_eq!((refused.status, refused.code()), (503, "not_ready"), "{refused:?}");
    let closed = async {
        loop {
            let answer = verify().await;
            if answer.status == 503 {
                return answer;
            }
        }
    };
    let closed = soon(closed).await;
    let wanted = [refused.header("request-id").to_owned(), closed.header("request-id").to_owned()];
    let told = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(log).lines().map_while(Result::ok);
        wanted.map(|id| lines.find(|line| line.contains(&id)).unwrap_or_default())
    });
    for line in soon(told).await.expect("the log is read") {
        assert!(line.contains("not_ready"), "{line}");
    }
    proxy.mend();
    soon(async { while pair(&log_in().await).0.is_empty() {} }).await;
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("soon")
}
