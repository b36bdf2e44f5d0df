//! Statements of sign-ins by an identity provider.

pub const INSERT_LOGIN: &str =
    "INSERT INTO provider_login (digest, browser, next_path, expires_at) VALUES ($1, $2, $3, $4)";
/// Each is good once, in the browser that began it.
pub const TAKE_LOGIN: &str =
    "DELETE FROM provider_login WHERE digest = $1 AND browser = $2 RETURNING next_path, expires_at";
pub const SWEEP_LOGINS: &str = "DELETE FROM provider_login WHERE expires_at < $1";

pub const USE_IDENTITY: &str = "UPDATE person_identity SET last_used_at = $3
    WHERE issuer = $1 AND subject = $2 RETURNING person_id AS value";
pub const INSERT_IDENTITY: &str =
    "INSERT INTO person_identity (issuer, subject, person_id, created_at, last_used_at) VALUES ($1, $2, $3, $4, $4)";
pub const IS_ANOTHERS: &str =
    "SELECT 1 AS value FROM person_identity WHERE issuer = $1 AND person_id = $2 AND subject <> $3";

pub const ORGANIZATION_BY_SLUG: &str = "SELECT id AS value FROM organization WHERE slug = $1";
pub const ORGANIZATION_BY_ID: &str = "SELECT id AS value FROM organization WHERE id = $1";
