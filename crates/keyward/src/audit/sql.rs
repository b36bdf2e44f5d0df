//! Statements of the book.

pub const APPEND: &str = "INSERT INTO audit_event (id, event_type, action, actor_type, actor_id, actor_name,
    resource_type, resource_id, resource_name, success, error_message, details, ip_address, user_agent,
    organization_id, request_id, occurred_at, logged_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $17)";

/// `own` reach ($9, $10): what one did oneself, and what was done to the keys that one owns.
pub const LIST: &str = "SELECT * FROM audit_event
    WHERE ($1 IS NULL OR organization_id = $1)
      AND ($2 IS NULL OR event_type = $2)
      AND ($3 IS NULL OR action = $3)
      AND ($4 IS NULL OR actor_id = $4)
      AND ($5 IS NULL OR resource_id = $5)
      AND ($6 IS NULL OR success = $6)
      AND ($7 IS NULL OR logged_at >= $7)
      AND ($8 IS NULL OR logged_at < $8)
      AND ($9 IS NULL OR actor_id = $10)
      AND (logged_at, id) < ($11, $12)
    ORDER BY logged_at DESC, id DESC LIMIT $13";

pub const LIST_OF_PERSON: &str = "SELECT * FROM audit_event WHERE (actor_id = $1 OR resource_id = $1)
      AND ($2 IS NULL OR event_type = $2) AND (logged_at, id) < ($3, $4) ORDER BY logged_at DESC, id DESC LIMIT $5";

pub const GET: &str = "SELECT * FROM audit_event WHERE id = $1";
