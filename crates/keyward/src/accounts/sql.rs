//! Statements of organizations, plans, people and set-up.

pub const ENSURE_PLAN: &str =
    "INSERT INTO plan (id, name, key_limit, requests_per_minute, quota_per_month, version, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, 1, $6, $6) ON CONFLICT (name) DO NOTHING";
pub const INSERT_PLAN: &str =
    "INSERT INTO plan (id, name, key_limit, requests_per_minute, quota_per_month, version, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, 1, $6, $6)";
pub const UPDATE_PLAN: &str =
    "UPDATE plan SET name = $2, key_limit = $3, requests_per_minute = $4, quota_per_month = $5,
    version = version + 1, updated_at = $6 WHERE id = $1";
pub const DELETE_PLAN: &str = "DELETE FROM plan WHERE id = $1";
pub const FIND_PLAN: &str = "SELECT * FROM plan WHERE id = $1 OR name = $2";
pub const LIST_PLANS: &str =
    "SELECT * FROM plan WHERE (created_at, id) < ($1, $2) ORDER BY created_at DESC, id DESC LIMIT $3";
pub const ORGANIZATIONS_ON_PLAN: &str = "SELECT id AS value FROM organization WHERE plan_id = $1";

pub const FIND_ORGANIZATION: &str =
    "SELECT o.*, p.name AS plan FROM organization o JOIN plan p ON p.id = o.plan_id WHERE o.id = $1";
pub const LIST_ORGANIZATIONS: &str = "SELECT o.*, p.name AS plan FROM organization o JOIN plan p ON p.id = o.plan_id
    WHERE ($1 IS NULL OR o.id = $1) AND (o.created_at, o.id) < ($2, $3)
    ORDER BY o.created_at DESC, o.id DESC LIMIT $4";
pub const INSERT_ORGANIZATION: &str =
    "INSERT INTO organization (id, name, slug, email, plan_id, status, timezone, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, 'active', $6, $7, $7)";
pub const UPDATE_ORGANIZATION: &str =
    "UPDATE organization SET name = $2, slug = $3, email = $4, plan_id = $5, timezone = $6, updated_at = $7
    WHERE id = $1";
pub const SET_ORGANIZATION_STATUS: &str = "UPDATE organization SET status = $2, updated_at = $3 WHERE id = $1";
pub const DELETE_ORGANIZATION: &str = "DELETE FROM organization WHERE id = $1";
/// A write that changes nothing holds the row on either database.
pub const LOCK_ORGANIZATION: &str = "UPDATE organization SET status = status WHERE id = $1";
pub const COUNT_KEYS: &str = "SELECT count(*) AS value FROM api_key
    WHERE organization_id = $1 AND status IN ('active', 'disabled') AND (expires_at IS NULL OR expires_at > $2)";
pub const DELETE_KEYS_OF: &str = "DELETE FROM api_key WHERE organization_id = $1";

pub const COUNT_PEOPLE: &str = "SELECT count(*) AS value FROM person";
pub const INSERT_PERSON: &str =
    "INSERT INTO person (id, email, name, password_hash, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)";
pub const DELETE_PERSON: &str = "DELETE FROM person WHERE id = $1";
pub const STANDING: &str = "SELECT p.disabled_at,
      (SELECT role FROM role_binding WHERE person_id = p.id AND organization_id = $2) AS home_role,
      (SELECT role FROM role_binding WHERE person_id = p.id AND organization_id IS NULL) AS instance_role
    FROM person p WHERE p.id = $1";

pub const PLACES_OWNED: &str = "SELECT organization_id AS value FROM role_binding
    WHERE person_id = $1 AND role = 'owner' ORDER BY organization_id";
pub const FIND_BINDING: &str =
    "SELECT id, role FROM role_binding WHERE person_id = $1 AND organization_id IS NOT DISTINCT FROM $2";
pub const INSERT_BINDING: &str =
    "INSERT INTO role_binding (id, person_id, organization_id, role, created_at) VALUES ($1, $2, $3, $4, $5)";
pub const UPDATE_BINDING: &str = "UPDATE role_binding SET role = $2 WHERE id = $1";
pub const DELETE_BINDING: &str = "DELETE FROM role_binding WHERE id = $1";
pub const LOCK_OWNERS: &str =
    "UPDATE role_binding SET role = role WHERE role = 'owner' AND organization_id IS NOT DISTINCT FROM $1";
pub const COUNT_OWNERS: &str = "SELECT count(*) AS value FROM role_binding b JOIN person p ON p.id = b.person_id
    WHERE b.role = 'owner' AND p.disabled_at IS NULL AND b.organization_id IS NOT DISTINCT FROM $1";

pub const FORGET_SETUP_TOKENS: &str = "DELETE FROM setup_token WHERE used_at IS NULL";
pub const INSERT_SETUP_TOKEN: &str = "INSERT INTO setup_token (digest, expires_at) VALUES ($1, $2)";
pub const CHECK_SETUP_TOKEN: &str =
    "SELECT 1 AS value FROM setup_token WHERE digest = $1 AND used_at IS NULL AND expires_at > $2";
pub const USE_SETUP_TOKEN: &str =
    "UPDATE setup_token SET used_at = $2 WHERE digest = $1 AND used_at IS NULL AND expires_at > $2";
