//! What an event means to those who watch over security: its kind, what was done, and how much it matters. ECS and OCSF both tell
//! these in their own numbers and words.

use crate::audit::EventRow;
use crate::config::Severity;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Sessions and tokens of people.
    Authentication,
    /// People, their factors, passwords and roles.
    Account,
    File,
    /// Keys, organizations, plans and other things that are kept.
    Entity,
    /// Calls.
    Api,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Create,
    Read,
    Update,
    Delete,
    Enable,
    Disable,
    Suspend,
    Resume,
    LogOn,
    LogOff,
    Renew,
    ChangePassword,
    ResetPassword,
    EnableFactor,
    DisableFactor,
    Lock,
    Upload,
    Download,
    Rename,
    Move,
    Other,
}

pub fn subject_of(event: &EventRow) -> Subject {
    let (kind, action) = (event.resource_type.as_str(), event.action.as_str());
    match event.event_type.as_str() {
        _ if kind == "file" || event.event_type == "FILE_ACCESS" => Subject::File,
        "USER_MANAGEMENT" => Subject::Account,
        "SECURITY" if kind == "session" || action.starts_with("login") => Subject::Authentication,
        "SECURITY" if kind == "user" => Subject::Account,
        "SECURITY" if kind == "key" => Subject::Entity,
        // Calls with a key, not changes of it.
        "KEY" if ["limit_denied", "verified"].contains(&action) => Subject::Api,
        "KEY" | "ADMIN" | "SYSTEM" => Subject::Entity,
        _ => Subject::Api,
    }
}

/// Read from the action's words, the telling ones first.
pub fn deed_of(event: &EventRow) -> Deed {
    const WORDS: &[(&[&str], Deed)] = &[
        (&["login", "stepped"], Deed::LogOn),
        (&["logout", "revoked_session", "session_revoked", "sessions_revoked", "token_revoked"], Deed::LogOff),
        (&["token_refreshed", "refresh_reuse"], Deed::Renew),
        (&["password_reset"], Deed::ResetPassword),
        (&["password"], Deed::ChangePassword),
        (&["totp_enabled", "passkey_added", "backup_codes"], Deed::EnableFactor),
        (&["totp_disabled", "totp_removed", "passkey_removed", "factor_reset", "factors_reset"], Deed::DisableFactor),
        (&["locked"], Deed::Lock),
        (&["upload"], Deed::Upload),
        (&["download"], Deed::Download),
        (&["rename"], Deed::Rename),
        (&["move"], Deed::Move),
        (&["enable", "reenable"], Deed::Enable),
        (&["disable", "revoke"], Deed::Disable),
        (&["suspend"], Deed::Suspend),
        (&["activate", "resume"], Deed::Resume),
        (&["delete", "remove", "drop", "cancel"], Deed::Delete),
        (&["create", "issue", "import", "invite", "added", "start", "set_up", "begun"], Deed::Create),
        (&["update", "change", "rotate", "renew", "rehash", "accept", "archive", "ended"], Deed::Update),
        (&["read", "view", "listed", "export", "get"], Deed::Read),
    ];
    let action = event.action.as_str();
    let says =
        |word: &str| action.match_indices(word).any(|(at, _)| at == 0 || b"_.-".contains(&action.as_bytes()[at - 1]));
    let found = WORDS.iter().find(|(words, _)| words.iter().any(|word| says(word)));
    found.map_or(Deed::Other, |(_, deed)| *deed)
}

pub fn severity_of(event: &EventRow) -> Severity {
    let is_alarm = ["refresh_reuse", "key_leaked"].contains(&event.action.as_str());
    match (event.event_type.as_str(), event.success) {
        ("SECURITY", _) if is_alarm => Severity::High,
        ("SECURITY", false) => Severity::Medium,
        ("SYSTEM", _) if ["sink_gap", "audit_gap"].contains(&event.action.as_str()) => Severity::Medium,
        (_, false) => Severity::Low,
        _ if matches!(deed_of(event), Deed::Delete | Deed::Disable | Deed::DisableFactor | Deed::Suspend) => {
            Severity::Low
        }
        _ => Severity::Informational,
    }
}
