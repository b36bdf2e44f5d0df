//! Statements about the database itself. Figures are those of the database's own clock and counters.

use crate::db::dialect::Pair;

pub const VERSION: Pair = Pair {
    sqlite: "SELECT 'SQLite ' || sqlite_version() AS value",
    postgres: "SELECT 'PostgreSQL ' || current_setting('server_version') AS value",
};

const TABLES_SQLITE: &str =
    "SELECT name, 1 AS ours FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";

/// Tables and partitions that hold rows; a partitioned parent is only analysed through its parts.
const TABLES_POSTGRES: &str = "SELECT c.relname::text AS name, pg_has_role(c.relowner, 'USAGE') AS ours
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND n.nspname = current_schema() ORDER BY c.relname";

pub const TABLES: Pair = Pair { sqlite: TABLES_SQLITE, postgres: TABLES_POSTGRES };

pub const OWN_PROCESS: &str = "SELECT pg_backend_pid()::bigint AS value";
pub const CANCEL: &str = "SELECT pg_cancel_backend($1::bigint::int) AS value";
pub const LOCK_TIMEOUT: &str = "SELECT set_config('lock_timeout', $1, false) AS value";

pub const LEFTOVERS: &str = r"SELECT n.nspname::text AS schema, c.relname::text AS name
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT i.indisvalid AND c.relkind = 'i' AND n.nspname = current_schema()
      AND c.relname ~ '_cc(new|old)[0-9]*$'
      AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid)";

pub const INTEGRITY: &str = "SELECT integrity_check AS value FROM pragma_integrity_check LIMIT 1";

/// Its name and the start of its server: no two have both.
pub const WHICH_DATABASE: &str =
    "SELECT current_database() || ' ' || extract(epoch FROM pg_postmaster_start_time()) AS value";
pub const OWNER: &str = "SELECT pg_get_userbyid(c.relowner)::text AS owner, current_user::text AS role,
    pg_has_role(c.relowner, 'USAGE') AS ours
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = $1 AND n.nspname = current_schema()";

pub const IS_MONITOR: &str = "SELECT pg_has_role('pg_monitor', 'USAGE') AS value";
pub const ROLE: &str = "SELECT current_user::text AS value";
pub const STATISTICS_RESET: &str =
    "SELECT stats_reset AS value FROM pg_stat_database WHERE datname = current_database()";
pub const HAS_STATEMENTS: &str = "SELECT count(*) AS value FROM pg_extension WHERE extname = 'pg_stat_statements'";

pub const SLOW: &str = "SELECT left(s.query, 2000) AS query, s.calls, s.total_exec_time AS total_ms,
    s.mean_exec_time AS mean_ms, s.max_exec_time AS max_ms, s.rows,
    (s.blk_read_time + s.blk_write_time) AS io_ms
    FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
    WHERE d.datname = current_database() AND s.query NOT ILIKE '%pg_stat_statements%'
    ORDER BY s.mean_exec_time DESC LIMIT $1";

pub const INDEXES_POSTGRES: &str = "SELECT n.nspname::text AS schema, t.relname::text AS table_name,
    c.relname::text AS name, a.amname::text AS method, pg_relation_size(c.oid) AS bytes,
    coalesce(s.idx_scan, 0) AS scans, coalesce(s.idx_tup_read, 0) AS rows_read, i.indisunique AS is_unique,
    i.indisprimary AS is_primary, i.indisvalid AS is_valid, pg_get_indexdef(c.oid) AS definition,
    (SELECT pt.relname::text FROM pg_inherits h JOIN pg_class pt ON pt.oid = h.inhparent WHERE h.inhrelid = c.oid) AS parent
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = t.relnamespace JOIN pg_am a ON a.oid = c.relam
    LEFT JOIN pg_stat_user_indexes s ON s.indexrelid = c.oid
    WHERE n.nspname = current_schema() ORDER BY pg_relation_size(c.oid) DESC, c.relname";

pub const INDEXES_SQLITE: &str = "SELECT 'main' AS schema, tbl_name AS table_name, name, 'btree' AS method,
    NULL AS bytes, NULL AS scans, NULL AS rows_read, sql IS NULL OR sql LIKE 'CREATE UNIQUE%' AS is_unique,
    name LIKE 'sqlite_autoindex_%' AS is_primary, 1 AS is_valid, coalesce(sql, '') AS definition, NULL AS parent
    FROM sqlite_schema WHERE type = 'index' ORDER BY tbl_name, name";

pub const INDEXES: Pair = Pair { sqlite: INDEXES_SQLITE, postgres: INDEXES_POSTGRES };

/// Tables with their parts; the bounds as the catalog writes them.
pub const PARTITIONS_POSTGRES: &str = "SELECT c.relname::text AS name, p.relname::text AS parent,
    pg_get_expr(c.relpartbound, c.oid) AS bounds, parts.estimated_rows, parts.bytes, parts.index_bytes,
    coalesce(h.inhdetachpending, false) AS detaching
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_inherits h ON h.inhrelid = c.oid LEFT JOIN pg_class p ON p.oid = h.inhparent
    CROSS JOIN LATERAL (SELECT sum(greatest(t.reltuples, 0))::bigint AS estimated_rows,
        sum(pg_relation_size(t.oid))::bigint AS bytes, sum(pg_indexes_size(t.oid))::bigint AS index_bytes FROM pg_class t
        WHERE t.oid = c.oid OR t.oid IN (SELECT relid FROM pg_partition_tree(c.oid) WHERE isleaf)) parts
    WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p')
    ORDER BY p.relname NULLS LAST, c.relname";

pub const PARTITIONS_SQLITE: &str =
    "SELECT name, NULL AS parent, NULL AS bounds, NULL AS estimated_rows, NULL AS bytes,
    NULL AS index_bytes, 0 AS detaching FROM sqlite_schema
    WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";

pub const PARTITIONS: Pair = Pair { sqlite: PARTITIONS_SQLITE, postgres: PARTITIONS_POSTGRES };

pub const PAGE_COUNT: &str = "SELECT page_count AS value FROM pragma_page_count()";
pub const PAGE_SIZE: &str = "SELECT page_size AS value FROM pragma_page_size()";
pub const FREE_PAGES: &str = "SELECT freelist_count AS value FROM pragma_freelist_count()";
pub const STATEMENT_TIMEOUT: &str = "SELECT set_config('statement_timeout', $1, false) AS value";

pub const CHECKPOINTS_FROM: &str = "SELECT note AS value FROM audit_checkpoint WHERE size >= $1 ORDER BY size";
pub const ADD_EVENT_ARCHIVE: &str =
    "INSERT INTO partition_archive (name, table_name, from_at, to_at, row_count, sha256, path, archived_at, dropped_at)
    VALUES ($1, $2, NULL, $3, $4, $5, $6, $7, $7)";
pub const INDEX_STATE: &str = "SELECT i.indisvalid AS value FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = $1 AND n.nspname = current_schema()";
