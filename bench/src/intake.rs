//! What the measurements of rows that are taken in have in common: bodies sent over a few connections, an equal table for the bare
//! rows, and the times of both sides, which take turns so that both tables grow alike.

use std::sync::Mutex;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use crate::api::Api;
use crate::figures::{Figure, Target};
use crate::instance::Instance;
use crate::report::Report;

/// Batches of a turn.
pub const TURN: usize = 20;
/// Connections over which batches are sent.
const CONNECTIONS: usize = 2;

/// The other side: a connection to an equal, empty table.
pub enum Bare {
    Sqlite { connection: SqliteConnection, _folder: tempfile::TempDir },
    Postgres(PgConnection),
}

impl Bare {
    /// On PostgreSQL the table lies in a schema of its own, `bare`.
    pub async fn beside(instance: &Instance, table: &str, database_url: Option<&str>) -> Result<Self> {
        if let Some(url) = database_url {
            let mut connection = PgConnection::connect(url).await?;
            let text = format!("CREATE SCHEMA bare; CREATE TABLE bare.{table} (LIKE public.{table} INCLUDING ALL)");
            sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await?;
            return Ok(Self::Postgres(connection));
        }
        let options =
            SqliteConnectOptions::new().journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        let mut theirs = options.clone().filename(instance.database_file()).connect().await?;
        let schema = "SELECT sql FROM sqlite_master WHERE tbl_name = $1 AND type <> 'trigger' AND sql IS NOT NULL
            ORDER BY rootpage";
        let statements = sqlx::query(schema).bind(table).fetch_all(&mut theirs).await?;
        let folder = tempfile::Builder::new().prefix("keyward-bench-").tempdir()?;
        let file = folder.path().join("bare.db");
        let mut connection = options.filename(file).create_if_missing(true).connect().await?;
        for statement in statements {
            sqlx::raw_sql(AssertSqlSafe(statement.get::<String, _>(0))).execute(&mut connection).await?;
        }
        Ok(Self::Sqlite { connection, _folder: folder })
    }
}

/// Sends the bodies over a few connections at once; `check` looks at every answer.
pub fn send(api: &Api, path: &str, bodies: &[String], check: impl Fn(&Value) -> Result<()> + Sync) -> Result<()> {
    let left = Mutex::new(bodies.iter());
    let work = || -> Result<()> {
        loop {
            let Some(body) = left.lock().expect("no one panics while sending").next() else { return Ok(()) };
            check(&api.post_text(path, body)?)?;
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker ends well"))
    })
}

/// The times of both sides, turn by turn.
#[derive(Default)]
pub struct Turns {
    ours: Duration,
    theirs: Duration,
    ratios: Vec<f64>,
}

impl Turns {
    pub fn add(&mut self, ours: Duration, theirs: Duration) {
        self.ours += ours;
        self.theirs += theirs;
        self.ratios.push(theirs.as_secs_f64() / ours.as_secs_f64());
    }

    /// Tells how far it is, now and then.
    pub fn tell(&self, done: usize, count: usize, what: &str) {
        if self.ratios.len().is_multiple_of(10) {
            eprintln!("  {done} of {count} {what}, {:.2} of the bare rows so far", self.ratio());
        }
    }

    fn ratio(&self) -> f64 {
        self.theirs.as_secs_f64() / self.ours.as_secs_f64()
    }

    pub fn report(mut self, done: usize, what: &str, target: Target, report: &mut Report) {
        let speed = |time: Duration| done as f64 / time.as_secs_f64();
        eprintln!("  {:.0} {what}/s over HTTP, {:.0} rows/s bare", speed(self.ours), speed(self.theirs));
        let overall = vec![self.ratio()];
        let last = self.ratios.split_off(self.ratios.len() - self.ratios.len().div_ceil(10));
        report.figures.push(Figure::new(format!("{done} {what} / bare rows"), "rows/s", overall, target));
        report.figures.push(Figure::new("the last tenth of them / bare rows", "rows/s", last, target));
    }
}
