//! Tables in months: partitions made ahead, mended, and let go through an archive.

use keyward::jobs::JobKind;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};

use super::{get, named, panel};
use crate::jobs::{ended, start};
use crate::support::{Backend, Node};

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
async fn a_new_book_has_months_ahead_before_the_first_upkeep() {
    let node = Node::start(Backend::Postgres).await;
    assert_eq!(node.get("/v1/audit-events").await.status, 200);
    let told = panel(&node, "partitions").await;
    assert_eq!((&told["status"], &told["findings"][0]["value"]), (&json!("ok"), &json!(2.0)), "{told}");
    assert_eq!(node.get("/v1/jobs").await.json["items"], json!([]));
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
