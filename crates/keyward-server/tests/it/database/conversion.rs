//! The change of a plain table to months, and back, while others write to it.

use keyward::context::Context;
use keyward::error::Result;
use keyward::jobs::JobKind;
use keyward::maintenance::{Asked, Conversion};
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::jobs::{ended, start};
use crate::support::{Backend, Node};

const HISTORY: &str = "CREATE SEQUENCE history_numbers; CREATE TABLE history (id bigint PRIMARY KEY DEFAULT nextval('history_numbers'), at timestamptz NOT NULL, note text);
    CREATE INDEX history_by_time ON history (at, id); CREATE INDEX history_by_note ON history (note) WHERE note <> '';
    INSERT INTO history (at, note) SELECT '2026-09-01Z'::timestamptz + number * interval '2 minutes', 'n' || number FROM generate_series(1, 50000) number";

fn history(rollback: bool, dry_run: bool) -> Conversion {
    Conversion { table: "history".to_owned(), column: "at".to_owned(), rollback, dry_run }
}

/// What a dry run tells.
async fn plan(node: &Node, rollback: bool) -> Result<Vec<String>> {
    let asked = node.app.keyward.maintenance.convert(&Context::system("test"), history(rollback, true)).await?;
    let Asked::Planned(steps) = asked else { panic!("a plan: {asked:?}") };
    Ok(steps)
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
    let plan = plan(&node, false).await.unwrap();
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
        (
            "ALTER TABLE history DROP CONSTRAINT history_pkey",
            "ALTER TABLE history ADD PRIMARY KEY (id)",
            "no primary key",
        ),
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
        let planned = plan(&node, false).await.unwrap_err().to_string();
        assert!(planned.contains(reason), "a dry run with {obstacle}: {planned}");
        node.tamper(undo).await;
    }
    let back = convert(&node, true).await;
    assert!(back["error"].as_str().unwrap().contains("was not changed"), "{back}");
    assert!(plan(&node, true).await.unwrap_err().to_string().contains("was not changed"));
    assert_eq!(convert(&node, false).await["status"], "succeeded");
}
