//! Statements of the sinks' cursors.

pub const FIRST: &str = "INSERT INTO sink_cursor (name, next_sequence, checkpoint_size, delivered_count, failure_count)
    VALUES ($1, $2, 0, 0, 0) ON CONFLICT (name) DO NOTHING";

pub const GET: &str = "SELECT * FROM sink_cursor WHERE name = $1";

/// For the node ($2), if nobody else holds a lease at the instant ($4).
pub const CLAIM: &str = "UPDATE sink_cursor SET holder = $2, lease_until = $3
    WHERE name = $1 AND (holder IS NULL OR holder = $2 OR lease_until <= $4) RETURNING *";

pub const RENEW: &str = "UPDATE sink_cursor SET lease_until = $3 WHERE name = $1 AND holder = $2";

pub const RELEASE: &str = "UPDATE sink_cursor SET holder = NULL, lease_until = NULL WHERE name = $1 AND holder = $2";

/// Only the node that holds the lease may write.
pub const SAVE: &str =
    "UPDATE sink_cursor SET next_sequence = $3, checkpoint_size = $4, checkpoint_at = $5, gap_from = $6,
    gap_to = $7, gap_count = $8, gap_reason = $9, delivered_count = $10, failure_count = $11, retry_at = $12,
    succeeded_at = $13, failed_at = $14, error = $15 WHERE name = $1 AND holder = $2";
