//! Statements of the book.

use crate::db::dialect::Pair;

pub const APPEND: &str = "INSERT INTO audit_event (id, event_type, action, actor_type, actor_id, actor_name,
    resource_type, resource_id, resource_name, success, error_message, details, ip_address, user_agent,
    organization_id, request_id, occurred_at, logged_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $17)";

/// `own` reach ($12, $13): what one did oneself. Containment ($11) is each database's own.
macro_rules! list {
    ($contains:literal) => {
        concat!(
            "SELECT * FROM audit_event e
            WHERE ($1 IS NULL OR organization_id = $1)
              AND ($2 IS NULL OR event_type = $2)
              AND ($3 IS NULL OR action = $3)
              AND ($4 IS NULL OR actor_id = $4)
              AND ($5 IS NULL OR resource_id = $5)
              AND ($6 IS NULL OR success = $6)
              AND ($7 IS NULL OR logged_at >= $7)
              AND ($8 IS NULL OR logged_at < $8)
              AND ($9 IS NULL OR ip_address = $9)
              AND ($10 IS NULL OR lower(action) LIKE $10 ESCAPE '\\' OR lower(actor_id) LIKE $10 ESCAPE '\\'
                OR lower(actor_name) LIKE $10 ESCAPE '\\' OR lower(resource_id) LIKE $10 ESCAPE '\\'
                OR lower(resource_name) LIKE $10 ESCAPE '\\' OR lower(error_message) LIKE $10 ESCAPE '\\')
              AND ($11 IS NULL OR ",
            $contains,
            ")
              AND ($12 IS NULL OR actor_id = $13)
              AND (logged_at, id) < ($14, $15)
            ORDER BY logged_at DESC, id DESC LIMIT $16"
        )
    };
}

/// SQLite compares place by place: everything that is asked for stands at the same place, in arrays as well.
pub const LIST: Pair = Pair {
    sqlite: list!(
        "NOT EXISTS (SELECT 1 FROM json_tree($11) w WHERE NOT EXISTS
            (SELECT 1 FROM json_tree(e.details) d WHERE d.fullkey = w.fullkey AND d.type = w.type AND d.atom IS w.atom))"
    ),
    postgres: list!("details @> $11"),
};

pub const LIST_OF_PERSON: &str = "SELECT * FROM audit_event WHERE (actor_id = $1 OR resource_id = $1)
      AND ($2 IS NULL OR event_type = $2) AND (logged_at, id) < ($3, $4) ORDER BY logged_at DESC, id DESC LIMIT $5";

pub const GET: &str = "SELECT * FROM audit_event WHERE id = $1";

pub const TAKE: &str = "INSERT INTO audit_event (id, event_type, action, actor_type, actor_id, actor_name,
    resource_type, resource_id, resource_name, success, error_message, details, ip_address, user_agent,
    organization_id, request_id, occurred_at, logged_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) ON CONFLICT (id) DO NOTHING";
pub const AWAIT_NUMBER: &str = "INSERT INTO audit_outbox (event_id, logged_at, place) VALUES ($1, $2, $3)";

/// One writer at a time is how SQLite works; PostgreSQL keeps this lock until the transaction ends.
pub const LOCK_ORDER: Pair = Pair { sqlite: "SELECT 1", postgres: "SELECT pg_advisory_xact_lock(7310579)" };
pub const LAST_SEQUENCE: &str = "SELECT coalesce(max(sequence), -1) AS value FROM audit_leaf";
pub const WAITING: &str = "SELECT e.* FROM audit_outbox o JOIN audit_event e ON e.id = o.event_id
    ORDER BY o.logged_at, o.place, o.event_id LIMIT $1";
pub const INSERT_LEAF: &str = "INSERT INTO audit_leaf (sequence, event_id, hash) VALUES ($1, $2, $3)";
pub const DELETE_WAITING: &str = "DELETE FROM audit_outbox WHERE event_id = $1";
pub const SEQUENCE_OF: &str = "SELECT sequence AS value FROM audit_leaf WHERE event_id = $1";

pub const LEAVES: &str =
    "SELECT sequence, event_id, hash FROM audit_leaf WHERE sequence >= $1 ORDER BY sequence LIMIT $2";
pub const EVENTS_OF_LEAVES: &str = "SELECT e.* FROM audit_leaf l JOIN audit_event e ON e.id = l.event_id
    WHERE l.sequence >= $1 AND l.sequence <= $2";
pub const UNNUMBERED: &str = "SELECT e.id AS value FROM audit_event e
    WHERE NOT EXISTS (SELECT 1 FROM audit_leaf l WHERE l.event_id = e.id)
      AND NOT EXISTS (SELECT 1 FROM audit_outbox o WHERE o.event_id = e.id) ORDER BY e.logged_at, e.id LIMIT 1";
