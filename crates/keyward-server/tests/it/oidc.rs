//! Signing in by an identity provider: a real one for what works, and one of our own making (`forgeries`) for what must not.

mod checks;
mod exchange;
mod forgeries;
mod identities;

use std::process::{Command, Stdio};

use http::Method;
use keyward::audit::{EventFilter, EventRow};
use keyward::config::Layers;
use keyward::context::Context;
use keyward::page::PageRequest;
use keyward_core::access::Role;
use keyward_core::id::{self, Id};
use keyward_core::time::{Clock, ManualClock};
use serde_json::{Value, json};

use crate::people::{PASSWORD, code, enroll, log_in, pair, person, tokens};
use crate::support::identity::{Browser, Provider};
use crate::support::{Answer, Backend, Node, Place};

const PUBLIC: &str = "https://keys.example.com";

/// Settings for a provider on this machine.
fn by(issuer: &str, roles: &[&str], create_people: bool) -> impl FnOnce(&mut Layers) {
    let (issuer, roles) = (issuer.to_owned(), roles.iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>());
    move |layers| {
        layers.flag("server.public_url", PUBLIC);
        layers.flag("oidc.issuer", issuer);
        layers.flag("oidc.client_id", "keyward");
        layers.flag("oidc.client_secret", "a secret: with/signs");
        layers.flag("oidc.label", "Acme account");
        layers.flag("oidc.roles", roles);
        layers.flag("oidc.create_people", create_people);
        layers.flag("oidc.allow_private_addresses", true);
    }
}

/// A node and a real provider; the two agree about the time.
async fn started(backend: Backend, roles: &[&str], create_people: bool) -> (Node, Provider) {
    let provider = Provider::start().await;
    let clock = ManualClock::at(Clock::System.now());
    let node = Node::start_at(clock, backend, by(&provider.issuer, roles, create_people)).await;
    (node, provider)
}

/// Writes each test down twice, as `on_both` does.
macro_rules! on_both_databases {
    ($($name:ident)*) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::checks::$name(crate::support::Backend::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::checks::$name(crate::support::Backend::Postgres).await;
            }
        }
    )*};
}

on_both_databases! {
    a_person_signs_in_by_a_provider
    groups_give_roles_and_take_them_back
    an_account_is_joined_only_by_an_address_that_the_provider_vouches_for
    the_second_factor_is_asked_for_on_the_way
    sign_ins_of_somebody_new_at_the_same_time_make_one_account
}

fn verified(email: &str) -> Value {
    json!({ "email": email, "email_verified": true, "name": "Ann" })
}

/// Events of that action, newest first. Those of signing in belong to no organization, so no route lists them.
async fn events(node: &Node, action: &str) -> Vec<Value> {
    let filter = EventFilter { action: Some(action.to_owned()), ..EventFilter::default() };
    let page = PageRequest::new(Some(100), None).unwrap();
    let found = node.app.keyward.audit.list(&Context::system("test"), None, &filter, &page).await.unwrap();
    let told = |event: EventRow| json!({ "details": event.details.0, "resource": { "id": event.resource_id, "name": event.resource_name }, "success": event.success, "error_message": event.error_message });
    found.items.into_iter().map(told).collect()
}

