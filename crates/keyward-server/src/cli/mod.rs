//! The command line: a file per noun. Every command takes `--json` and tells an example in its help.

mod audit;
mod bench;
mod client;
mod config;
mod database;
mod doctor;
mod jobs;
mod keys;
mod keyspaces;
mod members;
mod organizations;
mod output;
mod serve;
mod setup;
mod usage;
mod verify;
mod witness;

use std::io;
use std::process::ExitCode;
use std::thread::available_parallelism;

use clap::{Args, Parser, Subcommand};
use keyward::config::{Layers, Settings};
use keyward_core::problem::Code;
use tokio::runtime::{Builder, Runtime};

/// Issues, verifies, rotates and revokes API keys.
#[derive(Parser)]
#[command(name = "keyward", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Answer in JSON, for machines.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node.
    #[command(after_help = "Example: keyward serve --listen 127.0.0.1:8080 --data-dir ./keyward-data")]
    Serve(serve::ServeArgs),
    /// Set a new instance up, on its database directly.
    #[command(after_help = "Example: keyward setup --email you@example.com --organization Acme")]
    Setup(setup::SetupArgs),
    /// Keys: create, list, rotate, revoke, import and more.
    Keys(keys::KeysArgs),
    /// Keyspaces: how keys look and how long they live.
    Keyspaces(keyspaces::KeyspacesArgs),
    /// Ask about a key: exit 0 valid, 3 refused, 1 could not judge.
    #[command(after_help = "Example: keyward verify kw_live_… --scope invoices:read --dry-run")]
    Verify(verify::VerifyArgs),
    /// Organizations: create, list, suspend and more.
    Organizations(organizations::OrganizationsArgs),
    /// Plans: create, list, change and more.
    Plans(organizations::PlansArgs),
    /// Members: list, invite, change roles.
    Members(members::MembersArgs),
    /// Usage: reports of a month, and records of calls.
    Usage(usage::UsageArgs),
    /// The book of changes.
    Audit(audit::AuditArgs),
    /// Sign the checkpoints of other instances, as long as their audit logs only grow.
    #[command(
        after_help = "Example: keyward witness --log keys.example.com/audit+1a2b3c4d+AQ… --listen 127.0.0.1:8090"
    )]
    Witness(witness::WitnessArgs),
    /// Jobs: list, show, cancel, watch.
    Jobs(jobs::JobsArgs),
    /// The database: health, report, upkeep.
    Database(database::DatabaseArgs),
    /// Look over an installation, whether it runs or not; nothing is changed. Exit 3 when something fails.
    #[command(after_help = "Example: keyward doctor --data-dir ./keyward-data")]
    Doctor(doctor::DoctorArgs),
    /// Put a load on a running server, and tell how fast it answers.
    #[command(
        after_help = "Examples: keyward bench --organization org_…\n          keyward bench --keys-file keys.txt --seconds 30 --connections 32"
    )]
    Bench(bench::BenchArgs),
    /// Show or check the settings.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print the OpenAPI document.
    #[command(after_help = "Example: keyward openapi > openapi.json")]
    Openapi,
}

/// Flags that lie over the settings.
#[derive(Args, Debug, Default)]
pub struct SettingFlags {
    /// A file of settings; see keyward.default.toml.
    #[arg(long, env = "KEYWARD_CONFIG")]
    config: Option<std::path::PathBuf>,
    /// Folder of the embedded SQLite database.
    #[arg(long, env = "KEYWARD_DATA_DIR")]
    data_dir: Option<String>,
    /// PostgreSQL instead, e.g. postgres://keyward@localhost/keyward.
    #[arg(long, env = "KEYWARD_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
}

impl SettingFlags {
    /// Whether the command is to work on a database rather than ask a server.
    fn names_a_database(&self) -> bool {
        self.data_dir.is_some() || self.database_url.is_some() || self.config.is_some()
    }

    /// These flags as somebody writes them for the next command; an address may carry a password, and is not repeated.
    fn again(&self) -> String {
        let path = |flag: &str, path: &std::path::Path| format!(" {flag} '{}'", path.display());
        let config = self.config.as_deref().map(|file| path("--config", file));
        let folder = self.data_dir.as_ref().map(|folder| path("--data-dir", folder.as_ref()));
        let url = self.database_url.as_ref().map(|_| " --database-url postgres://…".to_owned());
        [config, folder, url].into_iter().flatten().collect()
    }

    fn layers(&self) -> anyhow::Result<Layers> {
        let mut layers = Layers::default();
        if let Some(path) = &self.config {
            layers.file(path)?;
        }
        layers.environment(|name| std::env::var(name).ok())?;
        for (setting, value) in [("database.data_dir", &self.data_dir), ("database.url", &self.database_url)] {
            if let Some(value) = value {
                layers.flag(setting, value.as_str());
            }
        }
        Ok(layers)
    }

    fn settings(&self) -> anyhow::Result<Settings> {
        Ok(self.layers()?.resolve()?)
    }
}

pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into(), cli.json),
    };
    match runtime.block_on(run(cli.command, cli.json)) {
        Ok(code) => code,
        Err(error) => fail(&error, cli.json),
    }
}

/// On one core, what several threads need to share their work would only be in the way.
fn runtime() -> io::Result<Runtime> {
    let has_one_core = available_parallelism().is_ok_and(|cores| cores.get() == 1);
    let mut builder = if has_one_core { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.enable_all().build()
}

async fn run(command: Command, json: bool) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => serve::run(args).await?,
        Command::Setup(args) => setup::run(args, json).await?,
        Command::Keys(args) => keys::run(args, json).await?,
        Command::Keyspaces(args) => keyspaces::run(args, json).await?,
        Command::Verify(args) => return verify::run(args, json).await,
        Command::Organizations(args) => organizations::run(args, json).await?,
        Command::Plans(args) => organizations::run_plans(args, json).await?,
        Command::Members(args) => members::run(args, json).await?,
        Command::Usage(args) => usage::run(args, json).await?,
        Command::Audit(args) => {
            let whole = audit::run(args, json).await?;
            return Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(3) });
        }
        Command::Witness(args) => witness::run(args).await?,
        Command::Jobs(args) => jobs::run(args, json).await?,
        Command::Database(args) => {
            let well = database::run(args, json).await?;
            return Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(3) });
        }
        Command::Doctor(args) => {
            let is_well = doctor::run(args, json).await?;
            return Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(3) });
        }
        Command::Bench(args) => bench::run(args, json).await?,
        Command::Config(command) => config::run(command, json)?,
        Command::Openapi => println!("{:#}", crate::api::openapi::document()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Exit code 1: the command could not be carried out.
fn fail(error: &anyhow::Error, json: bool) -> ExitCode {
    let told = told(error);
    if json {
        eprintln!("{}", serde_json::json!({ "error": told }));
    } else {
        eprintln!("keyward: {told}");
    }
    ExitCode::FAILURE
}

/// What went wrong, and why, each thing once. There is no log here to which an internal error could refer.
fn told(error: &anyhow::Error) -> String {
    let is_internal = error.downcast_ref::<keyward::Error>().is_some_and(|error| error.code == Code::Internal);
    let mut told: Vec<String> = Vec::new();
    for cause in error.chain().skip(usize::from(is_internal && error.chain().len() > 1)).map(ToString::to_string) {
        if !told.last().is_some_and(|before| before.ends_with(&cause)) {
            told.push(cause);
        }
    }
    told.join(": ")
}
