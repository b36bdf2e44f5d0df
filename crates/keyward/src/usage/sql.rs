//! Statements of usage.

use crate::db::dialect::Pair;
use crate::db::{Bulk, Upsert};

/// Keys of `[key, …]` that belong to the organization.
pub const KNOWN_KEYS: Pair = Pair {
    sqlite: "SELECT id AS value FROM api_key
        WHERE organization_id = $1 AND id IN (SELECT unhex(value) FROM json_each($2))",
    postgres: "SELECT id AS value FROM api_key
        WHERE organization_id = $1 AND id IN (SELECT value::uuid FROM jsonb_array_elements_text($2))",
};

macro_rules! record_columns {
    () => {
        "usage_record (organization_id, record_id, key_id, occurred_at, endpoint, method, status, duration_micros, request_bytes,
            response_bytes, tokens_in, tokens_out, cost_nanos, ip, user_agent, error)"
    };
}

pub const NEW_RECORDS: Bulk<16> = Bulk(record_columns!());
/// Passes over those that are known, and answers the ids of those that are new.
pub const RECORDS_IF_NEW: Upsert<16> =
    Upsert(record_columns!(), "ON CONFLICT (organization_id, record_id) DO NOTHING RETURNING record_id AS value");

/// Taken by whoever writes records; many may at a time.
pub const JOIN_RECORDS: Pair = Pair { sqlite: "SELECT $1", postgres: "SELECT pg_advisory_xact_lock_shared($1)" };
/// While this is held, nobody writes records.
pub const HOLD_RECORDS: Pair = Pair { sqlite: "SELECT $1", postgres: "SELECT pg_advisory_xact_lock($1)" };

pub const WRITE_SUMS: &str = "INSERT INTO usage_batch (organization_id, id, sums) VALUES ($1, $2, $3)";
pub const NEWEST_SUMS: &str = "SELECT id AS value FROM usage_batch WHERE organization_id = $1 ORDER BY id DESC LIMIT 1";
/// Takes the oldest away and answers them: whoever commits that has added them.
pub const TAKE_SUMS: &str = "DELETE FROM usage_batch WHERE organization_id = $1 AND id IN
    (SELECT id FROM usage_batch WHERE organization_id = $1 AND id <= $2 ORDER BY id LIMIT $3) RETURNING sums AS value";
pub const ORGANIZATIONS_WAITING: &str = "SELECT DISTINCT organization_id AS value FROM usage_batch";

/// One writer at a time is how SQLite works; PostgreSQL keeps this lock until the transaction ends.
pub const LOCK_SUMS: Pair = Pair { sqlite: "SELECT $1", postgres: "SELECT pg_advisory_xact_lock($1)" };

/// The stored sums of `[[level, microseconds, key, route], …]`.
pub const ROLLUPS: Pair = Pair {
    sqlite: "SELECT r.* FROM json_each($2) w CROSS JOIN usage_rollup r
        WHERE r.organization_id = $1 AND r.level = w.value ->> 0 AND r.starts_at = w.value ->> 1
          AND r.key_id = unhex(w.value ->> 2) AND r.route = w.value ->> 3",
    postgres: "SELECT r.* FROM jsonb_array_elements($2) w JOIN usage_rollup r ON r.organization_id = $1
          AND r.level = w.value ->> 0 AND r.key_id = (w.value ->> 2)::uuid AND r.route = w.value ->> 3
          AND r.starts_at = to_timestamp(0) + (w.value ->> 1)::bigint * interval '1 microsecond'",
};

/// It replaces: the rows were read and added to under the lock.
pub const WRITE_ROLLUPS: Upsert<14> = Upsert(
    "usage_rollup (organization_id, level, starts_at, key_id, route, calls, client_errors, server_errors, request_bytes,
        response_bytes, tokens_in, tokens_out, cost_nanos, durations)",
    "ON CONFLICT (organization_id, level, starts_at, key_id, route) DO UPDATE SET calls = excluded.calls,
        client_errors = excluded.client_errors, server_errors = excluded.server_errors,
        request_bytes = excluded.request_bytes, response_bytes = excluded.response_bytes,
        tokens_in = excluded.tokens_in, tokens_out = excluded.tokens_out, cost_nanos = excluded.cost_nanos,
        durations = excluded.durations",
);

pub const COUNT_ROUTES: &str = "SELECT count(*) AS value FROM usage_rollup
    WHERE organization_id = $1 AND level = $2 AND starts_at = $3 AND key_id = $4 AND route <> ''";

