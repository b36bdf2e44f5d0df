//! Statements of organizations, plans, people and set-up.

pub const ENSURE_PLAN: &str = "INSERT INTO plan (id, name, version, created_at, updated_at)
    VALUES ($1, $2, 1, $3, $3) ON CONFLICT (name) DO NOTHING";
pub const INSERT_PLAN: &str = "INSERT INTO plan (id, name, version, created_at, updated_at) VALUES ($1, $2, 1, $3, $3)";
pub const RENAME_PLAN: &str = "UPDATE plan SET name = $2, updated_at = $3 WHERE id = $1";
pub const SET_PLAN_VERSION: &str = "UPDATE plan SET version = $2, updated_at = $3 WHERE id = $1";
pub const DELETE_PLAN: &str = "DELETE FROM plan WHERE id = $1";
pub const FIND_PLAN: &str = "SELECT p.*, v.key_limit, v.requests_per_minute, v.quota_per_month, v.limits
    FROM plan p JOIN plan_version v ON v.plan_id = p.id AND v.version = p.version WHERE p.id = $1 OR p.name = $2";
pub const LIST_PLANS: &str = "SELECT p.*, v.key_limit, v.requests_per_minute, v.quota_per_month, v.limits
    FROM plan p JOIN plan_version v ON v.plan_id = p.id AND v.version = p.version
    WHERE (p.created_at, p.id) < ($1, $2) ORDER BY p.created_at DESC, p.id DESC LIMIT $3";
/// A write that changes nothing holds the row on either database.
pub const LOCK_PLAN: &str = "UPDATE plan SET version = version WHERE id = $1";

pub const INSERT_PLAN_VERSION: &str = "INSERT INTO plan_version (plan_id, version, key_limit, requests_per_minute,
      quota_per_month, limits, effective_at, scheduled, grandfathers, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
pub const PLAN_VERSIONS: &str = "SELECT v.*, (SELECT count(*) FROM organization o JOIN plan p ON p.id = o.plan_id
      WHERE o.plan_id = v.plan_id AND coalesce(o.plan_version, p.version) = v.version) AS organizations
    FROM plan_version v WHERE plan_id = $1 ORDER BY version DESC LIMIT 200";
pub const LAST_PLAN_VERSION: &str = "SELECT max(version) AS value FROM plan_version WHERE plan_id = $1";
pub const SCHEDULED_VERSION: &str = "SELECT version AS value FROM plan_version WHERE plan_id = $1 AND scheduled";
pub const DUE_VERSIONS: &str = "SELECT v.plan_id, v.version, v.key_limit, v.grandfathers FROM plan_version v WHERE v.scheduled AND v.effective_at <= $1";
pub const TAKE_EFFECT: &str =
    "UPDATE plan_version SET scheduled = FALSE WHERE plan_id = $1 AND version = $2 AND scheduled";
pub const CANCEL_VERSION: &str = "DELETE FROM plan_version WHERE plan_id = $1 AND version = $2 AND scheduled";
/// Keeps the organizations that follow the plan, and have more active keys than `$3`, on version `$2`.
pub const KEEP_ON_VERSION: &str = "UPDATE organization SET plan_version = $2
    WHERE plan_id = $1 AND plan_version IS NULL AND (SELECT count(*) FROM api_key k
      WHERE k.organization_id = organization.id AND k.status IN ('active', 'disabled')
        AND (k.expires_at IS NULL OR k.expires_at > $4)) > $3";
/// Organizations that follow the plan, with what they use of it.
pub const FOLLOWERS: &str = "SELECT o.id AS organization_id, o.name, o.timezone,
      (SELECT count(*) FROM api_key k WHERE k.organization_id = o.id AND k.status IN ('active', 'disabled')
        AND (k.expires_at IS NULL OR k.expires_at > $2)) AS active_keys,
      (SELECT max(q.start) FROM quota_use q WHERE q.subject = o.id AND q.unit = 'month') AS month,
      (SELECT q.used FROM quota_use q WHERE q.subject = o.id AND q.unit = 'month' ORDER BY q.start DESC LIMIT 1) AS used
    FROM organization o WHERE o.plan_id = $1 AND o.plan_version IS NULL ORDER BY o.created_at, o.id";
pub const ORGANIZATIONS_ON_PLAN: &str = "SELECT id AS value FROM organization WHERE plan_id = $1";

