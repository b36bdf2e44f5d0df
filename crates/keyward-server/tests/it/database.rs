//! Looking after the database: its figures, its health, its upkeep, its partitions.

mod conversion;
mod partitions;

use http::Method;
use keyward::context::Context;
use keyward::jobs::JobKind;
use keyward::maintenance::{Asked, UpkeepRequest};
use keyward_core::access::Role;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};

use crate::jobs::{ended, start};
use crate::people::{enroll, person, tokens, with};
use crate::support::{Backend, Node, on_both, start_of_time};

async fn get(node: &Node, path: &str) -> Value {
    let answer = node.get(&format!("/v1/admin/database/{path}")).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json
}

async fn panel(node: &Node, name: &str) -> Value {
    let health = get(node, "health").await;
    let panels = health["panels"].as_array().unwrap();
    panels.iter().find(|panel| panel["name"] == name).unwrap_or_else(|| panic!("{name} in {health}")).clone()
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["name"] == name)
        .unwrap_or_else(|| panic!("{name} in {list}"))
}

on_both! {
    async fn the_pages_tell_sizes_and_use(node: Node) {
        let postgres = node.place.database_url().is_some();
        let tables = get(&node, "stats/partitions").await;
        assert_eq!(tables["database"], if postgres { "postgres" } else { "sqlite" });
        let table = named(&tables, "audit_event");
        assert!(table["estimated_rows"].is_i64(), "{table}");
        assert_eq!(table["bytes"].is_null(), !postgres, "{table}");
        let indexes = get(&node, "stats/indexes").await;
        assert_eq!(named(&indexes, "job_by_time")["table_name"], "job");
        assert_eq!(indexes["why"].is_null(), postgres, "{indexes}");
        let report = get(&node, "report").await;
        assert_eq!((&report["partitions"]["database"], &report["last_upkeep"]), (&tables["database"], &json!({ "vacuum": null, "analyze": null, "reindex": null, "partitions": null, "convert": null })));
        let health = get(&node, "health").await;
        assert_eq!((&health["database"], &health["checked_at"]), (&tables["database"], &json!("2026-11-20T12:00:00Z")));
        assert!(health["version"].as_str().unwrap().contains(if postgres { "PostgreSQL 1" } else { "SQLite 3" }), "{health}");
        for panel in health["panels"].as_array().unwrap() {
            assert!(panel["title"].is_string() && panel["threshold"].is_string() && panel["findings"].is_array(), "{panel}");
            assert_eq!(panel["status"] == "unknown", panel["why"].is_string(), "{panel}");
            let advised = health["advice"].as_array().unwrap().iter().any(|advice| advice["panel"] == panel["name"]);
            assert_eq!(advised, panel["status"] != "ok", "{panel}: {}", health["advice"]);
        }
    }

    async fn upkeep_is_done_as_jobs(node: Node) {
        for kind in [JobKind::Vacuum, JobKind::Analyze, JobKind::Reindex, JobKind::Partitions] {
            let done = ended(&node, &start(&node, kind, &[]).await).await;
            assert_eq!((&done["status"], &done["kind"]), (&json!("succeeded"), &json!(kind.as_str())), "{done}");
        }
        let done = ended(&node, &start(&node, JobKind::Reindex, &["plan", "api_key"]).await).await;
        assert_eq!(done["result"]["tables"], json!(["api_key", "plan"]));
        let report = get(&node, "report").await;
        for kind in ["vacuum", "analyze", "reindex", "partitions"] {
            assert!(report["last_upkeep"][kind].is_string(), "{report}");
        }
    }

    async fn upkeep_is_asked_for_by_people_and_checked(node: Node) {
        for kind in ["vacuum", "analyze", "reindex", "partitions"] {
            let answer = node.post(&format!("/v1/admin/database/maintenance/{kind}"), json!({})).await;
            assert_eq!((answer.status, answer.code()), (403, "forbidden"), "no key may hold system:maintain");
        }
        let maintenance = &node.app.keyward.maintenance;
        let ask = async |kind, tables: &[&str], dry_run| {
            let tables = tables.iter().map(|name| (*name).to_owned()).collect();
            maintenance.start(&Context::system("test"), kind, UpkeepRequest { tables, dry_run }).await
        };
        for table in ["nonsense", "plan; DROP TABLE plan", "plan\" CASCADE; --", ""] {
            let refused = ask(JobKind::Vacuum, &["plan", table], false).await.unwrap_err();
            assert_eq!((refused.code.as_str(), refused.faults[0].pointer.as_str()), ("invalid_field", "/tables/1"), "{table}");
        }
        let Asked::Planned(statements) = ask(JobKind::Analyze, &["plan"], true).await.unwrap() else { panic!("a plan") };
        assert_eq!(statements, [r#"ANALYZE "plan""#]);
        assert_eq!(node.get("/v1/jobs").await.json["items"], json!([]), "a dry run starts nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_known_to_be_whole_once_it_was_looked_through() {
    let node = Node::start(Backend::Sqlite).await;
    let unknown = panel(&node, "integrity").await;
    assert_eq!(unknown["status"], "unknown", "{unknown}");
    let done = ended(&node, &start(&node, JobKind::Vacuum, &[]).await).await;
    assert_eq!(done["result"]["integrity"], "ok", "{done}");
    assert_eq!(panel(&node, "integrity").await["status"], "ok");
    node.clock.advance_seconds(31 * 86_400);
    assert_eq!(panel(&node, "integrity").await["status"], "warning");
    for name in ["size", "free_pages", "write_ahead_log"] {
        assert_eq!(panel(&node, name).await["status"], "ok", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_role_may_not_see_is_unknown_and_never_green() {
    let first = Node::start(Backend::Postgres).await;
    let watched = ["long_running", "idle_in_transaction", "blocked", "replication_lag", "replication_slots"];
    for name in watched {
        assert_eq!(panel(&first, name).await["status"], "ok", "{name}");
    }
    let url = first.place.database_url().unwrap().to_owned();
    let (server, database) = url.rsplit_once('/').unwrap();
    let role = format!("poor_{database}");
    first.tamper(&format!("CREATE ROLE {role} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}; GRANT CREATE ON SCHEMA public TO {role}")).await;
    let poor = server.replace("keyward@", &format!("{role}@"));
    let second = Node::open(first.place.clone(), start_of_time(), |layers| {
        layers.flag("database.url", format!("{poor}/{database}"))
    })
    .await;
    let health = second.app.keyward.maintenance.health(&Context::system("test")).await.unwrap();
    let health = serde_json::to_value(health).unwrap();
    for name in watched {
        let panel = health["panels"].as_array().unwrap().iter().find(|panel| panel["name"] == name).unwrap();
        assert_eq!(panel["status"], "unknown", "{panel}");
        assert!(panel["why"].as_str().unwrap().contains(&format!("GRANT pg_monitor TO {role}")), "{panel}");
    }
    assert_ne!(health["status"], "ok");
    // Neither may it look after tables that are not its own: it says so, and does not claim to have done it.
    let maintenance = &second.app.keyward.maintenance;
    let request = UpkeepRequest { tables: vec!["plan".to_owned()], dry_run: false };
    let Asked::Started(job) = maintenance.start(&Context::system("test"), JobKind::Vacuum, request).await.unwrap()
    else {
        panic!("a job")
    };
    let done = ended(&first, &job.id.to_string()).await;
    // Either node may take it; the first one owns the table.
    assert!(done["status"] == "succeeded" || done["error"].as_str().unwrap().contains("another role"), "{done}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_statements_are_told_where_postgres_keeps_them() {
    let node = Node::start(Backend::Postgres).await;
    let without = get(&node, "slow-queries").await;
    assert_eq!((&without["status"], &without["items"]), (&json!("unknown"), &json!([])));
    assert!(without["why"].as_str().unwrap().contains("pg_stat_statements"), "{without}");
    node.tamper("CREATE EXTENSION pg_stat_statements").await;
    node.tamper("SELECT pg_sleep(0.05)").await;
    let told = get(&node, "slow-queries").await;
    assert_eq!(told["status"], "ok", "{told}");
    let slow = told["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|item| item["query"].as_str().unwrap().contains("pg_sleep"))
        .unwrap();
    assert!(slow["mean_ms"].as_f64().unwrap() >= 50.0 && slow["calls"] == 1, "{slow}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_is_found_and_named() {
    let node = Node::start(Backend::Postgres).await;
    node.tamper("CREATE INDEX plan_again ON plan (id); CREATE INDEX plan_twice ON plan (id); ALTER TABLE plan ADD CONSTRAINT named CHECK (name <> '') NOT VALID").await;
    let duplicate = panel(&node, "duplicate_indexes").await;
    assert_eq!(
        (&duplicate["status"], &duplicate["findings"][0]["subject"]),
        (&json!("warning"), &json!("plan_twice")),
        "{duplicate}"
    );
    assert_eq!(panel(&node, "invalid_constraints").await["findings"][0]["subject"], "named");
    let url = node.place.database_url().unwrap();
    let (mut holder, mut waiter) =
        (PgConnection::connect(url).await.unwrap(), PgConnection::connect(url).await.unwrap());
    holder.execute(sqlx::raw_sql("BEGIN; LOCK TABLE plan")).await.unwrap();
    let waiting =
        tokio::spawn(async move { waiter.execute(sqlx::raw_sql("SELECT count(*) FROM plan")).await.map(drop) });
    let mut tries = tokio::time::interval(std::time::Duration::from_millis(20));
    let blocked = loop {
        tries.tick().await;
        let blocked = panel(&node, "blocked").await;
        if blocked["status"] != "ok" {
            break blocked;
        }
    };
    assert!(blocked["findings"][0]["detail"].as_str().unwrap().contains("FROM plan"), "{blocked}");
    holder.execute(sqlx::raw_sql("ROLLBACK")).await.unwrap();
    waiting.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_waits_only_so_long_and_leaves_nothing_behind() {
    let node = Node::start_with(Backend::Postgres, |layers| layers.flag("maintenance.lock_timeout_millis", 30)).await;
    let url = node.place.database_url().unwrap();
    // What a rebuild that failed leaves: an invalid index beside the good one.
    node.tamper("CREATE INDEX plan_name_ccnew ON plan (name); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'plan_name_ccnew'::regclass").await;
    assert_eq!(panel(&node, "invalid_indexes").await["findings"][0]["subject"], "plan_name_ccnew");
    let done = ended(&node, &start(&node, JobKind::Reindex, &["plan"]).await).await;
    assert_eq!(done["result"]["dropped_leftovers"], json!(["plan_name_ccnew"]), "{done}");
    assert_eq!(panel(&node, "invalid_indexes").await["status"], "ok");

    let mut holder = PgConnection::connect(url).await.unwrap();
    holder.execute(sqlx::raw_sql("BEGIN; LOCK TABLE plan IN SHARE UPDATE EXCLUSIVE MODE")).await.unwrap();
    let failed = ended(&node, &start(&node, JobKind::Reindex, &["plan"]).await).await;
    assert_eq!(failed["status"], "failed", "{failed}");
    assert!(failed["error"].as_str().unwrap().contains("lock timeout"), "{failed}");
    assert_eq!(
        failed["log"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|line| line["message"].as_str().unwrap().contains("try "))
            .count(),
        9
    );

    // A job that waits for a lock is cancelled with its statement.
    let id = start(&node, JobKind::Reindex, &["plan"]).await;
    node.app.keyward.jobs.cancel(&Context::system("test"), id.parse().unwrap()).await.unwrap();
    assert_eq!(ended(&node, &id).await["status"], "cancelled");
    holder.execute(sqlx::raw_sql("ROLLBACK")).await.unwrap();
    assert_eq!(node.tell("SELECT count(*) AS value FROM pg_index WHERE NOT indisvalid").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_staff_starts_watches_and_cancels_upkeep_over_http() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let node = Node::start(backend).await;
        let staff = person(&node, "staff@example.com", Role::Viewer).await;
        node.app.keyward.people.assign_role(&Context::system("test"), staff, None, Role::Admin).await.unwrap();
        let (access, _) = tokens(&node, "staff@example.com").await;
        let path = "/v1/admin/database/maintenance/analyze";
        let without = with(&node, &access, Method::POST, path, json!({})).await;
        assert!([401, 403].contains(&without.status), "no second factor was shown: {without:?}");
        enroll(&node, &access).await;
        let plan = with(&node, &access, Method::POST, path, json!({ "tables": ["plan"], "dry_run": true })).await;
        assert_eq!((plan.status, &plan.json["statements"]), (200, &json!([r#"ANALYZE "plan""#])), "{plan:?}");
        let bad = with(&node, &access, Method::POST, path, json!({ "tables": ["nonsense"] })).await;
        assert_eq!((bad.status, bad.pointer()), (422, "/tables/0"), "{bad:?}");
        let started = with(&node, &access, Method::POST, path, json!({ "tables": ["plan"] })).await;
        assert_eq!(started.status, 202, "{started:?}");
        let id = started.json["id"].as_str().unwrap();
        assert_eq!(started.header("location"), format!("/v1/jobs/{id}"));
        let done = ended(&node, id).await;
        assert_eq!((&done["status"], &done["actor"]["type"]), (&json!("succeeded"), &json!("user")), "{done}");
        let cancelled = with(&node, &access, Method::DELETE, &format!("/v1/jobs/{id}"), Value::Null).await;
        assert_eq!((cancelled.status, cancelled.code()), (409, "conflict"), "it has ended");
        for kind in ["vacuum", "reindex", "partitions"] {
            let started =
                with(&node, &access, Method::POST, &format!("/v1/admin/database/maintenance/{kind}"), json!({})).await;
            assert_eq!((started.status, &started.json["kind"]), (202, &json!(kind)), "{started:?}");
            assert_eq!(ended(&node, started.json["id"].as_str().unwrap()).await["status"], "succeeded", "{kind}");
        }
    }
}
