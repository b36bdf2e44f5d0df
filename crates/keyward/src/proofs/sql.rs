//! Statements about checkpoints and the key that signs them.

pub const SIGNER: &str = "SELECT sealed, origin FROM audit_signer";
pub const FIRST_SIGNER: &str =
    "INSERT INTO audit_signer (one, origin, sealed, created_at) VALUES (1, $1, $2, $3) ON CONFLICT (one) DO NOTHING";

pub const SEAL_SIGNER: &str = "UPDATE audit_signer SET sealed = $1";

pub const LATEST: &str = "SELECT size, note FROM audit_checkpoint ORDER BY size DESC LIMIT 1";
pub const ALL: &str = "SELECT size, note FROM audit_checkpoint ORDER BY size";
pub const KEEP: &str = "INSERT INTO audit_checkpoint (size, note, signed_at) VALUES ($1, $2, $3)
    ON CONFLICT (size) DO UPDATE SET note = excluded.note";
pub const FORGET_SINCE: &str = "DELETE FROM audit_checkpoint WHERE signed_at >= $1 AND size < $2";
