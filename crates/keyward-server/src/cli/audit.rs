//! `keyward audit`: the book, over the API; and whether it is whole, on the database itself.

use std::io::IsTerminal as _;

use anyhow::Result;
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use keyward::Keyward;
use keyward_core::time::Clock;
use serde_json::{Value, json};

use super::client::Connection;
use super::{SettingFlags, output};

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
    /// Compare every event with the hash that was taken of it; exit 3 names the first that does not fit.
    #[command(after_help = "Example: keyward audit verify --data-dir ./keyward-data")]
    Verify {
        #[command(flatten)]
        settings: SettingFlags,
    },
}

/// Whether all is well.
pub async fn run(args: AuditArgs, json: bool) -> Result<bool> {
    let (event_type, action, actor, resource, limit) = match args.command {
        AuditCommand::List { event_type, action, actor, resource, limit } => {
            (event_type, action, actor, resource, limit)
        }
        AuditCommand::Verify { settings } => return verify(settings, json).await,
    };
    let filters = [("event_type", event_type), ("action", action), ("actor", actor), ("resource", resource)];
    let query: Vec<(&str, String)> = filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let events = args.connection.client()?.list("/v1/audit-events", &query, limit.max(1)).await?;
    if json {
        output::line(format_args!("{:#}", Value::from(events)));
        return Ok(true);
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
    Ok(true)
}

async fn verify(settings: SettingFlags, json: bool) -> Result<bool> {
    let keyward = Keyward::open(settings.settings()?, Clock::System).await?;
    let progress = match std::io::stderr().is_terminal() && !json {
        true => ProgressBar::new_spinner(),
        false => ProgressBar::hidden(),
    };
    let (events, fault) = keyward.audit.verify(|compared| progress.set_message(format!("{compared} events"))).await?;
    progress.finish_and_clear();
    keyward.close().await;
    match (&fault, json) {
        (_, true) => {
            let fault = fault.map(|fault| fault.to_string());
            output::line(format_args!("{:#}", json!({ "whole": fault.is_none(), "events": events, "fault": fault })));
        }
        (None, false) => output::line(format_args!("whole: {events} events")),
        (Some(fault), false) => output::line(format_args!("not whole: {fault}")),
    }
    Ok(fault.is_none())
}
