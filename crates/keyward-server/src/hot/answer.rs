//! The JSON of a verdict, written by hand: it is the only large text of the hot path.

use keyward_core::id::{Id, Kind};
use keyward_core::time::Timestamp;
use keyward_core::verdict::Verdict;

use super::limits;

/// Writes the contract's verify answer (section 4).
pub fn write(verdict: &Verdict, now: Timestamp, out: &mut Vec<u8>) {
    let (outcome, record) = (verdict.outcome, verdict.record.as_deref());
    out.extend_from_slice(if outcome.is_valid() {
        b"{\"valid\":true,\"code\":\""
    } else {
        b"{\"valid\":false,\"code\":\""
    });
    out.extend_from_slice(outcome.as_str().as_bytes());
    out.push(b'"');
    if let Some(record) = record {
        id(out, "key_id", record.key_id);
        id(out, "secret_id", record.secret_id);
        id(out, "organization_id", record.tenant.id);
        match record.owner_id {
            Some(owner) => id(out, "owner_id", owner),
            None => out.extend_from_slice(b",\"owner_id\":null"),
        }
        optional_text(out, "external_id", record.external_id());
        optional_text(out, "name", Some(record.name()));
        optional_text(out, "environment", Some(record.environment()));
        optional_text(out, "plan", Some(&record.tenant.plan));
        out.extend_from_slice(b",\"scopes\":[");
        for (index, scope) in record.scope_list().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            text(out, scope);
        }
        out.extend_from_slice(b"],\"metadata\":");
        out.extend_from_slice(record.metadata().as_bytes());
        instant(out, "expires_at", record.expires_at);
    }
    out.push(b',');
    limits::write(verdict, now, out);
    if !verdict.checks.is_empty() {
        out.extend_from_slice(b",\"checks\":");
        serde_json::to_writer(&mut *out, &verdict.checks).expect("checks can be written as JSON");
    }
    out.push(b'}');
}

fn field(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn id<K: Kind>(out: &mut Vec<u8>, name: &str, id: Id<K>) {
    field(out, name);
    out.push(b'"');
    out.extend_from_slice(id.text().as_str().as_bytes());
    out.push(b'"');
}

fn optional_text(out: &mut Vec<u8>, name: &str, value: Option<&str>) {
    field(out, name);
    match value {
        Some(value) => text(out, value),
        None => out.extend_from_slice(b"null"),
    }
}

fn instant(out: &mut Vec<u8>, name: &str, at: Timestamp) {
    field(out, name);
    if at == Timestamp::NEVER {
        out.extend_from_slice(b"null");
    } else {
        text(out, &at.to_string());
    }
}

/// A JSON string; most texts need no escape and are copied.
fn text(out: &mut Vec<u8>, value: &str) {
    if value.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, value).expect("a string can be written as JSON");
    }
}
