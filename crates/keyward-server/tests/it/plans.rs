//! Plans: versions, previews, appointed changes, and who stays on what.

use serde_json::{Value, json};

use crate::support::{Node, on_both};

async fn new_plan(node: &Node, change: Value) -> Value {
    let mut plan = json!({ "name": "team", "key_limit": 3, "requests_per_minute": 10, "quota_per_month": 100 });
    plan.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
    let answer = node.post("/v1/plans", plan).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json
}

async fn key_of(node: &Node, organization: &str) -> Value {
    let answer = node.post(&format!("/v1/organizations/{organization}/api-keys"), json!({ "name": "k" })).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json
}

async fn limit_of(node: &Node, key: &Value) -> Value {
    node.verify(json!({ "key": key["key"], "dry_run": true })).await.json["limits"][0]["limit"].clone()
}

on_both! {
    async fn a_change_is_a_version_and_in_force_at_once(node: Node) {
        new_plan(&node, json!({})).await;
        let organization = node.new_organization("one", "team").await;
        let key = key_of(&node, &organization).await;
        assert_eq!(limit_of(&node, &key).await, 10);
        let changed = node.patch("/v1/plans/team", json!({ "requests_per_minute": 20 })).await;
        assert_eq!((changed.status, changed.json["version"].clone()), (200, json!(2)));
        assert_eq!(limit_of(&node, &key).await, 20);
        let versions = node.get("/v1/plans/team/versions").await;
        let told: Vec<(Value, Value, Value)> = versions.json["items"].as_array().expect("versions").iter()
            .map(|version| (version["version"].clone(), version["requests_per_minute"].clone(), version["organizations"].clone())).collect();
        assert_eq!(told, [(json!(2), json!(20), json!(1)), (json!(1), json!(10), json!(0))]);
    }

    async fn grandfathered_organizations_keep_their_version(node: Node) {
        new_plan(&node, json!({})).await;
        let old = node.new_organization("old", "team").await;
        let key = key_of(&node, &old).await;
        let changed = node.patch("/v1/plans/team", json!({ "requests_per_minute": 5, "key_limit": 1, "grandfather": true })).await;
        assert_eq!(changed.status, 200, "{changed:?}");
        assert_eq!(limit_of(&node, &key).await, 10);
        key_of(&node, &old).await;
        let new = node.new_organization("new", "team").await;
        assert_eq!(limit_of(&node, &key_of(&node, &new).await).await, 5);
        let beyond = node.post(&format!("/v1/organizations/{new}/api-keys"), json!({ "name": "k" })).await;
        assert_eq!((beyond.status, beyond.code()), (409, "key_limit_reached"));
        // Choosing the plan anew does not bring the old terms back; moving away and back takes the present ones.
        node.patch(&format!("/v1/organizations/{old}"), json!({ "plan": "pro" })).await;
        let back = node.patch(&format!("/v1/organizations/{old}"), json!({ "plan": "team" })).await;
        assert_eq!((back.status, back.code()), (409, "plan_below_use"));
    }

    async fn a_new_name_is_told_at_once_though_its_terms_wait(node: Node) {
        new_plan(&node, json!({})).await;
        let key = key_of(&node, &node.new_organization("one", "team").await).await;
        let plan_of = async || node.verify(json!({ "key": key["key"], "dry_run": true })).await.json["plan"].clone();
        assert_eq!(plan_of().await, "team");
        let change = json!({ "name": "crew", "key_limit": 4, "effective_at": "2026-12-01T00:00:00Z" });
        let changed = node.patch("/v1/plans/team", change).await;
        assert_eq!(changed.status, 200, "{changed:?}");
        assert_eq!(plan_of().await, "crew");
    }

    async fn an_appointed_change_waits_for_its_time(node: Node) {
        new_plan(&node, json!({})).await;
        let key = key_of(&node, &node.new_organization("one", "team").await).await;
        let later = json!({ "requests_per_minute": 99, "effective_at": "2026-11-21T00:00:00Z" });
        let scheduled = node.patch("/v1/plans/team", later.clone()).await;
        assert_eq!((scheduled.status, scheduled.json["version"].clone()), (200, json!(1)));
        assert_eq!(node.patch("/v1/plans/team", json!({ "requests_per_minute": 7 })).await.status, 409);
        node.app.keyward.settle_due().await.expect("nothing is due");
        assert_eq!(limit_of(&node, &key).await, 10);
        node.clock.set("2026-11-21T00:00:00Z".parse().expect("an instant"));
        node.app.keyward.settle_due().await.expect("the change is made");
        assert_eq!(limit_of(&node, &key).await, 99);
        assert_eq!(node.get("/v1/plans/team").await.json["version"], 2);
        // Taken back before its time, a change never comes.
        let again = json!({ "requests_per_minute": 1, "effective_at": "2026-11-22T00:00:00Z" });
        assert_eq!(node.patch("/v1/plans/team", again).await.status, 200);
        assert_eq!(node.delete("/v1/plans/team/versions/3").await.status, 204);
        assert_eq!(node.delete("/v1/plans/team/versions/2").await.status, 404);
        node.clock.set("2026-11-23T00:00:00Z".parse().expect("an instant"));
        node.app.keyward.settle_due().await.expect("nothing is due");
        assert_eq!(limit_of(&node, &key).await, 99);
    }

    async fn a_preview_tells_who_is_affected_and_changes_nothing(node: Node) {
        new_plan(&node, json!({})).await;
        let (large, small) = (node.new_organization("large", "team").await, node.new_organization("small", "team").await);
        let key = key_of(&node, &large).await;
        key_of(&node, &large).await;
        key_of(&node, &small).await;
        assert_eq!(node.verify(json!({ "key": key["key"], "cost": 8 })).await.json["code"], "valid");
        node.app.keyward.flush().await.expect("the use is saved");
        let preview = node.post("/v1/plans/team/preview", json!({ "key_limit": 1, "quota_per_month": 5 })).await;
        assert_eq!((preview.json["organizations"].clone(), preview.json["over"].clone()), (json!(2), json!(1)));
        let first = &preview.json["items"][0];
        assert_eq!((first["organization_id"].clone(), first["active_keys"].clone(), first["used_this_month"].clone()), (json!(large), json!(2), json!(8)));
        assert_eq!(first["over"], json!(["key_limit", "quota_per_month"]));
        assert_eq!(node.get("/v1/plans/team").await.json["version"], 1);
        let refused = node.patch("/v1/plans/team", json!({ "key_limit": 1 })).await;
        assert_eq!((refused.status, refused.code()), (409, "plan_below_use"));
        assert_eq!(node.get("/v1/plans/team").await.json["key_limit"], 3);
    }

    async fn a_plan_has_named_limits_for_organizations_keys_and_customers(node: Node) {
        let limits = json!([
            { "name": "tokens", "limit": 100, "window_seconds": 60 },
            { "name": "requests", "limit": 2, "window_seconds": 1, "per": "key" },
        ]);
        assert_eq!(new_plan(&node, json!({ "limits": limits })).await["limits"], limits);
        let organization = node.new_organization("one", "team").await;
        let (one, other) = (key_of(&node, &organization).await, key_of(&node, &organization).await);
        let call = |key: &Value, tokens: u64| json!({ "key": key["key"], "limits": [{ "name": "tokens", "cost": tokens }] });
        assert_eq!(node.verify(call(&one, 60)).await.json["code"], "valid");
        assert_eq!(node.verify(call(&other, 60)).await.json["code"], "rate_limited");
        for expected in ["valid", "rate_limited"] {
            assert_eq!(node.code_of(one["key"].as_str().expect("a key")).await, expected);
        }
        assert_eq!(node.code_of(other["key"].as_str().expect("a key")).await, "valid");
    }

    async fn bad_plans_are_refused(node: Node) {
        new_plan(&node, json!({})).await;
        for change in [
            json!({ "limits": [{ "name": "requests", "limit": 5, "window_seconds": 60 }] }), json!({ "limits": [{ "name": "a", "limit": 0, "window_seconds": 60 }] }),
            json!({ "effective_at": "2026-11-20T12:00:00Z" }), json!({ "effective_at": "soon" }), json!({ "key_limit": 0 }), json!({ "grandfather": 1 }),
        ] {
            assert_eq!(node.patch("/v1/plans/team", change.clone()).await.status, 422, "{change}");
        }
        assert_eq!(node.get("/v1/plans/team").await.json["version"], 1);
    }
}
