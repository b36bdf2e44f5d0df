//! A server that connects as a role without the right to change events: docs/concepts/database-roles.md, as it stands there.

use keyward::jobs::JobKind;
use serde_json::{Value, json};

use crate::doctor::doctor;
use crate::jobs::{ended, start};
use crate::support::{Backend, Node, Place, start_of_time};

const GUIDE: &str = include_str!("../../../../docs/concepts/database-roles.md");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_not_change_events_is_enough_to_serve() {
    let owner = Node::start(Backend::Postgres).await;
    // Months are made by who owns the table; reading numbers what waits, and so makes the first.
    assert_eq!(owner.get("/v1/audit-events").await.status, 200);
    let role = format!("server_{:032x}", rand::random::<u128>());
    owner.tamper(&format!("CREATE ROLE {role} LOGIN")).await;
    follow_the_guide(&owner.place, &role).await;
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

/// Runs what the guide says, for a role of this name.
async fn follow_the_guide(owner: &Place, role: &str) {
    for block in GUIDE.split("```sql").skip(1) {
        let statements = block.split("```").next().unwrap();
        owner.run(&statements.replace("keyward_server", role)).await;
    }
}

async fn owner_panel(node: &Node) -> Value {
    let health = node.get("/v1/admin/database/health").await.json;
    let panel = health["panels"].as_array().unwrap().iter().find(|panel| panel["name"] == "owner").unwrap().clone();
    let advised = health["advice"].as_array().unwrap().iter().any(|advice| advice["panel"] == "owner");
    assert_eq!(advised, panel["status"] != "ok", "{health}");
    panel
}

async fn send(node: &Node, count: usize) {
    let event = json!({ "event_type": "DATA", "action": "read", "actor": { "type": "user", "id": "u-1" },
        "resource": { "type": "file", "id": "f-1" } });
    let sent = node.post("/v1/audit-events", json!({ "events": vec![event; count] })).await;
    assert_eq!(sent.status, 201, "{sent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upkeep_goes_by_the_owners_address() {
    let place = Place::new(Backend::Postgres).await;
    let database = place.database_url().unwrap().rsplit_once('/').unwrap().1.to_owned();
    let number = rand::random::<u128>();
    let (owner_role, server_role) = (format!("owner_{number:032x}"), format!("server_{number:032x}"));
    // Neither is a superuser, to whom nothing would be refused.
    place.run(&format!("CREATE ROLE {owner_role} LOGIN; CREATE ROLE {server_role} LOGIN; ALTER DATABASE {database} OWNER TO {owner_role}")).await;
    let (as_owner, as_server) = (place.as_role(&owner_role), place.as_role(&server_role));
    let owner = Node::start_in(as_owner.clone(), start_of_time(), |_| {}).await;
    send(&owner, 50).await;
    follow_the_guide(&as_owner, &server_role).await;
    assert_eq!(owner_panel(&owner).await["status"], "ok");
    let (clock, known) = (owner.clock.clone(), owner.join(as_server.clone(), |_| {}).await);
    owner.stop().await;

    // Without the address it says so, and its own job cannot make a month.
    let told = owner_panel(&known).await;
    assert_eq!(told["status"], "unknown", "{told}");
    let why = told["why"].as_str().unwrap();
    assert!(why.contains(&owner_role) && why.contains("maintenance.database_url"), "{why}");
    let doctors = doctor(&as_server, &[]);
    assert_eq!((doctors.status("owner"), doctors.reason("owner").contains(why)), ("unknown", true));
    let address = [("KEYWARD_MAINTENANCE_DATABASE_URL", as_owner.database_url().unwrap())];
    assert!(!doctor(&as_server, &address).checks.contains_key("owner"), "what is well is not listed");
    let failed = ended(&known, &start(&known, JobKind::Partitions, &[]).await).await;
    assert_eq!(failed["status"], "failed", "{failed}");
    assert!(failed["error"].as_str().unwrap().contains("must be owner"), "{failed}");

    // An address that leads elsewhere is not followed.
    let elsewhere = Place::new(Backend::Postgres).await;
    let misled = |layers: &mut keyward::config::Layers| {
        layers.flag("maintenance.database_url", elsewhere.database_url().unwrap());
    };
    let misled = known.join(as_server.clone(), misled).await;
    known.stop().await;
    assert!(owner_panel(&misled).await["why"].as_str().unwrap().contains("another database"));
    let failed = ended(&misled, &start(&misled, JobKind::Partitions, &[]).await).await;
    assert!(failed["error"].as_str().unwrap().contains("another database"), "{failed}");

    let server = misled.join(as_server, |layers| {
        layers.flag("maintenance.database_url", as_owner.database_url().unwrap());
        layers.flag("maintenance.retention_months", 3);
    });
    let server = server.await;
    misled.stop().await;
    assert_eq!(owner_panel(&server).await["status"], "ok");
    let run = async || {
        let done = ended(&server, &start(&server, JobKind::Partitions, &[]).await).await;
        assert_eq!(done["status"], "succeeded", "{done}");
    };
    run().await;
    let months = "SELECT count(*) AS value FROM pg_inherits WHERE inhparent = 'audit_event'::regclass";
    assert_eq!(place.tell(months).await, 7);
    // The months that the job has made are as closed as those before.
    for statement in ["DELETE FROM audit_event_p202702", "SELECT count(*) FROM audit_event_p202702"] {
        let refused = server.refuses(statement).await;
        assert!(refused.contains("permission denied"), "{statement}: {refused}");
    }
    clock.advance_seconds(100 * 86_400);
    send(&server, 5).await;
    server.app.keyward.audit.sequence().await.unwrap();
    server.app.keyward.proofs.sign_new().await.unwrap();
    // The daily job may stand in its way, and have come too early itself.
    let left = "SELECT count(*) AS value FROM pg_class WHERE relname = 'audit_event_p202611'";
    for _ in 0..10 {
        run().await;
        if place.tell(left).await == 0 {
            break;
        }
    }
    assert_eq!(place.tell(left).await, 0, "the old month has left");
    let archive = std::fs::read_to_string(place.folder().join("archive/audit_event_p202611.jsonl")).unwrap();
    assert!(archive.lines().count() >= 50);
    let reads = server.get("/v1/audit-events?action=read&limit=200").await;
    assert_eq!(reads.json["items"].as_array().unwrap().len(), 5);
    server.stop().await;
}
