//! Looking after the database: its figures, its health, its upkeep, its partitions.

use http::Method;
use keyward::context::Context;
use keyward::jobs::JobKind;
use keyward::maintenance::{Asked, Conversion, UpkeepRequest};
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

const LEDGER: &str = "CREATE TABLE ledger (id bigint NOT NULL, at timestamptz NOT NULL, note text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
    CREATE INDEX ledger_by_block ON ledger USING brin (at); CREATE INDEX ledger_by_note ON ledger (note)";

async fn run_partitions(node: &Node) -> Value {
    let done = ended(node, &start(node, JobKind::Partitions, &[]).await).await;
    assert_eq!(done["status"], "succeeded", "{done}");
    let tables = done["result"]["tables"].as_array().unwrap().clone();
    tables.into_iter().find(|table| table["table"] == "ledger").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_made_ahead_and_mended() {
    let node = Node::start(Backend::Postgres).await;
    node.tamper(LEDGER).await;
    assert_eq!(panel(&node, "partitions").await["status"], "critical", "none is there");
    let made = run_partitions(&node).await;
    let names: Vec<String> = ["202611", "202612", "202701", "202702", "202703", "202704", "202705"]
        .iter()
        .map(|month| format!("ledger_p{month}"))
        .collect();
    assert_eq!(made["created"], json!(names));
    let told = panel(&node, "partitions").await;
    assert_eq!(told["status"], "ok", "{told}");
    let stats = get(&node, "stats/partitions").await;
    assert_eq!((&stats["partitioned"], &named(&stats, "ledger_p202612")["parent"]), (&json!(true), &json!("ledger")));
    assert_eq!(node.tell("SELECT count(*) AS value FROM pg_indexes WHERE tablename = 'ledger_p202612'").await, 3);

    // In whatever time zone the server thinks, months begin in UTC; and a second run finds nothing to do.
    node.tamper(
        "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET TimeZone = ''Asia/Tokyo'''; END $$",
    )
    .await;
    node.tamper(
        "INSERT INTO ledger VALUES (1, '2026-11-30T23:59:59.999999Z', 'last'), (2, '2026-12-01T00:00:00Z', 'first')",
    )
    .await;
    assert_eq!(node.tell("SELECT count(*) AS value FROM ledger_p202612").await, 1);
    assert_eq!(run_partitions(&node).await["created"], json!([]));
    node.clock.advance_seconds(31 * 86_400);
    // The daily job may have been faster.
    run_partitions(&node).await;
    assert_eq!(
        node.tell("SELECT count(*) AS value FROM pg_class WHERE relname = 'ledger_p202706' AND relispartition").await,
        1
    );

    // A concurrent detach that was cancelled behind a reader is brought to its end.
    let url = node.place.database_url().unwrap();
    let (mut reader, mut detacher) =
        (PgConnection::connect(url).await.unwrap(), PgConnection::connect(url).await.unwrap());
    reader.execute(sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM ledger")).await.unwrap();
    detacher.execute(sqlx::raw_sql("SET statement_timeout = '300ms'")).await.unwrap();
    detacher
        .execute(sqlx::raw_sql("ALTER TABLE ledger DETACH PARTITION ledger_p202611 CONCURRENTLY"))
        .await
        .unwrap_err();
    let told = panel(&node, "partitions").await;
    assert!(told["findings"].to_string().contains("not taken out to the end"), "{told}");
    reader.execute(sqlx::raw_sql("ROLLBACK")).await.unwrap();
    // The daily job may have been faster here as well.
    let mended = run_partitions(&node).await;
    assert_eq!(mended["created"], json!([]), "{mended}");
    assert_eq!(node.tell("SELECT count(*) AS value FROM pg_inherits WHERE inhdetachpending").await, 0);
    let left = "SELECT count(*) AS value FROM pg_class WHERE relname = 'ledger_p202611' AND NOT relispartition";
    assert_eq!(node.tell(left).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_another_tool_manages_is_left_alone() {
    for (tool, setup) in [
        (
            "pg_partman",
            "CREATE SCHEMA partman; CREATE TABLE partman.part_config (parent_table text); INSERT INTO partman.part_config VALUES ('public.ledger')",
        ),
        (
            "pg_cron",
            "CREATE SCHEMA cron; CREATE TABLE cron.job (command text); INSERT INTO cron.job VALUES ('CREATE TABLE x PARTITION OF ledger')",
        ),
    ] {
        let node = Node::start(Backend::Postgres).await;
        node.tamper(LEDGER).await;
        node.tamper(setup).await;
        assert_eq!(run_partitions(&node).await["left_alone"], format!("{tool} manages it"));
        let told = panel(&node, "partitions").await;
        let ledger =
            told["findings"].as_array().unwrap().iter().find(|finding| finding["subject"] == "ledger").unwrap();
        assert_eq!(
            (&told["status"], &ledger["detail"]),
            (&json!("ok"), &json!(format!("managed by {tool}"))),
            "{told}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_partitions_leave_through_an_archive_beside_writers() {
    let keep = |layers: &mut keyward::config::Layers| layers.flag("maintenance.retention_months", 3);
    let node = Node::start_with(Backend::Postgres, keep).await;
    node.tamper(LEDGER).await;
    for (name, from, to) in [
        ("old", "2026-07-01", "2026-08-01"),
        ("older", "2026-06-01", "2026-07-01"),
        ("kept", "2026-09-01", "2026-10-01"),
    ] {
        node.tamper(&format!(
            "CREATE TABLE ledger_{name} PARTITION OF ledger FOR VALUES FROM ('{from} 00:00+00') TO ('{to} 00:00+00')"
        ))
        .await;
    }
    node.tamper(r#"INSERT INTO ledger SELECT number, '2026-06-15T00:00:00Z'::timestamptz + number * interval '1 minute', E'a "quoted" \\ line\nbreak é ' || number FROM generate_series(1, 40000) number"#).await;
    let rows = node.tell("SELECT count(*) AS value FROM ledger_old").await;
    assert!(rows > 10_000);

    // A reader that began before holds the end of the detach up, and no writer meanwhile.
    let url = node.place.database_url().unwrap().to_owned();
    let mut reader = PgConnection::connect(&url).await.unwrap();
    reader.execute(sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM ledger")).await.unwrap();
    let id = start(&node, JobKind::Partitions, &[]).await;
    let waiting = "SELECT count(*) AS value FROM pg_stat_activity WHERE query LIKE 'ALTER TABLE%CONCURRENTLY' AND wait_event_type = 'Lock'";
    let mut tries = tokio::time::interval(std::time::Duration::from_millis(20));
    while node.tell(waiting).await == 0 {
        tries.tick().await;
    }
    let began = std::time::Instant::now();
    node.tamper("INSERT INTO ledger VALUES (99999, '2026-11-20T12:00:00Z', 'meanwhile'), (99998, '2026-09-20T12:00:00Z', 'late')").await;
    assert!(began.elapsed() < std::time::Duration::from_millis(500), "writers are let through: {:?}", began.elapsed());
    reader.execute(sqlx::raw_sql("ROLLBACK")).await.unwrap();
    let done = ended(&node, &id).await;
    assert_eq!(done["status"], "succeeded", "{done}");
    let table = done["result"]["tables"].as_array().unwrap().iter().find(|table| table["table"] == "ledger").unwrap();
    assert_eq!(table["retired"], json!(["ledger_older", "ledger_old"]), "{done}");
    assert_eq!(
        node.tell("SELECT count(*) AS value FROM pg_class WHERE relname IN ('ledger_old', 'ledger_older')").await,
        0
    );
    assert_eq!(node.tell("SELECT count(*) AS value FROM ledger").await, 2, "what is younger stays");

    let archive = std::fs::read_to_string(node.place.folder().join("archive/ledger_old.jsonl")).unwrap();
    let lines: Vec<Value> = archive.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len() as i64, rows);
    assert_eq!(lines.last().unwrap()["note"], "a \"quoted\" \\ line\nbreak é 40000");
    let events = node.get("/v1/audit-events?limit=200").await;
    assert_eq!(events.status, 200);
    let noted = "SELECT count(*) AS value FROM audit_event WHERE action IN ('partition_archived', 'partition_dropped') AND resource_id = 'ledger_old'";
    assert_eq!(node.tell(noted).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_whose_archive_is_damaged_is_not_dropped() {
    let keep = |layers: &mut keyward::config::Layers| layers.flag("maintenance.retention_months", 3);
    let node = Node::start_with(Backend::Postgres, keep).await;
    node.tamper(LEDGER).await;
    // As a run leaves it that broke off after the detach: archived, taken out, not dropped.
    let folder = node.place.folder().join("archive");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("ledger_old.jsonl");
    let line = "{\"id\":1,\"note\":\"x\"}\n";
    std::fs::write(&path, line).unwrap();
    let digest = crate::support::sha256_hex(line);
    node.tamper("CREATE TABLE ledger_old (LIKE ledger)").await;
    node.tamper(&format!("INSERT INTO partition_archive VALUES ('ledger_old', 'ledger', NULL, '2026-08-01Z', 1, '{digest}', '{}', now(), NULL)", path.display())).await;
    std::fs::write(&path, line.replace('x', "y")).unwrap();
    let failed = ended(&node, &start(&node, JobKind::Partitions, &[]).await).await;
    assert_eq!(failed["status"], "failed", "{failed}");
    assert!(failed["error"].as_str().unwrap().contains("not whole"), "{failed}");
    assert_eq!(node.tell("SELECT count(*) AS value FROM pg_class WHERE relname = 'ledger_old'").await, 1);
    std::fs::write(&path, line).unwrap();
    assert_eq!(run_partitions(&node).await["retired"], json!(["ledger_old"]));
    assert_eq!(node.tell("SELECT count(*) AS value FROM pg_class WHERE relname = 'ledger_old'").await, 0);
}

const HISTORY: &str = "CREATE SEQUENCE history_numbers; CREATE TABLE history (id bigint PRIMARY KEY DEFAULT nextval('history_numbers'), at timestamptz NOT NULL, note text);
    CREATE INDEX history_by_time ON history (at, id); CREATE INDEX history_by_note ON history (note) WHERE note <> '';
    INSERT INTO history (at, note) SELECT '2026-09-01Z'::timestamptz + number * interval '2 minutes', 'n' || number FROM generate_series(1, 50000) number";

fn history(rollback: bool, dry_run: bool) -> Conversion {
    Conversion { table: "history".to_owned(), column: "at".to_owned(), rollback, dry_run }
}

async fn convert(node: &Node, rollback: bool) -> Value {
    let asked = node.app.keyward.maintenance.convert(&Context::system("test"), history(rollback, false)).await.unwrap();
    let Asked::Started(job) = asked else { panic!("a job: {asked:?}") };
    ended(node, &job.id.to_string()).await
}

/// Writes and reads until told to stop; answers how many rows it wrote and its longest wait.
async fn client(url: String, number: usize, stop: tokio::sync::watch::Receiver<bool>) -> (i64, std::time::Duration) {
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let (mut written, mut longest) = (0, std::time::Duration::ZERO);
    while !*stop.borrow() {
        let began = std::time::Instant::now();
        sqlx::query("INSERT INTO history (at, note) VALUES ('2026-11-20T12:00:00Z', $1)")
            .bind(format!("client {number}"))
            .execute(&mut connection)
            .await
            .expect("no write fails");
        sqlx::query("SELECT * FROM history WHERE at >= '2026-11-20Z' ORDER BY at DESC, id DESC LIMIT 10")
            .fetch_all(&mut connection)
            .await
            .expect("no read fails");
        longest = longest.max(began.elapsed());
        written += 1;
    }
    (written, longest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_table_becomes_months_and_plain_again_under_load() {
    let node = Node::start(Backend::Postgres).await;
    node.tamper(HISTORY).await;
    let url = node.place.database_url().unwrap().to_owned();
    let maintenance = &node.app.keyward.maintenance;
    let Asked::Planned(plan) = maintenance.convert(&Context::system("test"), history(false, true)).await.unwrap()
    else {
        panic!("a plan")
    };
    assert!(plan.iter().any(|step| step.contains("ATTACH PARTITION \"history_legacy\"")), "{plan:#?}");
    assert_eq!(
        node.tell("SELECT count(*) AS value FROM pg_class WHERE relname LIKE 'history_months%'").await,
        0,
        "a dry run does nothing"
    );

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let clients: Vec<_> = (0..4).map(|number| tokio::spawn(client(url.clone(), number, stopped.clone()))).collect();
    let there = convert(&node, false).await;
    assert_eq!(there["status"], "succeeded", "{there}");
    let partitioned =
        node.tell("SELECT count(*) AS value FROM pg_partitioned_table WHERE partrelid = 'history'::regclass").await;
    let months = node.tell("SELECT count(*) AS value FROM pg_inherits WHERE inhparent = 'history'::regclass").await;
    node.tamper("INSERT INTO history (at, note) VALUES ('2026-12-01T00:00:00Z', 'of the first month')").await;
    let in_month = node.tell("SELECT count(*) AS value FROM history_p202612").await;
    let back = convert(&node, true).await;
    assert_eq!(back["status"], "succeeded", "{back}");
    stop.send_replace(true);
    let mut written = 0;
    for client in clients {
        let (rows, longest) = client.await.expect("no client fails");
        assert!(rows > 0 && longest < std::time::Duration::from_secs(5), "{longest:?}");
        written += rows;
    }
    assert_eq!((partitioned, months, in_month), (1, 7, 1), "{there}");
    assert!(there["result"]["rows"].as_i64().unwrap() >= 50_000, "{there}");
    assert_eq!(node.tell("SELECT count(*) AS value FROM history").await, 50_001 + written, "nothing is lost");
    assert_eq!(node.tell("SELECT count(DISTINCT id) AS value FROM history").await, 50_001 + written);
    assert_eq!(
        node.tell("SELECT count(*) AS value FROM pg_class WHERE relname = 'history' AND relkind = 'r'").await,
        1
    );

    // There once more; then a question for a month looks into that month alone, and the daily job makes further months.
    node.tamper("DELETE FROM history WHERE at >= '2026-12-01Z'").await;
    let again = convert(&node, false).await;
    assert_eq!(again["status"], "succeeded", "{again}");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let plan: Vec<(String,)> = sqlx::query_as("EXPLAIN SELECT * FROM history WHERE at >= '2027-01-01Z' AND at < '2027-02-01Z' ORDER BY at DESC, id DESC LIMIT 100").fetch_all(&mut connection).await.unwrap();
    let plan: String = plan.into_iter().map(|(line,)| line).collect();
    assert!(
        plan.contains("history_p202701") && !plan.contains("history_p202612") && !plan.contains("legacy"),
        "{plan}"
    );
    node.clock.advance_seconds(40 * 86_400);
    let done = ended(&node, &start(&node, JobKind::Partitions, &[]).await).await;
    assert_eq!(done["status"], "succeeded", "{done}");
    assert_eq!(
        node.tell("SELECT count(*) AS value FROM pg_class WHERE relname = 'history_p202706' AND relispartition").await,
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_change_would_lose_is_a_reason_to_refuse() {
    let node = Node::start(Backend::Postgres).await;
    node.tamper(HISTORY).await;
    for (obstacle, undo, reason) in [
        ("CREATE VIEW shown AS SELECT * FROM history", "DROP VIEW shown", "view shown"),
        ("CREATE UNIQUE INDEX once ON history (note)", "DROP INDEX once", "once is unique"),
        (
            "ALTER TABLE history ALTER COLUMN at DROP NOT NULL",
            "ALTER TABLE history ALTER COLUMN at SET NOT NULL",
            "never null",
        ),
        ("CREATE TABLE child (id bigint REFERENCES history)", "DROP TABLE child", "foreign key"),
        ("GRANT SELECT ON history TO PUBLIC", "REVOKE SELECT ON history FROM PUBLIC", "grants"),
        (
            "INSERT INTO history VALUES (0, '2026-12-01Z', 'ahead')",
            "DELETE FROM history WHERE id = 0",
            "rows from 2026-12-01",
        ),
    ] {
        node.tamper(obstacle).await;
        let refused = convert(&node, false).await;
        assert_eq!(refused["status"], "failed", "{obstacle}: {refused}");
        assert!(refused["error"].as_str().unwrap().contains(reason), "{obstacle}: {refused}");
        node.tamper(undo).await;
    }
    let back = convert(&node, true).await;
    assert!(back["error"].as_str().unwrap().contains("was not changed"), "{back}");
    assert_eq!(convert(&node, false).await["status"], "succeeded");
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
