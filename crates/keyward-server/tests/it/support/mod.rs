//! A running node, and what tests say to it.

pub mod authenticator;
pub mod browser;
mod database;
pub mod forger;
mod http;
pub mod identity;
pub mod mail;
pub mod nginx;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod receiver;
pub mod redis;
pub mod syslog;
pub mod tls;

use std::path::PathBuf;
use std::sync::Arc;

use ::http::Method;
use keyward::Keyward;
use keyward::accounts::setup::SetupRequest;
use keyward::config::{Layers, Settings};
use keyward::context::Context;
use keyward_core::time::{Clock, ManualClock};
use keyward_server::app::App;
use keyward_server::serve::{Listeners, serve};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use http::Answer;

/// Which database a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// Writes each test down twice: `name::sqlite` and `name::postgres`. Settings that differ from the suite's stand before the
/// tests: `settings |layers| …;`.
macro_rules! on_both {
    (settings $settings:expr; $($(#[$meta:meta])* async fn $name:ident($node:ident: Node) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn check($node: crate::support::Node) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                check(crate::support::Node::start_with(crate::support::Backend::Sqlite, $settings).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                check(crate::support::Node::start_with(crate::support::Backend::Postgres, $settings).await).await;
            }
        }
    )*};
    ($($tests:tt)*) => { crate::support::on_both! { settings |_| {}; $($tests)* } };
}
pub(crate) use on_both;

/// Where a node's data is; shared by the nodes of one test.
#[derive(Clone)]
pub struct Place {
    folder: Arc<TempDir>,
    database_url: Option<String>,
    /// Where mails arrive.
    pub mails: Arc<mail::Sink>,
}

/// One node of Keyward, set up, with a service key that may do everything a key may.
pub struct Node {
    pub url: String,
    pub clock: ManualClock,
    pub service_key: String,
    pub organization: String,
    pub user: String,
    pub app: Arc<App>,
    pub place: Place,
    http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
}

impl Place {
    pub async fn new(backend: Backend) -> Self {
        let database_url = match backend {
            Backend::Sqlite => None,
            Backend::Postgres => Some(postgres::new_database().await),
        };
        let folder = Arc::new(TempDir::new().expect("a temporary folder"));
        Self { folder, database_url, mails: Arc::new(mail::Sink::start().await) }
    }

    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn database_url(&self) -> Option<&str> {
        self.database_url.as_deref()
    }

    /// The same place, its database reached through another address (a proxy).
    pub fn through(&self, port: u16) -> Self {
        let mut url: Vec<String> =
            self.database_url.clone().expect("PostgreSQL").split('/').map(str::to_owned).collect();
        url[2] = format!("keyward@127.0.0.1:{port}");
        Self { database_url: Some(url.join("/")), ..self.clone() }
    }

    /// The same place, its database entered by another role.
    pub fn as_role(&self, role: &str) -> Self {
        let url = self.database_url.clone().expect("PostgreSQL").replace("//keyward@", &format!("//{role}@"));
        Self { database_url: Some(url), ..self.clone() }
    }

    fn layers(&self) -> Layers {
        let mut layers = Layers::default();
        layers.flag("server.listen", "127.0.0.1:0");
        layers.flag("database.data_dir", self.folder().to_str().expect("a path in UTF-8"));
        layers.flag("database.url", self.database_url.as_deref().unwrap_or_default());
        layers.flag("database.connections", 4);
        layers.flag("mail.smtp_url", self.mails.url.as_str());
        // Time stands still in most tests, so that all their calls fall into one minute. tests/it/callers.rs shows the
        // limits as they are.
        for call in
            ["unauthenticated", "authentication", "create", "list", "rotate", "revoke", "revoke_all", "stats", "health"]
        {
            layers.flag(&format!("caller_limits.{call}_per_minute"), 2_000);
        }
        layers
    }

    pub fn settings(&self, change: impl FnOnce(&mut Layers)) -> Settings {
        let mut layers = self.layers();
        change(&mut layers);
        layers.resolve().expect("the settings resolve")
    }
}

/// 2026-11-20T12:00:00Z, a Friday.
pub fn start_of_time() -> ManualClock {
    ManualClock::at("2026-11-20T12:00:00Z".parse().expect("an instant"))
}

impl Node {
    pub async fn start(backend: Backend) -> Self {
        Self::start_with(backend, |_| {}).await
    }

    /// A first node with its own settings, set up.
    pub async fn start_with(backend: Backend, change: impl FnOnce(&mut Layers)) -> Self {
        Self::start_at(start_of_time(), backend, change).await
    }

    /// The same at another time, for what must agree with others about the time.
    pub async fn start_at(clock: ManualClock, backend: Backend, change: impl FnOnce(&mut Layers)) -> Self {
        Self::start_in(Place::new(backend).await, clock, change).await
    }

