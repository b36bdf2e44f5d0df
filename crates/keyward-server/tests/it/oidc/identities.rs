//! What a provider's sign-in leaves behind: how tokens tell of it, and the link that its owner, or whoever manages members, ends.

use http::Method;

use super::forgeries::{started_with, vouched};
use super::*;
use crate::people::{NEW_PASSWORD, post, reset_token, with};
use crate::sessions::claims as told;
use crate::support::forger::{Forger, Key};

const PATH: &str = "/v1/auth/identities";

fn access(browser: &Browser) -> Value {
    told(browser.cookie("__Host-keyward_access").expect("signed in"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_tell_how_the_provider_has_asked() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let (node, forger, key) = started_with(backend).await;
        let now = node.app.keyward.clock.now().as_seconds();
        let long = "x".repeat(200);
        for (said, amr, acr, auth_time) in [
            (json!({}), json!(["fed"]), json!(null), now),
            (
                json!({ "amr": ["pwd", "otp", "mfa"], "acr": "urn:example:silver", "auth_time": now - 3_600 }),
                json!(["pwd", "otp", "mfa"]),
                json!("urn:example:silver"),
                now - 3_600,
            ),
            (json!({ "amr": ["face", "hwk"], "auth_time": now + 30 }), json!(["face", "hwk"]), json!(null), now),
            (json!({ "amr": [] , "acr": 3, "auth_time": "yesterday" }), json!(["fed"]), json!(null), now),
            (json!({ "amr": "pwd", "auth_time": -1 }), json!(["fed"]), json!(null), now),
            (json!({ "amr": ["two words", 7, "", long, "swk"], "acr": "a b" }), json!(["swk"]), json!(null), now),
        ] {
            let mut browser = Browser::default();
            let answer = sign_in_as(&node, &forger, &key, &mut browser, &said).await;
            assert_eq!(answer.status, 302, "{said}: {answer:?}");
            let token = access(&browser);
            assert_eq!((&token["amr"], &token["acr"], &token["auth_time"]), (&amr, &acr, &json!(auth_time)), "{said}");
        }
    }
}

async fn sign_in_as(node: &Node, forger: &Forger, key: &Key, browser: &mut Browser, about: &Value) -> Answer {
    let back = vouched(node, forger, key, browser, about).await;
    browser.get(node, &back).await
}

/// The second factor that is asked for here stands beside the provider's word, and so does a password in a step-up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_tell_what_was_shown_here_as_well() {
    let (node, forger, key) = started_with(Backend::Sqlite).await;
    person(&node, "ann@example.com", Role::Owner).await;
    let (own, _) = tokens(&node, "ann@example.com").await;
    let (secret, backup) = enroll(&node, &own).await;
    let now = node.app.keyward.clock.now().as_seconds();
    let mut browser = Browser::default();
    let said = json!({ "amr": ["pwd"], "acr": "1", "auth_time": now - 60 });
    sign_in_as(&node, &forger, &key, &mut browser, &said).await;
    let done = browser.send(&node, "/sign-in/second-factor", &[("next", "/docs"), ("code", &backup[0])]).await;
    assert_eq!(done.status, 303, "{done:?}");
    let token = access(&browser);
    assert_eq!(
        (&token["amr"], &token["acr"], &token["auth_time"]),
        (&json!(["pwd", "otp"]), &json!("1"), &json!(now - 60))
    );

    let silent = json!({});
    sign_in_as(&node, &forger, &key, &mut browser, &silent).await;
    node.clock.advance_seconds(30);
    browser.send(&node, "/sign-in/second-factor", &[("next", "/docs"), ("code", &code(&node, &secret, 0))]).await;
    assert_eq!(access(&browser)["amr"], json!(["fed", "otp"]));
    let csrf = browser.get(&node, "/v1/security/csrf-token").await.json["csrf_token"].as_str().unwrap().to_owned();
    let stepped = node
        .bare(Method::POST, "/v1/auth/step-up")
        .header("cookie", browser.cookies())
        .header("sec-fetch-site", "same-origin")
        .header("x-csrf-token", csrf);
    let stepped = Answer::of(stepped.json(&json!({ "password": PASSWORD }))).await;
    assert_eq!(stepped.status, 200, "{stepped:?}");
    browser.keep(&stepped);
    assert_eq!(access(&browser)["amr"], json!(["fed", "pwd", "otp"]));
}

