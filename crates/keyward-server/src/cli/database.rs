//! `keyward database`: how the database fares, and its upkeep. Over the API, or on the database itself.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::{Args, Subcommand, ValueEnum};
use keyward::Keyward;
use keyward::context::Context;
use keyward::jobs::JobKind;
use keyward::maintenance::{Asked, Conversion, UpkeepRequest};
use keyward_core::time::Clock;
use serde_json::{Value, json};

use super::client::Connection;
use super::{SettingFlags, output};

/// How often a job that a node has taken is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Args)]
pub struct DatabaseArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: DatabaseCommand,
}

#[derive(Subcommand)]
enum DatabaseCommand {
    /// How it fares, and what to do. Exit 0 well, 3 not well, 1 could not tell.
    #[command(after_help = "Example: keyward database health --data-dir ./keyward-data")]
    Health(Where),
    /// Everything that is known: health, tables, indexes, statements.
    #[command(after_help = "Example: keyward database report --json > report.json")]
    Report(Where),
    /// Look after it, on the database directly: a running node takes the job, or this command does it.
    #[command(after_help = "Example: keyward database maintain vacuum --table audit_event --data-dir ./keyward-data")]
    Maintain {
        kind: Upkeep,
        /// Only this table; may be repeated.
        #[arg(long = "table")]
        tables: Vec<String>,
        /// Only tell the statements.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        settings: SettingFlags,
    },
    /// Make monthly partitions of a plain table while it is read and written, or a plain table of it again.
    #[command(after_help = "Example: keyward database partition --table log --column logged_at --dry-run")]
    Partition(Partition),
}

/// The table to change.
#[derive(Args)]
struct Partition {
    #[arg(long)]
    table: String,
    /// The column of the instant that months are made of.
    #[arg(long)]
    column: String,
    /// Only tell the statements.
    #[arg(long)]
    dry_run: bool,
    /// Back to a plain table.
    #[arg(long)]
    rollback: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

/// The database itself when one of its flags is given, else a running server.
#[derive(Args)]
struct Where {
    #[command(flatten)]
    settings: SettingFlags,
}

#[derive(Clone, Copy, ValueEnum)]
enum Upkeep {
    Vacuum,
    Analyze,
    Reindex,
    Partitions,
}

impl From<Upkeep> for JobKind {
    fn from(upkeep: Upkeep) -> Self {
        match upkeep {
            Upkeep::Vacuum => Self::Vacuum,
            Upkeep::Analyze => Self::Analyze,
            Upkeep::Reindex => Self::Reindex,
            Upkeep::Partitions => Self::Partitions,
        }
    }
}

/// Answers whether the database is well.
pub async fn run(args: DatabaseArgs, json: bool) -> Result<bool> {
    match args.command {
        DatabaseCommand::Health(place) => {
            let health = match place.open().await? {
                Some(keyward) => serde_json::to_value(keyward.maintenance.health(&here()).await.map_err(told)?)?,
                None => args.connection.client()?.get("/v1/admin/database/health").await?,
            };
            show_health(&health, json);
            Ok(matches!(health["status"].as_str(), Some("ok" | "unknown")))
        }
        DatabaseCommand::Report(place) => {
            let report = match place.open().await? {
                Some(keyward) => serde_json::to_value(keyward.maintenance.report(&here()).await.map_err(told)?)?,
                None => args.connection.client()?.get("/v1/admin/database/report").await?,
            };
            show_report(&report, json);
            Ok(true)
        }
        DatabaseCommand::Maintain { kind, tables, dry_run, settings } => {
            let keyward = Keyward::open(settings.settings()?, Clock::System).await?;
            let request = UpkeepRequest { tables, dry_run };
            let asked = keyward.maintenance.start(&here(), kind.into(), request).await.map_err(told)?;
            see_through(&keyward, asked, json).await?;
            keyward.close().await;
            Ok(true)
        }
        DatabaseCommand::Partition(Partition { table, column, dry_run, rollback, settings }) => {
            let keyward = Keyward::open(settings.settings()?, Clock::System).await?;
            let wanted = Conversion { table, column, rollback, dry_run };
            let asked = keyward.maintenance.convert(&here(), wanted).await.map_err(told)?;
            see_through(&keyward, asked, json).await?;
            keyward.close().await;
            Ok(true)
        }
    }
}

impl Where {
    async fn open(&self) -> Result<Option<Keyward>> {
        if !self.settings.names_a_database() {
            return Ok(None);
        }
        Ok(Some(Keyward::open(self.settings.settings()?, Clock::System).await?))
    }
}

fn here() -> Context {
    Context::system("command line")
}

fn told(error: keyward::Error) -> anyhow::Error {
    anyhow!(error.detail)
}

/// Shows a plan, or does a job unless a running node is faster, and shows its end.
async fn see_through(keyward: &Keyward, asked: Asked, json: bool) -> Result<()> {
    let job = match asked {
        Asked::Planned(statements) if json => {
            output::line(format_args!("{:#}", json!({ "statements": statements })));
            return Ok(());
        }
        Asked::Planned(statements) => {
            statements.iter().for_each(output::line);
            return Ok(());
        }
        Asked::Started(job) => job,
    };
    keyward.work_off_jobs().await.map_err(told)?;
    loop {
        let job = keyward.jobs.get(&here(), job.id).await.map_err(told)?;
        if job.is_finished() {
            for line in keyward.jobs.log(&here(), job.id).await.map_err(told)? {
                eprintln!("{}", line.message);
            }
            let result = job.result.map(|result| result.0);
            let shown = json!({ "id": job.id, "kind": job.kind, "status": job.status, "result": result });
            output::object(&shown, json);
            match job.error {
                Some(error) => bail!("{error}"),
                None => return Ok(()),
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn show_health(health: &Value, json: bool) {
    if json {
        output::line(format_args!("{health:#}"));
        return;
    }
    output::line(format_args!("{}: {}\n", output::text(&health["version"]), output::text(&health["status"])));
    let panels: Vec<Value> = items(&health["panels"])
        .iter()
        .map(|panel| {
            let found = items(&panel["findings"]).iter().filter(|finding| finding["status"] != "ok").count();
            let note = panel["why"].as_str().map_or_else(|| format!("{found} findings"), str::to_owned);
            json!({ "status": panel["status"], "check": panel["title"], "note": note })
        })
        .collect();
    output::list(&panels, &["status", "check", "note"], false);
    for advice in items(&health["advice"]) {
        output::line(format_args!(
            "\n{}\n  because {}\n  do      {}",
            output::text(&advice["subject"]),
            output::text(&advice["reason"]),
            output::text(&advice["action"])
        ));
    }
}

fn show_report(report: &Value, json: bool) {
    show_health(if json { report } else { &report["health"] }, json);
    if json {
        return;
    }
    output::line("\nTables and partitions");
    output::list(
        items(&report["partitions"]["items"]),
        &["name", "parent", "estimated_rows", "bytes", "index_bytes"],
        false,
    );
    output::line("\nIndexes");
    output::list(items(&report["indexes"]["items"]), &["name", "table_name", "method", "bytes", "scans"], false);
    output::line("\nSlow statements");
    output::list(items(&report["slow_queries"]["items"]), &["mean_ms", "calls", "query"], false);
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
