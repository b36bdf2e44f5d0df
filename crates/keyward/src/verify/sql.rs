//! Statements of the hot path's edges: the read on a miss, and what is written behind.

use crate::db::dialect::Pair;

macro_rules! secret_with_key {
    ($condition:literal) => {
        concat!(
            "SELECT s.id AS secret_id, s.digest, s.status AS secret_status, s.expires_at AS secret_expires_at,
                k.id AS key_id, k.organization_id, k.owner_id, k.environment, k.status, k.name, k.scopes, k.permissions,
                k.rules, k.external_id, k.metadata, k.expires_at, o.status AS organization_status, o.timezone,
                p.name AS plan, v.requests_per_minute, v.quota_per_month, v.limits AS plan_limits
            FROM key_secret s
            JOIN api_key k ON k.id = s.key_id
            JOIN organization o ON o.id = k.organization_id
            JOIN plan p ON p.id = o.plan_id
            JOIN plan_version v ON v.plan_id = p.id AND v.version = coalesce(o.plan_version, p.version)
            WHERE ",
            $condition
        )
    };
}

pub const FIND: &str = secret_with_key!("s.digest IN ($1, $2, $3, $4, $5, $6)");
pub const FIND_BY_SECRET: &str = secret_with_key!("s.id = $1");

/// An imported slow hash with this hint, or without one.
pub const SALTED: &str =
    "SELECT id, scheme, encoded FROM key_secret WHERE encoded IS NOT NULL AND hint IN ($1, '') LIMIT 40";
pub const IMPORT_PREFIXES: &str = "SELECT prefix AS value FROM import_prefix";

/// The digests of secrets now, of rows of which the first is the secret.
pub const DIGESTS: Pair = Pair {
    sqlite: "SELECT digest AS value FROM key_secret
        WHERE id IN (SELECT unhex(value ->> 0) FROM json_each($1)) AND digest IS NOT NULL",
    postgres: "SELECT digest AS value FROM key_secret
        WHERE id IN (SELECT (value ->> 0)::uuid FROM jsonb_array_elements($1)) AND digest IS NOT NULL",
};

/// Rows of `[secret, digest, pepper]`. One string that was imported twice keeps one native digest.
pub const REHASH: Pair = Pair {
    sqlite: "UPDATE key_secret SET digest = r.digest, scheme = 'native', encoded = NULL, pepper_version = r.pepper
        FROM (SELECT unhex(value ->> 0) AS id, unhex(value ->> 1) AS digest, value ->> 2 AS pepper FROM json_each($1)) r
        WHERE key_secret.id = r.id AND NOT EXISTS (SELECT 1 FROM key_secret o WHERE o.digest = r.digest)",
    postgres: "UPDATE key_secret SET digest = r.digest, scheme = 'native', encoded = NULL, pepper_version = r.pepper
        FROM (SELECT (value ->> 0)::uuid AS id, decode(value ->> 1, 'hex') AS digest, (value ->> 2)::bigint AS pepper
                FROM jsonb_array_elements($1)) r
        WHERE key_secret.id = r.id AND NOT EXISTS (SELECT 1 FROM key_secret o WHERE o.digest = r.digest)",
};

/// Rows of `[secret, microseconds, address]`; never sets a use back.
pub const TOUCH: Pair = Pair {
    sqlite: "UPDATE key_secret SET last_used_at = u.at, last_used_ip = coalesce(u.address, last_used_ip)
        FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS at, value ->> 2 AS address FROM json_each($1)) u
        WHERE key_secret.id = u.id AND (last_used_at IS NULL OR last_used_at < u.at)",
    postgres: "UPDATE key_secret SET last_used_at = u.at, last_used_ip = coalesce(u.address, last_used_ip)
        FROM (SELECT (value ->> 0)::uuid AS id, to_timestamp(0) + (value ->> 1)::bigint * interval '1 microsecond' AS at,
                value ->> 2 AS address FROM jsonb_array_elements($1)) u
        WHERE key_secret.id = u.id AND (last_used_at IS NULL OR last_used_at < u.at)",
};
