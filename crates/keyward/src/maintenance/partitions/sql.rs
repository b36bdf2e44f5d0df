//! Statements about partitions; PostgreSQL only.

/// Tables of ours that are partitioned by ranges of one instant.
pub const PARENTS: &str = "SELECT c.relname::text AS name, a.attname::text AS column_name, c.oid::bigint AS oid
    FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
    WHERE p.partstrat = 'r' AND p.partnatts = 1 AND a.atttypid = 'timestamptz'::regtype AND n.nspname = current_schema()
    ORDER BY c.relname";

/// The bounds are written and read in the session's own time zone, so that it plays no part.
pub const CHILDREN: &str = r"SELECT c.relname::text AS name,
    (regexp_match(b.text, 'FROM \(''([^'']+)''\)'))[1]::timestamptz AS from_at,
    (regexp_match(b.text, 'TO \(''([^'']+)''\)'))[1]::timestamptz AS to_at,
    b.text = 'DEFAULT' AS is_default, h.inhdetachpending AS detaching, greatest(c.reltuples, 0)::bigint AS estimated_rows
    FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid JOIN pg_class p ON p.oid = h.inhparent
    JOIN pg_namespace n ON n.oid = p.relnamespace
    CROSS JOIN LATERAL (SELECT coalesce(pg_get_expr(c.relpartbound, c.oid), 'DETACHED') AS text) b
    WHERE p.relname = $1 AND n.nspname = current_schema() ORDER BY from_at NULLS FIRST";

/// Held by one session at a time; ends with it.
pub const TRY_LOCK: &str = "SELECT pg_try_advisory_lock(27511, $1::bigint::int) AS value";

pub const PARTMAN_SCHEMA: &str = "SELECT max(n.nspname)::text AS value FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = 'part_config' AND c.relkind = 'r'";

pub const HAS_CRON: &str = "SELECT count(*) AS value FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'cron' AND c.relname = 'job'";

pub const CRON_JOBS: &str = "SELECT count(*) AS value FROM cron.job
    WHERE command ILIKE '%partition%' AND position($1 IN command) > 0";

pub const SUMMARISE: &str = "SELECT coalesce(sum(brin_summarize_new_values(i.indexrelid)), 0)::bigint AS value
    FROM pg_inherits h JOIN pg_class p ON p.oid = h.inhparent JOIN pg_namespace n ON n.oid = p.relnamespace
    JOIN pg_index i ON i.indrelid = h.inhrelid JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_am a ON a.oid = c.relam AND a.amname = 'brin'
    WHERE p.relname = $1 AND n.nspname = current_schema()";

pub const ARCHIVE: &str = "SELECT name, row_count, sha256, path FROM partition_archive WHERE name = $1";

pub const ADD_ARCHIVE: &str =
    "INSERT INTO partition_archive (name, table_name, from_at, to_at, row_count, sha256, path, archived_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (name) DO UPDATE SET row_count = excluded.row_count, sha256 = excluded.sha256, path = excluded.path,
        archived_at = excluded.archived_at, dropped_at = NULL";

pub const END_ARCHIVE: &str = "UPDATE partition_archive SET dropped_at = $2 WHERE name = $1";

/// Archived, no longer part of its table, and still there.
pub const RETIRED_AND_PRESENT: &str = "SELECT c.relname::text AS value FROM partition_archive a
    JOIN pg_class c ON c.relname = a.name JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
    WHERE a.table_name = $1 AND a.dropped_at IS NULL AND NOT c.relispartition";
