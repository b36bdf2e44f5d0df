//! Two nodes on one PostgreSQL: a revocation on one is in force on the other, also when the channel between them or
//! the whole database is cut off.

use std::time::{Duration, Instant};

use keyward::Keyward;
use keyward_core::time::Clock;
use keyward_core::verdict::Request;
use keyward_core::verify::Verify as _;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqlSafeStr as _};

use crate::lock_order::{WAITING, until_waiting};
use crate::support::proxy::Proxy;
use crate::support::{Backend, Node, sha256_hex};

/// Asks until the code is the wanted one; answers how long that took.
async fn wait_for_code(node: &Node, key: &str, wanted: &str) -> Duration {
    let started = Instant::now();
    let mut tries = tokio::time::interval(Duration::from_millis(5));
    while node.code_of(key).await != wanted {
        assert!(started.elapsed() < Duration::from_secs(10), "the other node never answered {wanted}");
        tries.tick().await;
    }
    started.elapsed()
}

/// Verifies until the key (beside the service key) is held in memory: while an announcement is arriving, it is not.
async fn remember(node: &Node, key: &str) {
    let mut tries = tokio::time::interval(Duration::from_millis(5));
    for _ in 0..1_000 {
        assert_eq!(node.code_of(key).await, "valid");
        if node.app.keyward.verifier.remembered_count() == 2 {
            return;
        }
        tries.tick().await;
    }
    panic!("the key was never remembered");
}