pub const ADD_ERRORS: Upsert<6> = Upsert(
    "usage_error (organization_id, starts_at, key_id, status, error, calls)",
    "ON CONFLICT (organization_id, starts_at, key_id, status, error) DO UPDATE SET calls = usage_error.calls + excluded.calls",
);

// Counts of verifications.

/// Answers the number of the last batch that this node has written.
pub const LAST_BATCH: &str = "INSERT INTO meter (id, batch, written_at) VALUES ($1, 0, $2)
    ON CONFLICT (id) DO UPDATE SET written_at = excluded.written_at RETURNING batch AS value";
pub const NOTE_BATCH: &str = "UPDATE meter SET batch = $2, written_at = $3 WHERE id = $1";
pub const FORGET_METERS: &str = "DELETE FROM meter WHERE written_at < $1";

pub const INSERT_BATCH: &str =
    "INSERT INTO meter_batch (id, written_at, entry_count, is_part, counts) VALUES ($1, $2, $3, $4, $5)";
pub const DELETE_BATCH: &str = "DELETE FROM meter_batch WHERE id = $1";
/// How much waits to be sorted into parts, since when, and whether parts wait to be added.
pub const PENDING: &str =
    "SELECT CAST(coalesce(sum(entry_count), 0) AS bigint) AS entry_count, min(written_at) AS oldest,
    CAST(CASE WHEN EXISTS (SELECT 1 FROM meter_batch WHERE is_part) THEN 1 ELSE 0 END AS bigint) AS has_parts
    FROM meter_batch WHERE NOT is_part";
pub const WAITING_BATCHES: &str =
    "SELECT id AS value FROM meter_batch WHERE NOT is_part ORDER BY written_at, id LIMIT $1";
pub const BATCH: &str = "SELECT id, counts FROM meter_batch WHERE id = $1";
/// Two nodes that have sorted the same batches: the second waits, and then finds none of them.
pub const DELETE_BATCHES: Pair = Pair {
    sqlite: "DELETE FROM meter_batch WHERE id IN (SELECT unhex(value) FROM json_each($1))",
    postgres: "DELETE FROM meter_batch WHERE id IN (SELECT id FROM meter_batch
        WHERE id = ANY (ARRAY(SELECT value::uuid FROM jsonb_array_elements_text($1))) ORDER BY id FOR UPDATE)",
};
pub const NEXT_PART: Pair = Pair {
    sqlite: "SELECT id, counts FROM meter_batch WHERE is_part ORDER BY id LIMIT 1",
    postgres: "SELECT id, counts FROM meter_batch WHERE is_part ORDER BY id LIMIT 1 FOR UPDATE",
};

pub const ADD_COUNTS: Upsert<8> = Upsert(
    "verify_count (organization_id, level, starts_at, key_id, secret_id, outcome, route, calls)",
    "ON CONFLICT (organization_id, level, starts_at, key_id, secret_id, outcome, route)
        DO UPDATE SET calls = verify_count.calls + excluded.calls",
);

// Reports.

/// Sums of one key, or of all ($5), by the parts of a time.
pub const SUMS: &str = "SELECT * FROM usage_rollup WHERE organization_id = $1 AND level = $2 AND starts_at >= $3
    AND starts_at < $4 AND key_id = $5 AND route = ''";
/// Sums of the keys that one person owns ($5).
pub const SUMS_OF_OWNER: &str = "SELECT * FROM usage_rollup WHERE organization_id = $1 AND level = $2 AND starts_at >= $3
    AND starts_at < $4 AND key_id IN (SELECT id FROM api_key WHERE organization_id = $1 AND owner_id = $5) AND route = ''";

pub const VERIFIES: &str =
    "SELECT starts_at, outcome, calls FROM verify_count WHERE organization_id = $1 AND level = $2
    AND starts_at >= $3 AND starts_at < $4 AND key_id = $5 AND route = ''";
pub const VERIFIES_OF_OWNER: &str = "SELECT starts_at, outcome, CAST(sum(calls) AS bigint) AS calls FROM verify_count
    WHERE organization_id = $1 AND level = $2 AND starts_at >= $3 AND starts_at < $4
      AND key_id IN (SELECT id FROM api_key WHERE organization_id = $1 AND owner_id = $5) AND route = ''
    GROUP BY starts_at, outcome";

pub const ROUTES: &str = "SELECT * FROM usage_rollup WHERE organization_id = $1 AND level = 'month' AND starts_at = $2
    AND key_id = $3 AND route <> '' ORDER BY calls DESC, route LIMIT $4";
