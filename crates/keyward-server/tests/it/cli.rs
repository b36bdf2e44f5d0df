//! The command line as people and scripts use it: the real binary against a running node.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::{Node, on_both, sha256_hex};

async fn keyward(node: &Node, arguments: &[&str]) -> Output {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_keyward")));
    command.args(arguments).env("KEYWARD_URL", &node.url).env("KEYWARD_SERVICE_KEY", &node.service_key);
    command.stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().expect("keyward runs")).await.expect("it ends")
}

async fn json_of(node: &Node, arguments: &[&str]) -> Value {
    let output = keyward(node, &[arguments, &["--json"]].concat()).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

on_both! {
    async fn a_key_lives_its_life_from_the_command_line(node: Node) {
        let made = json_of(&node, &["keys", "create", "--name", "billing", "--scope", "invoices:read", "--expires-in-days", "30"]).await;
        let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
        let valid = keyward(&node, &["verify", key, "--scope", "invoices:read"]).await;
        assert_eq!(valid.status.code(), Some(0));
        let refused = keyward(&node, &["verify", key, "--scope", "orders:read"]).await;
        assert_eq!(refused.status.code(), Some(3), "{}", String::from_utf8_lossy(&refused.stdout));
        let explained = json_of(&node, &["verify", key, "--dry-run"]).await;
        assert!(explained["checks"].is_array());

        let rotated = json_of(&node, &["keys", "rotate", id, "--overlap-seconds", "60"]).await;
        assert_eq!((rotated["id"].as_str(), rotated["secrets"].as_array().unwrap().len()), (Some(id), 2));
        assert_eq!(json_of(&node, &["keys", "disable", id]).await["status"], "disabled");
        assert_eq!(json_of(&node, &["keys", "enable", id]).await["status"], "active");
        assert_eq!(json_of(&node, &["keys", "revoke", id, "--reason", "done", "--wait"]).await["status"], "revoked");
        assert_eq!(keyward(&node, &["verify", key]).await.status.code(), Some(3));

        let table = keyward(&node, &["keys", "list"]).await;
        let table = String::from_utf8(table.stdout).unwrap();
        assert!(table.contains("billing") && table.contains("revoked"), "{table}");
        json_of(&node, &["keys", "delete", id]).await;
        let gone = keyward(&node, &["keys", "show", id]).await;
        assert_eq!(gone.status.code(), Some(1));
        assert!(String::from_utf8(gone.stderr).unwrap().contains("request req_"));
    }

    async fn more_than_a_call_of_keys_is_imported(node: Node) {
        node.post("/v1/plans", json!({ "name": "big", "key_limit": 5_000, "requests_per_minute": 1, "quota_per_month": 1 })).await;
        node.patch(&format!("/v1/organizations/{}", node.organization), json!({ "plan": "big" })).await;
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("keys.jsonl");
        let item = |n: usize| json!({ "name": format!("k{n}"), "hash": sha256_hex(&format!("imported-{n}")), "algorithm": "sha256" });
        let lines: Vec<String> = (0..1_200).map(|n| item(n).to_string()).collect();
        std::fs::write(&file, lines.join("\n")).unwrap();
        let outcome = json_of(&node, &["keys", "import", file.to_str().unwrap()]).await;
        let made = outcome["items"].as_array().unwrap().iter().filter(|item| item["id"].is_string()).count();
        assert_eq!(made, 1_200);
        // Those that are there already are refused, and a script sees that by the exit code.
        let again = keyward(&node, &["keys", "import", file.to_str().unwrap()]).await;
        assert_eq!(again.status.code(), Some(1));
        assert!(String::from_utf8(again.stderr).unwrap().contains("1200 of 1200 keys were not imported"));
        assert_eq!(outcome["items"][1_100]["index"], 1_100);
        assert_eq!(node.code_of("imported-1100").await, "valid");
    }

    async fn usage_is_reported_and_read_from_the_command_line(node: Node) {
        let key = node.new_key(json!({ "name": "metered" })).await;
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("calls.jsonl");
        let call = |n: usize| json!({
            "id": format!("c{n}"), "key_id": key["id"], "endpoint": "/v1/x", "method": "GET",
            "status": if n == 1_100 { 700 } else { 500 }, "error": "no disk", "cost_usd": "0.001",
        });
        let lines: Vec<String> = (0..1_200).map(|n| call(n).to_string()).collect();
        std::fs::write(&file, lines.join("\n")).unwrap();
        let outcome = json_of(&node, &["usage", "record", file.to_str().unwrap()]).await;
        assert_eq!((&outcome["accepted"], &outcome["rejected"][0]["index"]), (&json!(1_199), &json!(1_100)));
        assert_eq!(json_of(&node, &["usage", "summary", "--month", "2026-11"]).await["cost_usd"], "1.199");
        for (report, told) in [("daily", "2026-11-20"), ("endpoints", "/v1/x"), ("errors", "no disk"), ("top-consumers", "metered"), ("summary", "1.199")] {
            let table = String::from_utf8(keyward(&node, &["usage", report]).await.stdout).unwrap();
            assert!(table.contains(told), "{report}: {table}");
            assert!(json_of(&node, &["usage", report]).await.to_string().contains(told), "{report}");
        }
    }

    async fn keyspaces_live_their_life_from_the_command_line(node: Node) {
        let made = json_of(&node, &["keyspaces", "create", "--name", "billing", "--prefix", "bill", "--environment", "prod", "--environment", "dev", "--default-expiry-days", "60", "--max-expiry-days", "90"]).await;
        assert_eq!((&made["style"], &made["environments"]), (&json!("checksummed"), &json!(["prod", "dev"])));
        let key = json_of(&node, &["keys", "create", "--name", "a", "--keyspace", "billing"]).await;
        assert!(key["key"].as_str().unwrap().starts_with("bill_prod_"), "{}", key["prefix"]);
        let changed = json_of(&node, &["keyspaces", "update", "billing", "--style", "plain", "--default-expiry-days", "30"]).await;
        let terms = [&changed["style"], &changed["default_expiry_days"], &changed["max_expiry_days"]];
        assert_eq!(terms, [&json!("plain"), &json!(30), &json!(90)]);
        let freed = json_of(&node, &["keyspaces", "update", "billing", "--no-default-expiry", "--no-max-expiry"]).await;
        assert_eq!([&freed["default_expiry_days"], &freed["max_expiry_days"]], [&Value::Null; 2]);
        assert_eq!(changed["environments"], made["environments"], "what was not named stays");
        assert_eq!(json_of(&node, &["keyspaces", "show", "billing"]).await, freed);
        let table = String::from_utf8(keyward(&node, &["keyspaces", "list"]).await.stdout).unwrap();
        assert!(table.contains("default") && table.contains("prod dev"), "{table}");

        let refused = keyward(&node, &["keyspaces", "delete", "billing"]).await;
        assert_eq!(refused.status.code(), Some(1), "it has a key");
        json_of(&node, &["keyspaces", "create", "--name", "empty", "--prefix", "none"]).await;
        assert_eq!(json_of(&node, &["keyspaces", "delete", "empty"]).await["deleted"], "empty");
        assert_eq!(keyward(&node, &["keyspaces", "show", "empty"]).await.status.code(), Some(1));
    }

    async fn a_load_is_bounded_and_leaves_no_key_behind(node: Node) {
        let bench = ["bench", "--organization", &node.organization, "--temporary-keys", "2", "--requests", "200", "--connections", "4"];
        let told = json_of(&node, &bench).await;
        assert_eq!((&told["requests"], &told["codes"]), (&json!(200), &json!({ "valid": 200 })), "{told:#}");
        let worst = ["p50", "p90", "p99", "p99.9", "max"].map(|name| told["latency_ms"][name].as_f64().unwrap());
        assert!(worst.is_sorted() && worst[0] > 0.0, "{told:#}");
        let rows = told["histogram"].as_array().unwrap().iter();
        assert_eq!(rows.map(|row| row["requests"].as_u64().unwrap()).sum::<u64>(), 200);
        let keys = json_of(&node, &["keys", "list", "--q", "keyward bench"]).await;
        let left: Vec<&str> = keys.as_array().unwrap().iter().map(|key| key["status"].as_str().unwrap()).collect();
        assert_eq!(left, ["revoked", "revoked"]);

        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("keys.txt");
        let good = node.new_key(json!({})).await;
        std::fs::write(&file, format!("{}\n\nkw_live_nonsense\n", good["key"].as_str().unwrap())).unwrap();
        let shown = keyward(&node, &["bench", "--keys-file", file.to_str().unwrap(), "--requests", "50", "--connections", "1"]).await;
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(["p99.9", "valid", "malformed", "█"].iter().all(|word| shown.contains(word)), "{shown}");
        assert!(!shown.contains("kw_live_"), "{shown}");
    }

    async fn organizations_plans_and_the_book_are_within_reach(node: Node) {
        let made = json_of(&node, &["organizations", "create", "--name", "Acme Two", "--email", "two@example.com", "--plan", "pro"]).await;
        let id = made["id"].as_str().unwrap();
        assert_eq!(made["slug"], "acme-two");
        assert_eq!(json_of(&node, &["organizations", "suspend", id]).await["status"], "suspended");
        assert_eq!(json_of(&node, &["plans", "list"]).await.as_array().unwrap().len(), 3);
        let events = json_of(&node, &["audit", "list", "--action", "instance_set_up"]).await;
        assert_eq!(events.as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_load_is_not_put_on_another_machine_by_mistake() {
    for (url, refused) in [("http://192.0.2.1:9", true), ("http://keys.example", true), ("http://[::1]:9", false)] {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_keyward")));
        command.args(["bench", "--organization", "org_x"]).env("KEYWARD_URL", url).env("KEYWARD_SERVICE_KEY", "x");
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(told.contains("--yes-load-this-server"), refused, "{url}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_nothing_can_be_judged() {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_keyward")));
    command.args(["verify", "kw_live_x"]).env("KEYWARD_URL", "http://127.0.0.1:9").env("KEYWARD_SERVICE_KEY", "x");
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn settings_are_shown_with_their_origin_and_without_secrets() {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_keyward")));
    command.args(["config", "show", "--origin", "--database-url", "postgres://user:password@host/db"]);
    let output = command.env("KEYWARD_SERVER_LISTEN", "127.0.0.1:1").output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        shown.contains("KEYWARD_SERVER_LISTEN") && shown.contains("flag") && !shown.contains("password"),
        "{shown}"
    );
    let wrong = Command::new(Path::new(env!("CARGO_BIN_EXE_keyward")))
        .args(["config", "check"])
        .env("KEYWARD_DATABASE_CONNECTIONS", "many")
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(1));
}
