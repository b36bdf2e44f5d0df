//! A month leaves the book while others write into it, and none of them waits for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyward::jobs::JobKind;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};

use crate::jobs::{ended, job, start};
use crate::support::{Answer, Backend, Node};

/// Longest time that a writer may wait for a lock.
const LONGEST_WAIT: f64 = 0.2;
/// Events of the month that leaves.
const EVENTS: usize = 20_000;
const WRITERS: usize = 3;
/// Writes of all together that must get through while the month is being taken out.
const BESIDE: u64 = 60;
/// Nothing here takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long somebody waits by now for a lock on a table. Writers never wait so for each other: their locks on tables agree. What
/// upkeep itself waits for is not looked at.
const WAITS: &str = "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - l.waitstart)), 0)::float8 AS value
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE NOT l.granted AND a.datname = current_database() AND l.locktype = 'relation'
      AND a.query !~ '^(ALTER|DROP|CREATE|REINDEX|ANALYZE|BEGIN)'";

const DETACH_WAITS: &str = "SELECT count(*) AS value FROM pg_stat_activity
    WHERE query LIKE 'ALTER TABLE%DETACH%' AND wait_event_type = 'Lock' AND datname = current_database()";

/// What those beside have to say.
#[derive(Default)]
struct Beside {
    stop: AtomicBool,
    writes: AtomicU64,
    /// The longest that anybody was seen waiting, in seconds.
    longest_wait: Mutex<f64>,
    /// The longest write from outside since it was last asked for; what else the machine does is in it.
    longest_write: Mutex<Duration>,
}

impl Beside {
    /// Whether so many writes got through; or never will, for somebody waits too long already.
    fn has_written(&self, count: u64) -> bool {
        self.writes.load(Ordering::Relaxed) >= count || *self.longest_wait.lock().unwrap() >= LONGEST_WAIT
    }

    fn take_longest_write(&self) -> u128 {
        std::mem::take(&mut *self.longest_write.lock().unwrap()).as_millis()
    }
}

fn event(number: usize) -> Value {
    json!({ "event_type": "DATA", "action": "read", "actor": { "type": "user", "id": format!("u-{}", number % 50) },
        "resource": { "type": "file", "id": format!("f-{number}") } })
}

/// Writes through the API, events and changes in turn, until it is told to stop.
async fn write(node: Arc<Node>, beside: Arc<Beside>) {
    let key = node.new_key(json!({})).await;
    let key = format!("/v1/api-keys/{}", key["id"].as_str().unwrap());
    for number in 0.. {
        if beside.stop.load(Ordering::Relaxed) {
            return;
        }
        let began = Instant::now();
        let answer: Answer = if number % 5 == 0 {
            node.patch(&key, json!({ "name": format!("renamed {number}") })).await
        } else {
            node.post("/v1/audit-events", json!({ "events": (0..20).map(event).collect::<Vec<_>>() })).await
        };
        assert!(answer.status < 300, "{answer:?}");
        beside.writes.fetch_add(1, Ordering::Relaxed);
        let mut longest = beside.longest_write.lock().unwrap();
        *longest = longest.max(began.elapsed());
    }
}

/// Looks every few milliseconds, from the database's own side, whether anybody waits.
async fn watch(url: String, beside: Arc<Beside>) {
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    while !beside.stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let wait: f64 = sqlx::query_scalar(WAITS).fetch_one(&mut connection).await.unwrap();
        let mut longest = beside.longest_wait.lock().unwrap();
        *longest = longest.max(wait);
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let (began, mut tries) = (Instant::now(), tokio::time::interval(Duration::from_millis(20)));
    while !holds().await {
        assert!(began.elapsed() < PATIENCE, "it never came: {what}");
        tries.tick().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_leaves_and_no_writer_waits_for_it() {
    let node = Node::start_with(Backend::Postgres, |layers| layers.flag("maintenance.retention_months", 3)).await;
    let node = Arc::new(node);
    for from in (0..EVENTS).step_by(1_000) {
        let events: Vec<Value> = (from..from + 1_000).map(event).collect();
        assert_eq!(node.post("/v1/audit-events", json!({ "events": events })).await.status, 201);
    }
    assert_eq!(ended(&node, &start(&node, JobKind::Partitions, &[]).await).await["status"], "succeeded");
    // Somebody reads the whole book, the old month with it: the month cannot leave before that has ended.
    let url = node.place.database_url().unwrap().to_owned();
    let mut reader = PgConnection::connect(&url).await.unwrap();
    reader
        .execute(sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM audit_event"))
        .await
        .unwrap();
    node.clock.advance_seconds(100 * 86_400);
    assert_eq!(node.post("/v1/audit-events", json!({ "events": [event(0)] })).await.status, 201);
    until("a signed checkpoint", async || {
        node.app.keyward.audit.sequence().await.unwrap();
        node.app.keyward.proofs.sign_new().await.is_ok()
    })
    .await;

    let beside = Arc::new(Beside::default());
    let mut running = vec![tokio::spawn(watch(url.clone(), beside.clone()))];
    running.extend((0..WRITERS).map(|_| tokio::spawn(write(node.clone(), beside.clone()))));
    let mut id = start(&node, JobKind::Partitions, &[]).await;
    until("the detach", async || {
        // The daily job may have stood in its way, and come too early itself.
        if !job(&node, &id).await["finished_at"].is_null() {
            id = start(&node, JobKind::Partitions, &[]).await;
        }
        node.place.tell(DETACH_WAITS).await > 0
    })
    .await;
    let preparing = beside.take_longest_write();
    let before = beside.writes.load(Ordering::Relaxed);
    until("writes beside the detach", async || beside.has_written(before + BESIDE)).await;
    reader.execute(sqlx::raw_sql("ROLLBACK")).await.unwrap();
    let left = "SELECT count(*) AS value FROM pg_class WHERE relname = 'audit_event_p202611'";
    until("the end of the month", async || node.place.tell(left).await == 0).await;
    let leaving = beside.take_longest_write();
    ended(&node, &id).await;
    let after = beside.writes.load(Ordering::Relaxed);
    until("writes after the drop", async || beside.has_written(after + BESIDE)).await;
    let longest_wait = *beside.longest_wait.lock().unwrap();
    println!(
        "a month of {EVENTS} events left beside {} writes: longest wait for a lock {:.0} ms; longest write {preparing} ms while new \
         months and the archive were made, {leaving} ms while the month was taken out and dropped, {} ms afterwards",
        beside.writes.load(Ordering::Relaxed),
        longest_wait * 1_000.0,
        beside.take_longest_write(),
    );
    assert!(longest_wait < LONGEST_WAIT, "a writer waited {longest_wait} s for a lock");

    // What is watched for can be seen: the lock that a plain detach takes stops writers, and is found out.
    let mut blocker = PgConnection::connect(&url).await.unwrap();
    blocker.execute(sqlx::raw_sql("BEGIN; LOCK TABLE audit_event IN ACCESS EXCLUSIVE MODE")).await.unwrap();
    until("a wait", async || *beside.longest_wait.lock().unwrap() > LONGEST_WAIT).await;
    blocker.execute(sqlx::raw_sql("ROLLBACK")).await.unwrap();
    beside.stop.store(true, Ordering::Relaxed);
    for task in running {
        task.await.unwrap();
    }
}
