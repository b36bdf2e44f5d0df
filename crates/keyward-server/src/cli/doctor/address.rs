//! The addresses of a node: free for one that is to start, or answered by one that runs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use keyward::checkup::Finding;
use keyward::config::ServerSettings;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(3);

pub async fn look(settings: &ServerSettings) -> Vec<Finding> {
    let scheme = if settings.tls_certificate_file.as_os_str().is_empty() { "http" } else { "https" };
    let mut findings = look_at("address", &settings.listen, scheme).await;
    if !settings.trusted_listen.is_empty() {
        findings.extend(look_at("trusted address", &settings.trusted_listen, scheme).await);
    }
    findings
}

async fn look_at(check: &'static str, listen: &str, scheme: &str) -> Vec<Finding> {
    let resolved = tokio::net::lookup_host(listen).await.ok().and_then(|mut all| all.next());
    let Some(address) = resolved else {
        let reason = format!("{listen:?} is not an address with a port.");
        return vec![Finding::failure(check, reason, "Set it like 127.0.0.1:8080.")];
    };
    let within = reachable(address);
    if let Ok(Ok(_)) = tokio::time::timeout(PATIENCE, TcpStream::connect(within)).await {
        return ask(check, &format!("{scheme}://{within}")).await;
    }
    // Nobody answers; then it must be ours to take. It is given back at once.
    match TcpListener::bind(address).await {
        Ok(_) => vec![Finding::ok(check, format!("{listen} is free; no node runs there."))],
        Err(error) => {
            let action = "Choose an address of this machine and a port from 1024 on, or see who has it.";
            vec![Finding::failure(check, format!("{listen} cannot be taken: {error}"), action)]
        }
    }
}

/// A node that listens everywhere is asked on this machine's own address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Asks who listens there. The certificate is not for this address, and no credential is sent: it may be anybody's.
async fn ask(check: &'static str, url: &str) -> Vec<Finding> {
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_danger_accept_invalid_certs(true)
        .build();
    let Ok(client) = client else {
        return vec![Finding::unknown(check, "Nothing can be asked over HTTP here.", "Ask it with another program.")];
    };
    let status = async |path: &str| {
        let answer = client.get(format!("{url}{path}")).send().await.ok()?;
        let body: Option<Value> = answer.json().await.ok();
        Some(body?.get("status").cloned())
    };
    if status("/health").await != Some(Some("ok".into())) {
        let action = "Stop it, or let Keyward listen elsewhere (server.listen).";
        return vec![Finding::failure(check, format!("Something that is not Keyward answers at {url}."), action)];
    }
    let lives = Finding::ok(check, format!("A node of Keyward answers at {url}."));
    let is_ready = status("/ready").await == Some(Some("ready".into()));
    let ready = if is_ready {
        Finding::ok("ready", "It can work.")
    } else {
        Finding::failure("ready", "It lives, but cannot work.", "Look at the database first, then into its log.")
    };
    vec![lives, ready]
}
