//! Statements of sign-ins, sessions, tokens and second factors.

use crate::db::dialect::Pair;

pub const PERSON_BY_EMAIL: &str = "SELECT id, email, name, password_hash, disabled_at FROM person WHERE email = $1";
pub const PERSON_BY_ID: &str = "SELECT id, email, name, password_hash, disabled_at FROM person WHERE id = $1";
pub const SET_PASSWORD: &str = "UPDATE person SET password_hash = $2, updated_at = $3 WHERE id = $1";
/// A write that changes nothing holds the row on either database.
pub const HOLD_PERSON: &str = "UPDATE person SET updated_at = updated_at
    WHERE id = $1 AND disabled_at IS NULL AND password_hash IS NOT DISTINCT FROM $2";
pub const SET_HASH: &str = "UPDATE person SET password_hash = $2 WHERE id = $1 AND password_hash = $3";
pub const ROLES: &str = "SELECT b.organization_id, b.role, o.second_factor_required
    FROM role_binding b LEFT JOIN organization o ON o.id = b.organization_id
    WHERE b.person_id = $1 ORDER BY b.created_at, b.id";

/// A write that changes nothing holds the row on either database.
pub const COUNT_FAILURE_OF: &str =
    "INSERT INTO login_failure (subject, failures, first_at, last_at) VALUES ($1, 0, $2, $2)
    ON CONFLICT (subject) DO UPDATE SET failures = login_failure.failures RETURNING failures, first_at, last_at";
pub const SET_FAILURES: &str = "UPDATE login_failure SET failures = $2, first_at = $3, last_at = $4 WHERE subject = $1";
pub const FORGET_FAILURES: &str = "DELETE FROM login_failure WHERE subject = $1";
const SWEEP_FAILURES_SQLITE: &str = "DELETE FROM login_failure WHERE last_at < $1 AND failures < $2";
/// A try locks two of them, in an order of its own: what is held now is swept another time, so that neither waits for the other.
const SWEEP_FAILURES_POSTGRES: &str = "DELETE FROM login_failure WHERE subject IN
    (SELECT subject FROM login_failure WHERE last_at < $1 AND failures < $2 ORDER BY subject FOR UPDATE SKIP LOCKED)";
pub const SWEEP_FAILURES: Pair = Pair { sqlite: SWEEP_FAILURES_SQLITE, postgres: SWEEP_FAILURES_POSTGRES };

pub const INSERT_PENDING: &str =
    "INSERT INTO pending_login (digest, person_id, client, tries, expires_at, vouched_methods, vouched_class, vouched_at)
    VALUES ($1, $2, $3, 0, $4, $5, $6, $7)";
/// Counts the try in the same step.
pub const TRY_PENDING: &str = "UPDATE pending_login SET tries = tries + 1
    WHERE digest = $1 AND client = $2 AND expires_at > $3 AND tries < $4
    RETURNING person_id, vouched_methods, vouched_class, vouched_at";
pub const END_PENDING_OF: &str = "DELETE FROM pending_login WHERE person_id = $1";
/// Without counting a try.
pub const FIND_PENDING: &str = "SELECT person_id AS value FROM pending_login
    WHERE digest = $1 AND client = $2 AND expires_at > $3 AND tries < $4";
pub const END_PENDING: &str = "DELETE FROM pending_login WHERE digest = $1";
pub const SWEEP_PENDING: &str = "DELETE FROM pending_login WHERE expires_at < $1";

pub const INSERT_SESSION: &str =
    "INSERT INTO session (id, person_id, browser, ip_address, user_agent, created_at, last_seen_at,
      expires_at, authenticated_at, password_at, factor_at, factor, generation, refreshed_at, confirmed,
      vouched_methods, vouched_class)
    VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8, $9, $10, $11, 1, $6, $12, $13, $14)";
pub const INSERT_REFRESH: &str = "INSERT INTO refresh_token (digest, session_id, generation) VALUES ($1, $2, $3)";
pub const FIND_REFRESH: &str = "SELECT session_id, generation FROM refresh_token WHERE digest = $1";
pub const DIGEST_OF_GENERATION: &str =
    "SELECT digest AS value FROM refresh_token WHERE session_id = $1 AND generation = $2";
/// A write that changes nothing holds the row on either database.
pub const LOCK_SESSION: &str = "UPDATE session SET generation = generation WHERE id = $1";
pub const FIND_SESSION: &str = "SELECT * FROM session WHERE id = $1";
pub const ROTATE: &str =
    "UPDATE session SET generation = $2, refreshed_at = $3, confirmed = $4, last_seen_at = $3 WHERE id = $1";
pub const CONFIRM: &str = "UPDATE session SET confirmed = $3 WHERE id = $1 AND generation = $2";
pub const SEEN: &str = "UPDATE session SET last_seen_at = $2 WHERE id = $1 AND last_seen_at < $2";
/// What was not shown stays as it was.
pub const NOTE_SHOWN: &str = "UPDATE session SET authenticated_at = COALESCE($2, authenticated_at),
      password_at = COALESCE($2, password_at), factor_at = COALESCE($3, factor_at), factor = COALESCE($4, factor)
    WHERE id = $1";
pub const END_SESSION: &str = "UPDATE session SET ended_at = $2, end_reason = $3 WHERE id = $1 AND ended_at IS NULL";
pub const END_SESSIONS: &str = "UPDATE session SET ended_at = $2, end_reason = $3
    WHERE person_id = $1 AND ended_at IS NULL AND ($4 IS NULL OR id <> $4)";
