//! Passkeys: registered, shown alone, as a second step and within a session, by an authenticator in software and in a real
//! browser. What is refused has a file of its own.

mod refusals;

use http::Method;
use keyward::config::Layers;
use keyward_core::access::Role;
use keyward_core::id::{self, Id};
use serde_json::{Value, json};

use crate::people::{PASSWORD, enroll, log_in, me, person, post, tokens, with};
use crate::support::authenticator::Authenticator;
use crate::support::browser::Browser;
use crate::support::{Answer, Backend, Node, on_both};

const ORIGIN: &str = "https://keys.example.com";
const ANNE: &str = "anne@example.com";

fn published(layers: &mut Layers) {
    layers.flag("server.public_url", ORIGIN);
}

/// What an authenticator is asked, and under which id it answers.
async fn question(answer: Answer) -> (Value, Value) {
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"), "{answer:?}");
    (answer.json["challenge_id"].clone(), answer.json["publicKey"].clone())
}

async fn asked_to_register(node: &Node, token: &str) -> (Value, Value) {
    question(with(node, token, Method::POST, "/v1/auth/passkeys/register/begin", json!({})).await).await
}

async fn register(node: &Node, token: &str, name: &str, challenge: &Value, credential: Value) -> Answer {
    let body = json!({ "challenge_id": challenge, "name": name, "credential": credential });
    with(node, token, Method::POST, "/v1/auth/passkeys/register/finish", body).await
}

/// A person who is signed in and has a passkey: their token, their passkey's id and its authenticator.
async fn with_passkey(node: &Node, email: &str) -> (String, String, Authenticator) {
    person(node, email, Role::Admin).await;
    let (token, _) = tokens(node, email).await;
    let mut authenticator = Authenticator::on(ORIGIN);
    let id = add(node, &token, &mut authenticator).await;
    (token, id, authenticator)
}

async fn add(node: &Node, token: &str, authenticator: &mut Authenticator) -> String {
    let (challenge, options) = asked_to_register(node, token).await;
    let made = register(node, token, "laptop", &challenge, authenticator.create(&options)).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.json["id"].as_str().unwrap().to_owned()
}

async fn asked_to_log_in(node: &Node) -> (Value, Value) {
    question(post(node, "/v1/auth/passkeys/login/begin", json!({})).await).await
}

async fn finish(node: &Node, challenge: &Value, credential: &Value) -> Answer {
    let body = json!({ "challenge_id": challenge, "credential": credential });
    post(node, "/v1/auth/passkeys/login/finish", body).await
}

/// A whole sign-in with nothing but a passkey.
async fn sign_in(node: &Node, authenticator: &mut Authenticator) -> Answer {
    let (challenge, options) = asked_to_log_in(node).await;
    finish(node, &challenge, &authenticator.get(&options)).await
}

/// The token of a sign-in whose second step is awaited, and what that step may be.
async fn pending(node: &Node, email: &str) -> (String, Value) {
    let answer = log_in(node, email, PASSWORD).await;
    assert_eq!((answer.status, &answer.json["second_factor_required"]), (200, &json!(true)), "{answer:?}");
    (answer.json["login_token"].as_str().unwrap().to_owned(), answer.json["methods"].clone())
}

async fn asked_as_second_factor(node: &Node, login_token: &str) -> (Value, Value) {
    let body = json!({ "login_token": login_token });
    question(post(node, "/v1/auth/passkeys/second-factor/begin", body).await).await
}

async fn second_step(node: &Node, login_token: &str, challenge: &Value, credential: &Value) -> Answer {
    let body =
        json!({ "login_token": login_token, "method": "passkey", "challenge_id": challenge, "credential": credential });
    post(node, "/v1/auth/login/second-factor", body).await
}

