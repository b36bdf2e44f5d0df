//! What is so already stays as it is: whoever asks for it again gets the same answer, and neither the book nor the other nodes
//! are told a second time.

use keyward::audit::EventFilter;
use keyward::context::Context;
use keyward::page::PageRequest;
use keyward_core::access::Role;
use serde_json::{Value, json};

use crate::people::{PASSWORD, log_in, person};
use crate::support::{Backend, Node, on_both};

const ANNOUNCEMENTS: &str = "SELECT count(*) AS value FROM announcement";

/// How much was written down of keys, organizations and people, and how much was announced, so far.
async fn told(node: &Node) -> (usize, i64) {
    let page = PageRequest::new(Some(200), None).unwrap();
    let events = node.app.keyward.audit.list(&Context::system("test"), None, &EventFilter::default(), &page).await;
    let events = events.expect("events").items.into_iter().map(|event| event.action);
    let ours = events.filter(|action| ["key_", "organization_", "person_"].iter().any(|kind| action.starts_with(kind)));
    let announced = match node.place.database_url() {
        Some(_) => node.tell(ANNOUNCEMENTS).await,
        None => 0,
    };
    (ours.count(), announced)
}

/// Asks twice; answers the first answer.
async fn twice(node: &Node, path: &str, body: Value) -> Value {
    let before = told(node).await;
    let first = node.post(path, body.clone()).await;
    assert_eq!(first.status, 200, "{first:?}");
    let (once, announced) = told(node).await;
    assert_eq!(once, before.0 + 1, "{path}");
    assert!(announced > before.1 || node.place.database_url().is_none(), "{path}");
    node.clock.advance_seconds(1);
    let again = node.post(path, body).await;
    assert_eq!((again.status, &again.json), (200, &first.json), "{path}");
    assert_eq!(told(node).await, (once, announced), "{path}");
    first.json
}

on_both! {
    async fn a_key_is_ended_paused_and_resumed_once(node: Node) {
        let id = node.new_key(json!({ "expires_at": "2026-11-20T12:30:00Z" })).await["id"].as_str().unwrap().to_owned();
        let path = |action: &str| format!("/v1/api-keys/{id}/{action}");
        let before = told(&node).await;
        assert_eq!(node.post(&path("enable"), json!({})).await.json["status"], "active");
        assert_eq!(told(&node).await, before, "it was active");
        assert_eq!(twice(&node, &path("disable"), json!({ "reason": "holiday" })).await["status"], "disabled");
        // Without a reason the one that is known stays; another one is a change, and is told.
        let before = told(&node).await;
        assert_eq!(node.post(&path("disable"), json!({})).await.json["status"], "disabled");
        assert_eq!(told(&node).await, before);
        twice(&node, &path("disable"), json!({ "reason": "audit" })).await;
        assert_eq!(twice(&node, &path("enable"), json!({})).await["status"], "active");
        node.clock.advance_seconds(30 * 60);
        assert_eq!(twice(&node, &path("disable"), json!({})).await["status"], "expired", "paused beneath");
        assert_eq!(twice(&node, &path("revoke"), json!({ "reason": "leaked" })).await["status"], "revoked");
        let before = told(&node).await;
        assert_eq!(node.post(&path("revoke"), json!({})).await.status, 200);
        assert_eq!(told(&node).await, before);
        let undone = node.post(&path("enable"), json!({})).await;
        assert_eq!((undone.status, undone.code()), (409, "conflict"));
    }

    async fn an_organization_is_suspended_and_activated_once(node: Node) {
        let id = node.new_organization("tenant", "free").await;
        let path = |action: &str| format!("/v1/organizations/{id}/{action}");
        let before = told(&node).await;
        assert_eq!(node.post(&path("activate"), json!({})).await.json["status"], "active");
        assert_eq!(told(&node).await, before, "it was active");
        twice(&node, &path("suspend"), json!({})).await;
        twice(&node, &path("activate"), json!({})).await;
        let suspend = path("suspend");
        let (one, two) = tokio::join!(node.post(&suspend, json!({})), node.post(&suspend, json!({})));
        assert_eq!((one.status, two.status, &one.json["status"]), (200, 200, &two.json["status"]));
        assert_eq!(told(&node).await.0, before.0 + 3, "one of the two at the same time");
    }

    async fn an_account_is_closed_and_opened_once(node: Node) {
        let owner = person(&node, "a@example.com", Role::Owner).await;
        let (people, system) = (&node.app.keyward.people, Context::system("test"));
        let organization = node.organization.parse().unwrap();
        let set = async |is_disabled| people.set_disabled(&system, organization, owner, is_disabled).await.expect("it is done");
        let before = told(&node).await;
        assert!(set(false).await.disabled_at.is_none());
        assert_eq!(told(&node).await, before, "it was open");
        let closed = set(true).await.disabled_at;
        let once = told(&node).await;
        node.clock.advance_seconds(1);
        // Nor is it refused because the one owner who is left must stay.
        assert_eq!((set(true).await.disabled_at, told(&node).await), (closed, once));
        assert_eq!((once.0, closed.is_some()), (before.0 + 1, true));
        assert_eq!(log_in(&node, "a@example.com", PASSWORD).await.status, 401);
        set(false).await;
        let (one, two) = tokio::join!(set(true), set(true));
        assert_eq!((one.disabled_at, told(&node).await.0), (two.disabled_at, once.0 + 2), "opened, and closed by one of the two");
    }
}

/// A repeated call that waits has nothing of its own to wait for, and still answers only when no node honours the key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_revocation_waits_for_every_node() {
    let one = Node::start(Backend::Postgres).await;
    let two = one.join(one.place.clone(), |_| {}).await;
    let issued = one.new_key(json!({})).await;
    let (id, key) = (issued["id"].as_str().unwrap(), issued["key"].as_str().unwrap());
    assert_eq!(two.code_of(key).await, "valid");
    let path = format!("/v1/api-keys/{id}/revoke");
    assert_eq!(one.post(&path, json!({})).await.status, 200);
    let again = one.post(&format!("{path}?wait=true"), json!({})).await;
    assert_eq!((again.status, &again.json["status"]), (200, &json!("revoked")));
    assert_eq!(two.code_of(key).await, "revoked", "the very next call on the other node");
}
