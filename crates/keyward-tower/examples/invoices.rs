//! An API that serves invoices to holders of a key with `invoices:read`, and to nobody else. No database driver inside.

use std::{env, error::Error, net::SocketAddr};

use axum::{Extension, Router, extract::ConnectInfo, routing::get};
use keyward_tower::{ApiKeyIdentity, KeywardLayer, Remote};

async fn invoices(Extension(key): Extension<ApiKeyIdentity>) -> String {
    format!("The invoices of {}\n", key.organization_id())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let keyward = Remote::new(&env::var("KEYWARD_URL")?, env::var("KEYWARD_SERVICE_KEY")?)?;
    let door = KeywardLayer::new(keyward)
        .require_scope("invoices:read")
        .client_address(|extensions| Some(extensions.get::<ConnectInfo<SocketAddr>>()?.0.ip()));
    let app = Router::new().route("/invoices", get(invoices)).layer(door);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}
