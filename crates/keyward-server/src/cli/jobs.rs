//! `keyward jobs`: what waits, runs and ran, over the API.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use http::Method;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::client::{Client, Connection, encode};
use super::output;

const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Args)]
pub struct JobsArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: JobsCommand,
}

#[derive(Subcommand)]
enum JobsCommand {
    /// List jobs, newest first.
    #[command(after_help = "Example: keyward jobs list --status running")]
    List {
        #[arg(long)]
        kind: Option<String>,
        /// queued, running, succeeded, failed or cancelled.
        #[arg(long)]
        status: Option<String>,
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show a job and what it told.
    #[command(after_help = "Example: keyward jobs show job_01k…")]
    Show { id: String },
    /// Cancel a job.
    #[command(after_help = "Example: keyward jobs cancel job_01k…")]
    Cancel { id: String },
    /// Follow a job to its end; fails when the job does.
    #[command(after_help = "Example: keyward jobs watch job_01k…")]
    Watch { id: String },
}

pub async fn run(args: JobsArgs, json: bool) -> Result<()> {
    let client = args.connection.client()?;
    match args.command {
        JobsCommand::List { kind, status, limit } => {
            let filters = [("kind", kind), ("status", status)];
            let query: Vec<(&str, String)> =
                filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            let jobs = client.list("/v1/jobs", &query, limit.max(1)).await?;
            if json {
                output::line(format_args!("{:#}", Value::from(jobs)));
                return Ok(());
            }
            let rows: Vec<Value> = jobs.iter().map(row).collect();
            output::list(&rows, &["id", "kind", "status", "progress", "created_at", "finished_at"], false);
        }
        JobsCommand::Show { id } => output::object(&client.get(&path(&id)).await?, json),
        JobsCommand::Cancel { id } => output::object(&client.call(Method::DELETE, &path(&id), None).await?, json),
        JobsCommand::Watch { id } => return watch(&client, &id, json).await,
    }
    Ok(())
}

fn path(id: &str) -> String {
    format!("/v1/jobs/{}", encode(id))
}

fn row(job: &Value) -> Value {
    let progress = &job["progress"];
    let told = match progress["total"].as_i64() {
        Some(total) => format!("{}/{total} {}", progress["done"], progress["unit"].as_str().unwrap_or_default()),
        None => "–".to_owned(),
    };
    json!({ "id": job["id"], "kind": job["kind"], "status": job["status"], "progress": told,
        "created_at": job["created_at"], "finished_at": job["finished_at"] })
}

/// Lines and a bar on standard error; the job as it ended on standard output.
async fn watch(client: &Client, id: &str, json: bool) -> Result<()> {
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")?);
    let mut told = 0;
    loop {
        let job = client.get(&path(id)).await?;
        let lines = job["log"].as_array().map_or(&[][..], Vec::as_slice);
        for line in &lines[told.min(lines.len())..] {
            bar.suspend(|| eprintln!("{}", line["message"].as_str().unwrap_or_default()));
        }
        told = lines.len();
        bar.set_length(job["progress"]["total"].as_u64().unwrap_or_default());
        bar.set_position(job["progress"]["done"].as_u64().unwrap_or_default());
        bar.set_message(job["status"].as_str().unwrap_or_default().to_owned());
        if !job["finished_at"].is_null() {
            bar.finish_and_clear();
            output::object(&job, json);
            if job["status"] != "succeeded" {
                bail!("the job {}", job["status"].as_str().unwrap_or_default());
            }
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
