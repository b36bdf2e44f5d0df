//! The database that is measured, by a connection of the bench's own, and rows as it takes them.

use anyhow::Result;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Row as _};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::events::{BareRow, COLUMNS, Event, add, write_line};
use crate::machine;

/// Waits for each answer.
pub struct Database {
    runtime: Runtime,
    connection: Either,
}

pub enum Either {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Some rows, ready to be sent.
pub enum Rows {
    Placeholders(usize, SqliteArguments),
    Lines(String),
}

/// Which of the two it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    /// Rows as it takes them.
    pub fn rows(self, organization: Uuid, events: &[Event], rows: &[BareRow]) -> Result<Rows> {
        let pairs = events.iter().zip(rows);
        if self == Self::Sqlite {
            let mut arguments = SqliteArguments::default();
            for (event, row) in pairs {
                add(&mut arguments, organization, event, row).map_err(|error| anyhow::anyhow!(error))?;
            }
            return Ok(Rows::Placeholders(rows.len(), arguments));
        }
        let mut text = String::with_capacity(400 * rows.len());
        for (event, row) in pairs {
            write_line(&mut text, organization, event, row)?;
        }
        Ok(Rows::Lines(text))
    }

    /// A literal of bytes.
    pub fn bytes(self, hex: &str) -> String {
        if self == Self::Postgres { format!("'\\x{hex}'") } else { format!("x'{hex}'") }
    }
}

impl Rows {
    pub async fn insert(self, connection: &mut SqliteConnection, table: &str) -> Result<()> {
        let Self::Placeholders(count, arguments) = self else { anyhow::bail!("rows for PostgreSQL") };
        let row = format!("({})", vec!["?"; COLUMNS].join(","));
        let text = format!("INSERT INTO {table} VALUES {}", vec![row; count].join(","));
        sqlx::query_with(AssertSqlSafe(text), arguments).execute(connection).await?;
        Ok(())
    }

    pub async fn copy(self, connection: &mut PgConnection, table: &str) -> Result<()> {
        let Self::Lines(text) = self else { anyhow::bail!("rows for SQLite") };
        let mut copy = connection.copy_in_raw(&format!("COPY {table} FROM STDIN")).await?;
        copy.send(text.into_bytes()).await?;
        copy.finish().await?;
        Ok(())
    }
}

impl Database {
    pub fn open(connect: impl AsyncFnOnce() -> Result<Either>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // SQLite works on a thread of its own, which must not share a core with the one that makes rows.
        let connection = machine::start_on_both(|| runtime.block_on(connect()))?;
        Ok(Self { runtime, connection })
    }

    pub async fn postgres(url: &str) -> Result<Either> {
        Ok(Either::Postgres(PgConnection::connect(url).await?))
    }

    pub fn kind(&self) -> Kind {
        match &self.connection {
            Either::Sqlite(_) => Kind::Sqlite,
            Either::Postgres(_) => Kind::Postgres,
        }
    }

    pub fn run(&mut self, text: impl Into<String>) -> Result<()> {
        let text = sqlx::raw_sql(AssertSqlSafe(text.into()));
        self.runtime.block_on(async {
            match &mut self.connection {
                Either::Sqlite(connection) => text.execute(connection).await.map(|_| ()),
                Either::Postgres(connection) => text.execute(connection).await.map(|_| ()),
            }
        })?;
        Ok(())
    }

    /// Rows of values that are written as SQL, some hundred in a statement.
    pub fn insert_values(&mut self, table: &str, rows: &[String]) -> Result<()> {
        for part in rows.chunks(400) {
            self.run(format!("INSERT INTO {table} VALUES {}", part.join(",")))?;
        }
        Ok(())
    }

    pub fn insert(&mut self, table: &str, rows: Rows) -> Result<()> {
        self.with(async |connection| match connection {
            Either::Sqlite(connection) => rows.insert(connection, table).await,
            Either::Postgres(connection) => rows.copy(connection, table).await,
        })
    }

    pub fn with<T>(&mut self, ask: impl AsyncFnOnce(&mut Either) -> Result<T>) -> Result<T> {
        self.runtime.block_on(ask(&mut self.connection))
    }

    /// The two numbers of a question; SQLite has no such question.
    pub fn sizes(&mut self, question: &str) -> Result<Option<[f64; 2]>> {
        self.with(async |connection| {
            let Either::Postgres(connection) = connection else { return Ok(None) };
            let text = format!("SELECT a::float8, b::float8 FROM ({question}) AS s (a, b)");
            let row = sqlx::query(AssertSqlSafe(text)).fetch_one(connection).await?;
            Ok(Some([row.get(0), row.get(1)]))
        })
    }
}
