//! Statements of the jobs.

use crate::db::dialect::Pair;

pub const ADD: &str = "INSERT INTO job (id, kind, lane, organization_id, status, arguments, actor_type, actor_id,
    actor_name, done, attempt, created_at) VALUES ($1, $2, $3, $4, 'queued', $5, $6, $7, $8, 0, 0, $9)";

pub const GET: &str = "SELECT * FROM job WHERE id = $1";

/// $1 an organization, $2 the kinds of it that the caller sees, $3 those of the instance, $4 the caller: all of one's own.
pub const LIST: &str = "SELECT * FROM job
    WHERE ((organization_id = $1 AND $2 LIKE '%,' || kind || ',%')
        OR (organization_id IS NULL AND $3 LIKE '%,' || kind || ',%')
        OR (organization_id = $1 AND actor_id = $4))
      AND ($5 IS NULL OR kind = $5)
      AND ($6 IS NULL OR status = $6)
      AND (created_at, id) < ($7, $8)
    ORDER BY created_at DESC, id DESC LIMIT $9";

/// Whether there is anything to claim, for a node ($1) at an instant ($2).
pub const WAITING: &str = "SELECT count(*) AS value FROM job
    WHERE status = 'queued' OR (status = 'running' AND lease_until < $2 AND lease_holder <> $1)";

const CLAIM_SQLITE: &str = "UPDATE job SET status = 'running', lease_holder = $1, lease_until = $3,
    attempt = attempt + 1, started_at = coalesce(started_at, $2)
    WHERE id = (SELECT id FROM job
        WHERE (status = 'queued' AND NOT EXISTS (SELECT 1 FROM job other WHERE other.lane = job.lane AND other.status = 'running'))
           OR (status = 'running' AND lease_until < $2 AND lease_holder <> $1)
        ORDER BY created_at, id LIMIT 1)
    RETURNING *";

const CLAIM_POSTGRES: &str = "UPDATE job SET status = 'running', lease_holder = $1, lease_until = $3,
    attempt = attempt + 1, started_at = coalesce(started_at, $2)
    WHERE id = (SELECT id FROM job
        WHERE (status = 'queued' AND NOT EXISTS (SELECT 1 FROM job other WHERE other.lane = job.lane AND other.status = 'running'))
           OR (status = 'running' AND lease_until < $2 AND lease_holder <> $1)
        ORDER BY created_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING *";

/// Takes the oldest job that may run; two nodes at once are parted by the lock, or by the index of the lane.
pub const CLAIM: Pair = Pair { sqlite: CLAIM_SQLITE, postgres: CLAIM_POSTGRES };

/// Only the node that holds the job ($2), in its present attempt ($3), may write to it.
pub const KEEP: &str = "UPDATE job SET lease_until = $4, done = $5, total = $6, unit = $7
    WHERE id = $1 AND lease_holder = $2 AND attempt = $3 AND status = 'running' RETURNING cancel_asked_at";

pub const END: &str = "UPDATE job SET status = $4, error = $5, result = $6, finished_at = $7, done = $8, total = $9,
    unit = $10, lease_holder = NULL, lease_until = NULL
    WHERE id = $1 AND lease_holder = $2 AND attempt = $3 AND status = 'running'";

/// Given back unfinished by a node that stops; the attempt does not count.
pub const RELEASE: &str =
    "UPDATE job SET status = 'queued', attempt = attempt - 1, lease_holder = NULL, lease_until = NULL
    WHERE id = $1 AND lease_holder = $2 AND status = 'running'";

pub const CANCEL_QUEUED: &str =
    "UPDATE job SET status = 'cancelled', cancel_asked_at = $2, finished_at = $2 WHERE id = $1 AND status = 'queued'";

pub const CANCEL_RUNNING: &str =
    "UPDATE job SET cancel_asked_at = coalesce(cancel_asked_at, $2) WHERE id = $1 AND status = 'running'";

pub const TELL: &str = "INSERT INTO job_line (job_id, number, told_at, message)
    SELECT $1, coalesce(max(number), 0) + 1, $2, $3 FROM job_line WHERE job_id = $1";

pub const LINES: &str =
    "SELECT number, told_at, message FROM job_line WHERE job_id = $1 AND number > $2 ORDER BY number";

pub const LAST_SUCCESS: &str =
    "SELECT * FROM job WHERE kind = $1 AND status = 'succeeded' ORDER BY finished_at DESC LIMIT 1";

pub const FORGET: &str = "DELETE FROM job WHERE finished_at < $1";

pub const SCHEDULE: &str = "SELECT due_at AS value FROM job_schedule WHERE name = $1";
pub const NEW_SCHEDULE: &str = "INSERT INTO job_schedule (name, due_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
pub const MOVE_SCHEDULE: &str = "UPDATE job_schedule SET due_at = $3 WHERE name = $1 AND due_at = $2";
