//! Statements of passkeys and their challenges.

pub const INSERT: &str = "INSERT INTO passkey (id, person_id, name, credential_id, credential, sign_count, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (credential_id) DO NOTHING";
pub const LIST: &str = "SELECT id, name, created_at, last_used_at FROM passkey
    WHERE person_id = $1 ORDER BY created_at DESC, id DESC";
pub const FIND: &str = "SELECT id, name, created_at, last_used_at FROM passkey WHERE id = $1 AND person_id = $2";
pub const RENAME: &str = "UPDATE passkey SET name = $3 WHERE id = $1 AND person_id = $2";
pub const DELETE: &str = "DELETE FROM passkey WHERE id = $1 AND person_id = $2";
pub const CREDENTIAL_IDS: &str =
    "SELECT credential_id AS value FROM passkey WHERE person_id = $1 ORDER BY created_at, id";

pub const OWNER: &str = "SELECT person_id AS value FROM passkey WHERE credential_id = $1";
/// A write that changes nothing holds the row on either database: two answers at the same time are counted one after the
/// other.
pub const LOCK: &str =
    "UPDATE passkey SET sign_count = sign_count WHERE credential_id = $1 RETURNING id, person_id, name, credential";
pub const USE: &str = "UPDATE passkey SET credential = $2, sign_count = $3, last_used_at = $4 WHERE id = $1";

pub const INSERT_CHALLENGE: &str =
    "INSERT INTO passkey_challenge (id, bound_to, state, expires_at) VALUES ($1, $2, $3, $4)";
/// Whoever deletes it may use it; nobody else finds it again.
pub const SPEND_CHALLENGE: &str =
    "DELETE FROM passkey_challenge WHERE id = $1 AND bound_to = $2 AND expires_at > $3 RETURNING state AS value";
pub const SWEEP_CHALLENGES: &str = "DELETE FROM passkey_challenge WHERE expires_at < $1";