pub const END_VOUCHED: &str = "UPDATE session SET ended_at = $2, end_reason = $3
    WHERE person_id = $1 AND ended_at IS NULL AND vouched_methods IS NOT NULL AND ($4 IS NULL OR id <> $4)";
pub const LIST_SESSIONS: &str = "SELECT * FROM session WHERE person_id = $1 AND ended_at IS NULL AND expires_at > $2
    AND refreshed_at > $3 ORDER BY created_at DESC, id DESC LIMIT 200";
pub const SWEEP_SESSIONS: &str = "DELETE FROM session WHERE expires_at < $1 OR ended_at < $1";

pub const SIGNING_KEYS: &str = "SELECT * FROM signing_key ORDER BY active_at, id";
pub const INSERT_SIGNING_KEY: &str =
    "INSERT INTO signing_key (id, sealed, public_key, active_at, retires_at) VALUES ($1, $2, $3, $4, $5)";
pub const SWEEP_SIGNING_KEYS: &str = "DELETE FROM signing_key WHERE retires_at < $1";

pub const FACTORS: &str = "SELECT
      EXISTS (SELECT 1 FROM totp WHERE person_id = $1 AND confirmed_at IS NOT NULL) AS totp,
      EXISTS (SELECT 1 FROM passkey WHERE person_id = $1) AS passkey,
      EXISTS (SELECT 1 FROM backup_code WHERE person_id = $1 AND used_at IS NULL) AS backup_code";
pub const IDENTITIES: &str = "SELECT issuer, subject, created_at, last_used_at FROM person_identity
    WHERE person_id = $1 ORDER BY created_at DESC, issuer";
pub const FIND_IDENTITY: &str =
    "SELECT issuer, subject, created_at, last_used_at FROM person_identity WHERE person_id = $1 AND issuer = $2";
pub const DELETE_IDENTITY: &str = "DELETE FROM person_identity WHERE person_id = $1 AND issuer = $2";
pub const OTHER_WAYS: &str = "SELECT p.password_hash IS NOT NULL AS password,
      EXISTS (SELECT 1 FROM passkey k WHERE k.person_id = p.id) AS passkey
    FROM person p WHERE p.id = $1";
pub const DELETE_PASSKEYS: &str = "DELETE FROM passkey WHERE person_id = $1";

pub const PUT_TOTP: &str =
    "INSERT INTO totp (person_id, sealed, last_step, confirmed_at, created_at) VALUES ($1, $2, 0, NULL, $3)
    ON CONFLICT (person_id) DO UPDATE SET sealed = excluded.sealed, last_step = 0, created_at = excluded.created_at
    WHERE totp.confirmed_at IS NULL";
pub const FIND_TOTP: &str = "SELECT sealed, last_step, confirmed_at FROM totp WHERE person_id = $1";
/// Accepts a step once: the second of two equal codes changes no row.
pub const USE_STEP: &str = "UPDATE totp SET last_step = $2 WHERE person_id = $1 AND last_step < $2";
pub const CONFIRM_TOTP: &str = "UPDATE totp SET confirmed_at = $2 WHERE person_id = $1 AND confirmed_at IS NULL";
pub const DELETE_TOTP: &str = "DELETE FROM totp WHERE person_id = $1";
pub const INSERT_BACKUP_CODE: &str = "INSERT INTO backup_code (person_id, digest) VALUES ($1, $2)";
pub const USE_BACKUP_CODE: &str =
    "UPDATE backup_code SET used_at = $3 WHERE person_id = $1 AND digest = $2 AND used_at IS NULL";
pub const COUNT_BACKUP_CODES: &str =
    "SELECT count(*) AS value FROM backup_code WHERE person_id = $1 AND used_at IS NULL";
pub const DELETE_BACKUP_CODES: &str = "DELETE FROM backup_code WHERE person_id = $1";

pub const INSERT_DEVICE: &str = "INSERT INTO trusted_device (digest, person_id, expires_at) VALUES ($1, $2, $3)";
pub const FIND_DEVICE: &str =
    "SELECT 1 AS value FROM trusted_device WHERE digest = $1 AND person_id = $2 AND expires_at > $3";
pub const DELETE_DEVICES: &str = "DELETE FROM trusted_device WHERE person_id = $1";
pub const SWEEP_DEVICES: &str = "DELETE FROM trusted_device WHERE expires_at < $1";

pub const INSERT_RESET: &str = "INSERT INTO password_reset (digest, person_id, expires_at) VALUES ($1, $2, $3)";
pub const FIND_RESET: &str =
    "SELECT person_id AS value FROM password_reset WHERE digest = $1 AND used_at IS NULL AND expires_at > $2";
pub const USE_RESET: &str =
    "UPDATE password_reset SET used_at = $2 WHERE digest = $1 AND used_at IS NULL AND expires_at > $2";
pub const SWEEP_RESETS: &str = "DELETE FROM password_reset WHERE expires_at < $1";

pub const PUT_MAIL: &str =
    "INSERT INTO mail_outbox (id, sealed, attempts, due_at, created_at) VALUES ($1, $2, 0, $3, $3)";
pub const DUE_MAIL: &str =
    "SELECT id, sealed, attempts FROM mail_outbox WHERE due_at <= $1 ORDER BY due_at, id LIMIT 1";
/// Of two nodes that find it due, one takes it.
pub const TAKE_MAIL: &str = "UPDATE mail_outbox SET attempts = attempts + 1, due_at = $3
    WHERE id = $1 AND due_at <= $2 RETURNING id, sealed, attempts";
pub const FORGET_MAIL: &str = "DELETE FROM mail_outbox WHERE id = $1";
