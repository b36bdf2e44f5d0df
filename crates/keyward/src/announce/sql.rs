//! Statements of the announcements between nodes; PostgreSQL only.

pub const ANNOUNCE: &str =
    "INSERT INTO announcement (id, subject, wants_acknowledgement, created_at) VALUES ($1, $2, $3, $4)";

/// Delivered when the transaction commits.
pub const NOTIFY: &str = "SELECT pg_notify('keyward', '')";

/// The oldest transaction that may still commit: whoever reads from here on misses nothing.
pub const HORIZON: &str = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS value";

pub const SINCE: &str =
    "SELECT id, subject, wants_acknowledgement FROM announcement WHERE txid >= $1::text::xid8 ORDER BY txid, id";

pub const BEAT: &str = "INSERT INTO node (id, beat, started_at, seen_at) VALUES ($1, 1, $2, $2)
    ON CONFLICT (id) DO UPDATE SET beat = node.beat + 1, seen_at = excluded.seen_at";

pub const LIVE_NODES: &str = "SELECT count(*) AS value FROM node WHERE seen_at > $1";

pub const LEAVE: &str = "DELETE FROM node WHERE id = $1";

pub const ACKNOWLEDGE: &str = "INSERT INTO acknowledgement (announcement_id, node_id)
    SELECT id, $2 FROM announcement WHERE id = $1 ON CONFLICT DO NOTHING";

/// Nodes that have not acknowledged, with their beats.
pub const SILENT: &str = "SELECT id, beat FROM node
    WHERE NOT EXISTS (SELECT 1 FROM acknowledgement WHERE announcement_id = $1 AND node_id = node.id)";

pub const FORGET_ANNOUNCEMENTS: &str = "DELETE FROM announcement WHERE created_at < $1";
pub const FORGET_NODES: &str = "DELETE FROM node WHERE seen_at < $1";
