//! `keyward audit`: the book, over the API; and whether it is whole, on the database itself or on an export.

use std::io::{BufReader, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use keyward::Keyward;
use keyward::audit::Findings;
use keyward::proofs::verify_export;
use keyward_core::note::NoteKey;
use keyward_core::time::Clock;
use serde_json::{Value, json};

use super::client::{Client, Connection, query_text};
use super::{SettingFlags, output};

/// How often `tail` asks for what is new.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
        #[command(flatten)]
        filter: FilterFlags,
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show new events as they come, until it is stopped.
    #[command(after_help = "Example: keyward audit tail --event-type SECURITY")]
    Tail {
        #[command(flatten)]
        filter: FilterFlags,
        /// First show so many that are there already.
        #[arg(long, default_value_t = 10)]
        last: usize,
    },
    /// Write events to a file that can be checked without a server.
    #[command(after_help = "Example: keyward audit export --from 2026-11-01T00:00:00Z --file november.jsonl")]
    Export {
        #[command(flatten)]
        filter: FilterFlags,
        /// Of every organization; needs a right at the instance.
        #[arg(long)]
        instance: bool,
        #[arg(long)]
        file: PathBuf,
    },
    /// Compare every event with its hash, and the tree of hashes with what was signed; exit 3 names the first that does not fit.
    #[command(
        after_help = "Examples: keyward audit verify --data-dir ./keyward-data\n          keyward audit verify --file november.jsonl"
    )]
    Verify {
        #[command(flatten)]
        settings: SettingFlags,
        /// An export, instead of a database.
        #[arg(long, conflicts_with_all = ["data_dir", "database_url", "config"])]
        file: Option<PathBuf>,
        /// The public key that the export must be signed with, as /v1/audit-log/checkpoint tells it.
        #[arg(long, requires = "file")]
        public_key: Option<String>,
        /// A checkpoint that was kept elsewhere: the book must still have what it signs.
        #[arg(long, conflicts_with = "file")]
        checkpoint: Option<PathBuf>,
    },
}

#[derive(Args)]
struct FilterFlags {
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
    #[arg(long)]
    success: Option<bool>,
    /// An instant, e.g. 2026-11-01T00:00:00Z.
    #[arg(long)]
    from: Option<String>,
    #[arg(long)]
    to: Option<String>,
    #[arg(long)]
    ip_address: Option<String>,
    /// Looked for in action, resource, actor and error.
    #[arg(long)]
    q: Option<String>,
    /// A JSON object that the details must contain.
    #[arg(long)]
    details: Option<String>,
}

