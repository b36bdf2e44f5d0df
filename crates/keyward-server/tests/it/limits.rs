//! Rate limits and quotas, as a caller of verify sees them. The clock is ours.

use keyward_core::time::Timestamp;
use serde_json::{Value, json};

use crate::support::{Answer, Node, on_both};

/// Verifies `times` times and answers how many passed.
async fn passed(node: &Node, body: &Value, times: usize) -> usize {
    let mut passed = 0;
    for _ in 0..times {
        passed += usize::from(node.verify(body.clone()).await.json["valid"] == true);
    }
    passed
}

async fn limited_key(node: &Node, limits: Value) -> Value {
    let key = node.new_key(json!({ "limits": limits })).await;
    json!({ "key": key["key"] })
}

fn limit_of(answer: &Answer, limit: u64) -> &Value {
    let limits = answer.json["limits"].as_array().expect("limits");
    limits.iter().find(|state| state["limit"] == limit).expect("the limit is listed")
}

on_both! {
    async fn a_limit_refuses_above_and_frees_again_when_its_window_has_passed(node: Node) {
        let call = limited_key(&node, json!([{ "name": "requests", "limit": 3, "window_seconds": 60 }])).await;
        for left in [2, 1, 0] {
            let answer = node.verify(call.clone()).await;
            assert_eq!(answer.json["code"], "valid", "{answer:?}");
            assert_eq!(*limit_of(&answer, 3), json!({ "name": "requests", "limit": 3, "remaining": left, "reset_seconds": 60, "window_seconds": 60 }));
        }
        node.clock.advance_seconds(59);
        let refused = node.verify(call.clone()).await;
        assert_eq!((refused.json["valid"].clone(), refused.json["code"].clone()), (json!(false), json!("rate_limited")));
        assert_eq!(limit_of(&refused, 3)["reset_seconds"], 1);
        node.clock.advance_seconds(1);
        assert_eq!(passed(&node, &call, 5).await, 3);
    }

    async fn headers_tell_policies_and_what_is_left(node: Node) {
        let call = limited_key(&node, json!([{ "name": "requests", "limit": 3, "window_seconds": 60 }])).await;
        let answer = node.verify(call).await;
        let headers = &answer.json["headers"];
        assert_eq!(headers["RateLimit-Policy"], r#""requests";q=3;w=60, "requests-60";q=10000;w=60, "quota";q=1000000"#);
        // Ten and a half days and twelve hours of November are left.
        assert_eq!(headers["RateLimit"], r#""requests";r=2;t=60, "requests-60";r=9999;t=60, "quota";r=999999;t=907200"#);
        assert_eq!(answer.json["quota"], json!({ "limit": 1_000_000, "remaining": 999_999, "resets_at": "2026-12-01T00:00:00Z" }));
    }

    async fn the_plan_holds_for_all_keys_of_an_organization_together(node: Node) {
        let organization = node.new_organization("small", "free").await;
        node.patch(&format!("/v1/organizations/{organization}"), json!({ "plan": "pro" })).await;
        let keys = format!("/v1/organizations/{organization}/api-keys");
        let (one, other) = (node.post(&keys, json!({ "name": "one" })).await, node.post(&keys, json!({ "name": "other" })).await);
        let (one, other) = (json!({ "key": one.json["key"], "cost": 400 }), json!({ "key": other.json["key"], "cost": 400 }));
        assert_eq!(passed(&node, &one, 1).await + passed(&node, &other, 1).await, 2);
        let refused = node.verify(other.clone()).await;
        assert_eq!((refused.json["code"].clone(), limit_of(&refused, 1_000)["remaining"].clone()), (json!("rate_limited"), json!(200)));
        assert_eq!(node.verify(json!({ "key": one["key"], "cost": 200 })).await.json["code"], "valid");
    }

    async fn all_limits_of_a_call_are_taken_or_none(node: Node) {
        let limits = json!([
            { "name": "requests", "limit": 10, "window_seconds": 60 },
            { "name": "tokens", "limit": 100, "window_seconds": 3600 },
            { "name": "tokens", "limit": 50, "window_seconds": 60 },
        ]);
        let call = limited_key(&node, limits).await;
        let with_tokens = |cost: u64| json!({ "key": call["key"], "limits": [{ "name": "tokens", "cost": cost }] });
        assert_eq!(node.verify(with_tokens(50)).await.json["code"], "valid");
        let refused = node.verify(with_tokens(1)).await;
        assert_eq!(refused.json["code"], "rate_limited");
        assert_eq!((limit_of(&refused, 10)["remaining"].clone(), limit_of(&refused, 100)["remaining"].clone()), (json!(9), json!(50)));
        // A call that names no tokens costs none.
        let plain = node.verify(call.clone()).await;
        assert_eq!((plain.json["code"].clone(), plain.json["limits"].as_array().map(Vec::len)), (json!("valid"), Some(2)));
        node.clock.advance_seconds(60);
        assert_eq!(node.verify(with_tokens(50)).await.json["code"], "valid");
        node.clock.advance_seconds(60);
        let hourly = node.verify(with_tokens(1)).await;
        assert_eq!((hourly.json["code"].clone(), limit_of(&hourly, 100)["reset_seconds"].clone()), (json!("rate_limited"), json!(3480)));
    }

    async fn routes_have_limits_of_their_own(node: Node) {
        let limits = json!([{ "name": "requests", "limit": 1, "window_seconds": 60, "routes": ["POST /invoices/*"] }]);
        let call = limited_key(&node, limits).await;
        let on = |method: &str, path: &str| json!({ "key": call["key"], "method": method, "path": path });
        assert_eq!(passed(&node, &on("POST", "/invoices/7"), 3).await, 1);
        assert_eq!(passed(&node, &on("GET", "/invoices/7"), 3).await, 3);
        // A call that hides its route is none that escapes.
        assert_eq!(passed(&node, &call, 1).await, 0);
    }

    async fn one_end_customer_has_one_limit_through_all_keys(node: Node) {
        let limits = json!([{ "name": "requests", "limit": 3, "window_seconds": 60, "per": "external_id" }]);
        let mut calls = Vec::new();
        for customer in ["alpha", "alpha", "beta"] {
            let key = node.new_key(json!({ "external_id": customer, "limits": limits })).await;
            calls.push(json!({ "key": key["key"] }));
        }
        assert_eq!(passed(&node, &calls[0], 2).await + passed(&node, &calls[1], 2).await, 3);
        assert_eq!(passed(&node, &calls[2], 4).await, 3);
    }

    async fn a_key_without_a_customer_has_a_counter_for_each_rule(node: Node) {
        let limits = json!([
            { "name": "requests", "limit": 5, "window_seconds": 60, "per": "key" },
            { "name": "requests", "limit": 3, "window_seconds": 60, "per": "external_id" },
        ]);
        let plan = json!({ "name": "team", "key_limit": 3, "requests_per_minute": 100, "quota_per_month": 100, "limits": limits });
        let plan = node.post("/v1/plans", plan).await;
        assert_eq!(plan.status, 201, "{plan:?}");
        let organization = node.new_organization("customers", "team").await;
        let issue = async |body: Value| node.post(&format!("/v1/organizations/{organization}/api-keys"), body).await.json["key"].clone();
        let call = json!({ "key": issue(json!({ "name": "nobody's" })).await });
        assert_eq!(passed(&node, &call, 6).await, 3, "the stricter one holds");
        let call = json!({ "key": issue(json!({ "name": "somebody's", "external_id": "alpha" })).await });
        assert_eq!(passed(&node, &call, 6).await, 3);
    }

    async fn a_limit_that_says_what_is_usual_is_the_one_that_says_nothing(node: Node) {
        let rules = |per: &str| json!([
            { "name": "tokens", "limit": 9, "window_seconds": 60 },
            { "name": "tokens", "limit": 5, "window_seconds": 60, "per": per },
        ]);
        let key = node.post("/v1/api-keys", json!({ "name": "k", "limits": rules("key") })).await;
        assert_eq!((key.status, key.pointer()), (422, "/limits/1"), "{key:?}");
        let plan = |per: &str| json!({ "name": "team", "key_limit": 1, "requests_per_minute": 1, "quota_per_month": 1, "limits": rules(per) });
        let refused = node.post("/v1/plans", plan("organization")).await;
        assert_eq!((refused.status, refused.pointer()), (422, "/limits/1"), "{refused:?}");
        assert_eq!(node.post("/v1/plans", plan("key")).await.status, 201);
    }

    async fn a_limit_stays_with_the_key_when_its_secret_is_rotated(node: Node) {
        let key = node.new_key(json!({ "limits": [{ "name": "requests", "limit": 3, "window_seconds": 60 }] })).await;
        assert_eq!(passed(&node, &json!({ "key": key["key"] }), 2).await, 2);
        let path = format!("/v1/api-keys/{}", key["id"].as_str().expect("an id"));
        let rotated = node.post(&format!("{path}/rotate"), json!({ "overlap_seconds": 60 })).await;
        assert_eq!(passed(&node, &json!({ "key": rotated.json["key"] }), 2).await, 1);
        // A larger limit keeps what was counted.
        node.patch(&path, json!({ "limits": [{ "name": "requests", "limit": 4, "window_seconds": 60 }] })).await;
        assert_eq!(passed(&node, &json!({ "key": key["key"] }), 3).await, 1);
    }

    async fn soft_limits_overflow_shadow_and_off(node: Node) {
        let soft = limited_key(&node, json!([{ "name": "requests", "limit": 10, "window_seconds": 60, "overflow_percent": 20 }])).await;
        assert_eq!(passed(&node, &soft, 15).await, 12);
        let shadow = limited_key(&node, json!([{ "name": "requests", "limit": 2, "window_seconds": 60, "mode": "shadow" }])).await;
        assert_eq!(passed(&node, &shadow, 5).await, 5);
        assert_eq!(limit_of(&node.verify(shadow).await, 2)["remaining"], 0);
        let off = limited_key(&node, json!([{ "name": "requests", "limit": 2, "window_seconds": 60, "mode": "off" }])).await;
        assert_eq!(passed(&node, &off, 5).await, 5);
    }

    async fn a_dry_run_counts_nothing_and_tells_how_limits_stand(node: Node) {
        let call = limited_key(&node, json!([{ "name": "requests", "limit": 1, "window_seconds": 60 }])).await;
        let dry = json!({ "key": call["key"], "dry_run": true });
        assert_eq!(passed(&node, &dry, 3).await, 3);
        assert_eq!(passed(&node, &call, 1).await, 1);
        let answer = node.verify(dry).await;
        assert_eq!(answer.json["code"], "rate_limited");
        let checks = answer.json["checks"].as_array().expect("checks");
        let of = |name: &str| checks.iter().find(|check| check["check"] == name).expect("a check")["outcome"].clone();
        assert_eq!((of("rate_limited"), of("quota_exceeded"), of("expired")), (json!("fail"), json!("pass"), json!("skipped")));
    }

    async fn what_is_refused_by_another_rule_counts_nothing(node: Node) {
        let body = json!({ "limits": [{ "name": "requests", "limit": 1, "window_seconds": 60 }], "quota": { "limit": 1, "period": "month" }, "scopes": ["a"] });
        let key = node.new_key(body).await;
        assert_eq!(passed(&node, &json!({ "key": key["key"], "scopes": ["b"] }), 3).await, 0);
        assert_eq!(passed(&node, &json!({ "key": key["key"], "scopes": ["a"] }), 3).await, 1);
    }

    async fn a_quota_is_used_up_and_begins_anew_with_the_period(node: Node) {
        let key = node.new_key(json!({ "quota": { "limit": 5, "period": "month" } })).await;
        let call = json!({ "key": key["key"], "cost": 2 });
        assert_eq!(passed(&node, &call, 3).await, 2);
        let refused = node.verify(call.clone()).await;
        assert_eq!(refused.json["code"], "quota_exceeded");
        assert_eq!(refused.json["quota"], json!({ "limit": 5, "remaining": 1, "resets_at": "2026-12-01T00:00:00Z" }));
        node.clock.set("2026-11-30T23:59:59Z".parse().expect("an instant"));
        assert_eq!(passed(&node, &call, 1).await, 0);
        node.clock.advance_seconds(1);
        assert_eq!(passed(&node, &call, 3).await, 2);
    }

    async fn rolling_days_free_what_was_used_first(node: Node) {
        let key = node.new_key(json!({ "quota": { "limit": 10, "period": "rolling_days", "days": 3 } })).await;
        let call = |cost: u64| json!({ "key": key["key"], "cost": cost });
        for (day, cost) in [("2026-11-20", 6), ("2026-11-21", 3)] {
            node.clock.set(format!("{day}T18:00:00Z").parse().expect("an instant"));
            assert_eq!(node.verify(call(cost)).await.json["code"], "valid");
        }
        node.clock.set("2026-11-22T23:59:59Z".parse().expect("an instant"));
        let answer = node.verify(call(2)).await;
        assert_eq!(answer.json["quota"], json!({ "limit": 10, "remaining": 1, "resets_at": "2026-11-23T00:00:00Z" }));
        node.clock.advance_seconds(1);
        assert_eq!(node.verify(call(7)).await.json["code"], "valid");
    }

    async fn months_follow_the_organizations_calendar(node: Node) {
        node.patch(&format!("/v1/organizations/{}", node.organization), json!({ "timezone": "Asia/Tokyo" })).await;
        let key = node.new_key(json!({})).await;
        let answer = node.verify(json!({ "key": key["key"] })).await;
        assert_eq!(answer.json["quota"]["resets_at"], "2026-11-30T15:00:00Z");
    }

    async fn quotas_survive_a_restart_exactly(node: Node) {
        let key = node.new_key(json!({ "quota": { "limit": 10, "period": "day" } })).await;
        let call = json!({ "key": key["key"] });
        assert_eq!(passed(&node, &call, 7).await, 7);
        let place = node.place.clone();
        let (service_key, clock) = (node.service_key.clone(), node.clock.clone());
        node.stop().await;
        let mut again = Node::open(place, clock, |_| {}).await;
        again.service_key = service_key;
        assert_eq!(again.verify(json!({ "key": key["key"], "dry_run": true })).await.json["quota"]["remaining"], 3);
        assert_eq!(passed(&again, &call, 5).await, 3);
    }

    async fn warnings_stand_in_the_book_once(node: Node) {
        let body = json!({ "limits": [{ "name": "requests", "limit": 8, "window_seconds": 3600, "warn_at": [50] }], "quota": { "limit": 10, "period": "month" } });
        let key = node.new_key(body).await;
        assert_eq!(passed(&node, &json!({ "key": key["key"] }), 12).await, 8);
        let told = async || {
            let answer = node.get("/v1/audit-events?limit=200").await;
            let mut told: Vec<String> = answer.json["items"].as_array().expect("events").iter()
                .filter(|event| event["resource"]["id"] == key["id"] && event["actor"]["type"] == "system")
                .map(|event| format!("{} {}", event["action"].as_str().expect("an action"), event["details"]["percent"]))
                .collect();
            told.sort();
            told
        };
        let expected = ["limit_reached null", "limit_warning 50", "quota_warning 50", "quota_warning 80"];
        node.app.keyward.flush().await.expect("what is held is written");
        assert_eq!(told().await, expected);
        assert_eq!(passed(&node, &json!({ "key": key["key"] }), 3).await, 0);
        node.app.keyward.flush().await.expect("what is held is written");
        assert_eq!(told().await, expected);
    }

    async fn forward_auth_tells_429_with_the_time_to_wait(node: Node) {
        let call = limited_key(&node, json!([{ "name": "requests", "limit": 1, "window_seconds": 60 }])).await;
        let key = call["key"].as_str().expect("a key");
        let ask = async || node.forward_auth(key).await;
        let first = ask().await;
        assert_eq!((first.status, first.header("ratelimit")), (204, r#""requests";r=0;t=60, "requests-60";r=9999;t=60, "quota";r=999999;t=907200"#));
        node.clock.advance_seconds(20);
        let limited = ask().await;
        assert_eq!((limited.status, limited.header("retry-after")), (429, "40"));
        assert_eq!(limited.json["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
        assert_eq!((limited.json["violated-policies"].clone(), limited.json["code"].clone()), (json!(["requests"]), json!("rate_limited")));
    }

    async fn bad_input_is_told_and_counts_nothing(node: Node) {
        let rule = |change: Value| {
            let mut rule = json!({ "name": "requests", "limit": 5, "window_seconds": 60 });
            rule.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
            json!({ "name": "x", "limits": [rule] })
        };
        for change in [
            json!({ "limit": 0 }), json!({ "limit": -1 }), json!({ "limit": 1.5 }), json!({ "limit": 9_007_199_254_740_992u64 }),
            json!({ "window_seconds": 0 }), json!({ "window_seconds": 2_678_401 }), json!({ "window_seconds": 0.5 }),
            json!({ "name": "" }), json!({ "name": "Requests" }), json!({ "per": "organization" }), json!({ "per": "planet" }),
            json!({ "mode": "maybe" }), json!({ "warn_at": [0] }), json!({ "warn_at": [101] }), json!({ "overflow_percent": 101 }),
            json!({ "routes": ["invoices"] }), json!({ "when_unreachable": "panic" }), json!({ "burst": 3 }),
        ] {
            let answer = node.post("/v1/api-keys", rule(change.clone())).await;
            assert_eq!(answer.status, 422, "{change} {answer:?}");
        }
        let twice = json!({ "name": "x", "limits": [{ "name": "a", "limit": 1, "window_seconds": 60 }, { "name": "a", "limit": 2, "window_seconds": 60 }] });
        assert_eq!(node.post("/v1/api-keys", twice).await.json["errors"][0]["pointer"], "/limits/1");
        for quota in [json!({ "limit": 0, "period": "month" }), json!({ "limit": 1, "period": "year" }), json!({ "limit": 1, "period": "rolling_days" }), json!({ "limit": 1, "period": "rolling_days", "days": 93 }), json!({ "limit": 1, "period": "month", "days": 3 })] {
            assert_eq!(node.post("/v1/api-keys", json!({ "name": "x", "quota": quota })).await.status, 422, "{quota}");
        }
        let call = limited_key(&node, json!([{ "name": "requests", "limit": 5, "window_seconds": 60 }])).await;
        for (field, value) in [
            ("cost", json!(0)), ("cost", json!(-1)), ("cost", json!(0.5)), ("cost", json!(9_007_199_254_740_992u64)), ("cost", json!("1")),
            ("limits", json!([{ "name": "nobody", "cost": 1 }])), ("limits", json!([{ "name": "requests", "cost": 0 }])),
            ("limits", json!([{ "name": "requests", "cost": 1 }, { "name": "requests", "cost": 1 }])),
        ] {
            let answer = node.verify(json!({ "key": call["key"], field: value })).await;
            assert_eq!(answer.status, 422, "{field} {value} {answer:?}");
        }
        let beyond = node.verify(json!({ "key": call["key"], "cost": 6 })).await;
        assert_eq!((beyond.json["code"].clone(), limit_of(&beyond, 5)["remaining"].clone()), (json!("rate_limited"), json!(5)));
    }

    async fn fifty_parallel_calls_take_exactly_what_is_there(node: Node) {
        let key = node.new_key(json!({ "limits": [{ "name": "requests", "limit": 20, "window_seconds": 60 }], "quota": { "limit": 15, "period": "month" } })).await;
        let call = json!({ "key": key["key"] });
        let answers = futures_util::future::join_all((0..50).map(|_| node.verify(call.clone()))).await;
        assert_eq!(answers.iter().filter(|answer| answer.json["valid"] == true).count(), 15);
    }
}

/// Kept apart from the wall clock: windows are as long as our clock says.
#[test]
fn november_ends_when_it_should() {
    let now: Timestamp = "2026-11-20T12:00:00Z".parse().expect("an instant");
    let end: Timestamp = "2026-12-01T00:00:00Z".parse().expect("an instant");
    assert_eq!(end.as_seconds() - now.as_seconds(), 907_200);
}
