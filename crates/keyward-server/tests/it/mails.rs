//! Mails that wait: none is lost when the process dies or the mail server is away, and the database tells nothing of what they say.

use serde_json::json;

use keyward_core::access::Role;

use crate::people::{NEW_PASSWORD, log_in, person, post};
use crate::support::{Backend, Node};

const WAITING: &str = "SELECT count(*) AS value FROM mail_outbox";
const TRIED: &str = "SELECT CAST(coalesce(sum(attempts), 0) AS BIGINT) AS value FROM mail_outbox";

async fn check(backend: Backend) {
    let one = Node::start(backend).await;
    person(&one, "a@example.com", Role::Viewer).await;
    one.app.keyward.sessions.deliver().await.unwrap();
    // Nobody listens where the mails go.
    let free = xtask::postgres::free_port().unwrap();
    let away =
        one.join(one.place.clone(), |layers| layers.flag("mail.smtp_url", format!("smtp://127.0.0.1:{free}"))).await;
    one.stop().await;
    let waiting_before = away.tell(WAITING).await;
    let before = away.place.mails.count();
    assert_eq!(post(&away, "/v1/auth/password/forgot", json!({ "email": "a@example.com" })).await.status, 202);
    assert_eq!(post(&away, "/v1/auth/password/forgot", json!({ "email": "nobody@example.com" })).await.status, 202);
    assert_eq!(away.tell(WAITING).await, waiting_before + 1, "one for whoever has an account");
    away.app.keyward.sessions.deliver().await.unwrap();
    while away.tell(TRIED).await == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(away.tell(WAITING).await, waiting_before + 1, "it was not taken, and waits");
    if backend == Backend::Sqlite {
        for file in std::fs::read_dir(away.place.folder()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
            assert!(!bytes.windows(22).any(|part| part == b"reset-password?token=k"), "a link stands in clear");
        }
    }

    let back = away.join(away.place.clone(), |_| {}).await;
    away.stop().await;
    back.clock.advance_seconds(60);
    back.app.keyward.sessions.deliver().await.unwrap();
    let mail = back.place.mails.mail(before, "a@example.com", "token=").await;
    let token = mail.text.split("token=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let reset = post(&back, "/v1/auth/password/reset", json!({ "token": token, "new_password": NEW_PASSWORD })).await;
    assert_eq!(reset.status, 204, "{reset:?}");
    assert_eq!(log_in(&back, "a@example.com", NEW_PASSWORD).await.status, 200);
    back.place.mails.mail(before, "a@example.com", "was changed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_outlives_its_process_on_sqlite() {
    check(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_outlives_its_process_on_postgres() {
    check(Backend::Postgres).await;
}
