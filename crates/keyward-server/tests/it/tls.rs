//! HTTPS by the node itself (statement W-08): what it speaks, what it refuses, and certificates that change under way.

use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use http::Method;
use keyward::config::Layers;
use keyward::jobs::JobKind;
use keyward_core::access::Role;
use rustls::version::{TLS12, TLS13};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::jobs;
use crate::people::{PASSWORD, log_in, me, person};
use crate::support::process::Process;
use crate::support::tls::{Authority, ask, shown};
use crate::support::{Answer, Backend, Node, Place};

const HSTS: &str = "strict-transport-security";
const YEAR: &str = "max-age=31536000; includeSubDomains";

fn set(authority: &Authority) -> impl FnOnce(&mut Layers) {
    let [certificate, key] = authority.files().map(|file| file.to_str().expect("a path in UTF-8").to_owned());
    move |layers| {
        layers.flag("server.tls_certificate_file", certificate);
        layers.flag("server.tls_key_file", key);
    }
}

async fn node(authority: &Authority) -> Node {
    authority.renew();
    Node::start_with(Backend::Sqlite, set(authority)).await
}

/// Asks until the metric has at least this value.
async fn wait_for_metric(node: &Node, metric: &str, least: u64) {
    let mut tries = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..400 {
        tries.tick().await;
        let metrics = Answer::of(node.bare(Method::GET, "/metrics")).await.text;
        let value =
            metrics.lines().find_map(|line| line.strip_prefix(metric)).and_then(|rest| rest.trim().parse().ok());
        if value.is_some_and(|value: u64| value >= least) {
            return;
        }
    }
    panic!("{metric} never came to {least}");
}

