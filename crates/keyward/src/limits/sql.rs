//! Statements of quotas.

use crate::db::dialect::Pair;

pub const QUOTA_USE: &str =
    "SELECT start, used FROM quota_use WHERE subject = $1 AND unit = $2 AND start >= $3 ORDER BY start";

/// Rows of `[subject, unit, start in microseconds, count]`, added to what stands there.
pub const ADD_USE: Pair = Pair {
    sqlite: "INSERT INTO quota_use (subject, unit, start, used)
        SELECT unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3 FROM json_each($1) WHERE true
        ON CONFLICT (subject, unit, start) DO UPDATE SET used = quota_use.used + excluded.used
        RETURNING subject, unit, start, used",
    postgres: "INSERT INTO quota_use (subject, unit, start, used)
        SELECT (value ->> 0)::uuid, value ->> 1,
            to_timestamp(0) + (value ->> 2)::bigint * interval '1 microsecond', (value ->> 3)::bigint
        FROM jsonb_array_elements($1)
        ON CONFLICT (subject, unit, start) DO UPDATE SET used = quota_use.used + excluded.used
        RETURNING subject, unit, start, used",
};

pub const FORGET_USE: &str = "DELETE FROM quota_use WHERE unit = $1 AND start < $2";
