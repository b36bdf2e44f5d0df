//! Statements of keys, secrets, keyspaces and peppers.

use crate::db::dialect::Pair;

pub const FIRST_PEPPER: &str = "INSERT INTO pepper (version, value, mark, created_at)
    SELECT 1, $1, $2, $3 WHERE NOT EXISTS (SELECT 1 FROM pepper) ON CONFLICT (version) DO NOTHING";
pub const KNOW_PEPPER: &str =
    "INSERT INTO pepper (version, mark, created_at) VALUES ($1, $2, $3) ON CONFLICT (version) DO NOTHING";
pub const PEPPERS: &str = "SELECT version, value, mark FROM pepper ORDER BY version DESC";

pub const ENSURE_KEYSPACE: &str = "INSERT INTO keyspace (id, name, prefix, style, environments, created_at, updated_at)
    VALUES ($1, 'default', 'kw', 'checksummed', $2, $3, $3) ON CONFLICT (name) DO NOTHING";
pub const INSERT_KEYSPACE: &str =
    "INSERT INTO keyspace (id, name, prefix, style, environments, default_expiry_days, max_expiry_days,
    created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)";
pub const UPDATE_KEYSPACE: &str = "UPDATE keyspace SET name = $2, prefix = $3, style = $4, environments = $5,
    default_expiry_days = $6, max_expiry_days = $7, updated_at = $8 WHERE id = $1";
/// Holds the row until the transaction ends.
pub const LOCK_KEYSPACE: &str = "UPDATE keyspace SET name = name WHERE id = $1";
pub const DELETE_KEYSPACE: &str = "DELETE FROM keyspace WHERE id = $1";
pub const FIND_KEYSPACE: &str = "SELECT * FROM keyspace WHERE id = $1 OR name = $2";
pub const LIST_KEYSPACES: &str =
    "SELECT * FROM keyspace WHERE (created_at, id) < ($1, $2) ORDER BY created_at DESC, id DESC LIMIT $3";
pub const COUNT_KEYS_IN_KEYSPACE: &str = "SELECT count(*) AS value FROM api_key WHERE keyspace_id = $1";

pub const INSERT_KEY: &str =
    "INSERT INTO api_key (id, organization_id, owner_id, keyspace_id, environment, status, name, prefix, scopes,
    permissions, rules, external_id, metadata, search, created_at, updated_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, 'active', $6, $7, $8, $9, $10, $11, $12, $13, $14, $14, $15)";
pub const UPDATE_KEY: &str =
    "UPDATE api_key SET name = $2, scopes = $3, permissions = $4, rules = $5, external_id = $6,
    metadata = $7, search = $8, expires_at = $9, updated_at = $10 WHERE id = $1";
pub const LOCK_KEY: &str = "UPDATE api_key SET status = status WHERE id = $1";
pub const TOUCH_KEY: &str = "UPDATE api_key SET updated_at = $2, prefix = $3 WHERE id = $1";
pub const SET_STATUS: &str = "UPDATE api_key SET status = $2, reason = $3, updated_at = $4 WHERE id = $1";
pub const DELETE_KEY: &str = "DELETE FROM api_key WHERE id = $1";
pub const FIND_KEY: &str = "SELECT * FROM api_key WHERE id = $1 AND organization_id = $2";

pub const REVOKE_ALL: &str = "UPDATE api_key SET status = 'revoked', reason = coalesce($5, reason), updated_at = $6
    WHERE organization_id = $1 AND status <> 'revoked' AND ($2 IS NULL OR owner_id = $2)
      AND ($3 IS NULL OR keyspace_id = $3) AND ($4 IS NULL OR id <> $4)";
pub const DELETE_EXPIRED: &str = "DELETE FROM api_key WHERE organization_id = $1 AND status <> 'revoked' AND expires_at <= $2 AND ($3 IS NULL OR owner_id = $3)";

