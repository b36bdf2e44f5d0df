//! Statements of usage. Rows go in as one JSON array, so that a batch is one statement whatever its size.

use crate::db::dialect::Pair;

/// Keys of `[key, …]` that belong to the organization.
pub const KNOWN_KEYS: Pair = Pair {
    sqlite: "SELECT id AS value FROM api_key
        WHERE organization_id = $1 AND id IN (SELECT unhex(value) FROM json_each($2))",
    postgres: "SELECT id AS value FROM api_key
        WHERE organization_id = $1 AND id IN (SELECT value::uuid FROM jsonb_array_elements_text($2))",
};

macro_rules! insert_records {
    ($returning:literal) => {
        Pair {
            sqlite: concat!(
                "INSERT INTO usage_record (organization_id, record_id, key_id, occurred_at, endpoint, method, status,
                    duration_micros, request_bytes, response_bytes, tokens_in, tokens_out, cost_nanos, ip, user_agent, error)
                SELECT $1, value ->> 0, unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
                    value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13, value ->> 14
                FROM json_each($2) WHERE true ON CONFLICT (organization_id, record_id) DO NOTHING",
                $returning
            ),
            postgres: concat!(
                "INSERT INTO usage_record (organization_id, record_id, key_id, occurred_at, endpoint, method, status,
                    duration_micros, request_bytes, response_bytes, tokens_in, tokens_out, cost_nanos, ip, user_agent, error)
                SELECT $1, value ->> 0, (value ->> 1)::uuid,
                    to_timestamp(0) + (value ->> 2)::bigint * interval '1 microsecond', value ->> 3, value ->> 4,
                    (value ->> 5)::bigint, (value ->> 6)::bigint, (value ->> 7)::bigint, (value ->> 8)::bigint,
                    (value ->> 9)::bigint, (value ->> 10)::bigint, (value ->> 11)::bigint, value ->> 12, value ->> 13, value ->> 14
                FROM jsonb_array_elements($2) ON CONFLICT (organization_id, record_id) DO NOTHING",
                $returning
            ),
        }
    };
}

/// Rows of a record's fields in the order of the columns, the key as hex. Those that are known are passed over.
pub const INSERT_RECORDS: Pair = insert_records!("");
/// Answers the ids of those that are new.
pub const INSERT_AND_TELL_RECORDS: Pair = insert_records!(" RETURNING record_id AS value");

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

