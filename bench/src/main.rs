//! `make bench`: what Keyward promises about speed and memory, measured on this machine beside servers that only answer.
//!
//! README.md in this folder says how to read the result. Nothing leaves the machine, every run is bounded, and every
//! server that is started here is stopped here.

mod answer;
mod api;
mod audit;
mod bare_script;
mod cached_memory;
mod connection;
mod contest;
mod figures;
mod histogram;
mod hot_routes;
mod instance;
mod intake;
mod keyset;
mod large_database;
mod load;
mod machine;
mod one_budget;
mod report;
mod request;
mod schedule;
mod server;
mod shared_limits;
mod sign_ins;
mod stores;
mod usage_records;
mod warm_up;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use clap::builder::RangedU64ValueParser;

use crate::audit::search::Sides;
use crate::report::Report;
use crate::stores::Databases;

/// What is measured on databases that the bench picks itself, or on none.
const OWN_DATABASES: [&str; 7] =
    ["cached_memory", "database_keys", "audit", "shared_limits", "one_budget", "sign_ins", "baselines_only"];

#[derive(Parser)]
#[command(about = "Measures verify and forward-auth beside an axum JSON echo and a bare hyper hello")]
pub struct Options {
    /// The keyward program; by default the one beside this program.
    #[arg(long)]
    keyward: Option<PathBuf>,
    /// Keys in memory, picked at random.
    #[arg(long, default_value_t = 100_000, value_parser = number_up_to(10_000_000))]
    keys: usize,
    /// Rounds in which every server has its turn; medians are taken over them. At full speed a turn is a second, and there are as
    /// many more rounds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Length of a turn.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Keep-alive connections, each with one request in flight.
    #[arg(long, default_value_t = 64, value_parser = number_up_to(4_096))]
    connections: usize,
    /// Also measure the memory of so many cached keys.
    #[arg(long, value_name = "KEYS", num_args = 0..=1, default_missing_value = "1000000", value_parser = number_up_to(10_000_000))]
    cached_memory: Option<usize>,
    /// Also compare with a database of so many keys.
    #[arg(long, value_name = "KEYS", num_args = 0..=1, default_missing_value = "10000000", value_parser = number_up_to(20_000_000))]
    database_keys: Option<usize>,
    /// Also measure the audit log on SQLite and on a PostgreSQL of its own: how events are taken in, and how a book of so many is read.
    #[arg(long, value_name = "EVENTS", num_args = 0..=1, default_missing_value = "5000000", value_parser = number_up_to(50_000_000))]
    audit: Option<usize>,
    /// Measure only how so many usage records are taken in, beside a bare insert of the same rows.
    #[arg(long, value_name = "RECORDS", value_parser = number_up_to(10_000_000))]
    usage_records: Option<usize>,
    /// Measure only how so many audit events are taken in, beside the bare rows.
    #[arg(long, value_name = "EVENTS", value_parser = number_up_to(50_000_000), conflicts_with = "usage_records")]
    audit_events: Option<usize>,
    /// Measure only how a book of so many events is read, beside a plain table.
    #[arg(long, value_name = "EVENTS", value_parser = number_up_to(50_000_000), conflicts_with_all = ["usage_records", "audit_events"])]
    audit_search: Option<usize>,
    /// The book alone, in half the time: no plain table.
    #[arg(long, requires = "audit_search")]
    book_only: bool,
    /// Measure only what it costs to share limits through Redis, on a PostgreSQL of its own.
    #[arg(long, conflicts_with_all = ["usage_records", "audit_events", "audit_search"])]
    shared_limits: bool,
    /// Measure only whether two nodes keep one limit together, for two minutes.
    #[arg(long, conflicts_with_all = ["usage_records", "audit_events", "audit_search", "shared_limits"])]
    one_budget: bool,
    /// Measure only how people sign in, how verifies fare meanwhile, and what a session costs a call.
    #[arg(long, conflicts_with_all = ["usage_records", "audit_events", "audit_search"])]
    sign_ins: bool,
    /// An empty PostgreSQL database, where one alone is measured; SQLite when absent.
    #[arg(long, conflicts_with_all = OWN_DATABASES)]
    database_url: Option<String>,
    /// The same on a PostgreSQL that is started for it, durable as in earnest.
    #[arg(long, conflicts_with = "database_url", conflicts_with_all = OWN_DATABASES)]
    postgres: bool,
    /// Measure only the two servers that are compared with; needs no keyward.
    #[arg(long)]
    baselines_only: bool,
    /// Where to write the result as JSON.
    #[arg(long, default_value = "bench/results/latest.json")]
    output: PathBuf,
}

fn number_up_to(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most)
}

impl Options {
    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn keyward(&self) -> Result<PathBuf> {
        let path = match &self.keyward {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.with_file_name("keyward"),
        };
        path.canonicalize().with_context(|| format!("{} is missing; --keyward names another", path.display()))
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    machine::pin(machine::LOAD_CORE)?;
    let mut report = Report::default();
    let mut databases = options.postgres.then(Databases::start).transpose()?;
    let own = databases.as_mut().map(Databases::make).transpose()?;
    let database_url = own.or_else(|| options.database_url.clone());
    if options.baselines_only {
        hot_routes::measure_baselines(&options, &mut report)?;
    } else if options.sign_ins {
        sign_ins::measure(&options, &options.keyward()?, &mut report)?;
    } else if let Some(count) = options.usage_records {
        usage_records::measure(count, database_url.as_deref(), &options.keyward()?, &mut report)?;
    } else if let Some(count) = options.audit_events {
        audit::events::measure(count, database_url.as_deref(), &options.keyward()?, &mut report)?;
    } else if let Some(count) = options.audit_search {
        let sides = if options.book_only { Sides::BookOnly } else { Sides::Both };
        audit::search::measure(count, sides, database_url.as_deref(), &options.keyward()?, &mut report)?;
    } else if options.shared_limits {
        shared_limits::measure(&options, &options.keyward()?, &mut report)?;
    } else if options.one_budget {
        one_budget::measure(&options.keyward()?, &mut report)?;
    } else {
        let program = options.keyward()?;
        hot_routes::measure(&options, database_url.as_deref(), &program, &mut report)?;
        if let Some(count) = options.cached_memory {
            cached_memory::measure(count, &program, &mut report)?;
        }
        if let Some(count) = options.database_keys {
            large_database::measure(&options, count, &program, &mut report)?;
        }
        if let Some(count) = options.audit {
            audit::measure(count, &program, &mut report)?;
        }
    }
    report.print();
    report.write(&options.output)?;
    println!("\nWritten to {}", options.output.display());
    Ok(())
}
