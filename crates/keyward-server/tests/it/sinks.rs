//! Events of the book that are sent to other systems: in order, none lost, whatever the receivers and the nodes do.

use std::process::Stdio;

use keyward::config::Layers;
use keyward_core::access::Role;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::security::member;
use crate::support::process::{Process, set_up};
use crate::support::receiver::{Product, Receiver, TOKEN, sequences};
use crate::support::{Answer, Backend, Node, Place, start_of_time, syslog};

/// Writes each test down for both databases.
macro_rules! on_each {
    ($($(#[$meta:meta])* async fn $name:ident($backend:ident) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn check($backend: Backend) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                check(Backend::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                check(Backend::Postgres).await;
            }
        }
    )*};
}

mod products;

/// A setting `audit.sinks` of one table.
fn sink(kind: &str, url: &str, rest: &str) -> impl Fn(&mut Layers) + Clone + use<> {
    let text = format!("[[sinks]]\nname = \"siem\"\nkind = \"{kind}\"\nurl = \"{url}\"\n{rest}");
    let table: toml::Table = text.parse().expect("TOML");
    move |layers| {
        layers.flag("audit.sinks", table["sinks"].clone());
        // Checkpoints are signed when a test says so.
        layers.flag("audit.checkpoint_seconds", 3_600);
    }
}

/// The sink that a receiver is.
fn to(receiver: &Receiver, product: Product, rest: &str) -> impl Fn(&mut Layers) + Clone + use<> {
    let (kind, path, own) = match product {
        Product::Splunk => ("splunk_hec", "", "index = \"main\"\n"),
        Product::Elasticsearch => ("elasticsearch", "", "index = \"logs-keyward\"\n"),
        Product::Datadog => ("datadog", "", ""),
        Product::JsonLines => ("http", "/in", ""),
    };
    sink(kind, &format!("{}{path}", receiver.url), &format!("token = \"{TOKEN}\"\n{own}{rest}"))
}

/// Sends events of these actions to the book.
async fn send(node: &Node, actions: &[&str]) {
    let event = |action: &&str| {
        json!({
            "event_type": "FILE_ACCESS", "action": action, "actor": { "type": "user", "id": "u-1", "name": "Maria \"]\\ Weiß" },
            "resource": { "type": "file", "id": "f-1" }, "success": true, "details": { "n": 1 },
        })
    };
    let events: Vec<Value> = actions.iter().map(event).collect();
    let answer = node.post("/v1/audit-events", json!({ "events": events })).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

async fn size(node: &Node) -> i64 {
    node.app.keyward.audit.sequence().await.expect("events are numbered")
}

async fn health(node: &Node) -> Value {
    let answer = node.get("/v1/audit-log/sinks").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(!answer.text.contains(TOKEN), "{answer:?}");
    answer.json["items"][0].clone()
}

/// Waits until what the receiver has seen is written down, up to a size of the book.
async fn settled(node: &Node, size: i64) -> Value {
    loop {
        node.app.keyward.sinks.nudge();
        let told = health(node).await;
        if told["cursor"] == size {
            return told;
        }
    }
}

fn actions(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["event"]["action"].as_str()).collect()
}

/// Lines without those that were sent again.
fn once(lines: &[Value]) -> Vec<i64> {
    let mut seen = Vec::new();
    for sequence in sequences(lines) {
        if !seen.contains(&sequence) {
            seen.push(sequence);
        }
    }
    seen
}

