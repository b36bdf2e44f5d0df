//! What the catalog says about a table that is to be changed; PostgreSQL only.

pub const EXISTS: &str = "SELECT count(*) AS value FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname = $1 AND c.relkind IN ('r', 'p') AND n.nspname = current_schema()";

pub const KEY_COLUMNS: &str = "SELECT a.attname::text AS value FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(number, place)
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number
    WHERE i.indisprimary AND c.relname = $1 AND n.nspname = current_schema() ORDER BY k.place";

pub const KEY_NAME: &str = "SELECT o.conname::text AS value FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE o.contype = 'p' AND c.relname = $1 AND n.nspname = current_schema()";

/// What follows the table's name in the definitions of its other indexes.
pub const INDEXES: &str = "SELECT c.relname::text AS name,
    substring(pg_get_indexdef(c.oid) FROM position(' USING ' IN pg_get_indexdef(c.oid))) AS definition
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = t.relnamespace
    WHERE NOT i.indisprimary AND NOT i.indisunique AND i.indisvalid AND t.relname = $1 AND n.nspname = current_schema()
    ORDER BY c.relname";

/// Every reason against the change, as the end of a sentence.
pub const OBSTACLES: &str = "SELECT 'it is partitioned already' AS reason FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = $1 AND n.nspname = current_schema() AND c.relkind = 'p'
    UNION ALL SELECT 'it belongs to another role' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = $1 AND n.nspname = current_schema() AND c.relkind = 'r' AND NOT pg_has_role(c.relowner, 'USAGE')
    UNION ALL SELECT 'it is a partition itself' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = $1 AND n.nspname = current_schema() AND c.relispartition
    UNION ALL SELECT 'column ' || $2 || ' must be a timestamp with time zone that is never null'
        WHERE NOT EXISTS (SELECT 1 FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relname = $1 AND n.nspname = current_schema() AND a.attname = $2 AND a.attnotnull
              AND a.atttypid = 'timestamptz'::regtype AND NOT a.attisdropped)
    UNION ALL SELECT 'it has no primary key' WHERE NOT EXISTS (
        SELECT 1 FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE i.indisprimary AND c.relname = $1 AND n.nspname = current_schema())
    UNION ALL SELECT 'index ' || i.indexrelid::regclass || ' is unique without the column' FROM pg_index i
        JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = $1 AND n.nspname = current_schema() AND i.indisunique AND NOT i.indisprimary
    UNION ALL SELECT 'foreign key ' || o.conname || ' refers to or from it' FROM pg_constraint o
        JOIN pg_class c ON c.oid IN (o.conrelid, o.confrelid) JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE o.contype = 'f' AND c.relname = $1 AND n.nspname = current_schema()
    UNION ALL SELECT 'trigger ' || g.tgname || ' would be lost' FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT g.tgisinternal AND c.relname = $1 AND n.nspname = current_schema()
    UNION ALL SELECT 'view ' || r.ev_class::regclass || ' would keep showing the old table' FROM pg_depend d
        JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
        JOIN pg_class c ON c.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = $1 AND n.nspname = current_schema() GROUP BY r.ev_class
    UNION ALL SELECT 'grants to other roles would be lost' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = $1 AND n.nspname = current_schema()
          AND EXISTS (SELECT 1 FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner)
    UNION ALL SELECT 'its rows are guarded by policies' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = $1 AND n.nspname = current_schema() AND c.relrowsecurity
    UNION ALL SELECT 'column ' || a.attname || ' is an identity' FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = $1 AND n.nspname = current_schema() AND a.attidentity <> ''
    UNION ALL SELECT 'a transaction has been open for more than a minute' WHERE EXISTS (
        SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
          AND xact_start < clock_timestamp() - interval '1 minute')";

pub const INVALID_INDEXES: &str = "SELECT count(*) AS value FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT i.indisvalid AND c.relname = $1 AND n.nspname = current_schema()";
