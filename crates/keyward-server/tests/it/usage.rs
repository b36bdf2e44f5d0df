//! Usage: records that are reported, verifications that are counted, and the reports over both.

use http::Method;
use keyward::context::Context;
use keyward_core::access::Role;
use keyward_core::sketch::RELATIVE_ERROR;
use serde_json::{Value, json};

use crate::security::member;
use crate::support::{Answer, Backend, Node, on_both};

/// A call at the present instant.
fn record(id: &str, key: &Value) -> Value {
    json!({
        "id": id, "key_id": key["id"], "endpoint": "/v1/chat", "method": "POST", "status": 200, "duration_ms": 12.5,
        "request_bytes": 100, "response_bytes": 2_000, "tokens_in": 30, "tokens_out": 70, "cost_usd": "0.00012",
        "ip": "192.0.2.1", "user_agent": "client/1.0", "error": null, "occurred_at": "2026-11-20T12:00:00Z",
    })
}

/// The call with some of its fields as given.
fn record_with(id: &str, key: &Value, fields: Value) -> Value {
    let mut record = record(id, key);
    record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    record
}

async fn report(node: &Node, records: &[Value]) -> Answer {
    node.post("/v1/usage", json!({ "records": records })).await
}

/// Reports records that must all be taken.
async fn take(node: &Node, records: &[Value]) {
    for batch in records.chunks(1_000) {
        let answer = report(node, batch).await;
        assert_eq!(answer.json, json!({ "accepted": batch.len(), "duplicates": 0, "rejected": [] }), "{answer:?}");
    }
}

pub async fn get(node: &Node, path: &str) -> Value {
    let answer = node.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json
}

/// Every report of the month, to be compared.
async fn reports(node: &Node, month: &str) -> Value {
    let mut all = json!({});
    for name in ["summary", "daily", "endpoints", "errors", "top-consumers"] {
        all[name] = get(node, &format!("/v1/usage/{name}?month={month}")).await;
    }
    all
}

