//! Migrations: one shared text a step, with the types spelled per database; a pair only where the two must differ.

use std::borrow::Cow;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::{Db, DbError};

/// A step of the schema.
struct Step {
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

macro_rules! shared {
    ($name:literal) => {{
        const TEXT: &str = include_str!(concat!("../../../../migrations/", $name, ".sql"));
        Step { name: $name, sqlite: TEXT, postgres: TEXT }
    }};
}

macro_rules! pair {
    ($name:literal) => {
        Step {
            name: $name,
            sqlite: include_str!(concat!("../../../../migrations/", $name, ".sqlite.sql")),
            postgres: include_str!(concat!("../../../../migrations/", $name, ".postgres.sql")),
        }
    };
}

/// In order; a step that was released is never changed.
const STEPS: &[Step] = &[
    shared!("0001_foundation"),
    pair!("0002_nodes"),
    shared!("0003_limits"),
    shared!("0004_usage"),
    shared!("0005_meter_batches"),
    shared!("0006_people"),
    shared!("0008_jobs"),
    shared!("0009_partitions"),
    shared!("0010_audit_order"),
    pair!("0011_book"),
    shared!("0012_passkeys"),
    shared!("0013_identities"),
    shared!("0014_sinks"),
    shared!("0015_mail"),
    pair!("0016_narrow_indexes"),
    shared!("0017_vouched"),
    shared!("0018_usage_batches"),
];

/// The types of the shared text and what each database calls them.
const TYPES: &[(&str, &str, &str)] = &[
    ("{id}", "BLOB", "uuid"),
    ("{time}", "INTEGER", "timestamptz"),
    ("{json}", "TEXT", "jsonb"),
    ("{bytes}", "BLOB", "bytea"),
    ("{int}", "INTEGER", "bigint"),
    ("{bool}", "INTEGER", "boolean"),
    ("{false}", "0", "false"),
    ("{word}", "TEXT", "text COLLATE \"C\""),
    ("{by_block}", "", "USING brin"),
    ("{strict}", "STRICT", ""),
];

pub(super) async fn run(db: &Db) -> Result<(), DbError> {
    let steps = STEPS.iter().enumerate().map(|(index, step)| {
        let text = spell(step, db.is_postgres());
        let name = Cow::Borrowed(step.name);
        Migration::new(index as i64 + 1, name, MigrationType::Simple, AssertSqlSafe(text).into_sql_str(), false)
    });
    let migrator = Migrator::with_migrations(steps.collect());
    match db {
        Db::Sqlite { writer, .. } => migrator.run(writer).await?,
        Db::Postgres(pool) => migrator.run(pool).await?,
    }
    Ok(())
}

fn spell(step: &Step, postgres: bool) -> String {
    let text = if postgres { step.postgres } else { step.sqlite };
    TYPES.iter().fold(text.to_owned(), |text, (word, for_sqlite, for_postgres)| {
        text.replace(word, if postgres { for_postgres } else { for_sqlite })
    })
}
