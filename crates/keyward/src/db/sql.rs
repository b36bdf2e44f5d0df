//! A statement with its values, run on the pool or in a transaction.

use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Postgres, SqlSafeStr, SqlStr, Sqlite, query_with};

use super::row::{FromRow, Row};
use super::value::{Bind, Value, bind_postgres, bind_sqlite};
use super::{Db, DbError, Session, Tx};

/// Where a statement runs.
pub enum On<'a> {
    Db(&'a Db),
    Tx(&'a mut Tx),
    Session(&'a mut Session),
}

impl On<'_> {
    /// The same place for another statement.
    pub fn again(&mut self) -> On<'_> {
        match self {
            Self::Db(db) => On::Db(db),
            Self::Tx(tx) => On::Tx(tx),
            Self::Session(session) => On::Session(session),
        }
    }
}

impl<'a> From<&'a Db> for On<'a> {
    fn from(db: &'a Db) -> Self {
        Self::Db(db)
    }
}

impl<'a> From<&'a mut Tx> for On<'a> {
    fn from(tx: &'a mut Tx) -> Self {
        Self::Tx(tx)
    }
}

impl<'a> From<&'a mut Session> for On<'a> {
    fn from(session: &'a mut Session) -> Self {
        Self::Session(session)
    }
}

/// A statement and the values of its placeholders, in order.
#[must_use]
pub struct Sql {
    text: SqlStr,
    values: Vec<Value>,
}

/// A statement; its text is always a constant of a `sql.rs`.
pub fn sql(text: &'static str) -> Sql {
    Sql { text: text.into_sql_str(), values: Vec::new() }
}

/// A statement that is joined from constants of a `sql.rs`, so that each way of asking has its own plan. In a part, `{}` stands for
/// the part's value, as often as it is there.
#[must_use]
pub struct Parts {
    text: String,
    values: Vec<Value>,
}

/// Begins a statement.
pub fn parts(text: &'static str) -> Parts {
    Parts { text: text.to_owned(), values: Vec::new() }
}

impl Parts {
    pub fn then(mut self, part: &'static str) -> Self {
        self.text.push_str(part);
        self
    }

    pub fn with(mut self, part: &'static str, value: impl Bind) -> Self {
        self.values.push(value.into_value());
        self.text.push_str(&part.replace("{}", &format!("${}", self.values.len())));
        self
    }

    /// The part, if there is a value for it.
    pub fn when(self, part: &'static str, value: Option<impl Bind>) -> Self {
        match value {
            Some(value) => self.with(part, value),
            None => self,
        }
    }

    pub fn end(self) -> Sql {
        Sql { text: AssertSqlSafe(self.text).into_sql_str(), values: self.values }
    }
}

/// Writes `$body` six times: for a pool, a transaction and a session of either database. In it, `$query` is the statement with
/// its values, `$target` what executes it, and `$row` what wraps a driver's row.
macro_rules! on {
    ($on:expr, $pool:ident, $sql:expr, |$query:ident, $target:ident, $row:ident| $body:expr) => {
        match $on {
            On::Db(Db::Sqlite { $pool: pool, .. }) => {
                let ($query, $target, $row) =
                    (query_with::<Sqlite, _>($sql.text.clone(), $sql.sqlite()?), pool, Row::Sqlite);
                $body
            }
            On::Tx(Tx::Sqlite(tx)) => {
                let ($query, $target, $row) =
                    (query_with::<Sqlite, _>($sql.text.clone(), $sql.sqlite()?), &mut **tx, Row::Sqlite);
                $body
            }
            On::Session(Session::Sqlite(connection)) => {
                let ($query, $target, $row) =
                    (query_with::<Sqlite, _>($sql.text.clone(), $sql.sqlite()?), &mut **connection, Row::Sqlite);
                $body
            }
            On::Session(Session::Postgres(connection)) => {
                let ($query, $target, $row) =
                    (query_with::<Postgres, _>($sql.text.clone(), $sql.postgres()?), &mut *connection, Row::Postgres);
                $body
            }
            On::Db(Db::Postgres { pool, .. }) => {
                let ($query, $target, $row) =
                    (query_with::<Postgres, _>($sql.text.clone(), $sql.postgres()?), pool, Row::Postgres);
                $body
            }
            On::Tx(Tx::Postgres(tx)) => {
                let ($query, $target, $row) =
                    (query_with::<Postgres, _>($sql.text.clone(), $sql.postgres()?), &mut **tx, Row::Postgres);
                $body
            }
        }
    };
}

impl Sql {
    pub fn bind(mut self, value: impl Bind) -> Self {
        self.values.push(value.into_value());
        self
    }

    /// Runs a statement that answers no rows; returns how many rows it touched.
    pub async fn execute<'a>(mut self, on: impl Into<On<'a>>) -> Result<u64, DbError> {
        Ok(on!(on.into(), writer, self, |query, target, _row| query.execute(target).await?.rows_affected()))
    }

    /// The first row, if there is one.
    pub async fn optional<'a, T: FromRow>(mut self, on: impl Into<On<'a>>) -> Result<Option<T>, DbError> {
        let row = on!(on.into(), readers, self, |query, target, row| query.fetch_optional(target).await?.map(row));
        row.as_ref().map(T::from_row).transpose()
    }

    /// The one row that is known to exist.
    pub async fn one<'a, T: FromRow>(self, on: impl Into<On<'a>>) -> Result<T, DbError> {
        let text = self.text.clone();
        self.optional(on).await?.ok_or_else(|| DbError::Unreadable(format!("no row from: {}", text.as_str())))
    }

    pub async fn all<'a, T: FromRow>(mut self, on: impl Into<On<'a>>) -> Result<Vec<T>, DbError> {
        let rows: Vec<Row> = on!(on.into(), readers, self, |query, target, row| {
            query.fetch_all(target).await?.into_iter().map(row).collect()
        });
        rows.iter().map(T::from_row).collect()
    }

    fn sqlite(&mut self) -> Result<SqliteArguments, DbError> {
        let mut arguments = SqliteArguments::default();
        for value in std::mem::take(&mut self.values) {
            bind_sqlite(&mut arguments, value).map_err(sqlx::Error::Encode)?;
        }
        Ok(arguments)
    }

    fn postgres(&mut self) -> Result<PgArguments, DbError> {
        let mut arguments = PgArguments::default();
        for value in std::mem::take(&mut self.values) {
            bind_postgres(&mut arguments, value).map_err(sqlx::Error::Encode)?;
        }
        Ok(arguments)
    }
}
