//! Statements of reservations.

pub const INSERT: &str = "INSERT INTO reservation (id, organization_id, key_id, cost, draws, taken_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)";
/// Of two that try, one gets the row.
pub const TAKE: &str = "DELETE FROM reservation WHERE id = $1 AND expires_at > $2
    RETURNING organization_id, cost, draws, taken_at";
pub const EXPIRE: &str = "DELETE FROM reservation WHERE id IN
      (SELECT id FROM reservation WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)
    RETURNING organization_id, cost, draws, taken_at";
