//! Many rows into one table as a part of a transaction, as fast as each database can: COPY on PostgreSQL, rows of placeholders on
//! SQLite.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, SqlSafeStr, query_with};

use super::value::{Value, bind_sqlite};
use super::{DbError, Tx};

/// Rows of one statement on SQLite: few sizes, so that each is prepared once. The largest has fewer than 32,766 placeholders.
const SIZES: [usize; 3] = [128, 16, 1];

/// Where rows go: `table (column, …)`, a constant of a `sql.rs`.
#[derive(Debug, Clone, Copy)]
pub struct Bulk<const COLUMNS: usize>(pub &'static str);

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
                let mut left = rows.into_iter();
                while left.len() > 0 {
                    let size = SIZES.into_iter().find(|size| *size <= left.len()).unwrap_or(1);
                    // Nameless placeholders are counted much faster than numbered ones.
                    let row = format!("({})", ["?"; COLUMNS].join(","));
                    let text = format!("INSERT INTO {} VALUES {}", self.0, vec![row; size].join(","));
                    let mut arguments = sqlx::sqlite::SqliteArguments::default();
                    for value in left.by_ref().take(size).flatten() {
                        bind_sqlite(&mut arguments, value).map_err(sqlx::Error::Encode)?;
                    }
                    let statement = query_with::<sqlx::Sqlite, _>(AssertSqlSafe(text).into_sql_str(), arguments);
                    statement.execute(&mut **tx).await?;
                }
            }
        }
        Ok(())
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
