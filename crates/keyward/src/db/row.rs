//! Rows of either database, and the macro that declares what a statement's row looks like.

use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use super::DbError;
use super::value::{FromValue, read_postgres, read_sqlite};

/// One row; columns are read by name.
pub enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    pub fn get<T: FromValue>(&self, column: &str) -> Result<T, DbError> {
        let unreadable = |error: sqlx::error::BoxDynError| DbError::Unreadable(format!("{column}: {error}"));
        let value = match self {
            Self::Sqlite(row) => read_sqlite(row.try_get_raw(column)?).map_err(unreadable)?,
            Self::Postgres(row) => read_postgres(row.try_get_raw(column)?).map_err(unreadable)?,
        };
        T::from_value(value).map_err(|error| DbError::Unreadable(format!("{column}: {error}")))
    }
}

/// What a row can be read into.
pub trait FromRow: Sized {
    fn from_row(row: &Row) -> Result<Self, DbError>;
}

/// A row of which nothing is read but one column, by the name `value`.
impl<T: FromValue> FromRow for (T,) {
    fn from_row(row: &Row) -> Result<Self, DbError> {
        Ok((row.get("value")?,))
    }
}

/// Declares a struct whose fields are the columns of the same names.
macro_rules! row {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty),* $(,)? }) => {
        $(#[$meta])*
        $vis struct $name { $($(#[$field_meta])* $field_vis $field: $type),* }

        impl $crate::db::FromRow for $name {
            fn from_row(row: &$crate::db::Row) -> Result<Self, $crate::db::DbError> {
                Ok(Self { $($field: row.get(stringify!($field))?),* })
            }
        }
    };
}
pub(crate) use row;