    /// The same in a place that is there already.
    pub async fn start_in(place: Place, clock: ManualClock, change: impl FnOnce(&mut Layers)) -> Self {
        let mut node = Self::open(place, clock, change).await;
        let request = SetupRequest { email: "owner@example.com".into(), organization: "Acme".into(), password: None };
        let keyward = &node.app.keyward;
        let issued =
            keyward.keys.set_up(&keyward.setup, &Context::system("test"), &request, None).await.expect("set-up");
        node.service_key = issued.secret.expose().clone();
        node.organization = issued.key.organization_id.to_string();
        node.user = issued.key.owner_id.expect("an owner").to_string();
        node
    }

    /// Another node at the same place, with the same credentials.
    pub async fn join(&self, place: Place, change: impl FnOnce(&mut Layers)) -> Self {
        let mut node = Self::open(place, self.clock.clone(), change).await;
        node.service_key.clone_from(&self.service_key);
        node.organization.clone_from(&self.organization);
        node.user.clone_from(&self.user);
        node
    }

    /// A node that is not set up.
    pub async fn open(place: Place, clock: ManualClock, change: impl FnOnce(&mut Layers)) -> Self {
        let settings = place.settings(change);
        let listeners = Listeners::bind(&settings.server).await.expect("a free port");
        let address = listeners.main.local_addr().expect("an address");
        let scheme = if listeners.tls.is_some() { "https" } else { "http" };
        let http = client(&settings.server.tls_certificate_file);
        let keyward = Keyward::open(settings, Clock::Manual(clock.clone())).await.expect("the platform opens");
        let app = Arc::new(App::new(keyward).expect("the settings hold"));
        let (stop, stopped) = oneshot::channel::<()>();
        // The folder stays until nothing writes to it any more, also where a test ends without stopping its node.
        let (served, held) = (app.clone(), place.clone());
        let running = tokio::spawn(async move {
            serve(served, listeners, async { drop(stopped.await) }).await.expect("the server runs");
            drop(held);
        });
        Self {
            url: format!("{scheme}://{address}"),
            clock,
            service_key: String::new(),
            organization: String::new(),
            user: String::new(),
            app,
            place,
            http,
            stop: Some(stop),
            running: Some(running),
        }
    }

    /// Stops the node as SIGTERM would: running requests finish, what is held is written.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        if let Some(running) = self.running.take() {
            running.await.expect("the server stops well");
        }
    }

    /// Makes a key in the node's own organization; answers the whole object with `key`.
    pub async fn new_key(&self, body: Value) -> Value {
        let mut body = body;
        if body.get("name").is_none() {
            body["name"] = json!("test");
        }
        let answer = self.post("/v1/api-keys", body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json
    }

    /// Makes an organization on a plan; answers its id.
    pub async fn new_organization(&self, slug: &str, plan: &str) -> String {
        let body = json!({ "name": slug, "slug": slug, "email": format!("{slug}@example.com"), "plan": plan });
        let answer = self.post("/v1/organizations", body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json["id"].as_str().expect("an id").to_owned()
    }

    /// The verdict's code for a key.
    pub async fn code_of(&self, key: &str) -> String {
        self.verify(json!({ "key": key })).await.json["code"].as_str().expect("a code").to_owned()
    }

    /// What a proxy asks about a request that carries this key.
    pub async fn forward_auth(&self, key: &str) -> Answer {
        let request = self.bare(Method::GET, "/v1/forward-auth").header("x-keyward-service-key", &self.service_key);
        Answer::of(request.bearer_auth(key)).await
    }

    pub async fn verify(&self, body: Value) -> Answer {
        self.post("/v1/api-keys/verify", body).await
    }

    /// Asks until the key shows a last use, and answers it; the node writes them every second.
    pub async fn wait_for_use(&self, id: &str) -> Value {
        let mut tries = tokio::time::interval(std::time::Duration::from_millis(20));
        for _ in 0..500 {
            tries.tick().await;
            let key = self.get(&format!("/v1/api-keys/{id}")).await.json;
            if !key["last_used_at"].is_null() {
                return key;
            }
        }
        panic!("the use was never written");
    }
}

/// Follows no redirect; believes the authority that stands in the file of a node's certificate, if there is one.
fn client(certificate: &std::path::Path) -> reqwest::Client {
    let mut client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    if let Ok(pem) = std::fs::read(certificate) {
        client = client.tls_certs_only(reqwest::Certificate::from_pem_bundle(&pem).expect("certificates"));
    }
    client.build().expect("a client")
}

/// SHA-256 in hex, as other systems store it.
pub fn sha256_hex(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
