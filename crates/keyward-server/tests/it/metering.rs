//! Verifications that Keyward counts by itself, and how exactly the counts survive a crash.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::process::{Process, set_up};
use crate::support::{Answer, Backend, Node, Place, on_both};
use crate::usage::get;

on_both! {
    async fn verifications_are_counted_by_outcome(node: Node) {
        let key = node.new_key(json!({ "scopes": ["a:b"] })).await;
        let id = key["id"].as_str().unwrap();
        for number in 0..5 {
            node.verify(json!({ "key": key["key"], "method": "GET", "path": format!("/invoices/{number}") })).await;
        }
        node.verify(json!({ "key": key["key"], "scopes": ["c:d"] })).await;
        node.verify(json!({ "key": key["key"], "dry_run": true })).await;
        node.verify(json!({ "key": format!("{}0", key["key"].as_str().unwrap()) })).await;
        node.app.keyward.usage.flush().await.unwrap();
        let summary = get(&node, "/v1/usage/summary").await;
        assert_eq!(summary["verifications"], json!({ "total": 6, "by_code": { "valid": 5, "insufficient_scope": 1 } }));
        let stats = get(&node, &format!("/v1/api-keys/{id}/stats")).await;
        assert_eq!((&stats["verifications"], &stats["usage"]), (&json!(6), &summary));
        assert_eq!(get(&node, "/v1/usage/errors").await["refusals"], json!([{ "code": "insufficient_scope", "count": 1 }]));
        assert_eq!(get(&node, "/v1/usage/daily").await["items"][19]["verifications"], 6);
        let top = get(&node, "/v1/usage/top-consumers?by=cost&limit=1").await;
        assert_eq!((&top["items"][0]["key_id"], &top["items"][0]["verifications"]), (&key["id"], &json!(6)));
        let by_route = node.tell("SELECT calls AS value FROM verify_count WHERE route = 'GET /invoices/{id}'").await;
        assert_eq!(by_route, 5, "five paths, one route");
        let unknown = node.tell("SELECT calls AS value FROM verify_count WHERE outcome = 'malformed' AND level = 'month'").await;
        assert_eq!(unknown, 1, "of the instance only");
    }

    async fn many_counts_are_added_up_later_and_told_at_once(node: Node) {
        let organization = node.new_organization("many", "enterprise").await;
        let mut keys = Vec::new();
        for number in 0..30 {
            let path = format!("/v1/organizations/{organization}/api-keys");
            let key = node.post(&path, json!({ "name": format!("k{number}") })).await;
            keys.push(key.json["key"].as_str().unwrap().to_owned());
        }
        for key in &keys {
            let route = |number: u8| [b'a' + number / 26, b'a' + number % 26].map(char::from).iter().collect::<String>();
            let call = |number| json!({ "key": key, "method": "GET", "path": format!("/{}", route(number)) });
            let items: Vec<Value> = (0..50).chain(0..50).map(call).collect();
            let answer = node.post("/v1/api-keys/verify/batch", json!({ "items": items })).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        let usage = &node.app.keyward.usage;
        usage.flush().await.unwrap();
        let counted = format!("/v1/organizations/{organization}/usage/summary");
        assert_eq!(get(&node, &counted).await["verifications"], json!({ "total": 3_000, "by_code": { "valid": 3_000 } }));
        assert_eq!(node.tell("SELECT count(*) AS value FROM meter_batch").await, 0);
        for level in ["hour", "day", "month"] {
            let of_keys = format!(
                "SELECT CAST(sum(calls) AS bigint) AS value FROM verify_count WHERE level = '{level}' AND outcome = 'valid'
                AND key_id IN (SELECT id FROM api_key)"
            );
            assert_eq!(node.tell(&of_keys).await, 3_000, "{level}");
        }
        let by_route = "SELECT CAST(sum(calls) AS bigint) AS value FROM verify_count WHERE level = 'hour' AND route = 'GET /ab'";
        assert_eq!(node.tell(by_route).await, 60);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_metering_is_strict_a_verdict_comes_after_the_commit_of_its_count() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let strict = |layers: &mut keyward::config::Layers| {
            layers.flag("usage.metering", "strict");
            layers.flag("usage.flush_millis", 600_000);
        };
        let node = Node::start_with(backend, strict).await;
        let key = node.new_key(json!({})).await;
        for count in 1..4 {
            assert_eq!(node.code_of(key["key"].as_str().unwrap()).await, "valid");
            assert_eq!(get(&node, "/v1/usage/summary").await["verifications"]["total"], count);
        }
    }
}

/// Verifies until the server is gone; answers when each verdict came.
async fn verify(
    client: reqwest::Client,
    url: String,
    service_key: String,
    key: String,
    done: mpsc::UnboundedSender<Instant>,
) -> Vec<Instant> {
    let mut answered = Vec::new();
    let path = format!("{url}/v1/api-keys/verify");
    while let Ok(answer) = client.post(&path).bearer_auth(&service_key).json(&json!({ "key": key })).send().await {
        let Ok(verdict) = answer.json::<Value>().await else { break };
        assert_eq!(verdict["code"], "valid");
        let now = Instant::now();
        answered.push(now);
        let _ = done.send(now);
    }
    answered
}

/// How many of the verdicts, oldest first, came within `lost` before a moment.
fn just_before(moment: Instant, lost: Duration, verdicts: &[Instant]) -> usize {
    verdicts.iter().rev().take_while(|at| moment.saturating_duration_since(**at) < lost).count()
}

/// Before a crash, verdicts of so much time may be lost: an interval, and two flushes, as what is counted while one is
/// written waits for the next. A flush is a commit; another commit at that time tells how long one takes on this disk.
fn may_be_lost(metering: &str, slowest_commit: Duration) -> Duration {
    if metering == "strict" { Duration::ZERO } else { FLUSH + 2 * slowest_commit + SLACK }
}

const WORKERS: usize = 4;
const ROUNDS: u32 = 3;
const FLUSH: Duration = Duration::from_millis(50);
/// For a machine that runs other tests as well.
const SLACK: Duration = Duration::from_millis(350);
/// How long the server works at least before it is killed.
const LOAD: Duration = Duration::from_millis(1_500);
const ALLOWED: u64 = 1_000_000_000;

/// Kills the server under load, again and again: the quotas and the sums hold every verdict that was answered, but for
/// those that [`may_be_lost`].
async fn check_drift(backend: Backend, metering: &str) {
    let place = Place::new(backend).await;
    let service_key = set_up(&place);
    let millis = FLUSH.as_millis().to_string();
    let settings = [
        ("KEYWARD_USAGE_METERING", metering),
        ("KEYWARD_USAGE_FLUSH_MILLIS", &millis),
        ("KEYWARD_VERIFY_FLUSH_MILLIS", &millis),
    ];
    let client = reqwest::Client::new();
    let mut server = Process::start(&place, &settings);
    let post = async |url: &str, path: &str, body: Value| {
        Answer::of(client.post(format!("{url}{path}")).bearer_auth(&service_key).json(&body)).await.json
    };
    let new_plan = async |url: &str, name: String, quota: u64| {
        let limits = json!({ "name": name, "key_limit": 10, "requests_per_minute": ALLOWED, "quota_per_month": quota });
        assert_eq!(post(url, "/v1/plans", limits).await["name"], name);
    };
    new_plan(&server.url, "drift".into(), ALLOWED).await;
    let organization = json!({ "name": "Drift", "slug": "drift", "email": "drift@example.com", "plan": "drift" });
    let organization = post(&server.url, "/v1/organizations", organization).await["id"].as_str().unwrap().to_owned();
    let keys = format!("/v1/organizations/{organization}/api-keys");
    let new_key = async |body: Value| post(&server.url, &keys, body).await["key"].as_str().unwrap().to_owned();
    let quota = json!({ "limit": ALLOWED / 2, "period": "month" });
    let (key, other) =
        (new_key(json!({ "name": "k", "quota": quota })).await, new_key(json!({ "name": "other" })).await);
    let (mut answered, mut recent) = (0, 0);
    for round in 0..ROUNDS {
        let (done, mut seen) = mpsc::unbounded_channel();
        let start = |_| {
            tokio::spawn(verify(client.clone(), server.url.clone(), service_key.clone(), key.clone(), done.clone()))
        };
        let working: Vec<_> = (0..WORKERS).map(start).collect();
        // At another point of the interval each time, and not before most of what was counted had to be written.
        let (begun, mut times, mut lost, mut commits) = (Instant::now(), Vec::new(), Duration::ZERO, 0);
        let mut slowest_commit = Duration::ZERO;
        while begun.elapsed() < LOAD + FLUSH * round / ROUNDS
            || times.len() < 50
            || times.len() < 3 * just_before(Instant::now(), lost, &times)
        {
            let before = Instant::now();
            commits += 1;
            new_plan(&server.url, format!("commit-{round}-{commits}"), 1).await;
            slowest_commit = slowest_commit.max(before.elapsed());
            lost = may_be_lost(metering, slowest_commit);
            times.extend(std::iter::from_fn(|| seen.try_recv().ok()));
        }
        let killed = Instant::now();
        server.kill();
        for worker in working {
            let times = worker.await.expect("a worker");
            answered += times.len();
            recent += just_before(killed, lost, &times);
        }
        server = Process::start(&place, &settings);
    }
    assert!(
        answered > 100 && recent < answered / 2,
        "{answered} verdicts, {recent} of them just before a crash: no load"
    );
    let used = async |key: &str, allowed: u64| {
        let dry_run = post(&server.url, "/v1/api-keys/verify", json!({ "key": key, "dry_run": true })).await;
        (allowed - dry_run["quota"]["remaining"].as_u64().unwrap()) as usize
    };
    let path = format!("{}/v1/organizations/{organization}/usage/summary", server.url);
    let summary = Answer::of(client.get(path).bearer_auth(&service_key)).await.json;
    let metered = summary["verifications"]["total"].as_u64().unwrap() as usize;
    // What was counted and not answered before the crash is at most what was under way.
    let (own, all) = (used(&key, ALLOWED / 2).await, used(&other, ALLOWED).await);
    for (what, counted) in [("the key's quota", own), ("the organization's quota", all), ("sums", metered)] {
        let range = answered - recent..=answered + ROUNDS as usize * WORKERS;
        assert!(
            range.contains(&counted),
            "{what}: {counted} counted, {answered} answered, {recent} of them just before a crash"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_loses_at_most_one_flush_interval_of_counts() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        check_drift(backend, "behind").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_loses_no_count_where_metering_is_strict() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        check_drift(backend, "strict").await;
    }
}