macro_rules! list {
    ($keyset:literal) => {
        concat!(
            "SELECT k.* FROM api_key k WHERE k.organization_id = $1
              AND ($3 IS NULL OR $3 = CASE WHEN k.status <> 'revoked' AND k.expires_at <= $2 THEN 'expired' ELSE k.status END)
              AND ($4 IS NULL OR k.environment = $4)
              AND ($5 IS NULL OR k.owner_id = $5)
              AND ($6 IS NULL OR replace(' ' || k.scopes || ' ', ' ' || $6 || ' ', '') <> ' ' || k.scopes || ' ')
              AND ($7 IS NULL OR k.keyspace_id = $7)
              AND ($8 IS NULL OR k.status <> 'revoked' AND k.expires_at > $2 AND k.expires_at <= $8)
              AND ($9 IS NULL OR k.created_at <= $9 AND NOT EXISTS
                    (SELECT 1 FROM key_secret s WHERE s.key_id = k.id AND s.last_used_at > $9))
              AND ($10 IS NULL OR k.search LIKE $10 ESCAPE '\\')",
            $keyset
        )
    };
}

pub const LIST_NEWEST: &str =
    list!(" AND (k.created_at, k.id) < ($11, $12) ORDER BY k.created_at DESC, k.id DESC LIMIT $13");
pub const LIST_OLDEST: &str = list!(" AND (k.created_at, k.id) > ($11, $12) ORDER BY k.created_at, k.id LIMIT $13");

pub const COUNTS: &str = "SELECT count(*) AS total,
      count(*) FILTER (WHERE status = 'active' AND (expires_at IS NULL OR expires_at > $2)) AS active,
      count(*) FILTER (WHERE status = 'disabled' AND (expires_at IS NULL OR expires_at > $2)) AS disabled,
      count(*) FILTER (WHERE status <> 'revoked' AND expires_at <= $2) AS expired,
      count(*) FILTER (WHERE status = 'revoked') AS revoked
    FROM api_key WHERE organization_id = $1 AND ($3 IS NULL OR owner_id = $3)";

/// In the order in which they were made.
pub const SECRETS_OF_KEY: &str = "SELECT * FROM key_secret WHERE key_id = $1 ORDER BY created_at, id";
pub const SECRETS_OF_KEYS: Pair = Pair {
    sqlite: "SELECT * FROM key_secret WHERE key_id IN (SELECT unhex(value) FROM json_each($1)) ORDER BY created_at, id",
    postgres: "SELECT * FROM key_secret WHERE key_id IN (SELECT value::uuid FROM jsonb_array_elements_text($1)) ORDER BY created_at, id",
};

pub const INSERT_SECRET: &str =
    "INSERT INTO key_secret (id, key_id, digest, scheme, encoded, pepper_version, hint, status, created_at, replaces)
    VALUES ($1, $2, $3, $4, $5, $6, $7, 'active', $8, $9)";
/// Ends the secrets of a key that would live longer.
pub const END_SECRETS: &str = "UPDATE key_secret SET status = 'rotated', expires_at = $2
    WHERE key_id = $1 AND status IN ('active', 'rotated') AND (expires_at IS NULL OR expires_at > $2)";
pub const SET_SECRET_STATUS: &str = "UPDATE key_secret SET status = $2, expires_at = $3 WHERE id = $1";
pub const DIGEST_EXISTS: &str = "SELECT 1 AS value FROM key_secret WHERE digest = $1";
pub const COUNT_UNHINTED: &str = "SELECT count(*) AS value FROM key_secret WHERE encoded IS NOT NULL AND hint = ''";
pub const KNOW_PREFIX: &str = "INSERT INTO import_prefix (prefix) VALUES ($1) ON CONFLICT (prefix) DO NOTHING";

pub const DISABLE_LEAKED: &str =
    "UPDATE api_key SET status = 'disabled', reason = $2, updated_at = $3 WHERE id = $1 AND status = 'active'";
pub const INSERT_LEAK: &str = "INSERT INTO leak_report (id, key_id, organization_id, source, url, action, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)";
