//! `keyward usage`: reports of a month, and records of calls, over the API.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, Connection, encode};
use super::output;

#[derive(Args)]
pub struct UsageArgs {
    #[command(flatten)]
    connection: Connection,
    /// Another organization than the caller's own, by id.
    #[arg(long)]
    organization: Option<String>,
    #[command(subcommand)]
    command: UsageCommand,
}

#[derive(Subcommand)]
enum UsageCommand {
    /// The month in one picture.
    #[command(after_help = "Example: keyward usage summary --month 2026-11")]
    Summary(MonthArgs),
    /// The month day by day.
    #[command(after_help = "Example: keyward usage daily --month 2026-11")]
    Daily(MonthArgs),
    /// The routes with the most calls.
    #[command(after_help = "Example: keyward usage endpoints")]
    Endpoints(MonthArgs),
    /// Failed calls by status and text, refused verifications by code.
    #[command(after_help = "Example: keyward usage errors")]
    Errors(MonthArgs),
    /// The keys that were used most.
    #[command(after_help = "Example: keyward usage top-consumers --by cost --limit 20")]
    TopConsumers {
        #[command(flatten)]
        month: MonthArgs,
        /// 1–200.
        #[arg(long, default_value_t = 10)]
        limit: u32,
        /// calls or cost.
        #[arg(long, default_value = "calls")]
        by: String,
    },
    /// Report calls: a JSON file {"records":[…]}, or one record a line. A record counts once by its id.
    #[command(after_help = "Example: keyward usage record calls.jsonl")]
    Record { file: PathBuf },
}

#[derive(Args)]
struct MonthArgs {
    /// E.g. 2026-11, in UTC; the present month when absent.
    #[arg(long)]
    month: Option<String>,
}

/// Most records of a call.
const BATCH: usize = 1_000;

pub async fn run(args: UsageArgs, json: bool) -> Result<()> {
    let client = args.connection.client()?;
    let base = match &args.organization {
        Some(id) => format!("/v1/organizations/{id}/usage"),
        None => "/v1/usage".to_owned(),
    };
    let report = async |name: &str, month: &MonthArgs, more: &str| {
        let month = month.month.as_deref().map_or_else(String::new, |month| format!("month={}", encode(month)));
        client.get(&format!("{base}/{name}?{month}{more}")).await
    };
    match args.command {
        UsageCommand::Summary(month) => output::object(&report("summary", &month, "").await?, json),
        UsageCommand::Daily(month) => {
            let daily = report("daily", &month, "").await?;
            lines(&daily, &["date", "calls", "errors", "verifications", "tokens_in", "tokens_out", "cost_usd"], json);
        }
        UsageCommand::Endpoints(month) => {
            let mut endpoints = report("endpoints", &month, "").await?;
            for line in endpoints["items"].as_array_mut().into_iter().flatten().filter(|_| !json) {
                line["p50_ms"] = line["duration_ms"]["p50"].clone();
                line["p99_ms"] = line["duration_ms"]["p99"].clone();
            }
            lines(&endpoints, &["method", "endpoint", "calls", "errors", "p50_ms", "p99_ms"], json);
        }
        UsageCommand::Errors(month) => {
            let errors = report("errors", &month, "").await?;
            if json {
                output::object(&errors, true);
            } else {
                lines(&errors, &["status", "error", "calls"], false);
                output::line("");
                output::list(errors["refusals"].as_array().map_or(&[], Vec::as_slice), &["code", "count"], false);
            }
        }
        UsageCommand::TopConsumers { month, limit, by } => {
            let top = report("top-consumers", &month, &format!("&limit={limit}&by={}", encode(&by))).await?;
            lines(&top, &["key_id", "name", "calls", "errors", "verifications", "tokens", "cost_usd"], json);
        }
        UsageCommand::Record { file } => output::object(&record(&client, &base, &file).await?, json),
    }
    Ok(())
}

fn lines(report: &Value, columns: &[&str], json: bool) {
    output::list(report["items"].as_array().map_or(&[], Vec::as_slice), columns, json);
}

/// Sends the records of a file, as many at a time as a call takes; the outcome counts them through.
async fn record(client: &Client, path: &str, file: &std::path::Path) -> Result<Value> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
    let whole = serde_json::from_str::<Value>(&text).ok().and_then(|body| body["records"].as_array().cloned());
    let records = match whole {
        Some(records) => records,
        None => text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(number, line)| serde_json::from_str(line).with_context(|| format!("line {}", number + 1)))
            .collect::<Result<_>>()?,
    };
    let (mut accepted, mut duplicates, mut rejected) = (0, 0, Vec::new());
    for (number, batch) in records.chunks(BATCH).enumerate() {
        let answer = client.post(path, &json!({ "records": batch })).await?;
        accepted += answer["accepted"].as_u64().unwrap_or_default();
        duplicates += answer["duplicates"].as_u64().unwrap_or_default();
        for mut one in answer["rejected"].as_array().cloned().unwrap_or_default() {
            one["index"] = json!(number * BATCH + one["index"].as_u64().unwrap_or_default() as usize);
            rejected.push(one);
        }
    }
    Ok(json!({ "accepted": accepted, "duplicates": duplicates, "rejected": rejected }))
}
