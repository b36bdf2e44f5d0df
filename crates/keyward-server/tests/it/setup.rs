//! The first start: nobody has an account yet, and one link makes the first (statement A-07).

use http::Method;
use keyward::context::Context;
use serde_json::json;

use crate::people::{PASSWORD, log_in};
use crate::support::{Answer, Backend, Node, Place, start_of_time};

async fn follow(node: &Node, token: &str) -> Answer {
    let form = [("token", token), ("email", "first@example.com"), ("organization", "First"), ("password", PASSWORD)];
    Answer::of(node.bare(Method::POST, "/setup").form(&form)).await
}

async fn look(node: &Node, token: &str) -> u16 {
    Answer::of(node.bare(Method::GET, &format!("/setup?token={token}"))).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_07_the_first_start_has_no_account_and_one_link_that_is_good_once() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let node = Node::open(Place::new(backend).await, start_of_time(), |_| {}).await;
        for (email, password) in [("admin", "admin"), ("admin@example.com", "password"), ("root", ""), ("", "")] {
            assert_eq!(log_in(&node, email, password).await.status, 401, "{email:?}");
        }
        assert_eq!(node.tell("SELECT count(*) AS value FROM person").await, 0);
        assert_eq!(node.tell("SELECT count(*) AS value FROM api_key").await, 0);
        let new = async || {
            let made = node.app.keyward.setup.new_token(&Context::system("test")).await.expect("a link");
            made.expose().clone()
        };
        for nothing in ["", "guess", "kws_0000"] {
            assert_eq!((look(&node, nothing).await, follow(&node, nothing).await.status), (410, 410), "{nothing:?}");
        }
        let late = new().await;
        node.clock.advance_seconds(15 * 60 - 1);
        assert_eq!(look(&node, &late).await, 200);
        node.clock.advance_seconds(1);
        assert_eq!((look(&node, &late).await, follow(&node, &late).await.status), (410, 410), "15 minutes");
        let (earlier, good) = (new().await, new().await);
        assert_eq!(follow(&node, &earlier).await.status, 410, "a new link ends those before");
        let done = follow(&node, &good).await;
        assert_eq!((done.status, done.header("cache-control")), (201, "no-store"), "{done:?}");
        assert_eq!((look(&node, &good).await, follow(&node, &good).await.status), (410, 410), "good once");
        assert_eq!(log_in(&node, "first@example.com", PASSWORD).await.json["token_type"], json!("Bearer"));
        assert_eq!(node.tell("SELECT count(*) AS value FROM person").await, 1);
        let kept = node.tell("SELECT count(*) AS value FROM setup_token WHERE used_at IS NOT NULL").await;
        assert_eq!(kept, 1, "and it is known to have been used");
    }
}
