//! Migrations: one shared text a step, with the types spelled per database; a pair only where the two must differ.

use std::borrow::Cow;
use std::cmp::Ordering;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::{Db, DbError, row};

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
    pair!("0019_detail_terms"),
    shared!("0020_meter_batches_in_line"),
    shared!("0021_room_for_keys"),
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
    let migrator = Migrator::with_migrations(migrations(db.is_postgres()));
    match db {
        Db::Sqlite { writer, .. } => migrator.run(writer).await?,
        Db::Postgres { pool, .. } => migrator.run(pool).await?,
    }
    Ok(())
}

fn migrations(is_postgres: bool) -> Vec<Migration> {
    let steps = STEPS.iter().enumerate().map(|(index, step)| {
        let text = spell(step, is_postgres);
        let name = Cow::Borrowed(step.name);
        Migration::new(index as i64 + 1, name, MigrationType::Simple, AssertSqlSafe(text).into_sql_str(), false)
    });
    steps.collect()
}

row! {
    /// A step that a database has noted down.
    pub struct Applied { version: i64, success: bool, checksum: Vec<u8> }
}

/// How the schema of a database stands against the steps of this program.
#[derive(Debug, PartialEq, Eq)]
pub enum Schema {
    Current,
    /// So many steps are still to be taken.
    Behind(usize),
    /// So many steps are not this program's: a newer one was here.
    Ahead(usize),
    /// A step that was begun and did not end, or was another than this program's.
    Differs(&'static str),
}

impl Schema {
    /// Compares what was applied, in order.
    pub fn of(applied: &[Applied], is_postgres: bool) -> Self {
        let known = migrations(is_postgres);
        let differs = known.iter().zip(applied).zip(STEPS).find(|((known, applied), _)| {
            !applied.success || applied.version != known.version || *applied.checksum != *known.checksum
        });
        match (differs, applied.len().cmp(&known.len())) {
            (Some((_, step)), _) => Self::Differs(step.name),
            (None, Ordering::Less) => Self::Behind(known.len() - applied.len()),
            (None, Ordering::Equal) => Self::Current,
            (None, Ordering::Greater) => Self::Ahead(applied.len() - known.len()),
        }
    }
}

fn spell(step: &Step, postgres: bool) -> String {
    let text = if postgres { step.postgres } else { step.sqlite };
    TYPES.iter().fold(text.to_owned(), |text, (word, for_sqlite, for_postgres)| {
        text.replace(word, if postgres { for_postgres } else { for_sqlite })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_applied_is_compared_with_what_is_known() {
        let applied = |migration: Migration| Applied {
            version: migration.version,
            success: true,
            checksum: migration.checksum.to_vec(),
        };
        let all = || migrations(true).into_iter().map(applied).collect::<Vec<_>>();
        assert_eq!(Schema::of(&all(), true), Schema::Current);
        assert_eq!(Schema::of(&all()[..2], true), Schema::Behind(STEPS.len() - 2));
        let mut more = all();
        more.push(Applied { version: 99, success: true, checksum: vec![1] });
        assert_eq!(Schema::of(&more, true), Schema::Ahead(1));
        let mut broken = all();
        broken[2].success = false;
        assert_eq!(Schema::of(&broken, true), Schema::Differs("0003_limits"));
        assert_eq!(Schema::of(&all(), false), Schema::Differs("0001_foundation"), "the other database's");
    }
}
