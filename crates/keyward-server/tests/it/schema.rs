//! The two databases have one schema: the same tables, columns, types (as each database calls them), keys, references and
//! indexes. What differs on purpose is listed here, each with its reason.

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::support::{Backend, Node};

/// Nodes tell each other on PostgreSQL alone: one process owns an SQLite file.
const POSTGRES_TABLES: [&str; 3] = ["acknowledgement", "announcement", "node"];

/// PostgreSQL indexes what details contain by itself (decision 15).
const SQLITE_TABLES: [&str; 2] = ["audit_detail_segment", "audit_detail_term"];

/// What only one database has. The book is parted by months on PostgreSQL: so no key, but an index of places, and an index by block
/// finds a month's part. Its other indexes hold hashes there, which are no columns (decision 15).
const ONLY_SQLITE: [&str; 5] = [
    "audit_event key (sequence)",
    "audit_event index audit_event_by_resource (resource_id, sequence)",
    "audit_event index audit_event_by_actor (actor_id, sequence)",
    "audit_event index audit_event_by_type (organization_id, event_type, sequence)",
    "audit_event index audit_event_by_organization (organization_id, sequence)",
];
const ONLY_POSTGRES: [&str; 6] = [
    "audit_event index audit_event_by_sequence (sequence)",
    "audit_event index audit_event_by_time (logged_at)",
    "audit_event index audit_event_by_resource (sequence)",
    "audit_event index audit_event_by_actor (sequence)",
    "audit_event index audit_event_by_type (sequence)",
    "audit_event index audit_event_by_organization (sequence)",
];

const NONE: [&str; 0] = [];

const SQLITE: &str = r#"
    WITH tables AS (SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE '\_sqlx%' ESCAPE '\' AND name NOT LIKE 'sqlite%')
    SELECT t.name || '.' || c.name || ' ' || c.type || CASE WHEN c."notnull" OR c.pk THEN ' not null' ELSE '' END
            || CASE WHEN c.dflt_value IS NULL THEN '' ELSE ' default' END
        FROM tables t JOIN pragma_table_info(t.name) c
    UNION ALL
    SELECT t.name || ' key (' || (SELECT group_concat(c.name, ', ' ORDER BY c.pk) FROM pragma_table_info(t.name) c WHERE c.pk > 0) || ')'
        FROM tables t
    UNION ALL
    SELECT t.name || CASE i.origin WHEN 'u' THEN ' unique' ELSE ' index ' || i.name || CASE WHEN i."unique" THEN ' unique' ELSE '' END END
            || ' (' || (SELECT group_concat(c.name, ', ' ORDER BY c.seqno) FROM pragma_index_info(i.name) c) || ')'
            || CASE WHEN i.partial THEN ' in part' ELSE '' END
        FROM tables t JOIN pragma_index_list(t.name) i WHERE i.origin <> 'pk'
    UNION ALL
    SELECT t.name || '.' || r."from" || ' refers to ' || r."table" || ' on delete ' || lower(r.on_delete)
        FROM tables t JOIN pragma_foreign_key_list(t.name) r"#;

const POSTGRES: &str = r#"
    WITH tables AS (SELECT c.oid, c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname NOT LIKE '\_sqlx%')
    SELECT t.name || '.' || a.attname || ' ' || CASE y.typname WHEN 'uuid' THEN 'BLOB' WHEN 'bytea' THEN 'BLOB' WHEN 'timestamptz' THEN 'INTEGER'
            WHEN 'int8' THEN 'INTEGER' WHEN 'bool' THEN 'INTEGER' WHEN 'text' THEN 'TEXT' WHEN 'jsonb' THEN 'TEXT' ELSE y.typname END
            || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END || CASE WHEN a.atthasdef THEN ' default' ELSE '' END
        FROM tables t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN pg_type y ON y.oid = a.atttypid
    UNION ALL
    SELECT t.name || CASE WHEN i.indisprimary THEN ' key' WHEN o.contype = 'u' THEN ' unique'
                ELSE ' index ' || c.relname || CASE WHEN i.indisunique THEN ' unique' ELSE '' END END
            || ' (' || (SELECT string_agg(a.attname, ', ' ORDER BY k.place) FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
                JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number) || ')'
            || CASE WHEN i.indpred IS NULL THEN '' ELSE ' in part' END
        FROM tables t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class c ON c.oid = i.indexrelid
        LEFT JOIN pg_constraint o ON o.conindid = i.indexrelid AND o.contype IN ('p', 'u')
    UNION ALL
    SELECT t.name || '.' || a.attname || ' refers to ' || f.relname
            || ' on delete ' || CASE o.confdeltype WHEN 'c' THEN 'cascade' WHEN 'n' THEN 'set null' ELSE 'no action' END
        FROM tables t JOIN pg_constraint o ON o.conrelid = t.oid AND o.contype = 'f' JOIN pg_class f ON f.oid = o.confrelid
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = ANY (o.conkey)"#;

/// What stands in the first and not in the second, but for the exceptions; an exception that nothing needs is an error.
fn beyond(these: &[String], those: &[String], exceptions: &[&str]) -> Vec<String> {
    for exception in exceptions {
        assert!(these.iter().any(|line| line == exception), "nothing needs the exception {exception}");
    }
    these.iter().filter(|line| !those.contains(line) && !exceptions.contains(&line.as_str())).cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_databases_have_one_schema() {
    let (sqlite, postgres) = tokio::join!(Node::start(Backend::Sqlite), Node::start(Backend::Postgres));
    let file = SqliteConnectOptions::new().filename(sqlite.place.folder().join("keyward.db"));
    let mut connection = file.connect().await.unwrap();
    let mut on_sqlite: Vec<String> = sqlx::query_scalar(SQLITE).fetch_all(&mut connection).await.unwrap();
    let mut connection = PgConnection::connect(postgres.place.database_url().unwrap()).await.unwrap();
    let mut on_postgres: Vec<String> = sqlx::query_scalar(POSTGRES).fetch_all(&mut connection).await.unwrap();
    let is_of = |line: &str, table: &str| line.strip_prefix(table).is_some_and(|rest| rest.starts_with(['.', ' ']));
    on_sqlite.retain(|line| !SQLITE_TABLES.iter().any(|table| is_of(line, table)));
    on_postgres.retain(|line| !POSTGRES_TABLES.iter().any(|table| is_of(line, table)));
    assert!(on_sqlite.len() > 300, "{}", on_sqlite.len());
    assert_eq!(beyond(&on_sqlite, &on_postgres, &ONLY_SQLITE), NONE, "only on SQLite");
    assert_eq!(beyond(&on_postgres, &on_sqlite, &ONLY_POSTGRES), NONE, "only on PostgreSQL");
}
