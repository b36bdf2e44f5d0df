//! The only place that tells the two databases apart beyond the statement text.

use super::sql::{Sql, sql};
use super::{Db, Tx};

/// A statement that cannot be written once for both.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    pub sqlite: &'static str,
    pub postgres: &'static str,
}

impl Pair {
    pub fn on(self, db: &Db) -> Sql {
        sql(if db.is_postgres() { self.postgres } else { self.sqlite })
    }

    /// A part of a statement.
    pub fn text(self, db: &Db) -> &'static str {
        if db.is_postgres() { self.postgres } else { self.sqlite }
    }

    pub fn within(self, tx: &Tx) -> Sql {
        sql(if matches!(tx, Tx::Postgres(_)) { self.postgres } else { self.sqlite })
    }
}

/// `table.column` of a violated unique constraint, if that is what the error says.
pub(super) fn taken_column(error: &sqlx::Error) -> Option<String> {
    let database = error.as_database_error()?;
    if !database.is_unique_violation() {
        return None;
    }
    // PostgreSQL names the constraint (`organization_slug_key`), SQLite the columns (`… failed: organization.slug`).
    match (database.constraint(), database.table()) {
        (Some(constraint), Some(table)) => {
            let column = constraint.strip_prefix(table)?.strip_prefix('_')?;
            Some(format!("{table}.{}", column.strip_suffix("_key").unwrap_or(column)))
        }
        _ => database.message().rsplit(": ").next().map(str::to_owned),
    }
}
