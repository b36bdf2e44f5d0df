//! Limits that two nodes share: through a real Redis in both modes, without one, and while it is gone.

use std::time::{Duration, Instant};

use keyward::audit::EventFilter;
use keyward::context::Context;
use keyward::page::PageRequest;
use serde_json::{Value, json};

use crate::support::redis::Redis;
use crate::support::{Backend, Node};

/// How soon a node must notice that Redis is back.
const BACK: Duration = Duration::from_secs(1);

async fn two_nodes(redis: Option<&Redis>, mode: &'static str) -> (Node, Node) {
    let url = redis.map(Redis::url).unwrap_or_default();
    let layers = |layers: &mut keyward::config::Layers| {
        layers.flag("redis.url", url.as_str());
        layers.flag("redis.mode", mode);
    };
    let first = Node::start_with(Backend::Postgres, layers).await;
    let second = first.join(first.place.clone(), layers).await;
    (first, second)
}

async fn call_with(node: &Node, limits: Value) -> Value {
    json!({ "key": node.new_key(json!({ "limits": limits })).await["key"] })
}

fn limit(limit: u64, more: Value) -> Value {
    let mut rule = json!({ "name": "requests", "limit": limit, "window_seconds": 60 });
    rule.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    json!([rule])
}

/// Verifies on both nodes in turn; answers how many passed.
async fn passed(nodes: &[&Node], call: &Value, times: usize) -> usize {
    let mut passed = 0;
    for turn in 0..times {
        let answer = nodes[turn % nodes.len()].verify(call.clone()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        passed += usize::from(answer.json["valid"] == true);
    }
    passed
}

/// Verifies until the code is the expected one.
async fn until(node: &Node, call: &Value, code: &str, within: Duration) {
    let start = Instant::now();
    while node.verify(call.clone()).await.code() != code {
        assert!(start.elapsed() < within, "not {code} within {within:?}");
        tokio::task::yield_now().await;
    }
}

/// Until both nodes ask Redis: calls that Redis decides leave their mark there, those of a node alone do not.
async fn reached(nodes: &[&Node]) {
    for node in nodes {
        let call = call_with(node, limit(1, json!({ "when_unreachable": "closed", "overflow_percent": 0 }))).await;
        until(node, &call, "valid", Duration::from_secs(5)).await;
    }
}

async fn one_budget(mode: &'static str, unused: usize) {
    let redis = Redis::start();
    let (one, other) = two_nodes(Some(&redis), mode).await;
    reached(&[&one, &other]).await;
    let call = call_with(&one, limit(100, json!({}))).await;
    let total = passed(&[&one, &other], &call, 140).await;
    assert!((100 - unused..=100).contains(&total), "{total} of 100 passed");
    one.clock.advance_seconds(59);
    assert_eq!(passed(&[&one, &other], &call, 10).await, 100 - total);
    // A slice may count up to its end, a quarter of the window later.
    one.clock.advance_seconds(16);
    let again = passed(&[&one, &other], &call, 140).await;
    assert!((100 - unused..=100).contains(&again), "{again} of 100 passed in the next window");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_share_one_budget_exactly() {
    one_budget("exact", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_share_one_budget_in_slices() {
    // A slice of 100 is one call.
    one_budget("leased", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slice_lives_as_long_as_the_window_while_half_of_the_budget_is_free() {
    let redis = Redis::start();
    let (one, _other) = two_nodes(Some(&redis), "leased").await;
    reached(&[&one]).await;
    // Slices of ten.
    let call = call_with(&one, limit(640, json!({}))).await;
    let trips = async |calls: usize| {
        let before = redis.scripts();
        assert_eq!(passed(&[&one], &call, calls).await, calls);
        redis.scripts() - before
    };
    assert_eq!(trips(1).await, 1);
    one.clock.advance_seconds(50);
    assert_eq!(trips(9).await, 0, "the first slice lives");
    // Now that more than half is used, a slice lives for a quarter of the window.
    assert_eq!(trips(345).await, 35 + 2, "of the plan's limit another two slices of 156 are used");
    one.clock.advance_seconds(14);
    assert_eq!(trips(1).await, 0);
    one.clock.advance_seconds(1);
    assert_eq!(trips(1).await, 1);
}

/// A node uses its slice without a word: Redis must not forget it because of another node's shorter one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slice_is_kept_until_no_window_reaches_back_to_it() {
    let redis = Redis::start();
    let (one, other) = two_nodes(Some(&redis), "leased").await;
    reached(&[&one, &other]).await;
    let key = one.new_key(json!({ "limits": limit(640, json!({})) })).await;
    let call = json!({ "key": key["key"] });
    assert_eq!(passed(&[&other], &call, 1).await, 1);
    assert_eq!(passed(&[&one], &call, 400).await, 400);
    let now = one.app.keyward.clock.now().as_micros();
    let are_kept = || {
        let marks = redis.marks();
        let long = marks.iter().filter(|(newest, _)| newest - now > 50_000_000).count();
        assert_eq!(long, 2, "slices of the key's limit and of the plan's live long");
        for (newest, kept) in marks {
            // Our clock stood still meanwhile, Redis's did not.
            let kept = kept * 1_000 + 10_000_000;
            assert!(newest - now + 60_000_000 <= kept, "a mark in {} µs is kept for {kept} µs", newest - now);
        }
    };
    are_kept();
    // Slices of a lower limit never live long.
    let path = format!("/v1/organizations/{}/api-keys/{}", one.organization, key["id"].as_str().expect("an id"));
    assert_eq!(one.patch(&path, json!({ "limits": limit(60, json!({})) })).await.status, 200);
    assert_eq!(one.verify(call.clone()).await.code(), "rate_limited");
    are_kept();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_calls_on_two_nodes_never_pass_the_limit() {
    for mode in ["exact", "leased"] {
        let redis = Redis::start();
        let (one, other) = two_nodes(Some(&redis), mode).await;
        reached(&[&one, &other]).await;
        let call = call_with(&one, limit(640, json!({}))).await;
        let calls =
            (0..900).map(|turn| if turn % 2 == 0 { one.verify(call.clone()) } else { other.verify(call.clone()) });
        let answers = futures_util::future::join_all(calls).await;
        let total = answers.iter().filter(|answer| answer.json["valid"] == true).count();
        assert!((620..=640).contains(&total), "{mode}: {total} of 640 passed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_limits_of_a_call_are_taken_or_none_in_both_modes() {
    for mode in ["exact", "leased"] {
        let redis = Redis::start();
        let (one, other) = two_nodes(Some(&redis), mode).await;
        reached(&[&one, &other]).await;
        let limits = json!([
            { "name": "requests", "limit": 5, "window_seconds": 60 },
            { "name": "tokens", "limit": 10, "window_seconds": 60 },
        ]);
        let call = call_with(&one, limits).await;
        let with_tokens = |cost: u64| json!({ "key": call["key"], "limits": [{ "name": "tokens", "cost": cost }] });
        assert_eq!(one.verify(with_tokens(8)).await.code(), "valid", "{mode}");
        assert_eq!(one.verify(with_tokens(3)).await.code(), "rate_limited", "{mode}");
        // The refused call has cost no request: four are left, whichever node asks.
        assert_eq!(passed(&[&one], &call, 6).await, 4, "{mode}");
        assert_eq!(other.verify(with_tokens(1)).await.code(), "rate_limited", "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_each_node_has_its_share() {
    let (one, other) = two_nodes(None, "leased").await;
    // Both have beaten once each knows of two.
    let start = Instant::now();
    while one.app.keyward.live_nodes() != 2 || other.app.keyward.live_nodes() != 2 {
        assert!(start.elapsed() < Duration::from_secs(5), "the nodes do not know each other");
        tokio::task::yield_now().await;
    }
    let call = call_with(&one, limit(10, json!({}))).await;
    assert_eq!((passed(&[&one], &call, 10).await, passed(&[&other], &call, 10).await), (5, 5));
}

/// B-07: while the store of limits cannot be reached, each limit goes by its own policy, and the book tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_07_redis_gone_under_load_and_back() {
    let mut redis = Redis::start();
    let (one, other) = two_nodes(Some(&redis), "leased").await;
    reached(&[&one, &other]).await;
    let open = call_with(&one, limit(4, json!({ "when_unreachable": "open" }))).await;
    let closed = call_with(&one, limit(1_000, json!({ "when_unreachable": "closed" }))).await;
    let share = call_with(&one, limit(10, json!({ "when_unreachable": "local-share" }))).await;
    for call in [&open, &closed, &share] {
        assert_eq!(one.verify(call.clone()).await.code(), "valid");
    }

    let load = async || {
        let mut slowest = Duration::ZERO;
        for _ in 0..200 {
            let start = Instant::now();
            assert_eq!(one.verify(closed.clone()).await.status, 200);
            slowest = slowest.max(start.elapsed());
        }
        slowest
    };
    let (slowest, ()) = tokio::join!(load(), async { redis.stop() });
    assert!(slowest < Duration::from_secs(1), "a call waited {slowest:?} for a Redis that is gone");
    until(&one, &closed, "rate_limited", BACK).await;
    assert_eq!(passed(&[&one], &open, 20).await, 20);
    assert_eq!(passed(&[&one], &share, 20).await, 5, "one of two nodes' share of ten");

    redis.resume();
    until(&one, &closed, "valid", BACK).await;
    let filter = EventFilter { resource: Some("redis".into()), ..EventFilter::default() };
    let page = PageRequest::new(None, None).expect("a page");
    let start = Instant::now();
    loop {
        let events =
            one.app.keyward.audit.list(&Context::system("test"), None, &filter, &page).await.expect("the book");
        let told = |action: &str| events.items.iter().any(|event| event.action == action);
        if told("limit_store_unreachable") && told("limit_store_restored") {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "the book does not tell");
        tokio::task::yield_now().await;
    }
}
