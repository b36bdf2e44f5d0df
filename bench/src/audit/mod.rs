//! The audit log on both databases: how events are taken in, then how a large book is read.

mod book;
mod database;
pub mod events;
mod fill;
mod plain;
pub mod search;

use std::path::Path;

use anyhow::Result;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use xtask::postgres::Server;

use crate::machine;
use crate::report::Report;

/// Events that are taken in over HTTP: enough that the indexes are deep, few enough that it does not take an hour.
const TAKEN_IN: usize = 1_000_000;

/// Measures a book of `count` events, on SQLite and on a PostgreSQL of our own, which may use both cores.
pub fn measure(count: usize, program: &Path, report: &mut Report) -> Result<()> {
    let server = machine::start_on_both(Server::start_durable)?;
    for (place, server) in [("SQLite", None), ("PostgreSQL", Some(&server))] {
        let mut part = Report::default();
        eprintln!("{place}: taking {TAKEN_IN} events in");
        events::measure(TAKEN_IN, database(server, "taken_in")?.as_deref(), program, &mut part)?;
        eprintln!("{place}: reading a book of {count} events");
        search::measure(count, search::Sides::Both, database(server, "searched")?.as_deref(), program, &mut part)?;
        part.figures.iter_mut().for_each(|figure| figure.name = format!("{place}: {}", figure.name));
        report.figures.append(&mut part.figures);
    }
    Ok(())
}

/// The address of a new database; `None` stands for SQLite, which makes its own.
fn database(server: Option<&Server>, name: &str) -> Result<Option<String>> {
    let Some(server) = server else { return Ok(None) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = PgConnection::connect(server.url()).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await
    })?;
    Ok(server.url().strip_suffix("postgres").map(|server| format!("{server}{name}")))
}
