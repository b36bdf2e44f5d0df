//! Jobs: done once, watched, cancelled, taken up again when a node dies, and made on time.

use futures_util::{SinkExt, StreamExt};
use http::Method;
use keyward::context::Context;
use keyward::jobs::JobKind;
use keyward::maintenance::{Asked, UpkeepRequest};
use keyward_core::access::Role;
use keyward_core::id::{self, Id};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::security::member;
use crate::support::{Backend, Node, on_both};

/// Asks for an upkeep as a person of the operator's staff would; answers the job's id.
pub async fn start(node: &Node, kind: JobKind, tables: &[&str]) -> String {
    let tables = tables.iter().map(|name| (*name).to_owned()).collect();
    let request = UpkeepRequest { tables, dry_run: false };
    let asked = node.app.keyward.maintenance.start(&Context::system("test"), kind, request).await.expect("it starts");
    let Asked::Started(job) = asked else { panic!("a job: {asked:?}") };
    job.id.to_string()
}

pub async fn job(node: &Node, id: &str) -> Value {
    let answer = node.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json
}

/// The job as it ended. While the database does not answer, which a busy machine can bring about, it is asked for again.
pub async fn ended(node: &Node, id: &str) -> Value {
    let mut tries = tokio::time::interval(std::time::Duration::from_millis(20));
    for _ in 0..1_500 {
        tries.tick().await;
        let answer = node.get(&format!("/v1/jobs/{id}")).await;
        assert!([200, 503].contains(&answer.status), "{answer:?}");
        if answer.status == 200 && !answer.json["finished_at"].is_null() {
            return answer.json;
        }
    }
    panic!("the job never ended");
}

/// Puts a job into the table as a node that is not there any more would have left it.
async fn leave_behind(node: &Node, attempt: i64) -> String {
    let id = Id::<id::Job>::generate("2026-11-20T11:59:59Z".parse().unwrap());
    let hex = id.uuid().simple().to_string();
    let (uuid, other, now, until) = match node.place.database_url() {
        Some(_) => (
            format!("'{}'", id.uuid()),
            "gen_random_uuid()".to_owned(),
            "'2026-11-20T11:59:59Z'".to_owned(),
            "'2026-11-20T12:00:30Z'".to_owned(),
        ),
        None => {
            let micros = |at: &str| at.parse::<keyward_core::time::Timestamp>().unwrap().as_micros().to_string();
            (
                format!("x'{hex}'"),
                "randomblob(16)".to_owned(),
                micros("2026-11-20T11:59:59Z"),
                micros("2026-11-20T12:00:30Z"),
            )
        }
    };
    node.tamper(&format!(
        "INSERT INTO job (id, kind, lane, status, arguments, actor_type, actor_id, done, attempt, lease_holder, lease_until, created_at, started_at)
         VALUES ({uuid}, 'analyze', 'upkeep', 'running', '{{}}', 'system', 'test', 0, {attempt}, {other}, {until}, {now}, {now})"
    )).await;
    id.to_string()
}