/// The accepted, the duplicates, and the codes of the rejected by their place.
fn told(answer: &Answer) -> (u64, u64, Vec<(u64, String)>) {
    assert_eq!(answer.status, 200, "{answer:?}");
    let rejected = answer.json["rejected"].as_array().unwrap().iter();
    let rejected = rejected.map(|one| (one["index"].as_u64().unwrap(), one["code"].as_str().unwrap().to_owned()));
    (answer.json["accepted"].as_u64().unwrap(), answer.json["duplicates"].as_u64().unwrap(), rejected.collect())
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Calls of three weeks around the end of a month, of every kind.
fn many_records(keys: &[Value], count: usize) -> Vec<Value> {
    let mut dice = Dice(7);
    let start: keyward_core::time::Timestamp = "2026-10-25T00:00:00Z".parse().unwrap();
    let one = |index: usize| {
        let status = [200, 200, 200, 201, 204, 404, 429, 500][dice.below(8) as usize];
        let micros = 1u64 << dice.below(25) | dice.below(1_000);
        json!({
            "id": format!("many-{index}"), "key_id": keys[dice.below(keys.len() as u64) as usize]["id"],
            "endpoint": format!("/v1/things/{}", dice.below(1_000)), "method": if dice.below(2) == 0 { "GET" } else { "POST" },
            "status": status, "duration_ms": micros as f64 / 1000.0, "request_bytes": dice.below(5_000), "response_bytes": dice.below(9_000),
            "tokens_in": dice.below(500), "tokens_out": dice.below(500),
            "cost_usd": format!("0.{:09}", dice.below(1_000_000_000)),
            "error": if status == 500 { json!("upstream timeout") } else { Value::Null },
            "occurred_at": start.plus_seconds(dice.below(21 * 86_400) as i64),
        })
    };
    (0..count).map(one).collect()
}

fn sum(records: &[&Value], field: &str) -> u64 {
    records.iter().map(|record| record[field].as_u64().unwrap()).sum()
}

fn nanos(record: &Value) -> u128 {
    record["cost_usd"].as_str().unwrap().strip_prefix("0.").unwrap().parse().unwrap()
}

on_both! {
    async fn a_batch_counts_once_however_often_it_is_sent(node: Node) {
        let key = node.new_key(json!({})).await;
        let records: Vec<Value> = (0..10).map(|n| record(&format!("r-{n}"), &key)).collect();
        assert_eq!(told(&report(&node, &records).await), (10, 0, vec![]));
        let before = reports(&node, "2026-11").await;
        assert_eq!(told(&report(&node, &records).await), (0, 10, vec![]));
        // Another content under a known id is the same record.
        let changed = record_with("r-3", &key, json!({ "tokens_in": 1_000_000, "occurred_at": "2026-11-19T00:00:00Z" }));
        assert_eq!(told(&report(&node, &[changed]).await), (0, 1, vec![]));
        assert_eq!(reports(&node, "2026-11").await, before);
        let mixed = [record("new", &key), records[0].clone(), record("new", &key), record("newer", &key)];
        assert_eq!(told(&report(&node, &mixed).await), (2, 2, vec![]));

        let summary = get(&node, "/v1/usage/summary").await;
        assert_eq!((&summary["month"], &summary["calls"], &summary["errors"]), (&json!("2026-11"), &json!(12), &json!(0)));
        assert_eq!((&summary["tokens_in"], &summary["tokens_out"]), (&json!(360), &json!(840)));
        assert_eq!((&summary["request_bytes"], &summary["response_bytes"]), (&json!(1_200), &json!(24_000)));
        assert_eq!(summary["cost_usd"], "0.00144");
        let p50 = summary["duration_ms"]["p50"].as_f64().unwrap();
        assert!((p50 - 12.5).abs() <= 12.5 * RELATIVE_ERROR + 0.001, "{p50}");
        let organization = format!("/v1/organizations/{}/usage", node.organization);
        assert_eq!(get(&node, &organization).await, summary);
        assert_eq!(get(&node, &format!("{organization}/summary?month=2026-11")).await, summary);
        let stats = get(&node, &format!("/v1/api-keys/{}/stats", key["id"].as_str().unwrap())).await;
        assert_eq!((&stats["usage"]["calls"], &stats["usage"]["cost_usd"]), (&json!(12), &json!("0.00144")));
    }

    async fn what_is_not_a_record_is_rejected_and_counts_nothing(node: Node) {
        let key = node.new_key(json!({})).await;
        let theirs = node.new_organization("theirs", "pro").await;
        let foreign = node.post(&format!("/v1/organizations/{theirs}/api-keys"), json!({ "name": "x" })).await.json;
        let missing = json!({ "id": "key_01k00000000000000000000000" });
        let cases = [
            (json!({ "tokens_in": -1 }), "invalid_field"), (json!({ "tokens_out": 1.5 }), "invalid_field"),
            (json!({ "request_bytes": 1e30 }), "invalid_field"), (json!({ "response_bytes": u64::MAX }), "invalid_field"),
            (json!({ "tokens_in": i64::MAX }), "invalid_field"), (json!({ "status": 0 }), "invalid_field"),
            (json!({ "status": -200 }), "invalid_field"), (json!({ "status": 200.5 }), "invalid_field"),
            (json!({ "duration_ms": -0.5 }), "invalid_field"), (json!({ "duration_ms": 1e300 }), "invalid_field"),
            (json!({ "cost_usd": "-1" }), "invalid_field"), (json!({ "cost_usd": "1e-3" }), "invalid_field"),
            (json!({ "cost_usd": "0.0000000001" }), "invalid_field"), (json!({ "cost_usd": "99999999999999999999" }), "invalid_field"),
            (json!({ "cost_usd": "" }), "invalid_field"), (json!({ "id": "" }), "invalid_field"),
            (json!({ "id": "x".repeat(129) }), "invalid_field"), (json!({ "id": "a\u{0}b" }), "invalid_field"),
            (json!({ "endpoint": "" }), "invalid_field"), (json!({ "method": "G T" }), "invalid_field"),
            (json!({ "ip": "nowhere" }), "invalid_field"), (json!({ "occurred_at": "2026-13-01T00:00:00Z" }), "invalid_field"),
            (json!({ "occurred_at": "2026-11-20T12:05:01Z" }), "in_the_future"), (json!({ "occurred_at": "2026-10-21T11:59:59Z" }), "too_old"),
            (json!({ "key_id": foreign["id"] }), "not_found"), (json!({ "key_id": missing["id"] }), "not_found"), (json!({ "key_id": "x" }), "not_found"),
        ];
        let records: Vec<Value> =
            cases.iter().enumerate().map(|(n, (fields, _))| {
                let mut fields = fields.clone();
                fields["id"] = fields.get("id").cloned().unwrap_or_else(|| json!(format!("bad-{n}")));
                record_with("", &key, fields)
            }).collect();
        let answer = report(&node, &records).await;
        let wanted: Vec<(u64, String)> = cases.iter().enumerate().map(|(n, (_, code))| (n as u64, (*code).to_owned())).collect();
        assert_eq!(told(&answer), (0, 0, wanted));
        let details: Vec<&str> = answer.json["rejected"].as_array().unwrap()[24..].iter().map(|one| one["detail"].as_str().unwrap()).collect();
        assert!(details.iter().all(|detail| *detail == details[0]), "an absent and a foreign key read the same: {details:?}");
        assert_eq!(get(&node, "/v1/usage/summary").await["calls"], 0);

        // The good ones beside them are taken.
        let beside = [records[0].clone(), record("good", &key), records[25].clone()];
        assert_eq!(told(&report(&node, &beside).await).0, 1);

        for (body, status, pointer) in [
            (json!({ "records": [] }), 422, "/records"),
            (json!({ "records": vec![record("x", &key); 1_001] }), 422, "/records"),
            (json!({ "records": [record_with("x", &key, json!({ "colour": 1 }))] }), 422, "/records/0/colour"),
            (json!({ "records": [record_with("x", &key, json!({ "tokens_in": "7" }))] }), 422, "/records/0/tokens_in"),
            (json!({ "records": [{ "id": "x" }] }), 422, "/records/0/key_id"),
            (json!([record("x", &key)]), 422, ""),
        ] {
            let answer = node.post("/v1/usage", body).await;
            assert_eq!((answer.status, answer.pointer()), (status, pointer), "{answer:?}");
        }
        for body in ["", "{", "{\"records\":[{}],\"records\":[]}"] {
            let request = node.request_as(&node.service_key, Method::POST, "/v1/usage").header("content-type", "application/json");
            assert_eq!(Answer::of(request.body(body)).await.status, 400, "{body}");
        }
        assert_eq!(get(&node, "/v1/usage/summary").await["calls"], 1);
    }

    async fn every_sum_is_that_of_a_full_recount(node: Node) {
        let keys = [node.new_key(json!({ "name": "a" })).await, node.new_key(json!({ "name": "b" })).await, node.new_key(json!({ "name": "c" })).await];
        let records = many_records(&keys, 2_500);
        take(&node, &records).await;
        for month in ["2026-10", "2026-11"] {
            let of = |records: &'_ [Value]| records.iter().filter(|one| one["occurred_at"].as_str().unwrap().starts_with(month)).cloned().collect::<Vec<_>>();
            let of_month = of(&records);
            let of_month: Vec<&Value> = of_month.iter().collect();
            let failed = |low: u64, high: u64| of_month.iter().filter(|one| (low..high).contains(&one["status"].as_u64().unwrap())).count();
            let reports = reports(&node, month).await;
            let summary = &reports["summary"];
            assert_eq!(summary["calls"], of_month.len());
            assert_eq!((&summary["client_errors"], &summary["server_errors"]), (&json!(failed(400, 500)), &json!(failed(500, 600))));
            for field in ["request_bytes", "response_bytes", "tokens_in", "tokens_out"] {
                assert_eq!(summary[field], sum(&of_month, field), "{field}");
            }
            let cost: u128 = of_month.iter().map(|one| nanos(one)).sum();
            let exact = format!("{}.{:09}", cost / 1_000_000_000, cost % 1_000_000_000);
            assert_eq!(summary["cost_usd"], exact.trim_end_matches('0').trim_end_matches('.'));

            let mut durations: Vec<f64> = of_month.iter().map(|one| one["duration_ms"].as_f64().unwrap()).collect();
            durations.sort_by(f64::total_cmp);
            for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)] {
                let (told, exact) = (summary["duration_ms"][name].as_f64().unwrap(), durations[(share * (durations.len() - 1) as f64) as usize]);
                assert!((told - exact).abs() <= exact * RELATIVE_ERROR + 0.001, "{name}: {told} for {exact}");
            }

            for day in reports["daily"]["items"].as_array().unwrap() {
                let of_day: Vec<&Value> = of_month.iter().copied().filter(|one| one["occurred_at"].as_str().unwrap().starts_with(day["date"].as_str().unwrap())).collect();
                assert_eq!((&day["calls"], &day["tokens_in"]), (&json!(of_day.len()), &json!(sum(&of_day, "tokens_in"))), "{day}");
            }
            let consumers = reports["top-consumers"]["items"].as_array().unwrap();
            assert_eq!(consumers.len(), 3);
            for consumer in consumers {
                let of_key = of_month.iter().filter(|one| one["key_id"] == consumer["key_id"]).count();
                assert_eq!(consumer["calls"], of_key);
            }
            assert!(consumers.is_sorted_by_key(|one| std::cmp::Reverse(one["calls"].as_u64().unwrap())));
            let routes = reports["endpoints"]["items"].as_array().unwrap();
            let names: Vec<&str> = routes.iter().map(|one| one["endpoint"].as_str().unwrap()).collect();
            assert_eq!(names, ["/v1/things/{id}"; 2], "a thousand things, two routes");
            assert_eq!(routes.iter().map(|one| one["calls"].as_u64().unwrap()).sum::<u64>(), of_month.len() as u64);
            let errors = reports["errors"]["items"].as_array().unwrap();
            let timeout = errors.iter().find(|one| one["status"] == 500).unwrap();
            assert_eq!((&timeout["error"], &timeout["calls"]), (&json!("upstream timeout"), &json!(failed(500, 600))));
            assert_eq!(errors.iter().map(|one| one["calls"].as_u64().unwrap()).sum::<u64>(), summary["errors"].as_u64().unwrap());
        }
    }

    async fn recomputing_changes_nothing_that_is_right_and_mends_what_is_not(node: Node) {
        let keys = [node.new_key(json!({ "name": "a" })).await, node.new_key(json!({ "name": "b" })).await];
        take(&node, &many_records(&keys, 1_500)).await;
        let before = (reports(&node, "2026-10").await, reports(&node, "2026-11").await);
        let recompute = async || {
            let (from, to) = ("2026-10-25T00:00:00Z".parse().unwrap(), "2026-11-20T00:00:00Z".parse().unwrap());
            node.app.keyward.usage.recompute(&Context::system("test"), from, to).await.unwrap();
        };
        recompute().await;
        assert_eq!((reports(&node, "2026-10").await, reports(&node, "2026-11").await), before);
        node.tamper("UPDATE usage_rollup SET calls = calls + 7, cost_nanos = 0; DELETE FROM usage_error").await;
        assert_ne!(reports(&node, "2026-11").await, before.1);
        recompute().await;
        assert_eq!((reports(&node, "2026-10").await, reports(&node, "2026-11").await), before);
        let too_early = node.app.keyward.usage.recompute(&Context::system("test"), "2026-10-01T00:00:00Z".parse().unwrap(), "2026-11-01T00:00:00Z".parse().unwrap()).await;
        assert_eq!(too_early.unwrap_err().code.as_str(), "conflict");
    }

    async fn a_month_ends_at_midnight_in_utc(node: Node) {
        let key = node.new_key(json!({})).await;
        let at = |id: &str, instant: &str| record_with(id, &key, json!({ "occurred_at": instant }));
        take(&node, &[
            at("last", "2026-10-31T23:59:59.999999Z"), at("first", "2026-11-01T00:00:00Z"),
            at("last too", "2026-11-01T00:59:59+01:00"), at("first too", "2026-10-31T19:00:00-05:00"), at("third", "2026-11-01T12:00:00Z"),
        ]).await;
        let calls = async |month: &str| get(&node, &format!("/v1/usage/summary?month={month}")).await["calls"].clone();
        assert_eq!((calls("2026-10").await, calls("2026-11").await), (json!(2), json!(3)));
        let days = get(&node, "/v1/usage/daily?month=2026-11").await;
        let days = days["items"].as_array().unwrap();
        assert_eq!((days.len(), &days[0]["date"], &days[0]["calls"]), (30, &json!("2026-11-01"), &json!(3)));
        assert_eq!(get(&node, "/v1/usage/daily?month=2026-10").await["items"][30]["calls"], 2);
        for bad in ["2026-13", "november", "2026-1", ""] {
            let answer = node.get(&format!("/v1/usage/daily?month={bad}")).await;
            assert_eq!((answer.status, answer.code()), (400, "malformed_request"), "{bad}");
        }
        for bad in ["limit=0", "limit=201", "by=colour"] {
            assert_eq!(node.get(&format!("/v1/usage/top-consumers?{bad}")).await.status, 400, "{bad}");
        }
    }

    async fn what_is_out_of_date_is_forgotten_level_by_level(node: Node) {
        let key = node.new_key(json!({})).await;
        node.verify(json!({ "key": key["key"] })).await;
        take(&node, &[record_with("one", &key, json!({ "status": 500 }))]).await;
        let usage = &node.app.keyward.usage;
        usage.flush().await.unwrap();
        usage.fold().await.unwrap();
        let mut held = Vec::new();
        // A minute after each level's end: nothing, minutes, records, hours, days.
        for days in [0, 2, 28, 5, 365] {
            node.clock.advance_seconds(days * 86_400 + 3_600);
            usage.forget().await.unwrap();
            let records = node.tell("SELECT count(*) AS value FROM usage_record").await;
            let mut levels = vec![records, node.tell("SELECT count(*) AS value FROM usage_error").await];
            for level in ["minute", "hour", "day", "month"] {
                levels.push(node.tell(&format!("SELECT count(DISTINCT level) AS value FROM usage_rollup WHERE level = '{level}'")).await);
                levels.push(node.tell(&format!("SELECT count(DISTINCT level) AS value FROM verify_count WHERE level = '{level}'")).await);
            }
            held.push(levels);
        }
        assert_eq!(held, [
            [1, 1, 1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 1, 1, 1, 1, 1, 1], [0, 1, 0, 0, 1, 1, 1, 1, 1, 1],
            [0, 1, 0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0, 0, 1, 1],
        ]);
        let summary = get(&node, "/v1/usage/summary?month=2026-11").await;
        assert_eq!((&summary["calls"], &summary["verifications"]["total"]), (&json!(1), &json!(1)), "months stay");
        assert_eq!(told(&report(&node, &[record("one", &key)]).await).2, [(0, "too_old".to_owned())], "and the record cannot come back");
    }

    async fn each_caller_sees_its_own_reach(node: Node) {
        let (ours, theirs) = (node.new_organization("ours", "enterprise").await, node.new_organization("theirs", "pro").await);
        let (_, owner) = member(&node, "owner@ours.example", &ours, Role::Owner).await;
        let (_, one) = member(&node, "one@ours.example", &ours, Role::Developer).await;
        let (_, two) = member(&node, "two@ours.example", &ours, Role::Developer).await;
        let (_, stranger) = member(&node, "owner@theirs.example", &theirs, Role::Owner).await;
        let new_key = async |credential: &str| node.call_as(credential, Method::POST, "/v1/api-keys", Some(json!({ "name": "k" }))).await.json;
        let (first, second, foreign) = (new_key(&one).await, new_key(&two).await, new_key(&stranger).await);
        let records = json!({ "records": [
            record("1", &first), record_with("2", &first, json!({ "status": 404, "error": "gone" })), record_with("3", &second, json!({ "endpoint": "/v1/secret" })),
        ] });
        let post = async |credential: &str, body: &Value| node.call_as(credential, Method::POST, "/v1/usage", Some(body.clone())).await;
        assert_eq!(told(&post(&owner, &records).await).0, 3);
        assert_eq!(post(&one, &records).await.code(), "forbidden", "a developer reports nothing");
        assert_eq!(told(&post(&stranger, &records).await).2.len(), 3, "keys of others are not found");
        let same_ids = json!({ "records": [record("1", &foreign)] });
        assert_eq!(told(&post(&stranger, &same_ids).await).0, 1, "an id is unique in its organization only");
        for key in [&first, &second, &foreign] {
            node.verify(json!({ "key": key["key"], "scopes": ["a:b"] })).await;
        }
        node.app.keyward.usage.flush().await.unwrap();

        let read = async |credential: &str, path: &str| {
            let answer = node.call_as(credential, Method::GET, path, None).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            answer.json
        };
        for (credential, calls, verifications, keys) in [(&owner, 3, 2, 2), (&one, 2, 1, 1), (&two, 1, 1, 1), (&stranger, 1, 1, 1)] {
            let summary = read(credential, "/v1/usage/summary").await;
            assert_eq!((&summary["calls"], &summary["verifications"]["total"]), (&json!(calls), &json!(verifications)));
            let stats = read(credential, "/v1/api-keys/stats").await;
            assert_eq!((&stats["usage"], &stats["verifications"]), (&summary, &json!(verifications)));
            assert_eq!(read(credential, "/v1/usage/daily").await["items"][19]["calls"], calls);
            assert_eq!(read(credential, "/v1/usage/top-consumers").await["items"].as_array().unwrap().len(), keys);
            let routes = read(credential, "/v1/usage/endpoints").await;
            assert_eq!(routes["items"].as_array().unwrap().iter().map(|line| line["calls"].as_i64().unwrap()).sum::<i64>(), calls);
            let errors = read(credential, "/v1/usage/errors").await;
            assert_eq!(errors["refusals"], json!([{ "code": "insufficient_scope", "count": verifications }]));
        }
        assert_eq!(read(&one, "/v1/usage/errors").await["items"], json!([{ "status": 404, "error": "gone", "calls": 1 }]));
        assert_eq!(read(&two, "/v1/usage/errors").await["items"], json!([]));
        assert!(!read(&one, "/v1/usage/endpoints").await.to_string().contains("secret"));
        let path = format!("/v1/api-keys/{}/stats", second["id"].as_str().unwrap());
        assert_eq!(node.call_as(&one, Method::GET, &path, None).await.status, 404);
        let theirs = format!("/v1/organizations/{ours}/usage/summary");
        assert_eq!(node.call_as(&stranger, Method::GET, &theirs, None).await.code(), "not_found");
        assert_eq!(node.get("/v1/organizations/org_01k00000000000000000000000/usage").await.status, 404, "to staff as well");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_add_to_the_same_sums() {
    let one = Node::start(Backend::Postgres).await;
    let two = one.join(one.place.clone(), |_| {}).await;
    let keys = [one.new_key(json!({ "name": "a" })).await, one.new_key(json!({ "name": "b" })).await];
    let records = many_records(&keys, 2_000);
    // Both send everything, each in its own order, at the same time.
    let mut backwards = records.clone();
    backwards.reverse();
    let send = async |node: &Node, records: &[Value]| {
        let mut accepted = 0;
        for batch in records.chunks(100) {
            accepted += told(&report(node, batch).await).0;
        }
        accepted
    };
    let (first, second) = tokio::join!(send(&one, &records), send(&two, &backwards));
    assert_eq!(first + second, 2_000);
    let verify = async |node: &Node| {
        for _ in 0..20 {
            assert_eq!(node.code_of(keys[0]["key"].as_str().unwrap()).await, "valid");
        }
        node.app.keyward.usage.flush().await.unwrap();
    };
    tokio::join!(verify(&one), verify(&two));

    // Each adds what both have written: what one has taken, the other finds gone.
    let summaries = tokio::join!(get(&one, "/v1/usage/summary"), get(&two, "/v1/usage/summary"));
    assert_eq!(summaries.0, summaries.1);
    assert_eq!(summaries.0["verifications"]["total"], 40);
    let before = (reports(&one, "2026-10").await, reports(&one, "2026-11").await);
    let (from, to) = ("2026-10-25T00:00:00Z".parse().unwrap(), "2026-11-20T00:00:00Z".parse().unwrap());
    one.app.keyward.usage.recompute(&Context::system("test"), from, to).await.unwrap();
    assert_eq!((reports(&one, "2026-10").await, reports(&one, "2026-11").await), before);
}
