//! A server that connects as a role without the right to change events: docs/concepts/database-roles.md, as it stands there.

use serde_json::json;

use crate::support::{Backend, Node};

const GUIDE: &str = include_str!("../../../../docs/concepts/database-roles.md");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_not_change_events_is_enough_to_serve() {
    let owner = Node::start(Backend::Postgres).await;
    // Months are made by who owns the table; reading numbers what waits, and so makes the first.
    assert_eq!(owner.get("/v1/audit-events").await.status, 200);
    let role = format!("server_{:032x}", rand::random::<u128>());
    owner.tamper(&format!("CREATE ROLE {role} LOGIN")).await;
    for block in GUIDE.split("```sql").skip(1) {
        let statements = block.split("```").next().unwrap();
        owner.tamper(&statements.replace("keyward_server", &role)).await;
    }
    let server = owner.join(owner.place.as_role(&role), |_| {}).await;
    let event = json!({ "event_type": "DATA", "action": "read", "actor": { "type": "user", "id": "u-1", "name": "Maria" },
        "resource": { "type": "file", "id": "f-1" } });
    let taken = server.post("/v1/audit-events", event).await;
    assert_eq!(taken.status, 201, "{taken:?}");
    server.new_key(json!({})).await;
    let found = server.get("/v1/audit-events?actor=u-1").await;
    assert_eq!(found.json["items"].as_array().unwrap().len(), 1, "{found:?}");
    for statement in [
        "UPDATE audit_event SET action = 'x'",
        "DELETE FROM audit_event",
        "TRUNCATE audit_event",
        "DELETE FROM audit_event_p202611",
        "UPDATE audit_event_p202611 SET actor_id = ''",
        "ALTER TABLE audit_event DISABLE TRIGGER ALL",
    ] {
        let told = server.refuses(statement).await;
        assert!(told.contains("permission denied") || told.contains("must be owner"), "{statement}: {told}");
    }
    // Not every change of what can be erased is an erasure.
    assert!(server.refuses("UPDATE audit_event SET actor_id = 'u-2'").await.contains("never changed"));
    let system = keyward::context::Context::system("test");
    let erased = server.app.keyward.audit.erase(&system, server.organization.parse().unwrap(), "u-1").await.unwrap();
    assert_eq!(erased.as_actor, 1);
    server.stop().await;
    owner.tamper(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}