pub fn database_port(node: &Node) -> u16 {
    let url = node.place.database_url().expect("PostgreSQL");
    url.rsplit_once('/').unwrap().0.rsplit_once(':').unwrap().1.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_is_in_force_on_the_other_node_within_a_second() {
    let one = Node::start(Backend::Postgres).await;
    let two = one.join(one.place.clone(), |_| {}).await;
    for change in ["revoke", "disable"] {
        let issued = one.new_key(json!({})).await;
        let (id, key) = (issued["id"].as_str().unwrap(), issued["key"].as_str().unwrap());
        assert_eq!(two.code_of(key).await, "valid");
        one.post(&format!("/v1/api-keys/{id}/{change}"), json!({})).await;
        let took = wait_for_code(&two, key, &format!("{change}d")).await;
        assert!(took < Duration::from_secs(1), "{change} took {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspending_an_organization_and_revoking_all_reach_the_other_node() {
    let one = Node::start(Backend::Postgres).await;
    let two = one.join(one.place.clone(), |_| {}).await;
    let organization = one.new_organization("customer", "pro").await;
    let issued = one.post(&format!("/v1/organizations/{organization}/api-keys"), json!({ "name": "k" })).await.json;
    let key = issued["key"].as_str().unwrap();
    assert_eq!(two.code_of(key).await, "valid");
    one.post(&format!("/v1/organizations/{organization}/suspend"), json!({})).await;
    wait_for_code(&two, key, "organization_suspended").await;
    one.post(&format!("/v1/organizations/{organization}/activate"), json!({})).await;
    wait_for_code(&two, key, "valid").await;
    one.post(&format!("/v1/organizations/{organization}/api-keys/revoke-all?wait=true"), json!({ "confirm": true }))
        .await;
    assert_eq!(two.code_of(key).await, "revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waited_for_revocation_is_in_force_everywhere_when_it_answers() {
    let one = Node::start(Backend::Postgres).await;
    let two = one.join(one.place.clone(), |_| {}).await;
    for _ in 0..10 {
        let issued = one.new_key(json!({})).await;
        let (id, key) = (issued["id"].as_str().unwrap(), issued["key"].as_str().unwrap());
        assert_eq!(two.code_of(key).await, "valid");
        let answer = one.post(&format!("/v1/api-keys/{id}/revoke?wait=true"), json!({})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(two.code_of(key).await, "revoked", "the very next call on the other node");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_that_hold_every_connection_keep_no_key_waiting() {
    let one = Node::start(Backend::Postgres).await;
    // Of these the notification channel has one.
    let two = one.join(one.place.clone(), |layers| layers.flag("database.connections", 3)).await;
    let issued = one.new_key(json!({})).await;
    let (id, key) = (issued["id"].as_str().unwrap(), issued["key"].as_str().unwrap());
    let mut holder = PgConnection::connect(one.place.database_url().unwrap()).await.unwrap();
    holder.execute(sqlx::raw_sql("BEGIN; LOCK TABLE usage_rollup IN ACCESS EXCLUSIVE MODE")).await.unwrap();
    let report = || two.get("/v1/usage/summary");
    let meanwhile = async {
        until_waiting(&two, 2).await;
        assert_eq!(two.code_of(key).await, "valid", "read from the database");
        assert_eq!(two.get("/ready").await.status, 200);
        let answer = one.post(&format!("/v1/api-keys/{id}/revoke?wait=true"), json!({})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(two.code_of(key).await, "revoked");
        assert_eq!(two.place.tell(WAITING).await, 2, "and both still wait");
        holder.execute("COMMIT").await.unwrap();
    };
    let (first, second, ()) = tokio::join!(report(), report(), meanwhile);
    assert_eq!((first.status, second.status), (200, 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_notification_channel_the_reread_is_the_net() {
    let one = Node::start(Backend::Postgres).await;
    let proxy = Proxy::before(database_port(&one)).await;
    let two = one.join(one.place.through(proxy.port), |_| {}).await;
    proxy.deafen();
    let issued = one.new_key(json!({})).await;
    let (id, key) = (issued["id"].as_str().unwrap(), issued["key"].as_str().unwrap());
    assert_eq!(two.code_of(key).await, "valid");
    one.post(&format!("/v1/api-keys/{id}/revoke"), json!({})).await;
    let took = wait_for_code(&two, key, "revoked").await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_stops_judging_from_memory_after_the_bound() {
    let one = Node::start(Backend::Postgres).await;
    let proxy = Proxy::before(database_port(&one)).await;
    let two = one.join(one.place.through(proxy.port), |_| {}).await;
    let issued = one.new_key(json!({})).await;
    let (id, key) = (issued["id"].as_str().unwrap(), issued["key"].as_str().unwrap());
    assert_eq!(two.code_of(key).await, "valid");

    proxy.cut();
    // It is told, within the wait, that the silent node no longer counts.
    let answer = one.post(&format!("/v1/api-keys/{id}/revoke?wait=true"), json!({})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // The clock is ours: the bound (one second) passes for both nodes at once.
    two.clock.advance_millis(1_001);
    let refused = two.verify(json!({ "key": key })).await;
    assert_eq!((refused.status, refused.code()), (503, "not_ready"), "{refused:?}");
    assert_eq!(refused.header("retry-after"), "1");

    proxy.mend();
    let mut tries = tokio::time::interval(Duration::from_millis(20));
    let started = Instant::now();
    loop {
        tries.tick().await;
        let verdict = two.verify(json!({ "key": key })).await;
        assert_ne!(verdict.code(), "valid", "a revoked key is never valid again");
        if verdict.code() == "revoked" {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{verdict:?}");
    }
}

/// Another node, which judges from memory for half a minute when what stands behind the proxy does not answer.
async fn stale_behind_a_proxy(one: &Node) -> (Proxy, Node) {
    let proxy = Proxy::before(database_port(one)).await;
    let stale = |layers: &mut keyward::config::Layers| {
        layers.flag("verify.when_unreachable", "stale");
        layers.flag("verify.stale_seconds", 30);
    };
    let two = one.join(one.place.through(proxy.port), stale).await;
    (proxy, two)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_setting_stale_judges_from_memory_for_a_bounded_time() {
    let one = Node::start(Backend::Postgres).await;
    let (proxy, two) = stale_behind_a_proxy(&one).await;
    let issued = one.new_key(json!({})).await;
    let key = issued["key"].as_str().unwrap();
    remember(&two, key).await;
    proxy.cut();
    two.clock.advance_seconds(20);
    assert_eq!(two.code_of(key).await, "valid");
    two.clock.advance_seconds(20);
    assert_eq!(two.verify(json!({ "key": key })).await.status, 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_falls_silent_keeps_nobody_waiting_for_long() {
    let one = Node::start(Backend::Postgres).await;
    let (proxy, two) = stale_behind_a_proxy(&one).await;
    let issued = one.new_key(json!({})).await;
    let key = issued["key"].as_str().unwrap();
    remember(&two, key).await;
    proxy.stall();
    two.clock.advance_seconds(20);
    for _ in 0..2 {
        let started = Instant::now();
        assert_eq!(two.code_of(key).await, "valid");
        // Half a second for the caller's key, and as much for the one that it presents.
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    }
    two.clock.advance_seconds(20);
    let refused = two.verify(json!({ "key": key })).await;
    assert_eq!((refused.status, refused.code()), (503, "not_ready"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_does_not_mean_what_the_node_knows_to_be_over() {
    let one = Node::start(Backend::Postgres).await;
    let (proxy, two) = stale_behind_a_proxy(&one).await;
    let organization = one.new_organization("tenant", "pro").await;
    let path = format!("/v1/organizations/{organization}");
    let issued = one.post(&format!("{path}/api-keys"), json!({ "name": "k" })).await.json;
    let key = issued["key"].as_str().unwrap();
    remember(&two, key).await;
    assert_eq!(two.post(&format!("{path}/suspend"), json!({})).await.status, 200);
    proxy.cut();
    two.clock.advance_seconds(20);
    let refused = two.verify(json!({ "key": key })).await;
    assert_eq!((refused.status, refused.code()), (503, "not_ready"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_ended_badly_are_waited_for_together() {
    let bound = |layers: &mut keyward::config::Layers| layers.flag("verify.stale_bound_millis", 300);
    let one = Node::start_with(Backend::Postgres, bound).await;
    let crashed = "INSERT INTO node (id, beat, started_at, seen_at)
        SELECT gen_random_uuid(), 1, started_at, seen_at FROM node CROSS JOIN generate_series(1, 8)";
    one.tamper(crashed).await;
    let id = one.new_key(json!({})).await["id"].as_str().unwrap().to_owned();
    let answer = one.post(&format!("/v1/api-keys/{id}/revoke?wait=true"), json!({})).await;
    assert_eq!((answer.status, &answer.json["status"]), (200, &json!("revoked")), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_imported_while_a_node_started_is_known_there() {
    let one = Node::start(Backend::Postgres).await;
    let settings = one.place.settings(|_| {});
    let two = Keyward::open(settings, Clock::Manual(one.clock.clone())).await.expect("the platform opens");
    let text = "legacy-secret-0123456789";
    let item = json!({ "name": "legacy", "hash": sha256_hex(text), "algorithm": "sha256", "prefix": "legacy-" });
    assert_eq!(one.post("/v1/api-keys/import", json!({ "items": [item] })).await.status, 200);
    let tasks = two.start_tasks().await.expect("the tasks start");
    let verdict = two.verifier.verify(text, &Request::default()).await.expect("it is judged");
    assert_eq!(verdict.outcome.as_str(), "valid");
    tasks.stop().await;
    two.close().await;
}

/// Two changes of one row at the same time, in the database's own words about that row.
async fn change_at_once(node: &Node, row: &str, path: &str, changes: [Value; 2]) -> Value {
    let mut holder = PgConnection::connect(node.place.database_url().unwrap()).await.unwrap();
    holder.execute(AssertSqlSafe(format!("BEGIN; {row}")).into_sql_str()).await.unwrap();
    let [first, second] = changes;
    let letting_go = async {
        until_waiting(node, 2).await;
        holder.execute("COMMIT").await.unwrap();
    };
    let (first, second, ()) = tokio::join!(node.patch(path, first), node.patch(path, second), letting_go);
    assert_eq!((first.status, second.status), (200, 200), "{first:?} {second:?}");
    node.get(path).await.json
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_changes_at_once_neither_undoes_the_other() {
    let node = Node::start(Backend::Postgres).await;
    let organization = node.new_organization("tenant", "pro").await;
    let changes = [json!({ "name": "New" }), json!({ "timezone": "Asia/Tokyo" })];
    let row = "UPDATE organization SET status = status";
    let changed = change_at_once(&node, row, &format!("/v1/organizations/{organization}"), changes).await;
    assert_eq!((&changed["name"], &changed["timezone"]), (&json!("New"), &json!("Asia/Tokyo")));

    node.post("/v1/keyspaces", json!({ "name": "partners", "prefix": "pk" })).await;
    let changes = [json!({ "prefix": "new" }), json!({ "style": "plain" })];
    let changed = change_at_once(&node, "UPDATE keyspace SET name = name", "/v1/keyspaces/partners", changes).await;
    assert_eq!((&changed["prefix"], &changed["style"]), (&json!("new"), &json!("plain")));

    node.post("/v1/plans", json!({ "name": "team", "key_limit": 1, "requests_per_minute": 1, "quota_per_month": 1 }))
        .await;
    let changes = [json!({ "key_limit": 2 }), json!({ "requests_per_minute": 2 })];
    let changed = change_at_once(&node, "UPDATE plan SET name = name", "/v1/plans/team", changes).await;
    assert_eq!((&changed["key_limit"], &changed["requests_per_minute"]), (&json!(2), &json!(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_absent_is_found_once_another_node_has_made_it() {
    let one = Node::start(Backend::Postgres).await;
    let two = one.join(one.place.clone(), |_| {}).await;
    let text = "legacy-secret-0123456789";
    assert_eq!(two.code_of(text).await, "malformed");
    let digest = sha256_hex(text);
    let item = json!({ "name": "legacy", "hash": digest, "algorithm": "sha256", "prefix": "legacy-" });
    let imported = one.post("/v1/api-keys/import", json!({ "items": [item] })).await;
    assert_eq!(imported.status, 200, "{imported:?}");
    wait_for_code(&two, text, "valid").await;
}
