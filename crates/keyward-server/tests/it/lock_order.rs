//! Changes of one person at the same time: whatever order they come in, none waits for another that waits for it. The person's row
//! is held by the test, so that two changes meet exactly where they would.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use keyward::context::Context;
use keyward_core::access::Role;
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};

use crate::people::{NEW_PASSWORD, PASSWORD, enroll, log_in, pair, person, second, tokens, with};
use crate::support::{Answer, Backend, Node, on_both};

pub const WAITING: &str =
    "SELECT count(*) AS value FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
const NOTED: &str = "SELECT count(*) AS value FROM audit_event WHERE action = 'login_failed'";

/// Holds every person's row until it is let go.
struct Held(PgConnection);

impl Held {
    async fn all(node: &Node) -> Self {
        let mut connection =
            PgConnection::connect(node.place.database_url().unwrap()).await.expect("PostgreSQL answers");
        connection.execute("BEGIN").await.unwrap();
        connection.execute("UPDATE person SET updated_at = updated_at").await.unwrap();
        Self(connection)
    }

    async fn let_go(mut self) {
        self.0.execute("COMMIT").await.unwrap();
    }
}

/// Waits until so many wait for a lock.
pub async fn until_waiting(node: &Node, count: i64) {
    let waiting = async { while node.tell(WAITING).await != count {} };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("they wait");
}

async fn change_password(node: &Node, access: &str, current: &str, new: &str) -> Answer {
    let body = json!({ "current_password": current, "new_password": new });
    with(node, access, Method::POST, "/v1/auth/password", body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_step_and_a_new_password_do_not_wait_for_each_other() {
    let node = Node::start(Backend::Postgres).await;
    person(&node, "a@example.com", Role::Owner).await;
    let (access, _) = tokens(&node, "a@example.com").await;
    let (_, codes) = enroll(&node, &access).await;
    let waiting = log_in(&node, "a@example.com", PASSWORD).await.json["login_token"].as_str().unwrap().to_owned();
    let held = Held::all(&node).await;
    let changing = change_password(&node, &access, PASSWORD, NEW_PASSWORD);
    let signing_in = async {
        until_waiting(&node, 1).await;
        second(&node, &waiting, "backup_code", &codes[0]).await
    };
    let letting_go = async {
        until_waiting(&node, 2).await;
        held.let_go().await;
    };
    let (changed, signed_in, ()) = tokio::join!(changing, signing_in, letting_go);
    assert_eq!(changed.status, 204, "{changed:?}");
    assert_eq!((signed_in.status, signed_in.code()), (401, "invalid_credentials"), "its password was the old one");
    assert_eq!(node.tell(NOTED).await, 1, "and that is in the book (statement L-01)");
    let left = with(&node, &access, Method::GET, "/v1/auth/backup-codes", json!(null)).await;
    assert_eq!(left.json["remaining"], 10, "the code was not used up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_account_and_a_new_password_do_not_wait_for_each_other() {
    let node = Node::start(Backend::Postgres).await;
    let ann = person(&node, "a@example.com", Role::Viewer).await;
    let (access, _) = tokens(&node, "a@example.com").await;
    let held = Held::all(&node).await;
    let changing = change_password(&node, &access, PASSWORD, NEW_PASSWORD);
    let (people, system) = (&node.app.keyward.people, Context::system("test"));
    let closing = async {
        until_waiting(&node, 1).await;
        people.set_disabled(&system, node.organization.parse().unwrap(), ann, true).await
    };
    let letting_go = async {
        until_waiting(&node, 2).await;
        held.let_go().await;
    };
    let (changed, closed, ()) = tokio::join!(changing, closing, letting_go);
    assert_eq!(changed.status, 204, "{changed:?}");
    assert!(closed.is_ok_and(|member| member.disabled_at.is_some()));
    assert_eq!(crate::people::me(&node, &access).await, 401);
}

/// On PostgreSQL the second of two deletes does not see what the first has put in their place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t_04_two_new_sets_of_backup_codes_leave_one() {
    let node = Node::start(Backend::Postgres).await;
    person(&node, "a@example.com", Role::Owner).await;
    let (access, _) = tokens(&node, "a@example.com").await;
    enroll(&node, &access).await;
    let renewed =
        join_all((0..8).map(|_| with(&node, &access, Method::POST, "/v1/auth/backup-codes", json!({})))).await;
    assert!(renewed.iter().all(|answer| answer.status == 200), "{renewed:?}");
    assert_eq!(node.tell("SELECT count(*) AS value FROM backup_code").await, 10);
}

/// A try with a password holds two counts at a time; the sweep of old ones goes round those that are held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweep_of_failures_waits_for_no_try() {
    let node = Node::start(Backend::Postgres).await;
    for email in ["a@example.com", "b@example.com"] {
        assert_eq!(log_in(&node, email, "wrong").await.status, 401);
    }
    let counted = "SELECT count(*) AS value FROM login_failure";
    let before = node.tell(counted).await;
    assert!(before >= 4, "two of each: {before}");
    node.clock.advance_seconds(400 * 86_400);
    let mut trying = PgConnection::connect(node.place.database_url().unwrap()).await.expect("PostgreSQL answers");
    trying.execute("BEGIN").await.unwrap();
    let hold =
        "UPDATE login_failure SET failures = failures WHERE subject = (SELECT subject FROM login_failure LIMIT 1)";
    trying.execute(hold).await.unwrap();
    let swept = tokio::time::timeout(Duration::from_secs(20), node.app.keyward.sessions.sweep()).await;
    swept.expect("it does not wait").expect("it sweeps");
    assert_eq!(node.tell(counted).await, 1, "what is held is swept another time");
    trying.execute("COMMIT").await.unwrap();
    node.app.keyward.sessions.sweep().await.expect("it sweeps");
    assert_eq!(node.tell(counted).await, 0);
}

on_both! {
    async fn second_steps_and_new_passwords_at_the_same_time_end_well(node: Node) {
        let mut people = Vec::new();
        for index in 0..4 {
            let email = format!("p{index}@example.com");
            person(&node, &email, Role::Viewer).await;
            let (access, _) = tokens(&node, &email).await;
            let (_, codes) = enroll(&node, &access).await;
            let mut waiting = Vec::new();
            for _ in 0..8 {
                waiting.push(log_in(&node, &email, PASSWORD).await.json["login_token"].as_str().unwrap().to_owned());
            }
            people.push((access, codes, waiting));
        }
        let node = &node;
        let all = people.iter().map(|(access, codes, waiting)| async move {
            let step = async |(code, token): (&String, &String)| second(node, token, "backup_code", code).await;
            let change = async |turn: usize| change_password(node, access, PASSWORD, &format!("{NEW_PASSWORD} {turn}")).await;
            tokio::join!(join_all(codes.iter().zip(waiting).map(step)), join_all((0..3).map(change)))
        });
        for (steps, changes) in join_all(all).await {
            for step in &steps {
                assert!([200, 401].contains(&step.status), "{step:?}");
            }
            for change in &changes {
                assert!([204, 401].contains(&change.status), "{change:?}");
            }
            assert!(changes.iter().any(|change| change.status == 204));
            for (access, _) in steps.iter().filter(|step| step.status == 200).map(pair) {
                assert!([200, 401].contains(&crate::people::me(node, &access).await));
            }
        }
    }
}