/// The roles of whoever is signed in, `place:role`, sorted.
async fn roles(node: &Node, browser: &mut Browser) -> Vec<String> {
    let me = browser.get(node, "/v1/auth/me").await;
    assert_eq!(me.status, 200, "{me:?}");
    let place = |role: &Value| if role["organization_id"].is_null() { "instance" } else { "acme" };
    let mut roles: Vec<String> = me.json["roles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|role| format!("{}:{}", place(role), role["role"].as_str().unwrap()))
        .collect();
    roles.sort();
    roles
}

async fn id_of(node: &Node, browser: &mut Browser) -> Id<id::User> {
    browser.get(node, "/v1/auth/me").await.json["user_id"].as_str().unwrap().parse().unwrap()
}

/// Refused as everything is that the provider says: with one code, and the same bytes.
fn assert_refused(answer: &Answer) {
    let mut told = answer.json.clone();
    told.as_object_mut().expect("a problem").remove("request_id");
    let wanted = json!({
        "type": format!("{PUBLIC}/errors/provider_refused"), "title": "The sign-in by the identity provider came to nothing", "status": 401, "code": "provider_refused",
        "detail": "The provider's answer was not accepted, or it opens no account here; the audit log says why. Sign in again, or ask an administrator.",
    });
    assert_eq!((told, answer.cookies()), (wanted, vec![]), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_way_back_is_good_once_in_time_and_for_its_own_browser() {
    let (node, provider) = started(Backend::Sqlite, &[], true).await;
    provider.knows("ann", verified("ann@example.com")).await;
    let mut bytes = Vec::new();
    let mut unknown = |answer: &Answer| {
        assert_eq!((answer.status, answer.code(), answer.cookies().len()), (401, "invalid_token", 0), "{answer:?}");
        let mut told = answer.json.clone();
        told.as_object_mut().unwrap().remove("request_id");
        bytes.push(told);
    };
    let mut browser = Browser::default();
    let first = browser.depart(&node, "/").await;
    // Another sign-in may go on in the same browser at the same time.
    let second = browser.depart(&node, "/docs").await;
    let (first, second) = (provider.sign_in(&first, "ann").await, provider.sign_in(&second, "ann").await);
    let mut other = Browser::default();
    other.depart(&node, "/").await;
    unknown(&other.get(&node, &first).await);
    unknown(&Browser::default().get(&node, &first).await);
    assert_eq!(browser.get(&node, &first).await.header("location"), "/", "nobody else has used it up");
    assert_eq!(browser.get(&node, &second).await.header("location"), "/docs");
    unknown(&browser.get(&node, &first).await);
    unknown(&browser.get(&node, "/v1/auth/oidc/callback?state=s_unknown&code=x").await);
    unknown(&browser.get(&node, "/v1/auth/oidc/callback?code=x").await);
    unknown(&browser.get(&node, "/v1/auth/oidc/callback").await);
    let late = browser.depart(&node, "/").await;
    let late = provider.sign_in(&late, "ann").await;
    node.clock.advance_seconds(600);
    unknown(&browser.get(&node, &late).await);
    assert!(bytes.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w_09_only_a_path_of_this_instance_comes_next() {
    let (node, _provider) = started(Backend::Sqlite, &[], true).await;
    for next in [
        "javascript:alert(1)",
        "//evil.example",
        "https://evil.example/",
        "/%5Cevil.example",
        "%5C%5Cevil.example",
        "docs",
        "/a%0d%0aSet-Cookie:x=1",
        "/%09/evil.example",
        "",
        "/%C3%A9",
    ] {
        let refused = Answer::of(node.bare(Method::GET, &format!("/v1/auth/oidc/start?next={next}"))).await;
        assert_eq!(
            (refused.status, refused.pointer(), refused.header("location")),
            (422, "/next", ""),
            "{next}: {refused:?}"
        );
    }
    let page = Answer::of(
        node.bare(Method::GET, "/v1/auth/oidc/start?next=//evil.example/%3Cb%3E").header("accept", "text/html"),
    )
    .await;
    assert!(page.status == 422 && !page.text.contains("<b>") && !page.text.contains("evil"), "{}", page.text);
    for next in ["/", "/docs", "/a/b%3Fc=d%26e=%252F%252F", "/docs%23top"] {
        assert_eq!(
            Answer::of(node.bare(Method::GET, &format!("/v1/auth/oidc/start?next={next}"))).await.status,
            302,
            "{next}"
        );
    }
    let unknown = Answer::of(node.bare(Method::GET, "/v1/auth/oidc/start?nxt=/")).await;
    assert_eq!((unknown.status, unknown.code()), (400, "malformed_request"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_provider_there_is_nothing() {
    let node = Node::start(Backend::Sqlite).await;
    assert_eq!(
        Answer::of(node.bare(Method::GET, "/v1/auth/oidc")).await.json,
        json!({ "enabled": false, "label": null, "start": null })
    );
    for path in ["/v1/auth/oidc/start", "/v1/auth/oidc/callback?state=x&code=y"] {
        assert_eq!(Answer::of(node.bare(Method::GET, path)).await.code(), "not_found", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i_06_a_provider_within_and_wrong_settings_end_the_start() {
    let place = Place::new(Backend::Sqlite).await;
    let issuer = ("KEYWARD_OIDC_ISSUER", "https://id.example.com");
    let (client, public) = (("KEYWARD_OIDC_CLIENT_ID", "keyward"), ("KEYWARD_SERVER_PUBLIC_URL", PUBLIC));
    let within = |address: &'static str| vec![("KEYWARD_OIDC_ISSUER", address), client, public];
    for (settings, sentence) in [
        (vec![issuer, public], "oidc.client_id is needed"),
        (vec![issuer, client], "oidc.issuer needs server.public_url"),
        (vec![issuer, client, public, ("KEYWARD_OIDC_ROLES", "acme:boss:devs")], "there is no role \"boss\""),
        (within("http://id.example.com"), "only https is allowed"),
        (within("https://127.0.0.1:9"), "at a public address"),
        (within("https://169.254.169.254"), "at a public address"),
        (within("https://[::1]"), "at a public address"),
        (within("https://localhost"), "at a public address"),
    ] {
        let data_dir = place.folder();
        for arguments in
            [&["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir.to_str().unwrap()][..], &["config", "check"]]
        {
            let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
            command.args(arguments).stdin(Stdio::null()).env_clear();
            let output = command.envs(settings.iter().copied()).output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && told.contains(sentence), "{arguments:?} {settings:?}: {told}");
        }
    }
}
