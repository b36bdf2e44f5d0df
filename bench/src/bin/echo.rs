//! The baseline that verify is measured against: the JSON endpoint that anyone would write with axum.
//!
//! A typed body is read, a typed body is written; nothing is looked up and nothing is decided. The answer is one that
//! Keyward gave, read from a file, so that both servers write the same JSON.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use axum::extract::State;
use axum::routing::post;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use clap::Parser;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

/// What is answered when no file is named.
const SAMPLE: &str = include_str!("echo.json");

#[derive(Parser)]
#[command(about = "Reads a verify request and answers with the same verdict every time")]
struct Options {
    /// Where to listen; the address is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// File with the JSON to answer.
    #[arg(long)]
    answer: Option<PathBuf>,
}

/// The contract's verify request.
#[derive(Deserialize)]
#[expect(dead_code, reason = "read, as a real handler would, and dropped")]
struct VerifyRequest {
    key: String,
    #[serde(default)]
    scopes: Vec<String>,
    environment: Option<String>,
    cost: Option<u64>,
    ip: Option<String>,
    method: Option<String>,
    path: Option<String>,
    #[serde(default)]
    limits: Vec<LimitUse>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "read, as a real handler would, and dropped")]
struct LimitUse {
    name: String,
    cost: Option<u64>,
}

/// The contract's verify answer. A field that is not here makes the start fail, not the comparison unfair.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VerifyAnswer {
    valid: bool,
    code: String,
    key_id: String,
    secret_id: String,
    organization_id: String,
    owner_id: Option<String>,
    external_id: Option<String>,
    name: String,
    environment: String,
    plan: String,
    scopes: Vec<String>,
    metadata: BTreeMap<String, serde_json::Value>,
    expires_at: Option<String>,
    limits: Vec<Limit>,
    quota: Option<Quota>,
    headers: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    name: String,
    limit: u64,
    remaining: u64,
    reset_seconds: u64,
    window_seconds: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Quota {
    limit: u64,
    remaining: u64,
    resets_at: String,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let text = match &options.answer {
        Some(path) => std::fs::read_to_string(path)?,
        None => SAMPLE.to_owned(),
    };
    let answer: VerifyAnswer = serde_json::from_str(&text).context("the answer is not a verify answer")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async { tokio::spawn(serve(options.listen, Box::leak(Box::new(answer)))).await? })
}

async fn serve(listen: SocketAddr, answer: &'static VerifyAnswer) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await.context("cannot listen")?;
    println!("{}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("a TCP stream takes TCP_NODELAY"));
    let router = Router::new().route("/v1/api-keys/verify", post(verify)).with_state(answer);
    Ok(axum::serve(listener, router).await?)
}

async fn verify(
    State(answer): State<&'static VerifyAnswer>,
    Json(_): Json<VerifyRequest>,
) -> Json<&'static VerifyAnswer> {
    Json(answer)
}
