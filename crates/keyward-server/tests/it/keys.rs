//! The life of a key: issued, verified, rotated, disabled, revoked, deleted.

use serde_json::json;

use crate::support::on_both;

on_both! {
    async fn a_key_is_issued_verified_rotated_and_revoked(node: Node) {
        let issued = node.new_key(json!({ "scopes": ["invoices:read"] })).await;
        let (id, first) = (issued["id"].as_str().unwrap(), issued["key"].as_str().unwrap());
        assert_eq!(first.len(), 57);
        let verdict = node.verify(json!({ "key": first, "scopes": ["invoices:read"] })).await.json;
        assert_eq!((verdict["code"].as_str(), verdict["key_id"].as_str()), (Some("valid"), Some(id)));

        let rotated = node.post(&format!("/v1/api-keys/{id}/rotate"), json!({ "overlap_seconds": 60 })).await.json;
        let second = rotated["key"].as_str().unwrap();
        assert_eq!(rotated["id"], id, "the key stays the same");
        assert_eq!((node.code_of(first).await, node.code_of(second).await), ("valid".into(), "valid".into()));
        node.clock.advance_seconds(60);
        assert_eq!((node.code_of(first).await, node.code_of(second).await), ("rotated".into(), "valid".into()));

        let revoked = node.post(&format!("/v1/api-keys/{id}/revoke"), json!({ "reason": "done" })).await;
        assert_eq!((revoked.status, revoked.json["status"].as_str()), (200, Some("revoked")));
        assert_eq!((node.code_of(first).await, node.code_of(second).await), ("revoked".into(), "revoked".into()));
    }


    async fn a_reason_is_kept_and_an_unknown_field_of_an_action_refused(node: Node) {
        let id = node.new_key(json!({})).await["id"].as_str().unwrap().to_owned();
        let act = async |action: &str, body| node.post(&format!("/v1/api-keys/{id}/{action}"), body).await;
        for action in ["disable", "enable", "revoke", "rotate"] {
            let refused = act(action, json!({ "colour": 1 })).await;
            assert_eq!((refused.status, refused.code(), refused.pointer()), (422, "unknown_field", "/colour"), "{action}");
            let positional = act(action, json!([7])).await;
            assert_eq!((positional.status, positional.pointer()), (422, ""), "{action}: {positional:?}");
        }
        let disabled = act("disable", json!({ "reason": "on holiday" })).await.json;
        assert_eq!((&disabled["status"], &disabled["reason"]), (&json!("disabled"), &json!("on holiday")));
        let enabled = act("enable", json!({})).await.json;
        assert_eq!((&enabled["status"], &enabled["reason"]), (&json!("active"), &json!(null)));
        assert_eq!(enabled["secrets"][0]["status"], "active");
        let revoked = act("revoke", json!({ "reason": "done" })).await.json;
        assert_eq!((&revoked["reason"], &revoked["secrets"][0]["status"]), (&json!("done"), &json!("revoked")));
    }

    async fn null_clears_what_can_be_cleared(node: Node) {
        let rules = json!({
            "metadata": { "a": 1 }, "scopes": ["a"], "external_id": "e", "allowed_ips": ["10.0.0.0/8"], "quota": { "limit": 1, "period": "month" },
            "limits": [{ "name": "requests", "limit": 1, "window_seconds": 60 }],
        });
        let key = node.new_key(rules.clone()).await;
        let path = format!("/v1/api-keys/{}", key["id"].as_str().unwrap());
        let nulls: serde_json::Map<_, _> = rules.as_object().unwrap().keys().map(|name| (name.clone(), json!(null))).collect();
        let cleared = node.patch(&path, nulls.into()).await.json;
        assert_eq!((&cleared["metadata"], &cleared["scopes"], &cleared["limits"]), (&json!({}), &json!([]), &json!([])));
        assert_eq!((&cleared["external_id"], &cleared["allowed_ips"], &cleared["quota"]), (&json!(null), &json!([]), &json!(null)));
        let refused = node.patch(&path, json!({ "name": null })).await;
        assert_eq!((refused.status, refused.pointer()), (422, "/name"));
    }

    async fn a_fault_of_a_limit_points_at_its_field(node: Node) {
        let good = json!({ "name": "requests", "limit": 1, "window_seconds": 60 });
        let most = 9_007_199_254_740_992_u64;
        for (field, value) in [("name", json!("a b")), ("limit", json!(0)), ("limit", json!(most)), ("window_seconds", json!(0))] {
            let mut limit = good.clone();
            limit[field] = value.clone();
            let refused = node.post("/v1/api-keys", json!({ "name": "x", "limits": [limit] })).await;
            assert_eq!((refused.status, refused.pointer()), (422, format!("/limits/0/{field}").as_str()), "{value}");
        }
        let key = node.new_key(json!({})).await["key"].clone();
        let refused = node.verify(json!({ "key": key, "cost": most })).await;
        assert_eq!(refused.json["errors"][0]["detail"], "must be between 1 and 9007199254740991");
        let positional = node.post("/v1/api-keys", json!({ "name": "x", "limits": [["requests", 1, 60]] })).await;
        assert_eq!((positional.status, positional.pointer()), (422, "/limits/0"));
        assert_eq!(node.verify(json!([key])).await.status, 422);
    }
}
