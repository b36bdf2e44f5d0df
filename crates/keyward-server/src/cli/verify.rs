//! `keyward verify`: asks a running server about a key. Exit 0 valid, 3 refused, 1 could not judge.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::{Map, Value};

use super::client::Connection;
use super::output;

const REFUSED: u8 = 3;

#[derive(Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    connection: Connection,
    /// The key; - reads it from standard input.
    key: String,
    /// A scope that must be covered; may be given several times.
    #[arg(long)]
    scope: Vec<String>,
    #[arg(long)]
    environment: Option<String>,
    /// The client's address.
    #[arg(long)]
    ip: Option<String>,
    /// Count nothing, and tell every rule's state.
    #[arg(long)]
    dry_run: bool,
}

pub async fn run(args: VerifyArgs, json: bool) -> Result<ExitCode> {
    let key = match args.key.as_str() {
        "-" => std::io::read_to_string(std::io::stdin())?.trim().to_owned(),
        key => key.to_owned(),
    };
    let mut body = Map::new();
    body.insert("key".to_owned(), key.into());
    body.insert("scopes".to_owned(), args.scope.into());
    body.insert("dry_run".to_owned(), args.dry_run.into());
    let optional = [("environment", args.environment), ("ip", args.ip)];
    body.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
    let verdict = args.connection.client()?.post("/v1/api-keys/verify", &Value::from(body)).await?;
    if json {
        output::line(format_args!("{verdict:#}"));
    } else {
        let who = verdict["key_id"]
            .as_str()
            .map_or_else(String::new, |id| format!("  {id}  {}", output::text(&verdict["name"])));
        output::line(format_args!("{}{who}", output::text(&verdict["code"])));
        if let Some(checks) = verdict["checks"].as_array() {
            output::list(checks, &["check", "outcome", "detail"], false);
        }
    }
    Ok(if verdict["valid"] == true { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}