macro_rules! replace_sums {
    () => {
        "ON CONFLICT (organization_id, level, starts_at, key_id, route) DO UPDATE SET calls = excluded.calls,
            client_errors = excluded.client_errors, server_errors = excluded.server_errors,
            request_bytes = excluded.request_bytes, response_bytes = excluded.response_bytes,
            tokens_in = excluded.tokens_in, tokens_out = excluded.tokens_out, cost_nanos = excluded.cost_nanos,
            durations = excluded.durations"
    };
}
/// Rows of `[[level, microseconds, key, route], [sums], [place, length]]`, the last two telling where the sketch stands
/// in $3. It replaces: the rows were read and added to under the lock.
pub const WRITE_ROLLUPS: Pair = Pair {
    sqlite: concat!(
        "INSERT INTO usage_rollup (organization_id, level, starts_at, key_id, route, calls, client_errors, server_errors,
            request_bytes, response_bytes, tokens_in, tokens_out, cost_nanos, durations)
        SELECT $1, value ->> '$[0][0]', value ->> '$[0][1]', unhex(value ->> '$[0][2]'), value ->> '$[0][3]',
            value ->> '$[1][0]', value ->> '$[1][1]', value ->> '$[1][2]', value ->> '$[1][3]', value ->> '$[1][4]',
            value ->> '$[1][5]', value ->> '$[1][6]', value ->> '$[1][7]',
            substr($3, value ->> '$[2][0]', value ->> '$[2][1]')
        FROM json_each($2) WHERE true ",
        replace_sums!()
    ),
    postgres: concat!(
        "INSERT INTO usage_rollup (organization_id, level, starts_at, key_id, route, calls, client_errors, server_errors,
            request_bytes, response_bytes, tokens_in, tokens_out, cost_nanos, durations)
        SELECT $1, value #>> '{0,0}', to_timestamp(0) + (value #>> '{0,1}')::bigint * interval '1 microsecond',
            (value #>> '{0,2}')::uuid, value #>> '{0,3}',
            (value #>> '{1,0}')::bigint, (value #>> '{1,1}')::bigint, (value #>> '{1,2}')::bigint,
            (value #>> '{1,3}')::bigint, (value #>> '{1,4}')::bigint, (value #>> '{1,5}')::bigint,
            (value #>> '{1,6}')::bigint, (value #>> '{1,7}')::bigint,
            substr($3, (value #>> '{2,0}')::int, (value #>> '{2,1}')::int)
        FROM jsonb_array_elements($2) ",
        replace_sums!()
    ),
};

pub const COUNT_ROUTES: &str = "SELECT count(*) AS value FROM usage_rollup
    WHERE organization_id = $1 AND level = $2 AND starts_at = $3 AND key_id = $4 AND route <> ''";

/// Rows of `[microseconds, key, status, text, calls]`.
pub const ADD_ERRORS: Pair = Pair {
    sqlite: "INSERT INTO usage_error (organization_id, starts_at, key_id, status, error, calls)
        SELECT $1, value ->> 0, unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4 FROM json_each($2) WHERE true
        ON CONFLICT (organization_id, starts_at, key_id, status, error) DO UPDATE SET calls = usage_error.calls + excluded.calls",
    postgres: "INSERT INTO usage_error (organization_id, starts_at, key_id, status, error, calls)
        SELECT $1, to_timestamp(0) + (value ->> 0)::bigint * interval '1 microsecond', (value ->> 1)::uuid,
            (value ->> 2)::bigint, value ->> 3, (value ->> 4)::bigint FROM jsonb_array_elements($2)
        ON CONFLICT (organization_id, starts_at, key_id, status, error) DO UPDATE SET calls = usage_error.calls + excluded.calls",
};

// Counts of verifications.

/// Answers the number of the last batch that this node has written.
pub const LAST_BATCH: &str = "INSERT INTO meter (id, batch, written_at) VALUES ($1, 0, $2)
    ON CONFLICT (id) DO UPDATE SET written_at = excluded.written_at RETURNING batch AS value";
pub const NOTE_BATCH: &str = "UPDATE meter SET batch = $2, written_at = $3 WHERE id = $1";
pub const FORGET_METERS: &str = "DELETE FROM meter WHERE written_at < $1";

pub const INSERT_BATCH: &str =
    "INSERT INTO meter_batch (id, written_at, entry_count, is_part, counts) VALUES ($1, $2, $3, $4, $5)";
pub const DELETE_BATCH: &str = "DELETE FROM meter_batch WHERE id = $1";
/// How much waits to be sorted into parts, since when, and how many parts wait to be added.
pub const PENDING: &str =
    "SELECT CAST(coalesce(sum(CASE WHEN is_part THEN 0 ELSE entry_count END), 0) AS bigint) AS entry_count,
    min(CASE WHEN is_part THEN NULL ELSE written_at END) AS oldest,
    CAST(coalesce(sum(CASE WHEN is_part THEN 1 ELSE 0 END), 0) AS bigint) AS part_count FROM meter_batch";
/// Two nodes that fold at the same time: the second waits, and then finds what the first has left.
pub const BATCHES: Pair = Pair {
    sqlite: "SELECT id, counts FROM meter_batch WHERE NOT is_part ORDER BY written_at, id LIMIT $1",
    postgres: "SELECT id, counts FROM meter_batch WHERE NOT is_part ORDER BY written_at, id LIMIT $1 FOR UPDATE",
};
pub const NEXT_PART: Pair = Pair {
    sqlite: "SELECT id, counts FROM meter_batch WHERE is_part ORDER BY id LIMIT 1",
    postgres: "SELECT id, counts FROM meter_batch WHERE is_part ORDER BY id LIMIT 1 FOR UPDATE",
};

/// Rows of `[organization, level, microseconds, key, secret, outcome, route, calls]`.
pub const ADD_COUNTS: Pair = Pair {
    sqlite: "INSERT INTO verify_count (organization_id, level, starts_at, key_id, secret_id, outcome, route, calls)
        SELECT unhex(value ->> 0), value ->> 1, value ->> 2, unhex(value ->> 3), unhex(value ->> 4), value ->> 5,
            value ->> 6, value ->> 7 FROM json_each($1) WHERE true
        ON CONFLICT (organization_id, level, starts_at, key_id, secret_id, outcome, route)
        DO UPDATE SET calls = verify_count.calls + excluded.calls",
    postgres: "INSERT INTO verify_count (organization_id, level, starts_at, key_id, secret_id, outcome, route, calls)
        SELECT (value ->> 0)::uuid, value ->> 1, to_timestamp(0) + (value ->> 2)::bigint * interval '1 microsecond',
            (value ->> 3)::uuid, (value ->> 4)::uuid, value ->> 5, value ->> 6, (value ->> 7)::bigint
        FROM jsonb_array_elements($1)
        ON CONFLICT (organization_id, level, starts_at, key_id, secret_id, outcome, route)
        DO UPDATE SET calls = verify_count.calls + excluded.calls",
};

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
