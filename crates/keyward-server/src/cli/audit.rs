//! `keyward audit`: the book, over the API.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::Connection;
use super::output;

#[derive(Args)]
pub struct AuditArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// List events, newest first.
    #[command(after_help = "Example: keyward audit list --action key_revoked --limit 20")]
    List {
        #[arg(long)]
        event_type: Option<String>,
        #[arg(long)]
        action: Option<String>,
        /// The actor's id.
        #[arg(long)]
        actor: Option<String>,
        /// The resource's id.
        #[arg(long)]
        resource: Option<String>,
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
}

pub async fn run(args: AuditArgs, json: bool) -> Result<()> {
    let AuditCommand::List { event_type, action, actor, resource, limit } = args.command;
    let filters = [("event_type", event_type), ("action", action), ("actor", actor), ("resource", resource)];
    let query: Vec<(&str, String)> = filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let events = args.connection.client()?.list("/v1/audit-events", &query, limit.max(1)).await?;
    if json {
        output::line(format_args!("{:#}", Value::from(events)));
        return Ok(());
    }
    let party = |party: &Value| party["name"].as_str().or(party["id"].as_str()).unwrap_or_default().to_owned();
    let rows: Vec<Value> = events
        .iter()
        .map(|event| {
            json!({ "at": event["logged_at"], "action": event["action"], "actor": party(&event["actor"]),
                "resource": party(&event["resource"]), "success": event["success"], "from": event["ip_address"] })
        })
        .collect();
    output::list(&rows, &["at", "action", "actor", "resource", "success", "from"], false);
    Ok(())
}