/// From the records themselves: sums by key and route are not kept.
pub const ROUTES_OF_OWNER: &str = "SELECT method, endpoint, count(*) AS calls,
      count(*) FILTER (WHERE status >= 400) AS errors FROM usage_record
    WHERE key_id IN (SELECT id FROM api_key WHERE organization_id = $1 AND owner_id = $2)
      AND occurred_at >= $3 AND occurred_at < $4 GROUP BY method, endpoint";

pub const ERRORS: &str = "SELECT status, error, CAST(sum(calls) AS bigint) AS calls FROM usage_error
    WHERE organization_id = $1 AND starts_at >= $2 AND starts_at < $3
      AND ($4 IS NULL OR key_id IN (SELECT id FROM api_key WHERE organization_id = $1 AND owner_id = $4))
    GROUP BY status, error ORDER BY 3 DESC, status, error LIMIT $5";

macro_rules! consumers {
    ($order:literal) => {
        concat!(
            "SELECT c.key_id, k.name, CAST(sum(c.calls) AS bigint) AS calls, CAST(sum(c.errors) AS bigint) AS errors,
                CAST(sum(c.tokens) AS bigint) AS tokens, CAST(sum(c.cost_nanos) AS bigint) AS cost_nanos,
                CAST(sum(c.verifications) AS bigint) AS verifications
            FROM (
                SELECT key_id, calls, client_errors + server_errors AS errors, tokens_in + tokens_out AS tokens, cost_nanos,
                    0 AS verifications
                FROM usage_rollup WHERE organization_id = $1 AND level = 'month' AND starts_at = $2 AND key_id > $3 AND route = ''
                UNION ALL
                SELECT key_id, 0, 0, 0, 0, calls FROM verify_count
                WHERE organization_id = $1 AND level = 'month' AND starts_at = $2 AND key_id > $3 AND route = ''
            ) c LEFT JOIN api_key k ON k.id = c.key_id
            WHERE $4 IS NULL OR k.owner_id = $4
            GROUP BY c.key_id, k.name ORDER BY ",
            $order,
            " LIMIT $5"
        )
    };
}

pub const CONSUMERS_BY_CALLS: &str = consumers!("calls DESC, verifications DESC, cost_nanos DESC, c.key_id");
pub const CONSUMERS_BY_COST: &str = consumers!("cost_nanos DESC, calls DESC, verifications DESC, c.key_id");

// Recomputing.

pub const ORGANIZATIONS_WITH_SUMS: &str = "SELECT DISTINCT organization_id AS value FROM usage_rollup
    WHERE level = 'day' AND starts_at >= $1 AND starts_at < $2 UNION
    SELECT DISTINCT organization_id FROM usage_record WHERE occurred_at >= $1 AND occurred_at < $2";
pub const RECORDS: &str = "SELECT record_id, key_id, occurred_at, endpoint, method, status, duration_micros, request_bytes,
      response_bytes, tokens_in, tokens_out, cost_nanos, error FROM usage_record
    WHERE organization_id = $1 AND occurred_at >= $2 AND occurred_at < $3 AND record_id > $4 ORDER BY record_id LIMIT $5";
pub const CLEAR_SUMS: &str = "DELETE FROM usage_rollup WHERE organization_id = $1 AND level = $2 AND starts_at >= $3
    AND starts_at < $4";
pub const CLEAR_ERRORS: &str =
    "DELETE FROM usage_error WHERE organization_id = $1 AND starts_at >= $2 AND starts_at < $3";
pub const DAYS: &str = "SELECT * FROM usage_rollup WHERE organization_id = $1 AND level = 'day' AND starts_at >= $2
    AND starts_at < $3";

// Retention, a bounded number of rows at a time.

pub const FORGET_RECORDS: &str = "DELETE FROM usage_record WHERE (organization_id, record_id) IN
    (SELECT organization_id, record_id FROM usage_record WHERE occurred_at < $1 LIMIT $2)";
pub const FORGET_SUMS: &str = "DELETE FROM usage_rollup WHERE (organization_id, level, starts_at, key_id, route) IN
    (SELECT organization_id, level, starts_at, key_id, route FROM usage_rollup WHERE level = $1 AND starts_at < $2 LIMIT $3)";
pub const FORGET_ERRORS: &str = "DELETE FROM usage_error WHERE (organization_id, starts_at, key_id, status, error) IN
    (SELECT organization_id, starts_at, key_id, status, error FROM usage_error WHERE starts_at < $1 LIMIT $2)";
pub const FORGET_COUNTS: &str = "DELETE FROM verify_count
    WHERE (organization_id, level, starts_at, key_id, secret_id, outcome, route) IN
    (SELECT organization_id, level, starts_at, key_id, secret_id, outcome, route FROM verify_count
     WHERE level = $1 AND starts_at < $2 LIMIT $3)";