on_each! {
    async fn syslog_by_tcp_is_framed_whole_and_in_order(backend) {
        let server = syslog::Server::start(None).await;
        let node = Node::start_with(backend, sink("syslog", &format!("tcp://{}", server.address), "")).await;
        send(&node, &["upload", "delete", "rename"]).await;
        let size = size(&node).await;
        let lines = server.get(&node, |lines| sequences(lines).len() as i64 >= size).await;
        assert_eq!(sequences(&lines), (0..size).collect::<Vec<_>>());
        let messages = server.messages();
        let last = messages.iter().rfind(|message| message.id == "rename").expect("it came");
        assert_eq!((last.priority, last.host.as_str()), (13 * 8 + 6, "keyward"));
        assert_eq!(last.parameters["sequence"], (size - 1).to_string());
        assert_eq!(last.parameters["id"], last.line["event"]["id"].as_str().unwrap());
        assert_eq!(last.parameters["organization"], node.organization);
        assert_eq!(last.line["user"]["name"], "Maria \"]\\ Weiß");
        // What was signed goes out as well, once.
        node.app.keyward.proofs.sign_new().await.unwrap();
        let lines = server.get(&node, |lines| actions(lines).contains(&"keyward.checkpoint")).await;
        let note = node.get("/v1/audit-log/checkpoint").await.json["note"].clone();
        assert_eq!(lines.last().unwrap()["keyward"]["checkpoint"], json!({ "size": size, "note": note }));
        let mut told = settled(&node, size).await;
        while told["checkpoint_size"] == 0 {
            told = health(&node).await;
        }
        assert_eq!((&told["cursor"], &told["lag"], &told["checkpoint_size"]), (&json!(size), &json!(0), &json!(size)));
        assert_eq!((&told["last_error"], &told["delivered_count"]), (&Value::Null, &json!(size)));
    }

    async fn a_syslog_server_that_breaks_off_gets_everything_again(backend) {
        let mut server = syslog::Server::start(None).await;
        // Not even a connection that is reset after all was written loses anything.
        server.leave_after(&[1, 1_000, 2_000]);
        let node = Node::start_with(backend, sink("syslog", &format!("tcp://{}", server.address), "")).await;
        send(&node, &["upload"; 20]).await;
        let first = size(&node).await;
        server.get(&node, |lines| once(lines).len() as i64 >= first).await;
        server.end().await;
        send(&node, &["delete"; 20]).await;
        let size = size(&node).await;
        node.app.keyward.sinks.nudge();
        server.go_on();
        let lines = server.get(&node, |lines| once(lines).len() as i64 >= size).await;
        assert_eq!(once(&lines), (0..size).collect::<Vec<_>>(), "in order");
    }

    async fn the_cursor_survives_a_restart(backend) {
        let receiver = Receiver::start(Product::JsonLines).await;
        let settings = to(&receiver, Product::JsonLines, "");
        let node = Node::start_with(backend, settings.clone()).await;
        send(&node, &["upload"; 3]).await;
        let before = size(&node).await;
        receiver.get(&node, |lines| sequences(lines).len() as i64 >= before).await;
        let again = Node::open(node.place.clone(), start_of_time(), settings);
        let (key, organization) = (node.service_key.clone(), node.organization.clone());
        node.stop().await;
        let mut node = again.await;
        (node.service_key, node.organization) = (key, organization);
        send(&node, &["delete"; 3]).await;
        let size = size(&node).await;
        let lines = receiver.get(&node, |lines| sequences(lines).len() as i64 >= size).await;
        assert_eq!(sequences(&lines), (0..size).collect::<Vec<_>>(), "each once");
    }

    async fn what_retention_took_before_it_was_sent_is_a_gap(backend) {
        let receiver = Receiver::start(Product::JsonLines).await;
        receiver.will_answer(vec![(503, Some("60"), String::new()); 1]);
        let node = Node::start_with(backend, to(&receiver, Product::JsonLines, "")).await;
        send(&node, &["upload"; 6]).await;
        receiver.asked(0).await;
        let from = health(&node).await["cursor"].as_i64().unwrap();
        let kept = size(&node).await - 2;
        node.tamper_with_the_book(&format!("UPDATE audit_head SET kept_from = {kept}; DELETE FROM audit_event WHERE sequence < {kept};")).await;
        let lines = receiver.get(&node, |lines| actions(lines).contains(&"sink_gap")).await;
        assert_eq!(lines[0]["keyward"]["gap"]["count"], kept - from, "{lines:#?}");
        assert_eq!(json!([lines[0]["keyward"]["gap"]["from"], lines[0]["keyward"]["gap"]["to"]]), json!([from, kept - 1]));
        assert_eq!(sequences(&lines)[..2], [kept, kept + 1]);
    }

    async fn a_filter_passes_over_what_nobody_wants(backend) {
        let receiver = Receiver::start(Product::JsonLines).await;
        let wanted = "event_types = [\"FILE_ACCESS\", \"KEY\"]\nmin_severity = \"low\"\n";
        let node = Node::start_with(backend, to(&receiver, Product::JsonLines, wanted)).await;
        send(&node, &["upload", "delete", "download"]).await;
        let lines = receiver.get(&node, |lines| !lines.is_empty()).await;
        assert_eq!(actions(&lines), ["delete"]);
        let size = size(&node).await;
        settled(&node, size).await;
        let (_, stranger) = member(&node, "b@example.com", &node.new_organization("other", "pro").await, Role::Owner).await;
        let refused = node.call_as(&stranger, http::Method::GET, "/v1/audit-log/sinks", None).await;
        assert_eq!(refused.status, 403, "{refused:?}");
    }

    async fn another_node_takes_over_when_a_lease_runs_out(backend) {
        let receiver = Receiver::start(Product::JsonLines).await;
        let node = Node::start_with(backend, to(&receiver, Product::JsonLines, "")).await;
        send(&node, &["upload"]).await;
        let before = size(&node).await;
        receiver.get(&node, |lines| sequences(lines).len() as i64 >= before).await;
        settled(&node, before).await;
        // A node that died while it delivered, as its row tells.
        let (stranger, until) = match backend {
            Backend::Sqlite => ("x'01'", "1795176010000000".to_owned()),
            Backend::Postgres => ("gen_random_uuid()", "'2026-11-20T12:00:10Z'".to_owned()),
        };
        let stranger = if backend == Backend::Sqlite { "x'0123456789abcdef0123456789abcdef'" } else { stranger };
        node.tamper(&format!("UPDATE sink_cursor SET holder = {stranger}, lease_until = {until}")).await;
        send(&node, &["delete"]).await;
        let (size, asked) = (size(&node).await, receiver.requests());
        for _ in 0..20 {
            node.app.keyward.sinks.nudge();
            assert_eq!(health(&node).await["cursor"], before);
        }
        assert_eq!(receiver.requests(), asked);
        node.clock.advance_seconds(10);
        let lines = receiver.get(&node, |lines| sequences(lines).len() as i64 >= size).await;
        assert_eq!(sequences(&lines), (0..size).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn syslog_by_tls_believes_the_one_authority_that_is_named() {
    let (acceptor, pem) = syslog::tls();
    let server = syslog::Server::start(Some(acceptor)).await;
    let (_, other) = syslog::tls();
    let folder = tempfile::TempDir::new().unwrap();
    let write = |name: &str, pem: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, pem).unwrap();
        format!("ca_file = \"{}\"\n", file.display())
    };
    let (ours, theirs) = (write("ours.pem", &pem), write("theirs.pem", &other));
    let url = format!("tls://{}", server.address);
    let node = Node::start_with(Backend::Sqlite, sink("syslog", &url, &theirs)).await;
    send(&node, &["upload"; 30]).await;
    while health(&node).await["failure_count"] == 0 {
        node.app.keyward.sinks.nudge();
    }
    let told = health(&node).await;
    assert!(told["last_error"].as_str().unwrap().starts_with("TLS failed: invalid peer certificate"), "{told}");
    assert!(server.lines().is_empty());
    let again = Node::open(node.place.clone(), start_of_time(), sink("syslog", &url, &ours));
    node.stop().await;
    let node = again.await;
    let size = size(&node).await;
    let lines = server.get(&node, |lines| sequences(lines).len() as i64 >= size).await;
    assert_eq!(sequences(&lines), (0..size).collect::<Vec<_>>());

    std::fs::write(folder.path().join("ours.pem"), "nothing").unwrap();
    let settings = Place::new(Backend::Sqlite).await.settings(sink("syslog", &url, &ours));
    let refused =
        keyward::Keyward::open(settings, keyward_core::time::Clock::System).await.err().expect("no certificate");
    assert!(
        refused.detail.contains("\"siem\" of audit.sinks cannot be used: ca_file holds no certificate"),
        "{refused}"
    );
}

/// Answers every request that comes by TLS with 200; tells what it read of each.
async fn serve_tls(listener: TcpListener, acceptor: TlsAcceptor, told: mpsc::UnboundedSender<String>) {
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(mut stream) = acceptor.accept(stream).await else { continue };
        let (mut text, mut chunk) = (String::new(), [0; 4_096]);
        while !text.ends_with("}\n") {
            match stream.read(&mut chunk).await {
                Ok(count @ 1..) => text += &String::from_utf8_lossy(&chunk[..count]),
                _ => break,
            }
        }
        told.send(text).ok();
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await.ok();
        stream.shutdown().await.ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_believes_the_one_authority_that_is_named() {
    let (acceptor, pem) = syslog::tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/in", listener.local_addr().unwrap());
    let (tell, mut told) = mpsc::unbounded_channel();
    tokio::spawn(serve_tls(listener, acceptor, tell));
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, syslog::tls().1).unwrap();
    let settings = sink("http", &url, &format!("ca_file = \"{}\"\n", file.display()));
    let node = Node::start_with(Backend::Sqlite, settings.clone()).await;
    while health(&node).await["failure_count"] == 0 {
        node.app.keyward.sinks.nudge();
    }
    let error = health(&node).await["last_error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("it could not be reached: invalid peer certificate"), "{error}");
    assert!(told.try_recv().is_err());
    std::fs::write(&file, pem).unwrap();
    let again = Node::open(node.place.clone(), start_of_time(), settings);
    let service_key = node.service_key.clone();
    node.stop().await;
    let mut node = again.await;
    node.service_key = service_key;
    node.app.keyward.sinks.nudge();
    let request = told.recv().await.unwrap();
    assert!(request.starts_with("POST /in HTTP/1.1\r\n") && request.contains("instance_set_up"), "{request}");
    let size = size(&node).await;
    settled(&node, size).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_deliver_each_event_once_and_in_order() {
    let receiver = Receiver::start(Product::JsonLines).await;
    let settings = to(&receiver, Product::JsonLines, "");
    let one = Node::start_with(Backend::Postgres, settings.clone()).await;
    let two = one.join(one.place.clone(), settings).await;
    for _ in 0..5 {
        send(&one, &["upload"; 3]).await;
        two.app.keyward.sinks.nudge();
        send(&two, &["delete"; 3]).await;
        one.app.keyward.sinks.nudge();
    }
    let size = size(&one).await;
    let lines = receiver.get(&two, |lines| sequences(lines).len() as i64 >= size).await;
    assert_eq!(sequences(&lines), (0..size).collect::<Vec<_>>());
    // A node that stops leaves its lease to the other at once.
    one.stop().await;
    send(&two, &["move"]).await;
    let lines = receiver.get(&two, |lines| sequences(lines).len() as i64 > size).await;
    assert_eq!(sequences(&lines), (0..=size).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_the_server_holds_no_token() {
    let receiver = Receiver::start(Product::JsonLines).await;
    receiver.will_answer([(500, None, "echo".into())]);
    let place = Place::new(Backend::Sqlite).await;
    let service_key = set_up(&place);
    let folder = tempfile::TempDir::new().unwrap();
    let (token_file, log) = (folder.path().join("token"), folder.path().join("log"));
    std::fs::write(&token_file, format!("{TOKEN}\n")).unwrap();
    let sinks = format!(
        "[{{name = \"siem\", kind = \"http\", url = \"{}/in\", token_file = \"{}\"}}]",
        receiver.url,
        token_file.display()
    );
    let settings = [("KEYWARD_AUDIT_SINKS", sinks.as_str())];
    let server = Process::start_logging(&place, &settings, Stdio::from(std::fs::File::create(&log).unwrap()));
    receiver.asked(1).await;
    let client = reqwest::Client::new();
    let told = Answer::of(client.get(format!("{}/v1/audit-log/sinks", server.url)).bearer_auth(&service_key)).await;
    drop(server);
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.contains("a sink could not be delivered to") && log.contains("it answered 500"), "{log}");
    assert!(!log.contains(TOKEN) && !told.text.contains(TOKEN), "{log}{told:?}");
    assert!(receiver.lines().iter().any(|line| line["event"]["action"] == "instance_set_up"));
}
