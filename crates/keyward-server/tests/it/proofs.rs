//! That the book cannot be changed unseen: hashes, signed checkpoints, proofs, exports, witnesses.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use keyward_core::access::Role;
use keyward_core::note::{NoteKey, SignedCheckpoint, read_cosignature};
use keyward_core::time::Clock;
use keyward_core::tree::{Hash, hash_leaf, is_consistent, root_by_inclusion};
use keyward_server::witness::Witness;
use serde_json::{Value, json};

use crate::security::member;
use crate::support::{Backend, Node, on_both, start_of_time};

fn hash(value: &Value) -> Hash {
    STANDARD.decode(value.as_str().expect("a hash")).unwrap().try_into().expect("32 bytes")
}

fn hashes(value: &Value) -> Vec<Hash> {
    value.as_array().unwrap().iter().map(hash).collect()
}

/// Sends uploads; answers their ids and places.
async fn send(node: &Node, count: usize) -> Vec<(String, i64)> {
    let event = |number: usize| {
        json!({ "event_type": "FILE_ACCESS", "action": "upload", "actor": { "type": "user", "id": "u-1", "name": "Maria" },
            "resource": { "type": "file", "id": format!("f-{number}") }, "details": { "size_bytes": number, "ratio": 0.1, "big": 1e300 },
            "ip_address": "192.0.2.7" })
    };
    let sent = node.post("/v1/audit-events", json!({ "events": (0..count).map(event).collect::<Vec<_>>() })).await;
    assert_eq!(sent.status, 201, "{sent:?}");
    let place = |item: &Value| (item["id"].as_str().unwrap().to_owned(), item["sequence"].as_i64().unwrap());
    sent.json["items"].as_array().unwrap().iter().map(place).collect()
}

/// `keyward audit verify` with these flags: its exit code and what it says.
async fn verify(flags: &[&str]) -> (i32, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.args(["audit", "verify"]).args(flags);
    let output = tokio::task::spawn_blocking(move || command.output().expect("keyward runs")).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text.trim().lines().last().unwrap_or_default().to_owned())
}

async fn verify_node(node: &Node) -> (i32, String) {
    let folder = node.place.folder();
    let mut flags = vec!["--data-dir", folder.to_str().unwrap()];
    flags.extend(node.place.database_url().map(|url| ["--database-url", url]).into_iter().flatten());
    verify(&flags).await
}

async fn checkpoint(node: &Node) -> SignedCheckpoint {
    let answer = node.get("/v1/audit-log/checkpoint").await;
    SignedCheckpoint::parse(answer.json["note"].as_str().expect("a note")).expect("it reads")
}

