//! `keyward keys`: keys over the API.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use http::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use super::client::{Client, Connection};
use super::output;

#[derive(Args)]
pub struct KeysArgs {
    #[command(flatten)]
    connection: Connection,
    /// Another organization than the caller's own, by id.
    #[arg(long)]
    organization: Option<String>,
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Create a key; prints it once.
    #[command(after_help = "Example: keyward keys create --name billing --scope invoices:read --expires-in-days 90")]
    Create(CreateArgs),
    /// List keys, newest first.
    #[command(after_help = "Example: keyward keys list --status active --q billing")]
    List {
        /// active, disabled, expired or revoked.
        #[arg(long)]
        status: Option<String>,
        #[arg(long)]
        environment: Option<String>,
        #[arg(long)]
        scope: Option<String>,
        #[arg(long)]
        unused_for_days: Option<u32>,
        /// Looked for in name and external id.
        #[arg(long)]
        q: Option<String>,
        /// Most keys to list.
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show a key.
    #[command(after_help = "Example: keyward keys show key_01h455vb4pex5vsknk084sn02q")]
    Show { id: String },
    /// Give a key a new secret; prints it once.
    #[command(after_help = "Example: keyward keys rotate key_… --overlap-seconds 3600")]
    Rotate {
        id: String,
        /// How long the other secrets stay valid.
        #[arg(long, default_value_t = 0)]
        overlap_seconds: u32,
    },
    /// Pause a key.
    #[command(after_help = "Example: keyward keys disable key_…")]
    Disable { id: String },
    /// Resume a key.
    #[command(after_help = "Example: keyward keys enable key_…")]
    Enable { id: String },
    /// End a key for good.
    #[command(after_help = "Example: keyward keys revoke key_… --reason 'laptop lost' --wait")]
    Revoke {
        id: String,
        #[arg(long)]
        reason: Option<String>,
        /// Return only when it is in force on every live node.
        #[arg(long)]
        wait: bool,
    },
    /// Delete a key.
    #[command(after_help = "Example: keyward keys delete key_…")]
    Delete { id: String },
    /// Import hashes of another system: a JSON file {"items":[…]}, or one item a line.
    #[command(after_help = "Example: keyward keys import keys.jsonl")]
    Import { file: PathBuf },
    /// List keys that expire soon.
    #[command(after_help = "Example: keyward keys expiring --days 14")]
    Expiring {
        #[arg(long, default_value_t = 7)]
        days: u32,
    },
    /// Delete expired keys.
    #[command(after_help = "Example: keyward keys cleanup --older-than-days 30")]
    Cleanup {
        #[arg(long, default_value_t = 0)]
        older_than_days: u32,
    },
}

#[derive(Args)]
struct CreateArgs {
    #[arg(long)]
    name: String,
    /// May be given several times.
    #[arg(long)]
    scope: Vec<String>,
    /// Makes it a service key; may be given several times.
    #[arg(long)]
    permission: Vec<String>,
    #[arg(long)]
    environment: Option<String>,
    #[arg(long)]
    keyspace: Option<String>,
    /// 1–365.
    #[arg(long)]
    expires_in_days: Option<u32>,
    /// An address or CIDR block; may be given several times.
    #[arg(long)]
    allowed_ip: Vec<String>,
    #[arg(long)]
    external_id: Option<String>,
}

const COLUMNS: &[&str] = &["id", "name", "status", "environment", "hint", "scopes", "expires_at", "last_used_at"];
/// Items of one import call.
const BATCH: usize = 1_000;

pub async fn run(args: KeysArgs, json: bool) -> Result<()> {
    let client = args.connection.client()?;
    let keys = match &args.organization {
        Some(organization) => format!("/v1/organizations/{organization}/api-keys"),
        None => "/v1/api-keys".to_owned(),
    };
    let act = async |id: &str, action: &str, body: Value| client.post(&format!("{keys}/{id}/{action}"), &body).await;
    match args.command {
        KeysCommand::Create(create) => show_issued(&client.post(&keys, &create.body()).await?, json),
        KeysCommand::List { status, environment, scope, unused_for_days, q, limit } => {
            let unused = unused_for_days.map(|days| days.to_string());
            let filters = [
                ("status", status),
                ("environment", environment),
                ("scope", scope),
                ("unused_for_days", unused),
                ("q", q),
            ];
            let query: Vec<(&str, String)> =
                filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            output::list(&client.list(&keys, &query, limit.max(1)).await?, COLUMNS, json);
        }
        KeysCommand::Show { id } => output::object(&client.get(&format!("{keys}/{id}")).await?, json),
        KeysCommand::Rotate { id, overlap_seconds } => {
            show_issued(&act(&id, "rotate", json!({ "overlap_seconds": overlap_seconds })).await?, json);
        }
        KeysCommand::Disable { id } => output::object(&act(&id, "disable", json!({})).await?, json),
        KeysCommand::Enable { id } => output::object(&act(&id, "enable", json!({})).await?, json),
        KeysCommand::Revoke { id, reason, wait } => {
            let action = if wait { "revoke?wait=true" } else { "revoke" };
            output::object(&act(&id, action, json!({ "reason": reason })).await?, json);
        }
        KeysCommand::Delete { id } => {
            client.call(Method::DELETE, &format!("{keys}/{id}"), None).await?;
            output::object(&json!({ "deleted": id }), json);
        }
        KeysCommand::Import { file } => import(&client, &keys, &file, json).await?,
        KeysCommand::Expiring { days } => {
            let query = [("days", days.to_string())];
            output::list(&client.list(&format!("{keys}/expiring"), &query, usize::MAX).await?, COLUMNS, json);
        }
        KeysCommand::Cleanup { older_than_days } => {
            let body = json!({ "older_than_days": older_than_days });
            output::object(&client.post(&format!("{keys}/cleanup-expired"), &body).await?, json);
        }
    }
    Ok(())
}

impl CreateArgs {
    fn body(self) -> Value {
        let mut body = Map::new();
        body.insert("name".to_owned(), self.name.into());
        body.insert("scopes".to_owned(), self.scope.into());
        body.insert("permissions".to_owned(), self.permission.into());
        body.insert("allowed_ips".to_owned(), self.allowed_ip.into());
        let optional = [
            ("environment", self.environment.map(Value::from)),
            ("keyspace", self.keyspace.map(Value::from)),
            ("expires_in_days", self.expires_in_days.map(Value::from)),
            ("external_id", self.external_id.map(Value::from)),
        ];
        body.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        body.into()
    }
}

fn show_issued(issued: &Value, json: bool) {
    output::object(issued, json);
    if !json {
        eprintln!("\nThe key is shown only now.");
    }
}

async fn import(client: &Client, keys: &str, file: &PathBuf, json: bool) -> Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
    let items: Vec<Value> = match serde_json::from_str::<Value>(&text) {
        Ok(whole) if whole["items"].is_array() => whole["items"].as_array().cloned().unwrap_or_default(),
        Ok(Value::Array(items)) => items,
        _ => {
            let line = |(number, line): (usize, &str)| {
                serde_json::from_str(line).with_context(|| format!("{}:{}", file.display(), number + 1))
            };
            text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(line).collect::<Result<_>>()?
        }
    };
    let progress = if std::io::stderr().is_terminal() && !json {
        ProgressBar::new(items.len() as u64)
    } else {
        ProgressBar::hidden()
    };
    progress.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} keys, {per_sec}, {eta} left")?);
    let (mut outcomes, mut failed) = (Vec::new(), 0);
    for (batch, chunk) in items.chunks(BATCH).enumerate() {
        let body = json!({ "items": chunk });
        let answer = client.call_patiently(Method::POST, &format!("{keys}/import"), Some(&body)).await?;
        for outcome in answer["items"].as_array().into_iter().flatten() {
            let mut outcome = outcome.clone();
            outcome["index"] = (batch * BATCH + outcome["index"].as_u64().unwrap_or_default() as usize).into();
            failed += usize::from(!outcome["error"].is_null());
            outcomes.push(outcome);
        }
        progress.inc(chunk.len() as u64);
    }
    progress.finish_and_clear();
    if json {
        output::line(format_args!("{:#}", json!({ "items": outcomes })));
    } else {
        output::line(format_args!("{} imported, {failed} failed", outcomes.len() - failed));
        let faults: Vec<Value> = outcomes.into_iter().filter(|outcome| !outcome["error"].is_null()).collect();
        if !faults.is_empty() {
            output::list(&faults, &["index", "error"], false);
        }
    }
    ensure!(failed == 0, "{failed} of {} keys were not imported", items.len());
    Ok(())
}
