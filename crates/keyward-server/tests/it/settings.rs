//! Every setting of a key and the verdict that it leads to, and the calls that look after many keys at once.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Node, on_both};

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

/// The names of a list's items, in order.
async fn names(node: &Node, path: &str) -> Vec<String> {
    let answer = node.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json["items"].as_array().unwrap().iter().map(|item| text(item, "name").to_owned()).collect()
}

/// Makes a key with these settings and asks about it in several ways: what is asked, and the code that is answered.
async fn judged(node: &Node, settings: Value, cases: &[(Value, &str)]) {
    let issued = node.new_key(settings.clone()).await;
    for (asked, code) in cases {
        let mut body = asked.clone();
        body["key"] = issued["key"].clone();
        let answer = node.verify(body).await;
        assert_eq!((answer.status, answer.code()), (200, *code), "{settings} {asked}: {answer:?}");
        assert_eq!(answer.json["valid"], json!(*code == "valid"));
    }
}

on_both! {
    async fn a_key_lives_between_1_and_365_days(node: Node) {
        for days in [0, -1, 366, i64::MAX] {
            let answer = node.post("/v1/api-keys", json!({ "name": "x", "expires_in_days": days })).await;
            assert_eq!((answer.status, answer.pointer()), (422, "/expires_in_days"), "{days}");
        }
        for at in ["2026-11-20T12:00:00Z", "2020-01-01T00:00:00Z", "2027-11-20T12:00:01Z", "tomorrow"] {
            let answer = node.post("/v1/api-keys", json!({ "name": "x", "expires_at": at })).await;
            assert_eq!((answer.status, answer.pointer()), (422, "/expires_at"), "{at}");
        }
        let both = json!({ "name": "x", "expires_at": "2026-11-21T00:00:00Z", "expires_in_days": 1 });
        assert_eq!(node.post("/v1/api-keys", both).await.status, 422);
        let longest = node.new_key(json!({ "expires_in_days": 365 })).await;
        assert_eq!(text(&longest, "expires_at"), "2027-11-20T12:00:00Z");
        let day = node.new_key(json!({ "expires_in_days": 1 })).await;
        let moment = node.new_key(json!({ "expires_at": "2026-11-20T13:00:00+00:30" })).await;
        assert_eq!(text(&moment, "expires_at"), "2026-11-20T12:30:00Z");
        node.clock.advance_seconds(30 * 60);
        assert_eq!(node.code_of(text(&moment, "key")).await, "expired");
        node.clock.advance_seconds(24 * 3600 - 30 * 60 - 1);
        assert_eq!(node.code_of(text(&day, "key")).await, "valid");
        node.clock.advance_seconds(1);
        assert_eq!(node.code_of(text(&day, "key")).await, "expired");
        let shown = node.get(&format!("/v1/api-keys/{}", text(&day, "id"))).await.json;
        assert_eq!(text(&shown, "status"), "expired");
    }

    async fn environment_and_scopes_are_matched(node: Node) {
        judged(&node, json!({ "environment": "test" }), &[
            (json!({ "environment": "test" }), "valid"), (json!({ "environment": "live" }), "wrong_environment"), (json!({}), "valid"),
        ]).await;
        judged(&node, json!({ "scopes": ["invoices:*", "users:read"] }), &[
            (json!({ "scopes": ["invoices:read"] }), "valid"),
            (json!({ "scopes": ["invoices:lines:read", "users:read"] }), "valid"),
            (json!({ "scopes": ["users:write"] }), "insufficient_scope"),
            (json!({ "scopes": ["invoices:read", "users:write"] }), "insufficient_scope"),
            (json!({ "scopes": ["invoicesx:read"] }), "insufficient_scope"),
        ]).await;
        judged(&node, json!({ "scopes": ["*"] }), &[(json!({ "scopes": ["anything:at:all"] }), "valid")]).await;
        judged(&node, json!({}), &[(json!({ "scopes": ["invoices:read"] }), "insufficient_scope")]).await;
        for scope in ["", "a b", "a::b"] {
            let answer = node.post("/v1/api-keys", json!({ "name": "x", "scopes": ["ok:1", scope] })).await;
            assert_eq!((answer.status, answer.pointer()), (422, "/scopes/1"), "{scope:?}");
        }
    }

    async fn addresses_are_allowed_and_denied(node: Node) {
        let settings = json!({ "allowed_ips": ["203.0.113.0/24", "2001:db8::/32"], "denied_ips": ["203.0.113.66"] });
        judged(&node, settings, &[
            (json!({ "ip": "203.0.113.7" }), "valid"), (json!({ "ip": "2001:db8:1::1" }), "valid"),
            (json!({ "ip": "::ffff:203.0.113.7" }), "valid"), (json!({ "ip": "203.0.114.7" }), "ip_forbidden"),
            (json!({ "ip": "203.0.113.66" }), "ip_forbidden"), (json!({ "ip": "::ffff:203.0.113.66" }), "ip_forbidden"),
            (json!({ "ip": "2001:db9::1" }), "ip_forbidden"), (json!({}), "ip_forbidden"),
        ]).await;
        judged(&node, json!({ "denied_ips": ["10.0.0.0/8"] }), &[
            (json!({ "ip": "192.0.2.1" }), "valid"), (json!({ "ip": "10.1.2.3" }), "ip_forbidden"), (json!({}), "ip_forbidden"),
        ]).await;
        for block in ["203.0.113.0/33", "300.1.1.1", "2001:db8::/129", "example.com"] {
            let answer = node.post("/v1/api-keys", json!({ "name": "x", "allowed_ips": [block] })).await;
            assert_eq!((answer.status, answer.pointer()), (422, "/allowed_ips/0"), "{block}");
        }
        let bad = node.verify(json!({ "key": node.service_key, "ip": "300.1.1.1" })).await;
        assert_eq!((bad.status, bad.pointer()), (422, "/ip"));
    }

    async fn routes_hours_and_countries_are_judged(node: Node) {
        judged(&node, json!({ "allowed_routes": ["GET /invoices/*", "POST /users"] }), &[
            (json!({ "method": "GET", "path": "/invoices/17" }), "valid"), (json!({ "method": "POST", "path": "/users" }), "valid"),
            (json!({ "method": "DELETE", "path": "/invoices/17" }), "route_forbidden"),
            (json!({ "method": "GET", "path": "/users" }), "route_forbidden"),
            (json!({ "method": "GET", "path": "/invoices/../users" }), "route_forbidden"), (json!({}), "route_forbidden"),
        ]).await;
        // It is Friday, 12:00 in UTC and 21:00 in Tokyo.
        let hours = |days: &[&str], zone: &str, from: &str, to: &str| {
            json!({ "active_hours": { "timezone": zone, "windows": [{ "days": days, "from": from, "to": to }] } })
        };
        judged(&node, hours(&["fri"], "UTC", "09:00", "18:00"), &[(json!({}), "valid")]).await;
        judged(&node, hours(&["fri"], "Asia/Tokyo", "09:00", "18:00"), &[(json!({}), "outside_hours")]).await;
        judged(&node, hours(&["sat", "sun"], "UTC", "00:00", "24:00"), &[(json!({}), "outside_hours")]).await;
        judged(&node, hours(&["fri"], "UTC", "09:00", "12:00"), &[(json!({}), "outside_hours")]).await;
        // Without a map from addresses to countries no country is known, and the rule refuses.
        judged(&node, json!({ "allowed_countries": ["JP"] }), &[(json!({ "ip": "203.0.113.7" }), "country_forbidden")]).await;
        let mut faults = vec![(json!({ "allowed_routes": ["invoices"] }), "/allowed_routes/0"), (json!({ "allowed_countries": ["Japan"] }), "/allowed_countries/0")];
        faults.push((hours(&["fri"], "Mars/Base", "09:00", "18:00"), "/active_hours"));
        faults.push((hours(&["someday"], "UTC", "09:00", "18:00"), "/active_hours"));
        faults.push((hours(&["fri"], "UTC", "18:00", "09:00"), "/active_hours"));
        for (mut body, pointer) in faults {
            body["name"] = json!("x");
            let answer = node.post("/v1/api-keys", body).await;
            assert_eq!((answer.status, answer.pointer()), (422, pointer), "{answer:?}");
        }
    }

    async fn a_disabled_key_rests_until_it_is_enabled(node: Node) {
        let issued = node.new_key(json!({})).await;
        let path = format!("/v1/api-keys/{}", text(&issued, "id"));
        for (action, status, code) in [("disable", "disabled", "disabled"), ("enable", "active", "valid")] {
            let answer = node.post(&format!("{path}/{action}"), json!({})).await;
            assert_eq!((answer.status, text(&answer.json, "status")), (200, status));
            assert_eq!(node.code_of(text(&issued, "key")).await, code);
        }
        node.post(&format!("{path}/revoke"), json!({})).await;
        let refused = node.post(&format!("{path}/enable"), json!({})).await;
        assert_eq!((refused.status, refused.code()), (409, "conflict"), "revoked is for good");
    }

    async fn a_patch_changes_what_it_names_and_null_clears(node: Node) {
        let full = json!({
            "name": "before", "scopes": ["a:b"], "external_id": "ext-1", "metadata": { "team": 7 }, "expires_in_days": 5,
            "allowed_ips": ["192.0.2.1"], "quota": { "limit": 10, "period": "month" },
            "limits": [{ "name": "requests", "limit": 5, "window_seconds": 60 }],
            "active_hours": { "timezone": "UTC", "windows": [{ "days": ["fri"], "from": "00:00", "to": "24:00" }] },
        });
        let issued = node.new_key(full.clone()).await;
        let path = format!("/v1/api-keys/{}", text(&issued, "id"));
        node.clock.advance_seconds(1);
        let named = node.patch(&path, json!({ "name": "after" })).await.json;
        assert_eq!((text(&named, "name"), text(&named, "updated_at")), ("after", "2026-11-20T12:00:01Z"));
        for field in ["scopes", "external_id", "metadata", "allowed_ips", "quota", "limits", "active_hours", "expires_at"] {
            assert_eq!(named[field], issued[field], "{field} stays");
        }
        let clear = json!({ "external_id": null, "expires_at": null, "quota": null, "active_hours": null, "allowed_ips": [], "limits": [] });
        let cleared = node.patch(&path, clear).await.json;
        for field in ["external_id", "expires_at", "quota", "active_hours"] {
            assert!(cleared[field].is_null(), "{field}: {cleared}");
        }
        assert_eq!((&cleared["allowed_ips"], &cleared["metadata"]), (&json!([]), &json!({ "team": 7 })));
        assert_eq!(node.get(&path).await.json, cleared);
        assert_eq!(node.code_of(text(&issued, "key")).await, "valid");
        let narrowed = node.patch(&path, json!({ "allowed_ips": ["192.0.2.1"] })).await;
        assert_eq!((narrowed.status, node.code_of(text(&issued, "key")).await.as_str()), (200, "ip_forbidden"), "at once");
    }

    async fn lists_are_filtered_and_sorted(node: Node) {
        node.clock.advance_seconds(1);
        let paused = node.new_key(json!({ "name": "Paused", "scopes": ["a:read"] })).await;
        node.clock.advance_seconds(1);
        let ended = node.new_key(json!({ "name": "ended", "scopes": ["a:write"], "external_id": "Customer_9" })).await;
        node.clock.advance_seconds(1);
        node.new_key(json!({ "name": "soon", "expires_in_days": 3, "environment": "test" })).await;
        node.clock.advance_seconds(1);
        node.new_keyspace_key().await;
        node.post(&format!("/v1/api-keys/{}/disable", text(&paused, "id")), json!({})).await;
        node.post(&format!("/v1/api-keys/{}/revoke", text(&ended, "id")), json!({})).await;
        for (query, wanted) in [
            ("status=disabled", &["Paused"][..]), ("status=revoked", &["ended"]), ("scope=a:read", &["Paused"]),
            ("scope=a", &[]), ("q=PAUS", &["Paused"]), ("q=customer_9", &["ended"]), ("q=customerx9", &[]), ("q=%25", &[]),
            ("environment=test", &["soon"]), ("keyspace=special", &["special"]), ("expiring_within_days=3", &["soon"]), ("expiring_within_days=2", &[]),
        ] {
            assert_eq!(names(&node, &format!("/v1/api-keys?{query}")).await, wanted, "{query}");
        }
        let owned = names(&node, &format!("/v1/api-keys?owner={}", node.user)).await;
        assert_eq!(owned.len(), 5);
        let oldest = names(&node, "/v1/api-keys?sort=created_at").await;
        assert_eq!(oldest[1..4], ["Paused", "ended", "soon"]);
        for query in ["status=gone", "sort=name", "owner=me", "limit=201", "limit=x", "color=red", "q=%00"] {
            assert_eq!(node.get(&format!("/v1/api-keys?{query}")).await.status, 400, "{query}");
        }
        assert_eq!(names(&node, "/v1/api-keys/expiring?days=3").await, ["soon"]);
        assert_eq!(names(&node, "/v1/api-keys/expiring?days=2").await, Vec::<String>::new());
        let revoked = node.new_key(json!({ "name": "revoked", "expires_in_days": 1 })).await;
        node.post(&format!("/v1/api-keys/{}/revoke", text(&revoked, "id")), json!({})).await;
        assert_eq!(names(&node, "/v1/api-keys/expiring?days=2").await, Vec::<String>::new(), "it has ended already");

        node.clock.advance_seconds(3 * 86_400);
        assert_eq!(names(&node, "/v1/api-keys?status=expired").await, ["soon"]);
        let kept = node.post("/v1/api-keys/cleanup-expired", json!({ "older_than_days": 1 })).await;
        assert_eq!(kept.json, json!({ "count": 0 }));
        let cleaned = node.post("/v1/api-keys/cleanup-expired", json!({})).await;
        assert_eq!((cleaned.status, cleaned.json), (200, json!({ "count": 1 })));
        assert_eq!(names(&node, "/v1/api-keys?status=expired").await, Vec::<String>::new());
        assert_eq!(node.code_of(text(&revoked, "key")).await, "revoked", "whatever its time was");
    }

    async fn a_list_is_read_page_by_page(node: Node) {
        for number in 0..4 {
            node.new_key(json!({ "name": format!("k{number}") })).await;
        }
        for sort in ["created_at", "-created_at"] {
            let (mut seen, mut cursor, mut sizes) = (Vec::new(), String::new(), Vec::new());
            loop {
                let page = node.get(&format!("/v1/api-keys?limit=2&sort={sort}{cursor}")).await.json;
                let items = page["items"].as_array().unwrap().clone();
                sizes.push(items.len());
                seen.extend(items.iter().map(|item| text(item, "id").to_owned()));
                let Some(next) = page["next_cursor"].as_str() else { break };
                cursor = format!("&cursor={next}");
            }
            assert_eq!(sizes, [2, 2, 1]);
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), 5, "all once, the service key among them");
        }
        let bad = node.get("/v1/api-keys?cursor=xyz").await;
        assert_eq!((bad.status, bad.code()), (400, "invalid_cursor"));
    }

    async fn a_use_shows_when_and_from_where(node: Node) {
        let issued = node.new_key(json!({})).await;
        let id = text(&issued, "id");
        assert!(issued["last_used_at"].is_null());
        node.verify(json!({ "key": issued["key"], "ip": "::ffff:192.0.2.9", "dry_run": true })).await;
        node.clock.advance_seconds(5);
        node.verify(json!({ "key": issued["key"], "ip": "::ffff:192.0.2.9" })).await;
        let used = node.wait_for_use(id).await;
        assert_eq!((text(&used, "last_used_at"), text(&used, "last_used_ip")), ("2026-11-20T12:00:05Z", "192.0.2.9"));
        assert_eq!(used["secrets"][0]["last_used_at"], used["last_used_at"]);
        let stats = node.get(&format!("/v1/api-keys/{id}/stats")).await.json;
        assert_eq!((&stats["key_id"], &stats["last_used_at"]), (&issued["id"], &used["last_used_at"]));

        node.new_key(json!({ "name": "idle" })).await;
        node.clock.advance_seconds(10 * 86_400);
        assert!(names(&node, "/v1/api-keys?unused_for_days=10").await.contains(&"idle".to_owned()));
        assert!(!names(&node, "/v1/api-keys?unused_for_days=11").await.contains(&"idle".to_owned()));
    }

    async fn health_tells_what_a_careful_owner_would_change(node: Node) {
        let wide = node.new_key(json!({ "name": "wide", "scopes": ["a:*"] })).await;
        node.new_key(json!({ "name": "good", "scopes": ["a:b"], "expires_in_days": 300, "allowed_ips": ["192.0.2.1"] })).await;
        let codes = async |key: &Value| -> Vec<String> {
            let listed = node.get("/v1/api-keys/health").await.json;
            let found = listed["items"].as_array().unwrap().iter().find(|item| item["key_id"] == key["id"]);
            found.map_or(Vec::new(), |item| item["findings"].as_array().unwrap().iter().map(|one| text(one, "code").to_owned()).collect())
        };
        assert_eq!(codes(&wide).await, ["no_expiry", "wide_scope", "no_ip_rule"]);
        assert!(!names(&node, "/v1/api-keys/health").await.contains(&"good".to_owned()));
        node.clock.advance_seconds(200 * 86_400);
        assert_eq!(codes(&wide).await, ["no_expiry", "never_used", "wide_scope", "old_secret", "no_ip_rule"]);
    }

    async fn revoking_all_needs_a_confirmation_and_keeps_the_callers_key(node: Node) {
        let one = node.new_key(json!({})).await;
        let two = node.new_keyspace_key().await;
        for body in [json!({ "confirm": false }), json!({})] {
            let refused = node.post("/v1/api-keys/revoke-all", body).await;
            assert_eq!((refused.status, refused.pointer()), (422, "/confirm"));
        }
        let some = node.post("/v1/api-keys/revoke-all", json!({ "confirm": true, "keyspace": "special" })).await;
        assert_eq!((some.status, some.json), (200, json!({ "count": 1 })));
        assert_eq!((node.code_of(text(&two, "key")).await, node.code_of(text(&one, "key")).await), ("revoked".into(), "valid".into()));
        let all = node.post("/v1/api-keys/revoke-all?wait=true", json!({ "confirm": true, "reason": "drill" })).await;
        assert_eq!((all.status, all.json), (200, json!({ "count": 1 })));
        assert_eq!(node.code_of(text(&one, "key")).await, "revoked");
        let stats = node.get("/v1/api-keys/stats").await.json;
        assert_eq!((&stats["total"], &stats["active"], &stats["revoked"]), (&json!(3), &json!(1), &json!(2)));
    }

    async fn a_dry_run_explains_every_rule(node: Node) {
        let issued = node.new_key(json!({ "scopes": ["a:b"], "allowed_ips": ["192.0.2.1"] })).await;
        let answer = node.verify(json!({ "key": issued["key"], "scopes": ["a:c"], "dry_run": true })).await.json;
        assert_eq!(text(&answer, "code"), "insufficient_scope");
        let outcome = |check: &str| {
            let found = answer["checks"].as_array().unwrap().iter().find(|one| text(one, "check") == check);
            text(found.unwrap(), "outcome").to_owned()
        };
        for (check, wanted) in [("malformed", "pass"), ("disabled", "pass"), ("insufficient_scope", "fail"), ("ip_forbidden", "fail"), ("route_forbidden", "skipped")] {
            assert_eq!(outcome(check), wanted, "{check}");
        }
        assert!(node.verify(json!({ "key": issued["key"] })).await.json.get("checks").is_none());
    }

    async fn a_batch_answers_in_order(node: Node) {
        let issued = node.new_key(json!({})).await;
        let unknown = format!("kw_live_{}", "x".repeat(49));
        let items = json!([{ "key": issued["key"] }, { "key": unknown }, { "key": issued["key"], "environment": "test" }]);
        let answer = node.post("/v1/api-keys/verify/batch", json!({ "items": items })).await;
        let codes: Vec<&str> = answer.json["items"].as_array().unwrap().iter().map(|item| text(item, "code")).collect();
        assert_eq!(codes, ["valid", "malformed", "wrong_environment"]);
        for count in [0, 101] {
            let refused = node.post("/v1/api-keys/verify/batch", json!({ "items": vec![json!({ "key": "x" }); count] })).await;
            assert_eq!((refused.status, refused.pointer()), (422, "/items"), "{count}");
        }
    }

    async fn a_batch_counts_all_of_its_verdicts_or_none(node: Node) {
        let limited = node.new_key(json!({ "limits": [{ "name": "requests", "limit": 1, "window_seconds": 60 }] })).await;
        let batch = |second: Value| node.post("/v1/api-keys/verify/batch", json!({ "items": [{ "key": limited["key"] }, second] }));
        let refused = batch(json!({ "key": limited["key"], "ip": "nowhere" })).await;
        assert_eq!((refused.status, refused.pointer()), (422, "/items/1/ip"), "{refused:?}");
        let answer = batch(json!({ "key": limited["key"], "limits": [{ "name": "tokens", "cost": 1 }] })).await;
        assert_eq!((answer.status, &answer.json["items"][0]["valid"]), (200, &json!(true)), "nothing was counted before: {answer:?}");
        let other = &answer.json["items"][1];
        assert_eq!((&other["valid"], text(other, "code")), (&json!(false), "invalid_field"));
        assert_eq!(other["errors"][0]["pointer"], "/limits/0/name");
    }

    async fn introspection_tells_active_keys_and_nothing_of_others(node: Node) {
        let issued = node.new_key(json!({ "scopes": ["a:b", "c:d"], "expires_in_days": 1 })).await;
        let ask = |token: &str| {
            let request = node.request_as(&node.service_key, Method::POST, "/v1/oauth/introspect");
            Answer::of(request.header("content-type", "application/x-www-form-urlencoded").body(format!("token={token}&token_type_hint=access_token")))
        };
        let active = ask(text(&issued, "key")).await.json;
        assert_eq!((&active["active"], text(&active, "scope"), &active["client_id"]), (&json!(true), "a:b c:d", &issued["id"]));
        assert_eq!((text(&active, "sub"), active["exp"].as_i64()), (node.user.as_str(), Some(1_795_262_400)));
        // Rules about a call, and limits, say nothing against the key itself.
        for rule in [
            json!({ "allowed_ips": ["192.0.2.0/24"] }),
            json!({ "allowed_routes": ["GET /a"] }),
            json!({ "allowed_countries": ["JP"] }),
            json!({ "allowed_ips": ["192.0.2.0/24"], "allowed_countries": ["JP"] }),
            json!({ "limits": [{ "name": "requests", "limit": 1, "window_seconds": 60 }] }),
        ] {
            let ruled = node.new_key(rule.clone()).await;
            node.verify(json!({ "key": ruled["key"] })).await;
            assert_eq!(ask(text(&ruled, "key")).await.json["active"], true, "{rule}");
        }
        node.post(&format!("/v1/api-keys/{}/revoke", text(&issued, "id")), json!({})).await;
        for token in [text(&issued, "key"), "nonsense", ""] {
            let answer = ask(token).await;
            assert_eq!((answer.status, answer.text.as_str()), (200, r#"{"active":false}"#), "{token}");
        }
        assert_eq!(node.post("/v1/oauth/introspect", json!({ "token": "x" })).await.status, 415);
    }
}

impl Node {
    /// A key in a keyspace of its own, both named `special`.
    async fn new_keyspace_key(&self) -> Value {
        let made = self.post("/v1/keyspaces", json!({ "name": "special", "prefix": "sp" })).await;
        assert_eq!(made.status, 201, "{made:?}");
        self.new_key(json!({ "name": "special", "keyspace": "special" })).await
    }
}
