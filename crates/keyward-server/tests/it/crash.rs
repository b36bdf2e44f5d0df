//! kill -9 in a loop: what was answered is there after the restart, and no change without its line in the book.

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::process::{Process, set_up};
use crate::support::{Answer, Backend, Place};

const ROUNDS: usize = 4;

/// What a client was told before the server died.
#[derive(Default)]
struct Told {
    issued: Vec<(String, String)>,
    revoked: Vec<String>,
}

/// Issues keys and revokes every second one until the server is gone.
async fn work(client: reqwest::Client, url: String, service_key: String, done: mpsc::UnboundedSender<()>) -> Told {
    let mut told = Told::default();
    let post =
        |path: String, body: Value| client.post(format!("{url}{path}")).bearer_auth(&service_key).json(&body).send();
    for round in 0.. {
        let Ok(answer) = post("/v1/api-keys".to_owned(), json!({ "name": format!("k{round}") })).await else { break };
        let Ok(issued) = answer.json::<Value>().await else { break };
        let (Some(id), Some(key)) = (issued["id"].as_str(), issued["key"].as_str()) else { break };
        told.issued.push((id.to_owned(), key.to_owned()));
        let _ = done.send(());
        if round % 2 == 0 {
            match post(format!("/v1/api-keys/{id}/revoke"), json!({})).await {
                Ok(answer) if answer.status() == 200 => told.revoked.push(id.to_owned()),
                _ => {
                    // Whether it was revoked is not known: it was not answered.
                    told.issued.pop();
                    break;
                }
            }
        }
    }
    told
}

async fn check(backend: Backend) {
    let place = Place::new(backend).await;
    let service_key = set_up(&place);
    let client = reqwest::Client::new();
    let mut server = Process::start(&place, &[]);
    let get =
        async |url: &str, path: &str| Answer::of(client.get(format!("{url}{path}")).bearer_auth(&service_key)).await;
    let plan = json!({ "name": "crash", "key_limit": 100_000, "requests_per_minute": 1_000_000, "quota_per_month": 1_000_000_000 });
    let made = Answer::of(client.post(format!("{}/v1/plans", server.url)).bearer_auth(&service_key).json(&plan)).await;
    assert_eq!(made.status, 201);
    let own = get(&server.url, "/v1/organizations").await.json["items"][0]["id"].as_str().unwrap().to_owned();
    let moved = client.patch(format!("{}/v1/organizations/{own}", server.url)).bearer_auth(&service_key);
    assert_eq!(Answer::of(moved.json(&json!({ "plan": "crash" }))).await.status, 200);

    for round in 0..ROUNDS {
        let (done, mut seen) = mpsc::unbounded_channel();
        let start = |_| tokio::spawn(work(client.clone(), server.url.clone(), service_key.clone(), done.clone()));
        let working: Vec<_> = (0..4).map(start).collect();
        // In the middle of the work, at another point each time.
        for _ in 0..10 + 7 * round {
            seen.recv().await.expect("the workers work");
        }
        server.kill();
        let mut told = Told::default();
        for worker in working {
            let one = worker.await.expect("a worker");
            told.issued.extend(one.issued);
            told.revoked.extend(one.revoked);
        }
        assert!(!told.issued.is_empty(), "the server died before any work");
        server = Process::start(&place, &[]);
        for (id, key) in &told.issued {
            let wanted = if told.revoked.contains(id) { "revoked" } else { "valid" };
            let body = json!({ "key": key });
            let verdict =
                client.post(format!("{}/v1/api-keys/verify", server.url)).bearer_auth(&service_key).json(&body);
            assert_eq!(Answer::of(verdict).await.code(), wanted, "a lost key or a lost revocation");
        }
    }
    // Every key has exactly one line of its making, and every line its key.
    let (mut keys, mut lines) = (0, 0);
    for (path, count) in
        [("/v1/api-keys?limit=200", &mut keys), ("/v1/audit-events?action=key_created&limit=200", &mut lines)]
    {
        let mut cursor = String::new();
        loop {
            let page = get(&server.url, &format!("{path}{cursor}")).await.json;
            *count += page["items"].as_array().expect("items").len();
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
    }
    // The set-up's own key has the line of the set-up.
    assert_eq!(keys, lines + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l_03_nothing_answered_is_lost_on_sqlite() {
    check(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l_03_nothing_answered_is_lost_on_postgres() {
    check(Backend::Postgres).await;
}