on_both! {
    async fn an_event_is_proven_to_be_in_the_book(node: Node) {
        let sent = send(&node, 300).await;
        for (id, sequence) in [&sent[0], &sent[150], &sent[299]] {
            let proof = node.get(&format!("/v1/audit-events/{id}/proof")).await.json;
            let entry = STANDARD.decode(proof["entry"].as_str().unwrap()).unwrap();
            assert_eq!((proof["leaf_index"].as_i64(), hash(&proof["leaf_hash"])), (Some(*sequence), hash_leaf(&entry)));
            let size = proof["tree_size"].as_u64().unwrap();
            let root = root_by_inclusion(*sequence as u64, size, hash(&proof["leaf_hash"]), &hashes(&proof["hashes"]));
            assert_eq!(root, Some(hash(&proof["root_hash"])));
            let signed = SignedCheckpoint::parse(proof["checkpoint"]["note"].as_str().unwrap()).unwrap();
            assert_eq!((signed.checkpoint.size, Some(signed.checkpoint.root)), (size, root));
            let key = NoteKey::parse(proof["checkpoint"]["public_key"].as_str().unwrap()).unwrap();
            assert!(signed.by(&key).next().is_some());
        }
        // Another organization's event is as one that is not there.
        let (_, stranger) = member(&node, "b@example.com", &node.new_organization("other", "pro").await, Role::Owner).await;
        let path = format!("/v1/audit-events/{}/proof", sent[0].0);
        assert_eq!(node.call_as(&stranger, Method::GET, &path, None).await.status, 404);
    }

    async fn the_book_is_proven_to_have_only_grown(node: Node) {
        let before = checkpoint(&node).await.checkpoint;
        send(&node, 600).await;
        let after = checkpoint(&node).await.checkpoint;
        assert!(after.size >= before.size + 600 && before.size > 0);
        let proof = node.get(&format!("/v1/audit-log/consistency?from={}&to={}", before.size, after.size)).await.json;
        assert!(is_consistent(before.size, after.size, &before.root, &after.root, &hashes(&proof["hashes"])));
        assert!(!is_consistent(before.size, after.size, &[0; 32], &after.root, &hashes(&proof["hashes"])));
        assert_eq!(node.get("/v1/audit-log/consistency?from=9&to=8").await.status, 400);
        assert_eq!(node.get("/v1/audit-log/consistency?from=0&to=99999").await.status, 400);
        // The note alone, for clients of such logs; and the tiles that make its root.
        let note = node.bare(Method::GET, "/v1/audit-log/checkpoint").bearer_auth(&node.service_key).header("accept", "text/plain");
        let note = crate::support::Answer::of(note).await.text;
        assert_eq!(SignedCheckpoint::parse(&note).unwrap().checkpoint, after);
        let tile = async |path: &str| {
            let request = node.bare(Method::GET, &format!("/v1/audit-log/tile/{path}")).bearer_auth(&node.service_key);
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.bytes().await.unwrap())
        };
        let (first, second) = (tile("0/000").await, tile("1/000.p/2").await);
        assert_eq!((first.0, first.1.len(), second.0, second.1.len()), (200, 256 * 32, 200, 64));
        let leaves: Vec<Hash> = first.1.as_chunks::<32>().0.to_vec();
        assert_eq!(keyward_core::tree::root_of(&leaves), second.1[..32]);
        let (status, entries) = tile("entries/000").await;
        let length = usize::from(u16::from_be_bytes([entries[0], entries[1]]));
        assert_eq!((status, hash_leaf(&entries[2..2 + length])), (200, leaves[0]));
        for absent in ["1/000", "0/009", "0/x", "entries/099", "7/000.p/1"] {
            assert_eq!(tile(absent).await.0, 404, "{absent}");
        }
    }

    async fn l_05_what_was_altered_removed_or_cut_off_is_named(node: Node) {
        let sent = send(&node, 300).await;
        let (id, sequence) = &sent[2];
        checkpoint(&node).await;
        let whole = verify_node(&node).await;
        assert!(whole.0 == 0 && whole.1.starts_with("whole: "), "{whole:?}");
        let change = |to: &str| format!("UPDATE audit_event SET action = '{to}' WHERE sequence = {sequence}");
        node.tamper_with_the_book(&change("erase")).await;
        assert_eq!(verify_node(&node).await, (3, format!("not whole: event {sequence} ({id}) was altered")));
        node.tamper_with_the_book(&change("upload")).await;
        assert_eq!(verify_node(&node).await.0, 0);
        // Two events change places.
        let swap = |from: i64, to: i64| format!("UPDATE audit_event SET sequence = {to} WHERE sequence = {from};");
        let other = sequence + 1;
        let swapped = format!("{}{}{}", swap(*sequence, 900_000), swap(other, *sequence), swap(900_000, other));
        node.tamper_with_the_book(&swapped).await;
        assert_eq!(verify_node(&node).await, (3, format!("not whole: event {sequence} ({}) was altered", sent[3].0)));
        node.tamper_with_the_book(&swapped).await;
        assert_eq!(verify_node(&node).await.0, 0);
        // A hash of the tree: what it stands over is told.
        let tile = node.tell("SELECT count(*) AS value FROM audit_tile WHERE level = 1").await;
        assert_eq!(tile, 1);
        let zeros = if node.place.database_url().is_some() { "decode(repeat('00', 32), 'hex')" } else { "zeroblob(32)" };
        node.tamper_with_the_book("CREATE TABLE kept_tile AS SELECT * FROM audit_tile WHERE level = 1").await;
        node.tamper_with_the_book(&format!("UPDATE audit_tile SET hashes = {zeros} WHERE level = 1")).await;
        assert_eq!(verify_node(&node).await, (3, "not whole: hashes of the events 0 to 255 were altered".to_owned()));
        node.tamper_with_the_book("UPDATE audit_tile SET hashes = (SELECT hashes FROM kept_tile) WHERE level = 1").await;
        // A row beside the book, a row that is gone.
        let columns = "logged_at, occurred_at, id, success, event_type, action, actor_type, actor_id, resource_type, resource_id, details, actor_seal, object_seal";
        node.tamper_with_the_book(&format!("INSERT INTO audit_event (sequence, {columns}) SELECT 900000, {columns} FROM audit_event WHERE sequence = {sequence}")).await;
        assert_eq!(verify_node(&node).await, (3, format!("not whole: event {id} was put in beside the book")));
        node.tamper_with_the_book("DELETE FROM audit_event WHERE sequence = 900000").await;
        // On PostgreSQL a place can be taken twice, by somebody who goes round the desk.
        if node.place.database_url().is_some() {
            let (others, forged) = (columns.replacen("id, ", "", 1), "ffffffff-0000-7000-8000-000000000000");
            let second = format!("INSERT INTO audit_event (id, sequence, {others}) SELECT '{forged}'::uuid, sequence, {others} FROM audit_event WHERE sequence = {sequence}");
            node.tamper_with_the_book(&second).await;
            let told = verify_node(&node).await;
            assert!(told.0 == 3 && told.1.ends_with("was put in beside the book"), "{told:?}");
            node.tamper_with_the_book(&format!("DELETE FROM audit_event WHERE id = '{forged}'")).await;
        }
        node.tamper_with_the_book(&format!("DELETE FROM audit_event WHERE sequence = {sequence}")).await;
        assert_eq!(verify_node(&node).await, (3, format!("not whole: event {sequence} is missing")));
    }

    async fn l_05_a_book_that_was_cut_off_is_told_by_the_checkpoint_beside_it(node: Node) {
        let kept = checkpoint(&node).await.checkpoint.size;
        // The whole database as it was: rows, tiles, the end, the signed checkpoint.
        let tables = ["audit_tile", "audit_head", "audit_checkpoint"];
        for table in tables {
            node.tamper(&format!("CREATE TABLE old_{table} AS SELECT * FROM {table}")).await;
        }
        send(&node, 5).await;
        let signed = checkpoint(&node).await.checkpoint.size;
        node.tamper_with_the_book(&format!("DELETE FROM audit_event WHERE sequence >= {kept}")).await;
        for table in tables {
            node.tamper(&format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM old_{table}")).await;
        }
        assert_eq!(verify_node(&node).await, (3, format!("not whole: {signed} events were signed, {kept} are left")));
    }

    async fn events_are_never_changed_or_taken_out(node: Node) {
        send(&node, 3).await;
        for (statement, told) in [
            ("UPDATE audit_event SET action = 'x' WHERE sequence = 1", "never changed"),
            ("UPDATE audit_event SET actor_id = '' WHERE sequence = 1", "never changed"),
            ("UPDATE audit_event SET details = '{}', success = NOT success WHERE sequence = 1", "never changed"),
            ("DELETE FROM audit_event WHERE sequence = 1", "never taken out"),
        ] {
            assert!(node.refuses(statement).await.contains(told), "{statement}");
        }
        assert_eq!(verify_node(&node).await.0, 0);
    }

    async fn an_erased_person_leaves_every_proof_as_it_was(node: Node) {
        let sent = send(&node, 40).await;
        let before = checkpoint(&node).await.checkpoint;
        let refused = node.post("/v1/audit-log/erasures", json!({ "subject": "u-1" })).await;
        assert_eq!(refused.status, 403, "no key may erase: {refused:?}");
        let keyward = &node.app.keyward;
        let organization = node.organization.parse().unwrap();
        let system = keyward::context::Context::system("test");
        let erased = keyward.audit.erase(&system, organization, "u-1").await.unwrap();
        assert_eq!((erased.as_actor, erased.as_resource), (40, 0));
        let erased = keyward.audit.erase(&system, organization, "f-3").await.unwrap();
        assert_eq!((erased.as_actor, erased.as_resource), (0, 1));
        let listed = node.get("/v1/audit-events?limit=200").await.text;
        assert!(!listed.contains("Maria") && !listed.contains("u-1") && !listed.contains("192.0.2.7") && !listed.contains("f-3\""), "{listed}");
        assert!(!node.get("/v1/audit-log/reports/monthly").await.text.contains("u-1"));
        let verified = verify_node(&node).await;
        assert_eq!((verified.0, verified.1.as_str()), (0, "40 with erased parts, their commitments are there"));
        let proof = node.get(&format!("/v1/audit-events/{}/proof", sent[3].0)).await.json;
        let root = root_by_inclusion(sent[3].1 as u64, proof["tree_size"].as_u64().unwrap(), hash(&proof["leaf_hash"]), &hashes(&proof["hashes"]));
        assert_eq!(root, Some(hash(&proof["root_hash"])));
        let after = checkpoint(&node).await.checkpoint;
        let grown = node.get(&format!("/v1/audit-log/consistency?from={}&to={}", before.size, after.size)).await.json;
        assert!(is_consistent(before.size, after.size, &before.root, &after.root, &hashes(&grown["hashes"])));
        // Who erases by hand and puts another commitment there is found out.
        let zeros = if node.place.database_url().is_some() { "decode(repeat('00', 32), 'hex')" } else { "zeroblob(32)" };
        let sequence = sent[5].1;
        node.tamper(&format!("UPDATE audit_event SET object_seal = {zeros}, resource_id = '', resource_name = NULL, error_message = NULL, details = '{{}}' WHERE sequence = {sequence}")).await;
        assert_eq!(verify_node(&node).await, (3, format!("not whole: event {sequence} ({}) was altered", sent[5].0)));
    }

    async fn an_export_is_checked_without_a_server(node: Node) {
        let sent = send(&node, 40).await;
        node.new_organization("other", "pro").await;
        send(&node, 600).await;
        send(&node, 600).await;
        let file = node.place.folder().join("export.jsonl");
        let export = async |path: &str| {
            let answer = node.bare(Method::GET, path).bearer_auth(&node.service_key).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            let text = answer.text().await.unwrap();
            std::fs::write(&file, &text).unwrap();
            text
        };
        let check = async || verify(&["--file", file.to_str().unwrap()]).await;
        let part = export("/v1/audit-log/export?action=upload").await;
        assert_eq!(part.matches("\"line\":\"event\"").count(), 1_240);
        assert!(part.contains("\"line\":\"skipped\""));
        assert_eq!(check().await.0, 0, "{:?}", check().await);
        let whole = export("/v1/audit-log/instance-export").await;
        assert!(!whole.contains("\"line\":\"skipped\""));
        assert_eq!(check().await.0, 0);
        let (id, sequence) = &sent[7];
        let spoil = |text: &str| std::fs::write(&file, text).unwrap();
        let line = whole.lines().find(|line| line.contains(id.as_str())).unwrap();
        spoil(&whole.replace(line, &line.replace("f-7", "f-8")));
        assert_eq!(check().await, (3, format!("not whole: event {sequence} ({id}) was altered")));
        spoil(&whole.replace(&format!("{line}\n"), ""));
        assert_eq!(check().await, (3, format!("not whole: event {sequence} is missing")));
        let last = whole.trim_end().lines().last().unwrap();
        spoil(whole.strip_suffix(&format!("{last}\n")).unwrap());
        assert_eq!(check().await.0, 3);
        // Signed by somebody else.
        spoil(&whole);
        let other = NoteKey { name: "keyward/audit".into(), purpose: keyward_core::note::Use::Log, public: [7; 32] };
        let trusted = verify(&["--file", file.to_str().unwrap(), "--public-key", &other.text()]).await;
        assert!(trusted.0 == 1 && trusted.1.contains("another log"), "{trusted:?}");
        // A reader may not take the book away.
        let (_, viewer) = member(&node, "c@example.com", &node.organization, Role::Developer).await;
        assert_eq!(node.call_as(&viewer, Method::GET, "/v1/audit-log/export", None).await.status, 403);
    }
}