async fn step_up_with(node: &Node, token: &str, authenticator: &mut Authenticator) -> Answer {
    let path = "/v1/auth/passkeys/step-up/begin";
    let (challenge, options) = question(with(node, token, Method::POST, path, json!({})).await).await;
    let body = json!({ "method": "passkey", "challenge_id": challenge, "credential": authenticator.get(&options) });
    with(node, token, Method::POST, "/v1/auth/step-up", body).await
}

async fn events(node: &Node, action: &str) -> i64 {
    node.tell(&format!("SELECT count(*) AS value FROM audit_event WHERE action = '{action}'")).await
}

async fn as_browser(node: &Node, path: &str, body: Value) -> Answer {
    let request =
        node.bare(Method::POST, path).header("x-keyward-client", "browser").header("sec-fetch-site", "same-origin");
    Answer::of(request.json(&body)).await
}

fn access_token(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json["access_token"].as_str().unwrap().to_owned()
}

fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let text = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

fn refused(answer: &Answer) {
    assert_eq!((answer.status, answer.code()), (401, "invalid_passkey"), "{answer:?}");
}

on_both! {
    settings published;

    async fn t_10_a_passkey_signs_in_alone(node: Node) {
        person(&node, ANNE, Role::Admin).await;
        let (token, _) = tokens(&node, ANNE).await;
        let mut authenticator = Authenticator::on(ORIGIN);
        let (challenge, options) = asked_to_register(&node, &token).await;
        assert_eq!((&options["rp"]["id"], &options["user"]["name"]), (&json!("keys.example.com"), &json!(ANNE)));
        let selection = &options["authenticatorSelection"];
        assert_eq!((&selection["residentKey"], &selection["requireResidentKey"], &selection["userVerification"]), (&json!("required"), &json!(true), &json!("required")));
        let made = register(&node, &token, "laptop", &challenge, authenticator.create(&options)).await;
        assert_eq!(made.status, 201, "{made:?}");
        let path = format!("/v1/auth/passkeys/{}", made.json["id"].as_str().unwrap());
        assert_eq!((made.header("location"), &made.json["name"], &made.json["last_used_at"]), (path.as_str(), &json!("laptop"), &Value::Null));
        assert_eq!(with(&node, &token, Method::GET, &path, Value::Null).await.json, made.json);
        node.place.mails.mail(0, ANNE, "\"laptop\" was added").await;

        node.clock.advance_seconds(60);
        let (challenge, options) = asked_to_log_in(&node).await;
        assert!(options["challenge"].as_str().unwrap().len() >= 22, "at least 16 bytes");
        assert_eq!((&options["userVerification"], &options["allowCredentials"], &options["rpId"]), (&json!("required"), &json!([]), &json!("keys.example.com")));
        let access = access_token(&finish(&node, &challenge, &authenticator.get(&options)).await);
        assert_eq!(me(&node, &access).await, 200);
        assert_eq!(claims(&access)["amr"], json!(["pop", "mfa"]));
        let listed = with(&node, &access, Method::GET, "/v1/auth/passkeys", Value::Null).await.json;
        assert_eq!((listed["items"].as_array().unwrap().len(), &listed["items"][0]["last_used_at"]), (1, &json!("2026-11-20T12:01:00Z")));
        assert_eq!(node.tell("SELECT sign_count AS value FROM passkey").await, 1);
        assert_eq!((events(&node, "passkey_registered").await, events(&node, "login").await), (1, 2));

        // A browser's tokens are in cookies.
        let (challenge, options) = question(as_browser(&node, "/v1/auth/passkeys/login/begin", json!({})).await).await;
        let body = json!({ "challenge_id": challenge, "credential": authenticator.get(&options) });
        let answer = as_browser(&node, "/v1/auth/passkeys/login/finish", body).await;
        assert_eq!((answer.status, &answer.json["signed_in"], answer.json.get("access_token")), (200, &json!(true), None), "{answer:?}");
        let cookies: Vec<String> = answer.cookies().iter().map(|cookie| cookie.split(';').next().unwrap().to_owned()).collect();
        let seen = Answer::of(node.bare(Method::GET, "/v1/auth/me").header("cookie", cookies.join("; "))).await;
        assert_eq!(seen.status, 200, "{seen:?}");
    }

    async fn s_03_a_passkey_is_the_second_step_of_a_sign_in(node: Node) {
        let (token, _, mut authenticator) = with_passkey(&node, ANNE).await;
        let (login_token, methods) = pending(&node, ANNE).await;
        assert_eq!(methods, json!(["passkey"]));
        let (challenge, options) = asked_as_second_factor(&node, &login_token).await;
        let answer = authenticator.get(&options);
        assert_eq!((&options["allowCredentials"], &options["userVerification"]), (&json!([{ "type": "public-key", "id": answer["id"] }]), &json!("required")));
        let step = async |body: Value| {
            let answer = post(&node, "/v1/auth/login/second-factor", body).await;
            (answer.status, answer.pointer().to_owned())
        };
        for (body, pointer) in [
            (json!({ "login_token": login_token, "method": "passkey", "credential": answer }), "/challenge_id"),
            (json!({ "login_token": login_token, "method": "passkey", "challenge_id": challenge }), "/credential"),
            (json!({ "login_token": login_token, "method": "passkey", "challenge_id": challenge, "credential": answer, "code": "1" }), "/code"),
            (json!({ "login_token": login_token, "method": "totp", "challenge_id": challenge, "code": "000000" }), "/challenge_id"),
            (json!({ "login_token": login_token, "method": "totp" }), "/code"),
            (json!({ "login_token": login_token, "method": "fingerprint", "code": "1" }), "/method"),
        ] {
            assert_eq!(step(body).await, (422, pointer.to_owned()));
        }
        let access = access_token(&second_step(&node, &login_token, &challenge, &answer).await);
        assert_eq!(claims(&access)["amr"], json!(["pwd", "pop", "mfa"]));
        assert_ne!(claims(&access)["sid"], claims(&token)["sid"]);
        assert_eq!(second_step(&node, &login_token, &challenge, &answer).await.code(), "invalid_token", "T-06");

        // Somebody else's passkey is no second factor of theirs, whoever it says that it belongs to.
        let (_, _, mut bobs) = with_passkey(&node, "bob@example.com").await;
        let (login_token, _) = pending(&node, ANNE).await;
        for user in [bobs.user.clone(), authenticator.user.clone(), None] {
            bobs.user = user;
            let (challenge, options) = asked_as_second_factor(&node, &login_token).await;
            refused(&second_step(&node, &login_token, &challenge, &bobs.get(&options)).await);
        }

        enroll(&node, &access).await;
        assert_eq!(pending(&node, ANNE).await.1, json!(["totp", "backup_code", "passkey"]));
        let (carol, _) = { person(&node, "carol@example.com", Role::Admin).await; tokens(&node, "carol@example.com").await };
        enroll(&node, &carol).await;
        let (login_token, methods) = pending(&node, "carol@example.com").await;
        assert_eq!(methods, json!(["totp", "backup_code"]));
        let none = post(&node, "/v1/auth/passkeys/second-factor/begin", json!({ "login_token": login_token })).await;
        assert_eq!((none.status, none.code()), (409, "conflict"));
    }

    async fn t_07_passkeys_change_only_with_password_and_factor(node: Node) {
        let (_, id, mut authenticator) = with_passkey(&node, ANNE).await;
        let path = format!("/v1/auth/passkeys/{id}");
        let change = async |token: &str| {
            let begun = with(&node, token, Method::POST, "/v1/auth/passkeys/register/begin", json!({})).await;
            let removed = with(&node, token, Method::DELETE, "/v1/auth/passkeys/pky_01k00000000000000000000000", Value::Null).await;
            assert_eq!(begun.code() == "insufficient_user_authentication", removed.code() == "insufficient_user_authentication");
            (begun.status, removed.status)
        };
        // A passkey alone shows no password.
        let access = access_token(&sign_in(&node, &mut authenticator).await);
        assert_eq!(change(&access).await, (401, 401));
        let password = json!({ "password": PASSWORD });
        let old = access;
        let access = access_token(&with(&node, &old, Method::POST, "/v1/auth/step-up", password.clone()).await);
        assert_eq!(change(&access).await, (200, 404));
        assert_eq!(me(&node, &old).await, 401, "the session goes on under another id");
        node.clock.advance_seconds(300);
        assert_eq!(change(&access).await, (401, 401));
        let access = access_token(&with(&node, &access, Method::POST, "/v1/auth/step-up", password).await);
        assert_eq!(change(&access).await, (401, 401), "the factor is as old as before");
        let old = access;
        let access = access_token(&step_up_with(&node, &old, &mut authenticator).await);
        assert_eq!(change(&access).await, (200, 404), "the password was shown just before");
        assert_eq!(me(&node, &old).await, 401, "the session goes on under another id");
        let (before, after) = (claims(&old), claims(&access));
        assert_eq!((&after["amr"], &after["auth_time"]), (&json!(["pwd", "pop", "mfa"]), &before["auth_time"]));
        assert_ne!(before["sid"], after["sid"]);
        assert_eq!(events(&node, "stepped_up").await, 3);

        let (bob, _, _) = with_passkey(&node, "bob@example.com").await;
        for (method, body) in [(Method::GET, Value::Null), (Method::PATCH, json!({ "name": "mine" })), (Method::DELETE, Value::Null)] {
            assert_eq!(with(&node, &bob, method.clone(), &path, body).await.status, 404, "{method}: another's looks absent");
        }
        let renamed = with(&node, &access, Method::PATCH, &path, json!({ "name": "old laptop" })).await;
        assert_eq!((renamed.status, &renamed.json["name"]), (200, &json!("old laptop")), "{renamed:?}");
        let faulty = with(&node, &access, Method::PATCH, &path, json!({ "name": " " })).await;
        assert_eq!((faulty.status, faulty.pointer()), (422, "/name"));

        let codes = "SELECT count(*) AS value FROM backup_code";
        assert_eq!(with(&node, &access, Method::POST, "/v1/auth/backup-codes", json!({})).await.status, 200);
        assert_eq!(node.tell(codes).await, 10);
        assert_eq!(with(&node, &access, Method::DELETE, &path, Value::Null).await.status, 204);
        node.place.mails.mail(0, ANNE, "\"old laptop\" of your account was removed").await;
        assert_eq!(node.tell(codes).await, 0, "they stood in for it");
        refused(&sign_in(&node, &mut authenticator).await);
        assert_eq!(log_in(&node, ANNE, PASSWORD).await.json["token_type"], "Bearer", "no factor is left");
        assert_eq!((events(&node, "passkey_renamed").await, events(&node, "passkey_removed").await), (1, 1));
    }

    async fn t_08_a_passkey_is_what_a_policy_asks_for(node: Node) {
        person(&node, ANNE, Role::Admin).await;
        let (anne, _) = tokens(&node, ANNE).await;
        let (owner, _) = { person(&node, "olga@example.com", Role::Owner).await; tokens(&node, "olga@example.com").await };
        // Shown at its registration, so what asks for a fresh second factor is open.
        add(&node, &owner, &mut Authenticator::on(ORIGIN)).await;
        let set = with(&node, &owner, Method::PATCH, "/v1/security/policy", json!({ "second_factor_required": true })).await;
        assert_eq!(set.status, 200, "{set:?}");
        let keys = async || with(&node, &anne, Method::GET, "/v1/api-keys", Value::Null).await;
        assert_eq!(keys().await.code(), "2fa_enrolment_required");
        let mut authenticator = Authenticator::on(ORIGIN);
        let id = add(&node, &anne, &mut authenticator).await;
        assert_eq!(keys().await.status, 200);
        assert_eq!(with(&node, &anne, Method::DELETE, &format!("/v1/auth/passkeys/{id}"), Value::Null).await.status, 204);
        assert_eq!(keys().await.code(), "2fa_enrolment_required");
    }

    async fn whoever_manages_members_takes_lost_passkeys_away(node: Node) {
        let (token, _, mut authenticator) = with_passkey(&node, ANNE).await;
        let anne: Id<id::User> = with(&node, &token, Method::GET, "/v1/auth/me", Value::Null).await.json["user_id"].as_str().unwrap().parse().unwrap();
        let (owner, _) = { person(&node, "olga@example.com", Role::Owner).await; tokens(&node, "olga@example.com").await };
        enroll(&node, &owner).await;
        let has_factor = async || with(&node, &owner, Method::GET, &format!("/v1/members/{anne}"), Value::Null).await.json["second_factor_enabled"].clone();
        assert_eq!(has_factor().await, json!(true));
        let reset = with(&node, &owner, Method::POST, &format!("/v1/members/{anne}/reset-factors"), json!({})).await;
        assert_eq!(reset.status, 204, "{reset:?}");
        assert_eq!(has_factor().await, json!(false));
        refused(&sign_in(&node, &mut authenticator).await);
    }

}

