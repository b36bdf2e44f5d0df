//! The one door to the database: SQLite (one writer, several readers, WAL) or PostgreSQL, behind the same calls.
//!
//! Every statement is text with `$1` placeholders that both read alike. Where they must differ, `dialect` knows.
//! Nothing outside this folder names the driver.

mod bulk;
mod checkpoint;
mod columns;
pub mod dialect;
mod migrate;
mod row;
mod scan;
mod session;
mod sql;
mod turns;
mod value;
mod wire;

use std::path::Path;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, PgConnection};

pub use bulk::{Bulk, Upsert};
pub use checkpoint::Checkpointer;
pub(crate) use migrate::{Applied, Schema};
pub(crate) use row::row;
pub use row::{FromRow, Row};
pub use scan::{Fields, Scanned};
pub use session::{Copied, Ddl, Session, ddl};
pub use sql::{On, Parts, Sql, parts, sql};
pub use value::{Bind, FromValue, Json, Kind, Value};

/// What went wrong at the database, told apart as far as callers act on it.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// A unique value exists already; `column` is `table.column`.
    #[error("{column} is already taken")]
    Taken { column: String, source: sqlx::Error },
    /// The database does not answer, or not in time.
    #[error("the database does not answer")]
    Unreachable(#[source] sqlx::Error),
    #[error("the database refused a statement")]
    Refused(#[source] sqlx::Error),
    #[error("a row does not have the expected form: {0}")]
    Unreadable(String),
    #[error("the database could not be migrated")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error::{Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed};
        if let Some(column) = dialect::taken_column(&error) {
            return Self::Taken { column, source: error };
        }
        match error {
            Io(_) | Tls(_) | Protocol(_) | PoolTimedOut | PoolClosed | WorkerCrashed => Self::Unreachable(error),
            other => Self::Refused(other),
        }
    }
}

impl DbError {
    /// PostgreSQL's SQLSTATE, e.g. `55P03` for a lock that was not got in time.
    pub fn sqlstate(&self) -> Option<String> {
        let (Self::Taken { source, .. } | Self::Unreachable(source) | Self::Refused(source)) = self else {
            return None;
        };
        Some(source.as_database_error()?.code()?.into_owned())
    }

    /// What the database said, for people who may see it.
    pub fn told(&self) -> String {
        match self {
            Self::Taken { source, .. } | Self::Unreachable(source) | Self::Refused(source) => {
                source.as_database_error().map_or_else(|| source.to_string(), |error| error.message().to_owned())
            }
            other => other.to_string(),
        }
    }
}

/// A database of either kind. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Db {
    /// Each with connections of their own for what a verification waits for.
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
        prompt: SqlitePool,
    },
    Postgres {
        pool: PgPool,
        prompt: PgPool,
    },
}

/// Connects once: a pool tries on until its time is over, and then does not say why.
async fn try_postgres(options: &PgConnectOptions) -> Result<(), DbError> {
    let first = tokio::time::timeout(ACQUIRE_TIMEOUT, PgConnection::connect_with(options)).await;
    Ok(first.map_err(|_| sqlx::Error::PoolTimedOut)??.close().await?)
}

/// A transaction on either kind. Dropped without `commit`, it is rolled back.
pub enum Tx {
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
}

/// Pages in the log of SQLite after which the writer moves them into the file itself, where the `Checkpointer` was too slow or does
/// not run. A batch of records touches a thousand pages by itself; those that the next batches touch as well are moved once for all
/// of them.
const CHECKPOINT_PAGES: &str = "16384";

/// Connections to SQLite that read: each is a thread.
const READERS: u32 = 4;
/// Connections for what a verification waits for.
const PROMPT: u32 = 4;

/// How long a statement waits for a connection before the database counts as unreachable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection that is seldom needed is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

