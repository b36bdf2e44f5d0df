//! Many rows into one table as a part of a transaction, as fast as each database can: rows of placeholders on SQLite; on PostgreSQL
//! COPY where all rows are new, and one array a column where some may stand already.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, Postgres, SqlSafeStr, SqlStr, Sqlite, query_with};

use super::columns::arrays;
use super::row::{FromRow, Row};
use super::value::{Value, bind_sqlite};
use super::{DbError, Tx};

/// Rows of one statement on SQLite: few sizes, so that each is prepared once. The largest has fewer than 32,766 placeholders.
const SIZES: [usize; 3] = [128, 16, 1];

/// Where rows go: `table (column, …)`, a constant of a `sql.rs`.
#[derive(Debug, Clone, Copy)]
pub struct Bulk<const COLUMNS: usize>(pub &'static str);

/// Where rows go that may stand already, and what then becomes of them: `ON CONFLICT …`, and what is answered: `RETURNING …`.
#[derive(Debug, Clone, Copy)]
pub struct Upsert<const COLUMNS: usize>(pub &'static str, pub &'static str);

impl<const COLUMNS: usize> Bulk<COLUMNS> {
    pub async fn insert(self, tx: &mut Tx, rows: Vec<[Value; COLUMNS]>) -> Result<(), DbError> {
        match tx {
            Tx::Postgres(tx) => {
                let mut text = String::with_capacity(rows.len() * COLUMNS * 24);
                for row in &rows {
                    line(&mut text, row);
                }
                let mut copy = tx.copy_in_raw(&format!("COPY {} FROM STDIN", self.0)).await?;
                copy.send(text.into_bytes()).await?;
                copy.finish().await?;
            }
            Tx::Sqlite(tx) => {
                let mut pieces = Pieces::of(rows);
                while let Some((text, arguments)) = pieces.next(self.0, "")? {
                    query_with::<Sqlite, _>(text, arguments).execute(&mut **tx).await?;
                }
            }
        }
        Ok(())
    }
}

impl<const COLUMNS: usize> Upsert<COLUMNS> {
    pub async fn write(self, tx: &mut Tx, rows: Vec<[Value; COLUMNS]>) -> Result<(), DbError> {
        match tx {
            Tx::Postgres(tx) => {
                let arguments = arrays(rows).map_err(sqlx::Error::Encode)?;
                query_with::<Postgres, _>(self.unnesting(), arguments).execute(&mut **tx).await?;
            }
            Tx::Sqlite(tx) => {
                let mut pieces = Pieces::of(rows);
                while let Some((text, arguments)) = pieces.next(self.0, self.1)? {
                    query_with::<Sqlite, _>(text, arguments).execute(&mut **tx).await?;
                }
            }
        }
        Ok(())
    }

    /// Writes the rows and answers what the statement returns.
    pub async fn tell<T: FromRow>(self, tx: &mut Tx, rows: Vec<[Value; COLUMNS]>) -> Result<Vec<T>, DbError> {
        let mut told: Vec<Row> = Vec::new();
        match tx {
            Tx::Postgres(tx) => {
                let arguments = arrays(rows).map_err(sqlx::Error::Encode)?;
                let rows = query_with::<Postgres, _>(self.unnesting(), arguments).fetch_all(&mut **tx).await?;
                told.extend(rows.into_iter().map(Row::Postgres));
            }
            Tx::Sqlite(tx) => {
                let mut pieces = Pieces::of(rows);
                while let Some((text, arguments)) = pieces.next(self.0, self.1)? {
                    let rows = query_with::<Sqlite, _>(text, arguments).fetch_all(&mut **tx).await?;
                    told.extend(rows.into_iter().map(Row::Sqlite));
                }
            }
        }
        told.iter().map(T::from_row).collect()
    }

    fn unnesting(self) -> SqlStr {
        let columns: Vec<String> = (1..=COLUMNS).map(|number| format!("${number}")).collect();
        let text = format!("INSERT INTO {} SELECT * FROM unnest({}) {}", self.0, columns.join(","), self.1);
        AssertSqlSafe(text).into_sql_str()
    }
}

/// Rows on their way into SQLite, a statement at a time.
struct Pieces<const COLUMNS: usize>(std::vec::IntoIter<[Value; COLUMNS]>);

impl<const COLUMNS: usize> Pieces<COLUMNS> {
    fn of(rows: Vec<[Value; COLUMNS]>) -> Self {
        Self(rows.into_iter())
    }

    /// The next statement and its values; none when all rows are gone.
    fn next(&mut self, table: &str, then: &str) -> Result<Option<(SqlStr, sqlx::sqlite::SqliteArguments)>, DbError> {
        let Some(size) = SIZES.into_iter().find(|size| *size <= self.0.len()) else { return Ok(None) };
        // Nameless placeholders are counted much faster than numbered ones.
        let row = format!("({})", ["?"; COLUMNS].join(","));
        let text = format!("INSERT INTO {table} VALUES {} {then}", vec![row; size].join(","));
        let mut arguments = sqlx::sqlite::SqliteArguments::default();
        for value in self.0.by_ref().take(size).flatten() {
            bind_sqlite(&mut arguments, value).map_err(sqlx::Error::Encode)?;
        }
        Ok(Some((AssertSqlSafe(text).into_sql_str(), arguments)))
    }
}

/// A row in COPY's text form.
fn line<const COLUMNS: usize>(text: &mut String, row: &[Value; COLUMNS]) {
    for (place, value) in row.iter().enumerate() {
        if place > 0 {
            text.push('\t');
        }
        match value {
            Value::Null(_) => text.push_str("\\N"),
            Value::Bool(is) => text.push(if *is { 't' } else { 'f' }),
            Value::Text(value) | Value::Json(value) => escape(text, value),
            Value::Bytes(bytes) => {
                text.push_str("\\\\x");
                bytes.iter().for_each(|byte| write!(text, "{byte:02x}").expect("a string takes everything"));
            }
            Value::Int(number) => write!(text, "{number}").expect("a string takes everything"),
            Value::Float(number) => write!(text, "{number}").expect("a string takes everything"),
            Value::Uuid(id) => text.push_str(id.simple().encode_lower(&mut [0; 32])),
            Value::Time(at) => write!(text, "{at}").expect("a string takes everything"),
        }
    }
    text.push('\n');
}

fn escape(text: &mut String, value: &str) {
    let mut rest = value;
    while let Some(at) = rest.find(['\\', '\t', '\n', '\r']) {
        let (plain, special) = rest.split_at(at);
        text.push_str(plain);
        text.push_str(match special.as_bytes()[0] {
            b'\\' => "\\\\",
            b'\t' => "\\t",
            b'\n' => "\\n",
            _ => "\\r",
        });
        rest = &special[1..];
    }
    text.push_str(rest);
}

#[cfg(test)]
mod tests {
    use keyward_core::time::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::db::Kind;

    #[test]
    fn rows_are_written_as_copy_reads_them() {
        let mut text = String::new();
        line(&mut text, &[Value::Text("a\tb\\c\nd\re".into()), Value::Null(Kind::Text), Value::Bytes(vec![0, 255])]);
        line(&mut text, &[Value::Uuid(Uuid::nil()), Value::Time(Timestamp::from_micros(1)), Value::Bool(true)]);
        let expected =
            "a\\tb\\\\c\\nd\\re\t\\N\t\\\\x00ff\n00000000000000000000000000000000\t1970-01-01T00:00:00.000001Z\tt\n";
        assert_eq!(text, expected);
    }
}