/// A witness on a port of its own.
async fn witness(folder: &Path, log: NoteKey) -> (Arc<Witness>, String) {
    let witness =
        Arc::new(Witness::open(folder, "witness.example.com", vec![log], Clock::Manual(start_of_time())).unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = witness.clone().router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (witness, url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_signs_a_book_that_grows_and_no_other() {
    let seed = "07".repeat(32);
    let place = crate::support::Place::new(Backend::Sqlite).await;
    let folder = place.folder();
    let key = keyward::proofs::Signer::new("keyward/audit".into(), &[7; 32]).unwrap().key().clone();
    let (witness, url) = witness(&folder.join("witness"), key.clone()).await;
    let named = format!("{} {url}", witness.key.text());
    let node = Node::open(place, start_of_time(), |layers| {
        layers.flag("audit.signing_key", seed.as_str());
        layers.flag("audit.witnesses", vec![named.as_str()]);
    })
    .await;
    let mut node = node;
    let request = keyward::accounts::setup::SetupRequest {
        email: "o@example.com".into(),
        organization: "Acme".into(),
        password: None,
    };
    let keyward = &node.app.keyward;
    let issued =
        keyward.keys.set_up(&keyward.setup, &keyward::context::Context::system("test"), &request, None).await.unwrap();
    node.service_key = issued.secret.expose().clone();
    for round in 0..3 {
        send(&node, 5 + round).await;
        node.app.keyward.proofs.sign_new().await.unwrap();
        let signed = checkpoint(&node).await;
        let line = signed.by(&witness.key).next().expect("the witness signed");
        assert_eq!(read_cosignature(&line.bytes).unwrap().0, Clock::Manual(start_of_time()).now());
    }
    // Another book under the same name and key.
    let http = reqwest::Client::new();
    let forged = keyward::proofs::Signer::new("keyward/audit".into(), &[7; 32]).unwrap();
    let forged =
        forged.sign(keyward_core::note::Checkpoint { origin: "keyward/audit".into(), size: 1_000, root: [3; 32] });
    let offer = async |old: u64, proof: &str, note: &str| {
        let answer = http
            .post(format!("{url}/add-checkpoint"))
            .body(format!("old {old}\n{proof}\n{note}"))
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let known = checkpoint(&node).await.checkpoint.size;
    assert_eq!(offer(0, "", &forged.note()).await, (409, format!("{known}\n")));
    assert_eq!(offer(known, "", &forged.note()).await.0, 422);
    assert_eq!(offer(2_000, "", &forged.note()).await.0, 400);
    let stranger =
        keyward::proofs::Signer::new("keyward/audit".into(), &[8; 32]).unwrap().sign(forged.checkpoint.clone());
    assert_eq!(offer(known, "", &stranger.note()).await.0, 403);
    let unknown = keyward::proofs::Signer::new("other/audit".into(), &[7; 32]).unwrap();
    let unknown =
        unknown.sign(keyward_core::note::Checkpoint { origin: "other/audit".into(), ..forged.checkpoint.clone() });
    assert_eq!(offer(0, "", &unknown.note()).await.0, 404);
    assert_eq!(offer(0, "", "nonsense").await.0, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_book_that_grows_while_it_is_verified_is_whole() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let node = Node::start(backend).await;
        send(&node, 3).await;
        let meanwhile = || tokio::runtime::Handle::current().block_on(send(&node, 2));
        let grow = |_, _| drop(tokio::task::block_in_place(meanwhile));
        let findings = node.app.keyward.audit.verify(&Default::default(), grow).await.unwrap();
        assert_eq!(findings.fault, None);
        let size = checkpoint(&node).await.checkpoint.size;
        assert!(size >= findings.compared + 2, "{size}, {findings:?}");
    }
}

async fn check_retention(backend: Backend) {
    let node = Node::start_with(backend, |layers| layers.flag("maintenance.retention_months", 3)).await;
    let uploads = "SELECT count(*) AS value FROM audit_event WHERE action = 'upload'";
    let run = async || {
        let done =
            crate::jobs::ended(&node, &crate::jobs::start(&node, keyward::jobs::JobKind::Partitions, &[]).await).await;
        assert_eq!(done["status"], "succeeded", "{done}");
    };
    let sent = send(&node, 300).await;
    let before = checkpoint(&node).await.checkpoint;
    run().await;
    assert_eq!(node.tell(uploads).await, 300, "what is young stays");
    node.clock.advance_seconds(100 * 86_400);
    send(&node, 5).await;
    checkpoint(&node).await;
    run().await;
    assert_eq!(node.tell(uploads).await, 5);
    let archives = std::fs::read_dir(node.place.folder().join("archive")).unwrap();
    let archived: String = archives.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert!(archived.lines().count() >= 300 && archived.contains("f-299"));
    let verified = verify_node(&node).await;
    assert!(verified.0 == 0 && verified.1.contains("retired, their hashes are there"), "{verified:?}");
    let after = checkpoint(&node).await.checkpoint;
    let grown = node.get(&format!("/v1/audit-log/consistency?from={}&to={}", before.size, after.size)).await.json;
    assert!(is_consistent(before.size, after.size, &before.root, &after.root, &hashes(&grown["hashes"])));
    assert_eq!(node.get(&format!("/v1/audit-events/{}", sent[0].0)).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retired_events_leave_their_hashes_behind_on_sqlite() {
    check_retention(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retired_events_leave_their_hashes_behind_on_postgres() {
    check_retention(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn months_that_ended_are_indexed_by_their_details() {
    let node = Node::start(Backend::Postgres).await;
    send(&node, 50).await;
    node.clock.advance_seconds(20 * 86_400);
    let id = crate::jobs::start(&node, keyward::jobs::JobKind::Partitions, &[]).await;
    assert_eq!(crate::jobs::ended(&node, &id).await["status"], "succeeded");
    let valid = "SELECT count(*) AS value FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname = 'audit_event_p202611_by_details' AND i.indisvalid";
    assert_eq!(node.tell(valid).await, 1);
    let found = node.get(r#"/v1/audit-events?details={"size_bytes":7}"#).await;
    assert_eq!(found.json["items"].as_array().unwrap().len(), 1);
}
