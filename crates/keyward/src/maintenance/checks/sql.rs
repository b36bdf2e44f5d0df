//! The checks of a PostgreSQL: one table of statements, thresholds and advice. A statement answers subjects, each with a
//! value to be held against the thresholds; an answer without rows is a good one.

use super::{Bad, Check};

/// Every finding counts.
const ANY: f64 = 0.0;

/// In the order of the page.
pub const CHECKS: &[Check] = &[
    Check {
        name: "long_running",
        title: "Statements that run long",
        unit: "seconds",
        bad: Bad::High,
        warn_at: 60.0,
        critical_at: Some(3_600.0),
        needs_monitor: true,
        advice: "Find out who runs it; end it with pg_cancel_backend if nobody needs it. It keeps VACUUM from cleaning.",
        statement: "SELECT 'process ' || pid || ' of ' || usename AS subject, left(query, 200) AS detail,
            extract(epoch FROM clock_timestamp() - query_start)::float8 AS value FROM pg_stat_activity
            WHERE state = 'active' AND pid <> pg_backend_pid() AND backend_type = 'client backend'
              AND datname = current_database() ORDER BY query_start LIMIT 50",
    },
    Check {
        name: "idle_in_transaction",
        title: "Transactions that nobody works in",
        unit: "seconds",
        bad: Bad::High,
        warn_at: 60.0,
        critical_at: Some(3_600.0),
        needs_monitor: true,
        advice: "Set idle_in_transaction_session_timeout, and mend the client that forgets its transaction.",
        statement: "SELECT 'process ' || pid || ' of ' || usename AS subject, left(query, 200) AS detail,
            extract(epoch FROM clock_timestamp() - state_change)::float8 AS value FROM pg_stat_activity
            WHERE state LIKE 'idle in transaction%' AND datname = current_database() ORDER BY state_change LIMIT 50",
    },
    Check {
        name: "blocked",
        title: "Statements that wait for others",
        unit: "seconds",
        bad: Bad::High,
        warn_at: ANY,
        critical_at: Some(60.0),
        needs_monitor: true,
        advice: "The blocking process is named; let it end, or end it with pg_terminate_backend.",
        statement: "SELECT 'process ' || pid || ' waits for ' || array_to_string(pg_blocking_pids(pid), ', ') AS subject,
            left(query, 200) AS detail, extract(epoch FROM clock_timestamp() - query_start)::float8 AS value
            FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0 AND datname = current_database() LIMIT 50",
    },
    Check {
        name: "connections",
        title: "Connections of all that are allowed",
        unit: "percent",
        bad: Bad::High,
        warn_at: 80.0,
        critical_at: Some(95.0),
        needs_monitor: false,
        advice: "Lower database.connections of the nodes, or raise max_connections.",
        statement: "SELECT sum(numbackends) || ' of ' || current_setting('max_connections') AS subject, '' AS detail,
            (sum(numbackends) * 100 / current_setting('max_connections')::float8)::float8 AS value FROM pg_stat_database",
    },
    Check {
        name: "cache_hit",
        title: "Blocks found in memory",
        unit: "percent",
        bad: Bad::Low,
        warn_at: 99.0,
        critical_at: Some(90.0),
        needs_monitor: false,
        advice: "Raise shared_buffers, or give the machine more memory.",
        statement: "SELECT kind AS subject, hit || ' of ' || hit + read AS detail, (hit * 100.0 / (hit + read))::float8 AS value
            FROM (SELECT 'tables' AS kind, coalesce(sum(heap_blks_hit), 0) AS hit, coalesce(sum(heap_blks_read), 0) AS read
                    FROM pg_statio_user_tables
                  UNION ALL SELECT 'indexes', coalesce(sum(idx_blks_hit), 0), coalesce(sum(idx_blks_read), 0)
                    FROM pg_statio_user_indexes) blocks
            WHERE hit + read > 10000",
    },
    Check {
        name: "missing_indexes",
        title: "Large tables that are read whole",
        unit: "percent of reads by an index",
        bad: Bad::Low,
        warn_at: 95.0,
        critical_at: None,
        needs_monitor: false,
        advice: "Look for the statement that reads it whole among the slow ones, and give it an index.",
        statement: "SELECT relname::text AS subject, n_live_tup || ' rows, ' || seq_scan || ' reads of all' AS detail,
            (coalesce(idx_scan, 0) * 100.0 / (seq_scan + coalesce(idx_scan, 0)))::float8 AS value FROM pg_stat_user_tables
            WHERE n_live_tup >= 10000 AND seq_scan + coalesce(idx_scan, 0) >= 100",
    },
    Check {
        name: "unused_indexes",
        title: "Indexes that nobody uses",
        unit: "bytes",
        bad: Bad::High,
        warn_at: 10_485_760.0,
        critical_at: None,
        needs_monitor: false,
        advice: "If the counters are old enough, and no standby uses it, drop it; of a partitioned table only on the parent.",
        statement: "SELECT root.relname::text AS subject, count(*) || ' parts' AS detail,
            sum(pg_relation_size(s.indexrelid))::float8 AS value
            FROM pg_stat_user_indexes s JOIN pg_index i ON i.indexrelid = s.indexrelid
            JOIN pg_class root ON root.oid = coalesce(pg_partition_root(s.indexrelid), s.indexrelid)
            WHERE NOT i.indisunique GROUP BY root.relname HAVING sum(s.idx_scan) = 0",
    },
    Check {
        name: "duplicate_indexes",
        title: "Indexes that say the same",
        unit: "bytes",
        bad: Bad::High,
        warn_at: ANY,
        critical_at: None,
        needs_monitor: false,
        advice: "Drop one of the two.",
        statement: "SELECT b.indexrelid::regclass::text AS subject, 'the same as ' || a.indexrelid::regclass AS detail,
            pg_relation_size(b.indexrelid)::float8 AS value
            FROM pg_index a JOIN pg_index b ON a.indrelid = b.indrelid AND a.indexrelid < b.indexrelid
             AND a.indkey::text = b.indkey::text AND a.indclass::text = b.indclass::text AND a.indoption::text = b.indoption::text
             AND a.indcollation::text = b.indcollation::text AND a.indisunique = b.indisunique
             AND coalesce(a.indpred::text, '') = coalesce(b.indpred::text, '')
             AND coalesce(a.indexprs::text, '') = coalesce(b.indexprs::text, '')
            JOIN pg_class t ON t.oid = a.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
            WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema')",
    },
    Check {
        name: "invalid_indexes",
        title: "Indexes that were not built to the end",
        unit: "bytes",
        bad: Bad::High,
        warn_at: ANY,
        critical_at: None,
        needs_monitor: false,
        advice: "Start a reindex: it drops what failed rebuilds left behind. An index of another name is yours to judge.",
        statement: "SELECT c.relname::text AS subject, 'on ' || i.indrelid::regclass AS detail,
            pg_relation_size(c.oid)::float8 AS value FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            WHERE NOT i.indisvalid AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid)",
    },
    Check {
        name: "invalid_constraints",
        title: "Constraints that were never checked",
        unit: "constraints",
        bad: Bad::High,
        warn_at: 1.0,
        critical_at: None,
        needs_monitor: false,
        advice: "ALTER TABLE … VALIDATE CONSTRAINT; it lets writers through.",
        statement: "SELECT conname::text AS subject, 'on ' || conrelid::regclass AS detail, 1.0::float8 AS value
            FROM pg_constraint WHERE NOT convalidated AND conrelid <> 0",
    },
    Check {
        name: "index_bloat",
        title: "Indexes that are larger than their rows need",
        unit: "bytes, estimated",
        bad: Bad::High,
        warn_at: 104_857_600.0,
        critical_at: None,
        needs_monitor: false,
        advice: "Reindex it; REINDEX CONCURRENTLY lets readers and writers through.",
        statement: "SELECT name AS subject, pages || ' pages' AS detail,
            greatest(0, (pages - ceil(rows * (width + 16) / (8192 * 0.9))) * 8192)::float8 AS value
            FROM (SELECT c.relname::text AS name, c.relpages AS pages, greatest(c.reltuples, 0)::float8 AS rows,
                    coalesce(sum(s.avg_width), 8) AS width
                  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
                  JOIN pg_namespace n ON n.oid = t.relnamespace JOIN pg_am a ON a.oid = c.relam AND a.amname = 'btree'
                  JOIN pg_attribute x ON x.attrelid = t.oid AND x.attnum = ANY (i.indkey::int2[])
                  LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = t.relname AND s.attname = x.attname
                  WHERE n.nspname = current_schema() AND c.relpages > 128 GROUP BY c.oid, c.relname, c.relpages, c.reltuples) sizes",
    },
    Check {
        name: "dead_rows",
        title: "Rows that wait for VACUUM",
        unit: "percent",
        bad: Bad::High,
        warn_at: 20.0,
        critical_at: None,
        needs_monitor: false,
        advice: "Start a vacuum; if it happens often, lower autovacuum_vacuum_scale_factor for the table.",
        statement: "SELECT relname::text AS subject,
            n_dead_tup || ' dead, last vacuum ' || coalesce(greatest(last_vacuum, last_autovacuum)::text, 'never') AS detail,
            (n_dead_tup * 100.0 / (n_live_tup + n_dead_tup))::float8 AS value FROM pg_stat_user_tables WHERE n_dead_tup > 10000",
    },
    Check {
        name: "wraparound",
        title: "Transactions left before wraparound",
        unit: "transactions",
        bad: Bad::Low,
        warn_at: 1_500_000_000.0,
        critical_at: Some(10_000_000.0),
        needs_monitor: false,
        advice: "Start a vacuum of the table now; look for old transactions, replication slots and prepared transactions.",
        statement: "SELECT c.oid::regclass::text AS subject, 'oldest row ' || age(c.relfrozenxid) || ' transactions ago' AS detail,
            (2147483648 - greatest(age(c.relfrozenxid), coalesce(age(t.relfrozenxid), 0)))::float8 AS value
            FROM pg_class c LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
            WHERE c.relkind IN ('r', 'm') ORDER BY 3 LIMIT 5",
    },
    Check {
        name: "sequences",
        title: "Sequences that run out",
        unit: "percent used",
        bad: Bad::High,
        warn_at: 90.0,
        critical_at: Some(99.0),
        needs_monitor: false,
        advice: "Change the column and its sequence to bigint.",
        statement: "SELECT sequencename::text AS subject, data_type::text AS detail,
            (coalesce(last_value, 0) * 100.0 / max_value)::float8 AS value FROM pg_sequences
            WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    },
    Check {
        name: "replication_lag",
        title: "Standbys that are behind",
        unit: "seconds",
        bad: Bad::High,
        warn_at: 5.0,
        critical_at: Some(300.0),
        needs_monitor: true,
        advice: "Look at the standby's disk and network.",
        statement: "SELECT coalesce(application_name, client_addr::text) AS subject, state AS detail,
            coalesce(extract(epoch FROM replay_lag), 0)::float8 AS value FROM pg_stat_replication",
    },
    Check {
        name: "replication_slots",
        title: "Replication slots that nobody reads",
        unit: "bytes kept",
        bad: Bad::High,
        warn_at: ANY,
        critical_at: Some(10_737_418_240.0),
        needs_monitor: true,
        advice: "Start its reader, or drop it with pg_drop_replication_slot: it keeps the log from being recycled.",
        statement: "SELECT slot_name::text AS subject, slot_type AS detail,
            coalesce(CASE WHEN pg_is_in_recovery() THEN 0 ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) END, 0)::float8 AS value
            FROM pg_replication_slots WHERE NOT active",
    },
    Check {
        name: "archiving",
        title: "Log files that could not be archived",
        unit: "failures",
        bad: Bad::High,
        warn_at: 1.0,
        critical_at: None,
        needs_monitor: false,
        advice: "Look at archive_command and where it writes to.",
        statement: "SELECT coalesce(last_failed_wal, '') AS subject, 'last failure ' || last_failed_time AS detail,
            failed_count::float8 AS value FROM pg_stat_archiver
            WHERE last_failed_time > coalesce(last_archived_time, '-infinity')",
    },
    Check {
        name: "parent_statistics",
        title: "Age of the statistics of partitioned tables",
        unit: "days",
        bad: Bad::High,
        warn_at: 7.0,
        critical_at: None,
        needs_monitor: false,
        advice: "Start the partitions job: PostgreSQL never analyses a partitioned table by itself.",
        statement: "SELECT c.oid::regclass::text AS subject, coalesce('analysed ' || s.last_analyze, 'never analysed') AS detail,
            coalesce(extract(epoch FROM clock_timestamp() - s.last_analyze) / 86400, 9999)::float8 AS value
            FROM pg_class c LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
            WHERE c.relkind = 'p' AND (SELECT sum(greatest(part.reltuples, 0)) FROM pg_inherits h
                JOIN pg_class part ON part.oid = h.inhrelid WHERE h.inhparent = c.oid) >= 10000",
    },
];
