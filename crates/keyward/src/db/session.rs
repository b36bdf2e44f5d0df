//! A connection of one's own, for what no pool may share: session locks, time-outs, and statements that no transaction
//! may surround. And the text of such statements, made of constants and of names out of the catalog, quoted here.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use keyward_core::time::Timestamp;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::{Db, DbError, FromRow, Row, Tx};

/// Dropped, the connection is closed, and with it every lock and setting of the session.
pub enum Session {
    /// The one writer: nobody else writes while it is held.
    Sqlite(PoolConnection<sqlx::Sqlite>),
    Postgres(PgConnection),
}

impl Db {
    pub async fn session(&self) -> Result<Session, DbError> {
        Ok(match self {
            Self::Sqlite { writer, .. } => Session::Sqlite(writer.acquire().await?),
            Self::Postgres { pool, .. } => {
                let connection = PgConnection::connect_with(&pool.connect_options()).await;
                Session::Postgres(connection?)
            }
        })
    }
}

/// What a COPY answers, block by block.
pub struct Copied<'a>(BoxStream<'a, sqlx::Result<Bytes>>);

impl Copied<'_> {
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, DbError> {
        Ok(self.0.next().await.transpose()?.map(|bytes| bytes.to_vec()))
    }
}

impl Session {
    /// The rows that a `COPY … TO STDOUT` answers; PostgreSQL only.
    pub async fn copy_out(&mut self, copy: &Ddl) -> Result<Copied<'_>, DbError> {
        match self {
            Self::Postgres(connection) => Ok(Copied(connection.copy_out_raw(&copy.0).await?)),
            Self::Sqlite(_) => Err(DbError::Unreadable("SQLite has no COPY".to_owned())),
        }
    }
}

/// A statement about the schema. Its changing parts are names and instants, never a caller's text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Ddl(String);

/// Begins a statement.
pub fn ddl(text: &'static str) -> Ddl {
    Ddl(text.to_owned())
}

impl Ddl {
    pub fn then(mut self, text: &'static str) -> Self {
        self.0.push_str(text);
        self
    }

    /// A name, quoted so that it is only ever a name.
    pub fn name(mut self, name: &str) -> Self {
        self.0.push('"');
        self.0.push_str(&name.replace('"', "\"\""));
        self.0.push('"');
        self
    }

    /// A table like the parent, with its indexes, then attached for the instants from one up to another. Two statements.
    pub fn partition(self, parent: &str, name: &str, from: Timestamp, to: Timestamp) -> Self {
        let table = self.then("CREATE TABLE ").name(name).then(" (LIKE ").name(parent).then(" INCLUDING ALL); ");
        let attach = table.then("ALTER TABLE ").name(parent).then(" ATTACH PARTITION ").name(name);
        attach.then(" FOR VALUES FROM (").instant(from).then(") TO (").instant(to).then(")")
    }

    /// An instant as a literal in UTC.
    pub fn instant(mut self, at: Timestamp) -> Self {
        self.0.push_str(&format!("'{at}'"));
        self
    }

    /// A name as a text literal.
    pub fn literal(mut self, name: &str) -> Self {
        self.0.push('\'');
        self.0.push_str(&name.replace('\'', "''"));
        self.0.push('\'');
        self
    }

    /// A definition that the catalog itself wrote down, such as a column list of an index.
    pub fn catalog(mut self, text: &str) -> Self {
        self.0.push_str(text);
        self
    }

    pub fn text(&self) -> &str {
        &self.0
    }

    /// The one number that a question about a table answers, in a column `value`.
    pub async fn number(&self, db: &Db) -> Result<i64, DbError> {
        let statement = AssertSqlSafe(self.0.clone());
        Ok(match db {
            Db::Sqlite { readers, .. } => sqlx::query_scalar(statement).fetch_one(readers).await?,
            Db::Postgres { pool, .. } => sqlx::query_scalar(statement).fetch_one(pool).await?,
        })
    }

    /// The one row that a question answers.
    pub async fn one<T: FromRow>(&self, session: &mut Session) -> Result<T, DbError> {
        let text = AssertSqlSafe(self.0.clone());
        let row = match session {
            Session::Sqlite(connection) => Row::Sqlite(sqlx::query(text).fetch_one(&mut **connection).await?),
            Session::Postgres(connection) => Row::Postgres(sqlx::query(text).fetch_one(connection).await?),
        };
        T::from_row(&row)
    }

    /// Runs it as a part of a transaction.
    pub async fn within(&self, tx: &mut Tx) -> Result<(), DbError> {
        let statement = sqlx::raw_sql(AssertSqlSafe(self.0.clone()));
        match tx {
            Tx::Sqlite(tx) => {
                tx.execute(statement).await?;
            }
            Tx::Postgres(tx) => {
                tx.execute(statement).await?;
            }
        }
        Ok(())
    }

    pub async fn run(&self, session: &mut Session) -> Result<(), DbError> {
        let statement = sqlx::raw_sql(AssertSqlSafe(self.0.clone()));
        match session {
            Session::Sqlite(connection) => {
                connection.execute(statement).await?;
            }
            Session::Postgres(connection) => {
                connection.execute(statement).await?;
            }
        }
        Ok(())
    }
}
