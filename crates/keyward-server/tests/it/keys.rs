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
}
