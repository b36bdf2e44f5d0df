//! The two ends of a test, both real servers on loopback: an application behind the layer, and a stand-in for Keyward
//! that answers what the presented key tells it to (`say-revoked`) and remembers what it was asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use axum::{Extension, Json, Router};
use keyward_tower::{ApiKeyIdentity, KeywardLayer, Remote, Verify};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub const SERVICE_KEY: &str = "kw_live_service";

/// An application behind a layer.
pub struct App {
    url: String,
    served: Arc<AtomicUsize>,
}

impl App {
    pub async fn start<V: Verify + Clone + 'static>(layer: KeywardLayer<V>) -> Self {
        let served = Arc::new(AtomicUsize::new(0));
        let count = served.clone();
        let invoice = async move |Extension(key): Extension<ApiKeyIdentity>| {
            count.fetch_add(1, Ordering::SeqCst);
            format!("{} of {}", key.name(), key.organization_id())
        };
        let layer = layer.client_address(|found| Some(found.get::<ConnectInfo<SocketAddr>>()?.0.ip()));
        let url = serve(Router::new().route("/invoices/{id}", any(invoice)).layer(layer)).await;
        Self { url, served }
    }

    /// A request without a header that holds a key; the one in its query counts for nothing.
    pub fn get(&self) -> RequestBuilder {
        let client = Client::builder().no_proxy().build().unwrap();
        client.get(format!("{}/invoices/7?key=say-valid", self.url))
    }

    /// How many requests came through the layer.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

/// Plays the verify endpoint of Keyward.
#[derive(Clone, Default)]
pub struct StandIn {
    calls: Arc<Mutex<Vec<Value>>>,
}

impl StandIn {
    /// The stand-in, and a `Remote` that asks it with the right service key.
    pub async fn start() -> (Self, Remote) {
        let (stand_in, url) = Self::start_at_url().await;
        (stand_in, Remote::new(&url, SERVICE_KEY).unwrap())
    }

    pub async fn start_at_url() -> (Self, String) {
        let stand_in = Self::default();
        let app = Router::new().route("/v1/api-keys/verify", post(answer)).with_state(stand_in.clone());
        (stand_in, serve(app).await)
    }

    /// The bodies that it was sent.
    pub fn calls(&self) -> Vec<Value> {
        self.calls.lock().unwrap().clone()
    }
}

async fn answer(State(stand_in): State<StandIn>, headers: HeaderMap, Json(asked): Json<Value>) -> Response {
    if headers["authorization"] != format!("Bearer {SERVICE_KEY}") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let code = asked["key"].as_str().and_then(|key| key.strip_prefix("say-")).unwrap_or("not_found").to_owned();
    stand_in.calls.lock().unwrap().push(asked);
    match code.as_str() {
        "nothing" => std::future::pending().await,
        "malformed" | "not_found" => Json(json!({"valid": false, "code": code})).into_response(),
        _ => Json(json!({
            "valid": code == "valid", "code": code, "name": "billing", "environment": "live", "plan": "pro",
            "key_id": "key_01h455vb4pex5vsknk084sn02q", "secret_id": "sec_01h455vb4pex5vsknk084sn02q",
            "organization_id": "org_01h455vb4pex5vsknk084sn02q", "owner_id": null, "external_id": null,
            "scopes": ["invoices:read"], "metadata": {}, "expires_at": null,
            "limits": [{ "name": "requests", "limit": 5, "remaining": 0, "reset_seconds": 17, "window_seconds": 60 }],
            "quota": null, "headers": {},
        }))
        .into_response(),
    }
}

/// The address of a loopback port at which nobody listens.
pub async fn nowhere() -> String {
    let (_, url) = listener().await;
    url
}

async fn serve(app: Router) -> String {
    let (listener, url) = listener().await;
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}
