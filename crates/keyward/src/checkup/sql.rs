//! Statements of the checkup; all of them only read. The database's own clock is asked here and nowhere else: to be compared.

use crate::db::dialect::Pair;

/// Whether the list of migrations is there.
pub const HAS_STEPS: Pair = Pair {
    sqlite: "SELECT count(*) AS value FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'",
    postgres: "SELECT count(to_regclass('_sqlx_migrations')) AS value",
};
pub const STEPS: &str = "SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version";
pub const ANSWER: &str = "SELECT 1 AS value";
pub const VERSION_NUMBER: &str = "SELECT current_setting('server_version_num')::bigint AS value";
pub const CLOCK: &str = "SELECT clock_timestamp() AS value";
pub const LAST_LOGGED: &str = "SELECT logged_at AS value FROM audit_head";