on_both! {
    async fn without_a_host_name_of_its_own_a_node_asks_for_no_passkey(node: Node) {
        person(&node, ANNE, Role::Admin).await;
        let (token, _) = tokens(&node, ANNE).await;
        for answer in [
            with(&node, &token, Method::POST, "/v1/auth/passkeys/register/begin", json!({})).await,
            post(&node, "/v1/auth/passkeys/login/begin", json!({})).await,
        ] {
            assert_eq!((answer.status, answer.code()), (409, "conflict"));
            assert!(answer.json["detail"].as_str().unwrap().contains("server.public_url"), "{answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_asks_another_takes_the_answer_to() {
    let one = Node::start_with(Backend::Postgres, published).await;
    let two = one.join(one.place.clone(), published).await;
    let (_, _, mut authenticator) = with_passkey(&one, ANNE).await;
    let (challenge, options) = asked_to_log_in(&one).await;
    let answer = authenticator.get(&options);
    let tries = futures_util::future::join(finish(&two, &challenge, &answer), finish(&one, &challenge, &answer)).await;
    let statuses = [tries.0.status, tries.1.status];
    assert!(statuses.contains(&200) && statuses.contains(&401), "{tries:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_browser_registers_and_shows_a_passkey() {
    let port = xtask::postgres::free_port().unwrap();
    let origin = format!("http://localhost:{port}");
    let node = Node::start_with(Backend::Sqlite, |layers| {
        layers.flag("server.listen", format!("127.0.0.1:{port}"));
        layers.flag("server.public_url", origin.as_str());
    });
    let node = node.await;
    let browser = Browser::at(&format!("{origin}/docs")).await;
    browser.add_authenticator().await;
    person(&node, ANNE, Role::Admin).await;
    let (token, _) = tokens(&node, ANNE).await;

    let (challenge, options) = asked_to_register(&node, &token).await;
    let made = browser.credential("create", &options).await;
    assert_eq!(made["clientExtensionResults"]["credProps"]["rk"], json!(true), "it can be found without a name");
    let made = register(&node, &token, "Chromium", &challenge, made).await;
    assert_eq!(made.status, 201, "{made:?}");

    let (challenge, options) = asked_to_log_in(&node).await;
    let answer = browser.credential("get", &options).await;
    let access = access_token(&finish(&node, &challenge, &answer).await);
    assert_eq!(me(&node, &access).await, 200);
    refused(&finish(&node, &challenge, &answer).await);

    let (login_token, _) = pending(&node, ANNE).await;
    let (challenge, options) = asked_as_second_factor(&node, &login_token).await;
    let answer = browser.credential("get", &options).await;
    access_token(&second_step(&node, &login_token, &challenge, &answer).await);
}