pub const FIND_ORGANIZATION: &str =
    "SELECT o.*, p.name AS plan FROM organization o JOIN plan p ON p.id = o.plan_id WHERE o.id = $1";
pub const LIST_ORGANIZATIONS: &str = "SELECT o.*, p.name AS plan FROM organization o JOIN plan p ON p.id = o.plan_id
    WHERE ($1 IS NULL OR o.id = $1) AND (o.created_at, o.id) < ($2, $3)
    ORDER BY o.created_at DESC, o.id DESC LIMIT $4";
pub const COUNT_SLUGS: &str = "SELECT count(*) AS value FROM organization WHERE slug = $1";
pub const INSERT_ORGANIZATION: &str =
    "INSERT INTO organization (id, name, slug, email, plan_id, status, timezone, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, 'active', $6, $7, $7)";
pub const UPDATE_ORGANIZATION: &str =
    "UPDATE organization SET name = $2, slug = $3, email = $4, plan_id = $5, timezone = $6, updated_at = $7,
      plan_version = CASE WHEN plan_id = $5 THEN plan_version END WHERE id = $1";
pub const SET_ORGANIZATION_STATUS: &str = "UPDATE organization SET status = $2, updated_at = $3 WHERE id = $1";
pub const DELETE_ORGANIZATION: &str = "DELETE FROM organization WHERE id = $1";
/// A write that changes nothing holds the row on either database.
pub const LOCK_ORGANIZATION: &str = "UPDATE organization SET status = status WHERE id = $1";
/// The most keys that the organization's version of its plan allows, and the room that was found last.
pub const KEY_LIMIT: &str =
    "SELECT v.key_limit, o.spare_keys, o.spare_under FROM organization o JOIN plan p ON p.id = o.plan_id
    JOIN plan_version v ON v.plan_id = p.id AND v.version = coalesce(o.plan_version, p.version) WHERE o.id = $1";
pub const SET_SPARE_KEYS: &str = "UPDATE organization SET spare_keys = $2, spare_under = $3 WHERE id = $1";
/// Holds every organization on a plan.
pub const LOCK_ORGANIZATIONS_ON_PLAN: &str = "UPDATE organization SET status = status WHERE plan_id = $1";
pub const COUNT_KEYS: &str = "SELECT count(*) AS value FROM api_key
    WHERE organization_id = $1 AND status IN ('active', 'disabled') AND (expires_at IS NULL OR expires_at > $2)";
pub const DELETE_KEYS_OF: &str = "DELETE FROM api_key WHERE organization_id = $1";

pub const COUNT_PEOPLE: &str = "SELECT count(*) AS value FROM person";
pub const INSERT_PERSON: &str =
    "INSERT INTO person (id, email, name, password_hash, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)";
/// A write that changes nothing holds the row on either database.
pub const HOLD: &str = "UPDATE person SET updated_at = updated_at WHERE id = $1";
pub const DELETE_PERSON: &str = "DELETE FROM person WHERE id = $1";
pub const STANDING: &str = "SELECT p.disabled_at,
      (SELECT role FROM role_binding WHERE person_id = p.id AND organization_id = $2) AS home_role,
      (SELECT role FROM role_binding WHERE person_id = p.id AND organization_id IS NULL) AS instance_role
    FROM person p WHERE p.id = $1";

pub const PLACES_OWNED: &str = "SELECT organization_id AS value FROM role_binding
    WHERE person_id = $1 AND role = 'owner' ORDER BY organization_id";
pub const FIND_BINDING: &str =
    "SELECT id, role, origin FROM role_binding WHERE person_id = $1 AND organization_id IS NOT DISTINCT FROM $2";
pub const INSERT_BINDING: &str = "INSERT INTO role_binding (id, person_id, organization_id, role, created_at, origin) VALUES ($1, $2, $3, $4, $5, $6)";
pub const UPDATE_BINDING: &str = "UPDATE role_binding SET role = $2, origin = $3 WHERE id = $1";
pub const PROVIDED_ROLES: &str = "SELECT organization_id, role FROM role_binding WHERE person_id = $1 AND origin = $2";
pub const DELETE_BINDING: &str = "DELETE FROM role_binding WHERE id = $1";
pub const LOCK_OWNERS: &str =
    "UPDATE role_binding SET role = role WHERE role = 'owner' AND organization_id IS NOT DISTINCT FROM $1";