/// Sends bytes as they are; answers what comes until the connection is closed.
async fn raw(node: &Node, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(node.url.trim_start_matches("https://")).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    // A reset is a way to close as well.
    let _ = read.expect("the connection is closed");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w_08_a_node_speaks_https_from_sign_in_to_verify() {
    let authority = Authority::new();
    let node = node(&authority).await;
    assert!(node.url.starts_with("https://"), "{}", node.url);
    person(&node, "a@example.com", Role::Owner).await;
    let signed_in = log_in(&node, "a@example.com", PASSWORD).await;
    assert_eq!((signed_in.status, signed_in.header(HSTS)), (200, YEAR));
    assert_eq!(me(&node, signed_in.json["access_token"].as_str().unwrap()).await, 200);
    let browser = node
        .bare(Method::POST, "/v1/auth/login")
        .header("x-keyward-client", "browser")
        .header("sec-fetch-site", "same-origin");
    let browser = Answer::of(browser.json(&json!({ "email": "a@example.com", "password": PASSWORD }))).await;
    assert!(browser.cookies().iter().all(|cookie| cookie.contains("; Secure; ")) && browser.cookies().len() == 2);

    let issued = node.new_key(json!({})).await;
    let verdict = node.verify(json!({ "key": issued["key"] })).await;
    assert_eq!((verdict.code(), verdict.header(HSTS)), ("valid", YEAR));
    let forwarded = node.forward_auth(issued["key"].as_str().unwrap()).await;
    assert_eq!((forwarded.status, forwarded.header(HSTS)), (204, YEAR));
    let told = node.get("/v1/security/headers").await.json;
    assert_eq!((&told["https"], &told["headers"][HSTS]), (&json!(true), &json!(YEAR)));

    // A WebSocket goes over the same connection.
    let job = jobs::start(&node, JobKind::Vacuum, &[]).await;
    let address = format!("{}/v1/jobs/{job}/events", node.url.replace("https://", "ws://"));
    let mut request = address.into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", node.service_key).parse().unwrap());
    let stream = authority.connect(&node.url, &[&TLS13]).await;
    let (mut socket, answer) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert_eq!(answer.status(), 101);
    assert!(socket.next().await.unwrap().unwrap().into_text().unwrap().contains("status"));
    drop(socket);

    for (version, name) in [(&TLS13, rustls::ProtocolVersion::TLSv1_3), (&TLS12, rustls::ProtocolVersion::TLSv1_2)] {
        let mut stream = authority.connect(&node.url, &[version]).await;
        assert!(ask(&mut stream).await.starts_with("HTTP/1.1 200"));
        let (_, spoken) = stream.get_ref();
        assert_eq!((spoken.protocol_version(), spoken.alpn_protocol()), (Some(name), Some(&b"http/1.1"[..])));
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w_08_every_answer_by_https_says_so_and_none_by_http() {
    let authority = Authority::new();
    let (secure, plain) = (node(&authority).await, Node::start(Backend::Sqlite).await);
    // As long as the database answers, then without it.
    for (method, path, wanted) in [
        (Method::GET, "/health", 200),
        (Method::GET, "/", 200),
        (Method::GET, "/nothing", 404),
        (Method::PUT, "/health", 405),
        (Method::GET, "/v1/api-keys", 401),
        (Method::POST, "/v1/api-keys/verify", 401),
        (Method::GET, "/v1/forward-auth", 401),
    ] {
        for (node, says) in [(&secure, YEAR), (&plain, "")] {
            let answer = Answer::of(node.bare(method.clone(), path)).await;
            assert_eq!((answer.status, answer.header(HSTS)), (wanted, says), "{path}");
        }
    }
    for (node, says) in [(&secure, YEAR), (&plain, "")] {
        let refused = node.post("/v1/api-keys", json!({ "colour": "red" })).await;
        assert_eq!((refused.status, refused.header(HSTS)), (422, says));
        node.app.keyward.close().await;
        let broken = node.get("/v1/organizations").await;
        assert_eq!((broken.status / 100, broken.header(HSTS)), (5, says), "{broken:?}");
    }
    let preload = Place::new(Backend::Sqlite).await;
    let preload = Node::open(preload, crate::support::start_of_time(), |layers| {
        set(&authority)(layers);
        layers.flag("server.hsts_preload", true);
    });
    assert_eq!(Answer::of(preload.await.bare(Method::GET, "/health")).await.header(HSTS), format!("{YEAR}; preload"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w_08_plain_http_is_not_answered() {
    let node = node(&Authority::new()).await;
    for request in [&b"GET /health HTTP/1.1\r\nHost: keyward\r\n\r\n"[..], b"\r\n\r\n\r\n"] {
        let answer = String::from_utf8_lossy(&raw(&node, request).await).into_owned();
        assert!(!answer.contains("HTTP") && answer.len() < 64, "{answer:?}");
    }
    assert_eq!(Answer::of(node.bare(Method::GET, "/health")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i_05_a_handshake_that_does_not_come_is_closed_and_keeps_no_node_from_stopping() {
    let authority = Authority::new();
    authority.renew();
    let node = Node::start_with(Backend::Sqlite, |layers| {
        set(&authority)(layers);
        layers.flag("server.read_timeout_seconds", 2);
    })
    .await;
    let connections = async || node.get("/v1/connections/stats").await.json["http"].as_u64().unwrap();
    let before = connections().await;
    let silent = TcpStream::connect(node.url.trim_start_matches("https://")).await.unwrap();
    let mut tries = tokio::time::interval(Duration::from_millis(10));
    while connections().await != before + 1 {
        tries.tick().await;
    }
    drop(silent);
    assert!(raw(&node, &[0x16, 3, 1]).await.len() < 64, "closed within the time of the settings");
    let _pending = TcpStream::connect(node.url.trim_start_matches("https://")).await.unwrap();
    let mut idle = authority.connect(&node.url, &[&TLS13]).await;
    ask(&mut idle).await;
    tokio::time::timeout(Duration::from_secs(10), node.stop()).await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_taken_while_connections_go_on() {
    let authority = Authority::new();
    let first = authority.renew();
    let node = Node::start_with(Backend::Sqlite, set(&authority)).await;
    let mut open = authority.connect(&node.url, &[&TLS13]).await;
    assert_eq!(shown(&open), first.leaf);
    ask(&mut open).await;
    let second = authority.renew();
    wait_for_metric(&node, "keyward_tls_reloads_total", 1).await;
    assert_eq!(shown(&authority.connect(&node.url, &[&TLS13]).await), second.leaf);
    assert!(ask(&mut open).await.starts_with("HTTP/1.1 200"), "the old connection goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_certificate_leaves_the_old_one_in_force() {
    let authority = Authority::new();
    let first = authority.renew();
    let node = Node::start_with(Backend::Sqlite, set(&authority)).await;
    let other = authority.pair();
    let mut failures = 0;
    for (certificate, key) in
        [("no certificate", first.key.as_str()), (&other.certificate, &first.key), (&first.certificate, "no key")]
    {
        authority.write(certificate, key);
        failures += 1;
        wait_for_metric(&node, "keyward_failed_tls_reloads_total", failures).await;
        assert_eq!(shown(&authority.connect(&node.url, &[&TLS13]).await), first.leaf, "{certificate}");
    }
    std::fs::remove_file(&authority.files()[0]).unwrap();
    wait_for_metric(&node, "keyward_failed_tls_reloads_total", failures + 1).await;
    assert_eq!(shown(&authority.connect(&node.url, &[&TLS13]).await), first.leaf);
    authority.write(&other.certificate, &other.key);
    let mut tries = tokio::time::interval(Duration::from_millis(50));
    while shown(&authority.connect(&node.url, &[&TLS13]).await) != other.leaf {
        tries.tick().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_pair_ends_the_start_with_a_sentence() {
    let authority = Authority::new();
    let (good, other) = (authority.pair(), authority.pair());
    let place = Place::new(Backend::Sqlite).await;
    let [certificate, key] = authority.files().map(|file| file.display().to_string());
    let both = "server.tls_certificate_file and server.tls_key_file: set both, or neither".to_owned();
    for (pair, named, sentence) in [
        (None, [true, true], format!("server.tls_certificate_file: {certificate}: No such file")),
        (Some((good.certificate.as_str(), good.key.as_str())), [true, false], both.clone()),
        (Some((&good.certificate, &good.key)), [false, true], both),
        (
            Some(("nonsense", &good.key)),
            [true, true],
            format!("server.tls_certificate_file: {certificate}: holds no certificate in PEM"),
        ),
        (
            Some((&good.key, &good.key)),
            [true, true],
            format!("server.tls_certificate_file: {certificate}: holds no certificate in PEM"),
        ),
        (
            Some((&good.certificate, &good.certificate)),
            [true, true],
            format!("server.tls_key_file: {key}: holds no private key in PEM"),
        ),
        (
            Some((&good.certificate, &other.key)),
            [true, true],
            format!("server.tls_key_file: {key}: is not the key of the certificate"),
        ),
    ] {
        if let Some((certificate, key)) = pair {
            authority.write(certificate, key);
        }
        for arguments in [
            &["serve", "--listen", "127.0.0.1:0", "--data-dir", place.folder().to_str().unwrap()][..],
            &["config", "check"],
        ] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
            command.args(arguments).stdin(Stdio::null()).env_clear();
            for (setting, file, is_named) in [("CERTIFICATE", &certificate, named[0]), ("KEY", &key, named[1])] {
                if is_named {
                    command.env(format!("KEYWARD_SERVER_TLS_{setting}_FILE"), file);
                }
            }
            let output = command.output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && told.contains(&sentence), "{arguments:?} {sentence}: {told}");
        }
    }
    authority.write(&good.certificate, &good.key);
    let started = Process::start(
        &place,
        &[("KEYWARD_SERVER_TLS_CERTIFICATE_FILE", &certificate), ("KEYWARD_SERVER_TLS_KEY_FILE", &key)],
    );
    assert_eq!(
        shown(&authority.connect(&started.url, &[&TLS13]).await),
        good.leaf,
        "the binary tells its address as https"
    );
}