impl Db {
    /// Opens (and makes, where absent) an SQLite file. Commits are durable: `synchronous=FULL`.
    pub async fn open_sqlite(file: &Path) -> Result<Self, DbError> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(ACQUIRE_TIMEOUT)
            .foreign_keys(true)
            .disable_statement_logging();
        // 32 MiB: where a table is large, each batch would read its indexes again.
        let writing = options.clone().pragma("cache_size", "-32768").pragma("wal_autocheckpoint", CHECKPOINT_PAGES);
        let reading = options.read_only(true).create_if_missing(false);
        let pool = |connections| {
            SqlitePoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT).idle_timeout(None)
        };
        let polite =
            |connections| pool(connections).after_connect(|connection, _| Box::pin(turns::take_turns(connection)));
        let writer = polite(1).connect_with(writing).await?;
        let readers = polite(READERS).connect_with(reading.clone()).await?;
        let prompt = pool(PROMPT).connect_with(reading).await?;
        Ok(Self::Sqlite { writer, readers, prompt })
    }

    /// Connects to PostgreSQL 15 or later, e.g. `postgres://user:password@host/database`.
    pub async fn open_postgres(url: &str, connections: u32) -> Result<Self, DbError> {
        let options: PgConnectOptions = url.parse()?;
        let options = options.disable_statement_logging().application_name("keyward");
        let pool = |connections| PgPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT);
        let prompt = pool(PROMPT).connect_lazy_with(options.clone());
        try_postgres(&options).await?;
        Ok(Self::Postgres { pool: pool(connections).connect_with(options).await?, prompt })
    }

    /// PostgreSQL that is connected to when it is first asked.
    pub fn postgres_when_needed(url: &str) -> Result<Self, DbError> {
        let options: PgConnectOptions = url.parse()?;
        let pool = PgPoolOptions::new().max_connections(2).acquire_timeout(ACQUIRE_TIMEOUT).idle_timeout(IDLE_TIMEOUT);
        let options = options.disable_statement_logging().application_name("keyward");
        Ok(Self::of_one_pool(pool.connect_lazy_with(options)))
    }

    /// Opens an SQLite file that exists, to read in it and nothing else. Where no log stands beside the file nobody has it open, and
    /// none is made.
    pub async fn read_sqlite(file: &Path) -> Result<Self, DbError> {
        let is_closed = !file.with_extension("db-wal").exists();
        let options = SqliteConnectOptions::new().filename(file).create_if_missing(false).read_only(true);
        let options = options.immutable(is_closed).busy_timeout(ACQUIRE_TIMEOUT).disable_statement_logging();
        let pool = SqlitePoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT);
        let readers = pool.connect_with(options).await?;
        Ok(Self::Sqlite { writer: readers.clone(), prompt: readers.clone(), readers })
    }

    /// Connects to PostgreSQL to read and nothing else.
    pub async fn read_postgres(url: &str) -> Result<Self, DbError> {
        let options: PgConnectOptions = url.parse()?;
        let options = options.options([("default_transaction_read_only", "on")]).application_name("keyward checkup");
        try_postgres(&options).await?;
        let pool = PgPoolOptions::new().max_connections(2).acquire_timeout(ACQUIRE_TIMEOUT);
        Ok(Self::of_one_pool(pool.connect_with(options.disable_statement_logging()).await?))
    }

    /// With connections of one kind.
    fn of_one_pool(pool: PgPool) -> Self {
        Self::Postgres { prompt: pool.clone(), pool }
    }

    /// Brings the schema up to date; safe to call from several nodes at once.
    pub async fn migrate(&self) -> Result<(), DbError> {
        migrate::run(self).await
    }

    /// Begins a transaction that may write.
    pub async fn begin(&self) -> Result<Tx, DbError> {
        Ok(match self {
            // Takes the write lock now, so that no later statement can fail for it.
            Self::Sqlite { writer, .. } => Tx::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
            Self::Postgres { pool, .. } => Tx::Postgres(pool.begin().await?),
        })
    }

    /// The same database for what a verification waits for, which is short: it has connections that no search holds. The threads of
    /// SQLite's give way to nobody.
    #[must_use]
    pub fn prompt(&self) -> Self {
        match self {
            Self::Sqlite { writer, prompt, .. } => {
                Self::Sqlite { writer: writer.clone(), readers: prompt.clone(), prompt: prompt.clone() }
            }
            Self::Postgres { prompt, .. } => Self::of_one_pool(prompt.clone()),
        }
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }

    pub fn kind(&self) -> &'static str {
        if self.is_postgres() { "postgres" } else { "sqlite" }
    }

    /// Closes every connection after its present work.
    pub async fn close(&self) {
        match self {
            Self::Sqlite { writer, readers, prompt } => {
                prompt.close().await;
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres { pool, prompt } => {
                prompt.close().await;
                pool.close().await;
            }
        }
    }
}

impl Tx {
    pub async fn commit(self) -> Result<(), DbError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}
