//! Statements of quotas.

use crate::db::Upsert;

pub const QUOTA_USE: &str =
    "SELECT start, used FROM quota_use WHERE subject = $1 AND unit = $2 AND start >= $3 ORDER BY start";

/// Adds to what stands there, and answers how it stands then.
pub const ADD_USE: Upsert<4> = Upsert(
    "quota_use (subject, unit, start, used)",
    "ON CONFLICT (subject, unit, start) DO UPDATE SET used = quota_use.used + excluded.used
        RETURNING subject, unit, start, used",
);

pub const FORGET_USE: &str = "DELETE FROM quota_use WHERE unit = $1 AND start < $2";