impl FilterFlags {
    fn query(self) -> Vec<(&'static str, String)> {
        let fields = [
            ("event_type", self.event_type),
            ("action", self.action),
            ("actor", self.actor),
            ("resource", self.resource),
            ("success", self.success.map(|is| is.to_string())),
            ("from", self.from),
            ("to", self.to),
            ("ip_address", self.ip_address),
            ("q", self.q),
            ("details", self.details),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// Whether all is well.
pub async fn run(args: AuditArgs, json: bool) -> Result<bool> {
    match args.command {
        AuditCommand::List { filter, limit } => {
            list(&args.connection.client()?, &filter.query(), limit.max(1), json).await?;
        }
        AuditCommand::Tail { filter, last } => tail(&args.connection.client()?, &filter.query(), last, json).await?,
        AuditCommand::Export { filter, instance, file } => {
            export(&args.connection.client()?, &filter.query(), instance, &file, json).await?;
        }
        AuditCommand::Verify { file: Some(file), public_key, .. } => return verify_file(file, public_key, json),
        AuditCommand::Verify { settings, checkpoint, .. } => return verify(settings, checkpoint, json).await,
    }
    Ok(true)
}

fn party(party: &Value) -> &str {
    party["name"].as_str().or(party["id"].as_str()).unwrap_or_default()
}

async fn list(client: &Client, query: &[(&str, String)], limit: usize, json: bool) -> Result<()> {
    let events = client.list("/v1/audit-events", query, limit).await?;
    if json {
        output::line(format_args!("{:#}", Value::from(events)));
        return Ok(());
    }
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

/// One line an event, oldest first.
async fn tail(client: &Client, query: &[(&str, String)], last: usize, json: bool) -> Result<()> {
    let mut seen: Option<i64> = None;
    loop {
        let most = if seen.is_none() { last } else { 10_000 };
        let mut fresh = Vec::new();
        if most > 0 || seen.is_none() {
            for event in client.list("/v1/audit-events", query, most.max(1)).await? {
                if seen.is_some_and(|seen| event["sequence"].as_i64() <= Some(seen)) {
                    break;
                }
                fresh.push(event);
            }
        }
        let newest = fresh.first().and_then(|event| event["sequence"].as_i64());
        let shown = if seen.is_none() { last } else { fresh.len() };
        for event in fresh.iter().take(shown).rev() {
            match json {
                true => output::line(format_args!("{event}")),
                false => {
                    let outcome = if event["success"] == true { "" } else { "  FAILED" };
                    let (at, action) = (event["logged_at"].as_str(), event["action"].as_str());
                    let (at, action) = (at.unwrap_or_default(), action.unwrap_or_default());
                    let (actor, resource) = (party(&event["actor"]), party(&event["resource"]));
                    output::line(format_args!("{at}  {action}  {actor} → {resource}{outcome}"));
                }
            }
        }
        seen = newest.or(seen).or(Some(-1));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn export(client: &Client, query: &[(&str, String)], instance: bool, file: &PathBuf, json: bool) -> Result<()> {
    let path = if instance { "/v1/audit-log/instance-export" } else { "/v1/audit-log/export" };
    let mut answer = client.download(&format!("{path}?{}", query_text(query))).await?;
    let beside = file.with_extension("part");
    let mut written = std::fs::File::create(&beside).with_context(|| beside.display().to_string())?;
    let progress = spinner(json);
    let mut bytes = 0;
    while let Some(part) = answer.chunk().await.context("the export broke off")? {
        written.write_all(&part)?;
        bytes += part.len() as u64;
        progress.set_message(format!("{} MB", bytes / 1_000_000));
    }
    written.sync_all()?;
    std::fs::rename(&beside, file)?;
    progress.finish_and_clear();
    match json {
        true => output::line(format_args!("{:#}", json!({ "file": file, "bytes": bytes }))),
        false => output::line(format_args!("{bytes} bytes in {}", file.display())),
    }
    Ok(())
}

fn spinner(json: bool) -> ProgressBar {
    match std::io::stderr().is_terminal() && !json {
        true => ProgressBar::new_spinner(),
        false => ProgressBar::hidden(),
    }
}

async fn verify(settings: SettingFlags, checkpoint: Option<PathBuf>, json: bool) -> Result<bool> {
    let held = checkpoint.map(|path| std::fs::read_to_string(&path).with_context(|| path.display().to_string()));
    let held = held.transpose()?;
    let keyward = Keyward::open(settings.settings()?, Clock::System).await?;
    let progress = match std::io::stderr().is_terminal() && !json {
        true => ProgressBar::new(0)
            .with_style(ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} events, {eta} left")?),
        false => ProgressBar::hidden(),
    };
    let findings = keyward.proofs.verify(held.as_deref(), |done, of| {
        progress.set_length(of);
        progress.set_position(done);
    });
    let findings = findings.await;
    progress.finish_and_clear();
    keyward.close().await;
    Ok(tell(&findings?, None, json))
}

fn verify_file(file: PathBuf, public_key: Option<String>, json: bool) -> Result<bool> {
    let trusted = public_key.map(|text| NoteKey::parse(&text).with_context(|| format!("{text} is not a public key")));
    let lines = BufReader::new(std::fs::File::open(&file).with_context(|| file.display().to_string())?);
    let progress = spinner(json);
    let checked =
        verify_export(lines, trusted.transpose()?.as_ref(), |done| progress.set_message(format!("{done} events")));
    progress.finish_and_clear();
    let (findings, key) = checked?;
    Ok(tell(&findings, Some(key.text()), json))
}

/// Whether the book is whole.
fn tell(findings: &Findings, key: Option<String>, json: bool) -> bool {
    let Findings { compared, erased, retired, fault } = findings;
    if json {
        let told = json!({ "whole": fault.is_none(), "events": compared, "erased": erased, "retired": retired,
            "fault": fault.as_ref().map(ToString::to_string), "signed_by": key });
        output::line(format_args!("{told:#}"));
        return fault.is_none();
    }
    match fault {
        Some(fault) => output::line(format_args!("not whole: {fault}")),
        None => {
            output::line(format_args!("whole: {compared} events"));
            if *erased > 0 {
                output::line(format_args!("{erased} with erased parts, their commitments are there"));
            }
            if *retired > 0 {
                output::line(format_args!("{retired} retired, their hashes are there"));
            }
            if let Some(key) = key {
                output::line(format_args!("signed by {key}"));
            }
        }
    }
    fault.is_none()
}