/// A sign-in by the provider, its cookies, and what a change by them needs.
async fn by_provider(node: &Node, forger: &Forger, key: &Key) -> Browser {
    let mut browser = Browser::default();
    assert_eq!(sign_in_as(node, forger, key, &mut browser, &json!({})).await.status, 302);
    browser
}

async fn unlink(node: &Node, browser: &mut Browser, issuer: &str) -> Answer {
    let csrf = browser.get(node, "/v1/security/csrf-token").await.json["csrf_token"].as_str().unwrap().to_owned();
    let request = node.bare(Method::DELETE, &format!("{PATH}?issuer={issuer}")).header("cookie", browser.cookies());
    Answer::of(request.header("sec-fetch-site", "same-origin").header("x-csrf-token", csrf)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_unlinks_their_own_provider_but_not_the_last_way_to_sign_in() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let (node, forger, key) = started_with(backend).await;
        let mut browser = by_provider(&node, &forger, &key).await;
        let listed = browser.get(&node, PATH).await.json["items"].clone();
        assert_eq!(
            (&listed[0]["issuer"], &listed[0]["subject"], &listed[0]["enabled"], listed.as_array().unwrap().len()),
            (&json!(forger.issuer), &json!("ann"), &json!(true), 1)
        );
        let last = unlink(&node, &mut browser, &forger.issuer).await;
        assert_eq!((last.status, last.code()), (409, "last_way_to_sign_in"), "{last:?}");
        // One that the settings do not name any more opens nothing, so it may go.
        node.tamper("UPDATE person_identity SET issuer = 'https://old.example'").await;
        assert_eq!(browser.get(&node, PATH).await.json["items"][0]["enabled"], json!(false));
        assert_eq!(unlink(&node, &mut browser, "https://old.example").await.status, 204);
        let token = reset_token(&node, "ann@example.com").await;
        let set = post(&node, "/v1/auth/password/reset", json!({ "token": token, "new_password": NEW_PASSWORD })).await;
        assert_eq!(set.status, 204);

        let mut browser = by_provider(&node, &forger, &key).await;
        let ann = id_of(&node, &mut browser).await;
        for unknown in ["https://other.example", ""] {
            assert_eq!(unlink(&node, &mut browser, unknown).await.status, 404, "{unknown:?}");
        }
        let mut other = by_provider(&node, &forger, &key).await;
        let (own, _) = pair(&log_in(&node, "ann@example.com", NEW_PASSWORD).await);
        node.clock.advance_seconds(300);
        let stale = unlink(&node, &mut browser, &forger.issuer).await;
        assert_eq!((stale.status, stale.code()), (401, "insufficient_user_authentication"), "{stale:?}");
        let mut browser = by_provider(&node, &forger, &key).await;
        assert_eq!(unlink(&node, &mut browser, &forger.issuer).await.status, 204);
        assert_eq!(browser.get(&node, "/v1/auth/me").await.status, 200, "the session of the call goes on");
        assert_eq!(other.get(&node, "/v1/auth/me").await.status, 401, "what the provider has opened ends");
        assert_eq!(
            with(&node, &own, Method::GET, "/v1/auth/me", Value::Null).await.status,
            200,
            "what a password has opened stays"
        );
        assert_eq!(browser.get(&node, PATH).await.json["items"], json!([]));
        let noted = events(&node, "identity_unlinked").await;
        assert_eq!((noted.len(), &noted[0]["resource"]["id"]), (2, &json!(ann.to_string())));
        assert_eq!(
            (&noted[0]["details"]["issuer"], &noted[0]["details"]["subject"]),
            (&json!(forger.issuer), &json!("ann"))
        );
        node.place.mails.mail(0, "ann@example.com", "no longer be opened by").await;
        // Whoever signs in there again is joined again, by the address that the provider vouches for.
        by_provider(&node, &forger, &key).await;
        assert_eq!(events(&node, "identity_linked").await.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_manages_members_unlinks_a_members_provider() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let (node, forger, key) = started_with(backend).await;
        person(&node, "ann@example.com", Role::Developer).await;
        let mut browser = by_provider(&node, &forger, &key).await;
        let ann = id_of(&node, &mut browser).await;
        person(&node, "owner2@example.com", Role::Owner).await;
        let (owner, _) = tokens(&node, "owner2@example.com").await;
        let path = format!("/v1/members/{ann}/identities");
        let call = async |token: &str, method: Method, path: &str| with(&node, token, method, path, Value::Null).await;
        let listed = call(&owner, Method::GET, &path).await;
        assert_eq!((listed.status, &listed.json["items"][0]["issuer"]), (200, &json!(forger.issuer)), "{listed:?}");
        let path = format!("{path}?issuer={}", forger.issuer);
        assert_eq!(call(&owner, Method::DELETE, &path).await.code(), "insufficient_user_authentication");
        enroll(&node, &owner).await;

        // Another organization's owner finds nobody there, and nobody is unlinked by a key.
        let elsewhere = node.new_organization("other", "pro").await;
        let (_, stranger) = crate::security::member(&node, "stranger@example.com", &elsewhere, Role::Owner).await;
        let hidden = call(&stranger, Method::GET, &format!("/v1/members/{ann}/identities")).await;
        assert_eq!(hidden.status, 404, "{hidden:?}");
        assert_eq!((call(&stranger, Method::DELETE, &path).await.status, node.delete(&path).await.status), (403, 403));
        for role in [Role::Auditor, Role::Developer, Role::Viewer] {
            let email = format!("{}@example.com", role.as_str());
            person(&node, &email, role).await;
            let (token, _) = tokens(&node, &email).await;
            enroll(&node, &token).await;
            let (list, end) = (call(&token, Method::GET, &path).await, call(&token, Method::DELETE, &path).await);
            assert_eq!((list.status == 200, end.status), (role == Role::Auditor, 403), "{}: {list:?}", role.as_str());
        }
        assert_eq!(call(&owner, Method::DELETE, &path).await.status, 204);
        assert_eq!(browser.get(&node, "/v1/auth/me").await.status, 401);
        assert_eq!(call(&owner, Method::DELETE, &path).await.status, 404);
        assert_eq!(events(&node, "identity_unlinked").await.len(), 1);
    }
}

/// Nor does a second step go on that the provider has vouched for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_in_that_was_on_its_way_does_not_outlive_the_link() {
    let (node, forger, key) = started_with(Backend::Sqlite).await;
    person(&node, "ann@example.com", Role::Owner).await;
    by_provider(&node, &forger, &key).await;
    let (own, _) = tokens(&node, "ann@example.com").await;
    let (_, backup) = enroll(&node, &own).await;
    let mut browser = Browser::default();
    sign_in_as(&node, &forger, &key, &mut browser, &json!({})).await;
    assert!(browser.cookie("__Host-keyward_login").is_some(), "the second factor is awaited");
    let unlinked = with(&node, &own, Method::DELETE, &format!("{PATH}?issuer={}", forger.issuer), Value::Null).await;
    assert_eq!(unlinked.status, 204, "{unlinked:?}");
    let late = browser.send(&node, "/sign-in/second-factor", &[("next", "/docs"), ("code", &backup[0])]).await;
    assert_eq!(late.status, 401, "{late:?}");
}