on_both! {
    async fn a_job_is_done_and_kept_as_history(node: Node) {
        let id = start(&node, JobKind::Analyze, &["api_key", "plan"]).await;
        let done = ended(&node, &id).await;
        assert_eq!((&done["status"], &done["kind"], &done["error"]), (&json!("succeeded"), &json!("analyze"), &Value::Null), "{done}");
        assert_eq!(done["progress"], json!({ "done": 2, "total": 2, "unit": "tables" }));
        assert_eq!(done["result"]["tables"], json!(["api_key", "plan"]));
        assert_eq!((&done["created_at"], &done["started_at"], &done["finished_at"], &done["attempt"]), (&json!("2026-11-20T12:00:00Z"), &json!("2026-11-20T12:00:00Z"), &json!("2026-11-20T12:00:00Z"), &json!(1)));
        assert_eq!(done["log"].as_array().unwrap().len(), 2, "{done}");
        for action in ["job_started", "job_ended"] {
            let events = node.app.keyward.audit.list(&Context::system("test"), None, &keyward::audit::EventFilter { action: Some(action.to_owned()), ..Default::default() }, &keyward::page::PageRequest::new(None, None).unwrap()).await.unwrap();
            assert_eq!(events.items.iter().filter(|event| event.resource_id == id).count(), 1, "{action}");
        }
        node.clock.advance_seconds(1);
        let second = start(&node, JobKind::Reindex, &["plan"]).await;
        ended(&node, &second).await;
        let page = node.get("/v1/jobs?limit=1").await.json;
        assert_eq!(page["items"][0]["id"], second, "newest first");
        let next = node.get(&format!("/v1/jobs?limit=1&cursor={}", page["next_cursor"].as_str().unwrap())).await.json;
        assert_eq!((&next["items"][0]["id"], &next["next_cursor"]), (&json!(id), &Value::Null));
        let count = async |query: &str| node.get(&format!("/v1/jobs?{query}")).await.json["items"].as_array().unwrap().len();
        assert_eq!((count("kind=analyze").await, count("status=succeeded").await, count("status=failed").await, count("kind=nonsense").await), (1, 2, 0, 0));
        for bad in ["limit=0", "cursor=x", "colour=red"] {
            assert_eq!(node.get(&format!("/v1/jobs?{bad}")).await.status, 400, "{bad}");
        }
        node.clock.advance_seconds(91 * 86_400);
        node.app.keyward.jobs.forget().await.unwrap();
        assert_eq!(node.get(&format!("/v1/jobs/{second}")).await.status, 404, "history ends after its retention");
    }

    async fn news_come_over_a_websocket(node: Node) {
        let blocked = leave_behind(&node, 1).await;
        let id = start(&node, JobKind::Analyze, &["plan"]).await;
        let mut request = format!("{}/v1/jobs/{id}/events", node.url.replace("http", "ws")).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {}", node.service_key).parse().unwrap());
        let (mut socket, answer) = connect_async(request).await.unwrap();
        assert_eq!(answer.status(), 101);
        let next = async |socket: &mut tokio_tungstenite::WebSocketStream<_>| -> Value {
            match socket.next().await.unwrap().unwrap() {
                Message::Text(text) => serde_json::from_str(&text).unwrap(),
                Message::Close(_) => Value::Null,
                other => panic!("{other:?}"),
            }
        };
        let first = next(&mut socket).await;
        assert_eq!((&first["type"], &first["status"], &first["job"]["id"]), (&json!("status"), &json!("queued"), &json!(id)));
        let stats = node.get("/v1/connections/stats").await.json;
        assert_eq!((&stats["websockets"], &stats["websockets_opened"], &stats["live_nodes"]), (&json!(1), &json!(1), &json!(1)));
        assert!(stats["http"].as_u64().unwrap() >= 1, "{stats}");
        for (sent, kind) in [(r#"{"type":"ping"}"#, "pong"), ("nonsense", "error")] {
            socket.send(Message::text(sent)).await.unwrap();
            assert_eq!(next(&mut socket).await["type"], kind);
        }
        // The job before it in the lane comes to its end.
        node.clock.advance_seconds(31);
        node.app.keyward.work_off_jobs().await.unwrap();
        let mut heard = Vec::new();
        loop {
            let message = next(&mut socket).await;
            if message.is_null() {
                break;
            }
            heard.push(message);
        }
        let kinds: Vec<&str> = heard.iter().map(|message| message["type"].as_str().unwrap()).collect();
        assert_eq!(heard.last().unwrap()["status"], "succeeded", "{heard:?}");
        assert!(kinds.contains(&"progress") && kinds.contains(&"log"), "{kinds:?}");
        assert_eq!(job(&node, &blocked).await["status"], "succeeded");
        let plain = node.get(&format!("/v1/jobs/{id}/events")).await;
        assert_eq!((plain.status, plain.code()), (400, "malformed_request"), "not a WebSocket");
        node.stop().await;
    }

    async fn a_dead_nodes_job_is_taken_up_again(node: Node) {
        let id = leave_behind(&node, 1).await;
        node.app.keyward.work_off_jobs().await.unwrap();
        assert_eq!(job(&node, &id).await["status"], "running", "its lease still runs");
        let waits = start(&node, JobKind::Analyze, &["plan"]).await;
        node.app.keyward.work_off_jobs().await.unwrap();
        assert_eq!(job(&node, &waits).await["status"], "queued", "one at a time");
        node.clock.advance_seconds(31);
        node.app.keyward.work_off_jobs().await.unwrap();
        let done = ended(&node, &id).await;
        assert_eq!((&done["status"], &done["attempt"]), (&json!("succeeded"), &json!(2)), "{done}");
        assert_eq!(ended(&node, &waits).await["status"], "succeeded");
    }

    async fn a_job_that_kills_its_nodes_is_given_up(node: Node) {
        let id = leave_behind(&node, 2).await;
        node.clock.advance_seconds(31);
        node.app.keyward.work_off_jobs().await.unwrap();
        let done = ended(&node, &id).await;
        assert_eq!(done["status"], "failed", "{done}");
        assert!(done["error"].as_str().unwrap().contains("stopped"), "{done}");
    }

    async fn jobs_are_cancelled_by_those_who_may(node: Node) {
        let running = leave_behind(&node, 1).await;
        let id = start(&node, JobKind::Vacuum, &[]).await;
        let refused = node.delete(&format!("/v1/jobs/{id}")).await;
        assert_eq!((refused.status, refused.code()), (403, "forbidden"), "no key may hold system:maintain");
        let jobs = &node.app.keyward.jobs;
        let system = Context::system("test");
        assert_eq!(jobs.cancel(&system, id.parse().unwrap()).await.unwrap().status, "cancelled");
        assert_eq!(jobs.cancel(&system, id.parse().unwrap()).await.unwrap_err().code.as_str(), "conflict");
        let asked = jobs.cancel(&system, running.parse().unwrap()).await.unwrap();
        assert_eq!((asked.status.as_str(), asked.cancel_asked_at.is_some()), ("running", true));
        node.clock.advance_seconds(31);
        node.app.keyward.work_off_jobs().await.unwrap();
        assert_eq!(ended(&node, &running).await["status"], "cancelled", "whoever takes it up sees the wish");
    }

    async fn the_instances_jobs_are_seen_by_its_staff_alone(node: Node) {
        let id = start(&node, JobKind::Analyze, &["plan"]).await;
        ended(&node, &id).await;
        let organization = node.new_organization("customer", "pro").await;
        let (_, owner) = member(&node, "owner@customer.example", &organization, Role::Owner).await;
        let listed = node.call_as(&owner, Method::GET, "/v1/jobs", None).await;
        assert_eq!((listed.status, &listed.json["items"]), (200, &json!([])));
        let missing = format!("/v1/jobs/{}", Id::<id::Job>::generate("2026-11-20T12:00:00Z".parse().unwrap()));
        for path in [format!("/v1/jobs/{id}"), missing] {
            for (method, path) in [(Method::GET, path.clone()), (Method::DELETE, path.clone()), (Method::GET, format!("{path}/events"))] {
                let answer = node.call_as(&owner, method, &path, None).await;
                assert_eq!((answer.status, answer.code()), (404, "not_found"), "{path}");
            }
        }
        assert_eq!(node.call_as(&owner, Method::GET, "/v1/connections/stats", None).await.status, 403);
    }

    async fn schedules_make_their_jobs_in_utc(node: Node) {
        let keyward = &node.app.keyward;
        keyward.work_off_jobs().await.unwrap();
        let kinds = async || {
            let items = node.get("/v1/jobs").await.json["items"].clone();
            let mut kinds: Vec<String> = items.as_array().unwrap().iter().map(|job| job["kind"].as_str().unwrap().to_owned()).collect();
            kinds.sort_unstable();
            kinds
        };
        assert_eq!(kinds().await, Vec::<String>::new(), "a first start makes nothing");
        // From Friday noon to Saturday 02:00, and to Sunday 03:00.
        node.clock.advance_seconds(14 * 3_600 - 1);
        keyward.work_off_jobs().await.unwrap();
        assert_eq!(kinds().await, Vec::<String>::new());
        node.clock.advance_seconds(1);
        keyward.work_off_jobs().await.unwrap();
        assert_eq!(kinds().await, ["partitions"]);
        node.clock.advance_seconds(25 * 3_600);
        keyward.work_off_jobs().await.unwrap();
        keyward.work_off_jobs().await.unwrap();
        assert_eq!(kinds().await, ["partitions", "partitions", "vacuum"]);
        // A week without any node: each is made up for once.
        node.clock.advance_seconds(7 * 86_400);
        keyward.work_off_jobs().await.unwrap();
        assert_eq!(kinds().await.len(), 5);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_one_makes_a_due_job_and_one_does_it() {
    let one = Node::start(Backend::Postgres).await;
    let two = one.join(one.place.clone(), |_| {}).await;
    for node in [&one, &two] {
        node.app.keyward.work_off_jobs().await.unwrap();
    }
    for _ in 0..5 {
        one.clock.advance_seconds(86_400);
        let (first, second) = tokio::join!(one.app.keyward.work_off_jobs(), two.app.keyward.work_off_jobs());
        first.unwrap();
        second.unwrap();
        // A day later the lease of one that still runs would be over.
        for job in one.get("/v1/jobs").await.json["items"].as_array().unwrap() {
            ended(&one, job["id"].as_str().unwrap()).await;
        }
    }
    let daily = one.get("/v1/jobs?kind=partitions").await.json["items"].clone();
    assert_eq!(daily.as_array().unwrap().len(), 5, "{daily}");
    for job in daily.as_array().unwrap() {
        let done = ended(&one, job["id"].as_str().unwrap()).await;
        assert_eq!((&done["status"], &done["attempt"]), (&json!("succeeded"), &json!(1)), "{done}");
    }
}