/// Owners who can sign in, but for one person.
pub const COUNT_OTHER_OWNERS: &str = "SELECT count(*) AS value FROM role_binding b JOIN person p ON p.id = b.person_id
    WHERE b.role = 'owner' AND p.disabled_at IS NULL AND b.organization_id IS NOT DISTINCT FROM $1 AND p.id <> $2";

pub const MEMBERS: &str = "SELECT p.id, p.email, p.name, p.disabled_at, b.role, b.created_at AS joined_at,
      (EXISTS (SELECT 1 FROM totp t WHERE t.person_id = p.id AND t.confirmed_at IS NOT NULL)
        OR EXISTS (SELECT 1 FROM passkey k WHERE k.person_id = p.id)) AS has_factor
    FROM role_binding b JOIN person p ON p.id = b.person_id
    WHERE b.organization_id IS NOT DISTINCT FROM $1 AND ($2 IS NULL OR p.id = $2) AND (b.created_at, p.id) < ($3, $4)
    ORDER BY b.created_at DESC, p.id DESC LIMIT $5";
pub const COUNT_PLACES_BUT: &str = "SELECT count(*) AS value FROM role_binding
    WHERE person_id = $1 AND organization_id IS DISTINCT FROM $2";
/// Nothing, where it is so already.
pub const SET_DISABLED: &str = "UPDATE person SET disabled_at = $2, updated_at = $3
    WHERE id = $1 AND (disabled_at IS NULL) <> ($2 IS NULL)";
pub const END_SESSIONS_OF: &str =
    "UPDATE session SET ended_at = $2, end_reason = 'disabled' WHERE person_id = $1 AND ended_at IS NULL";
pub const FIND_BY_EMAIL: &str = "SELECT id AS value FROM person WHERE email = $1";
pub const INSERT_INVITATION: &str =
    "INSERT INTO invitation (id, digest, organization_id, email, role, invited_by, created_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
pub const INVITATIONS: &str = "SELECT * FROM invitation WHERE organization_id IS NOT DISTINCT FROM $1
    AND accepted_at IS NULL AND revoked_at IS NULL AND (created_at, id) < ($2, $3) ORDER BY created_at DESC, id DESC LIMIT $4";
pub const OPEN_INVITATION: &str =
    "SELECT * FROM invitation WHERE digest = $1 AND accepted_at IS NULL AND revoked_at IS NULL AND expires_at > $2";
/// What an open invitation says to whoever holds its link.
pub const INVITED: &str = "SELECT i.email, i.role, o.name AS organization, p.id AS person
    FROM invitation i LEFT JOIN organization o ON o.id = i.organization_id LEFT JOIN person p ON p.email = i.email
    WHERE i.digest = $1 AND i.accepted_at IS NULL AND i.revoked_at IS NULL AND i.expires_at > $2";
pub const ACCEPT_INVITATION: &str =
    "UPDATE invitation SET accepted_at = $2 WHERE id = $1 AND accepted_at IS NULL AND revoked_at IS NULL";
pub const REVOKE_INVITATION: &str = "UPDATE invitation SET revoked_at = $3
    WHERE id = $1 AND organization_id IS NOT DISTINCT FROM $2 AND accepted_at IS NULL AND revoked_at IS NULL";
pub const SET_FACTOR_POLICY: &str =
    "UPDATE organization SET second_factor_required = $2, updated_at = $3 WHERE id = $1";
pub const FACTOR_POLICY: &str = "SELECT second_factor_required AS value FROM organization WHERE id = $1";
pub const MEMBERS_OF: &str = "SELECT person_id AS value FROM role_binding WHERE organization_id = $1";

pub const FORGET_SETUP_TOKENS: &str = "DELETE FROM setup_token WHERE used_at IS NULL";
pub const INSERT_SETUP_TOKEN: &str = "INSERT INTO setup_token (digest, expires_at) VALUES ($1, $2)";
pub const CHECK_SETUP_TOKEN: &str =
    "SELECT 1 AS value FROM setup_token WHERE digest = $1 AND used_at IS NULL AND expires_at > $2";
pub const USE_SETUP_TOKEN: &str =
    "UPDATE setup_token SET used_at = $2 WHERE digest = $1 AND used_at IS NULL AND expires_at > $2";
