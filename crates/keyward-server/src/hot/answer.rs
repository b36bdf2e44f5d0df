//! The JSON of a verdict, written by hand: it is the only large text of the hot path.

use keyward_core::time::Timestamp;
use keyward_core::verdict::Verdict;

use super::limits;
use super::text::put;

/// Writes the contract's verify answer (section 4).
pub fn write(verdict: &Verdict, now: Timestamp, out: &mut Vec<u8>) {
    let (outcome, record) = (verdict.outcome, verdict.record.as_deref());
    put!(out, if outcome.is_valid() { "{\"valid\":true" } else { "{\"valid\":false" });
    put!(out, ",\"code\":\"", outcome.as_str(), "\"");
    if let Some(record) = record {
        put!(out, ",\"key_id\":\"", record.key_id, "\",\"secret_id\":\"", record.secret_id);
        put!(out, "\",\"organization_id\":\"", record.tenant.id, "\",\"owner_id\":");
        match record.owner_id() {
            Some(owner) => put!(out, "\"", owner, "\""),
            None => put!(out, "null"),
        }
        put!(out, ",\"external_id\":");
        match record.external_id() {
            Some(external_id) => text(out, external_id),
            None => put!(out, "null"),
        }
        put!(out, ",\"name\":");
        text(out, record.name());
        put!(out, ",\"environment\":");
        text(out, record.environment());
        put!(out, ",\"plan\":");
        text(out, &record.tenant.plan);
        put!(out, ",\"scopes\":[");
        for (index, scope) in record.scope_list().enumerate() {
            put!(out, if index > 0 { "," } else { "" });
            text(out, scope);
        }
        put!(out, "],\"metadata\":", record.metadata(), ",\"expires_at\":");
        match record.expires_at {
            Timestamp::NEVER => put!(out, "null"),
            at => put!(out, "\"", at, "\""),
        }
    }
    put!(out, ",");
    limits::write(verdict, now, out);
    if !verdict.checks.is_empty() {
        put!(out, ",\"checks\":");
        serde_json::to_writer(&mut *out, &verdict.checks).expect("checks can be written as JSON");
    }
    put!(out, "}");
}

/// A JSON string; most texts need no escape and are copied.
fn text(out: &mut Vec<u8>, value: &str) {
    if value.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        put!(out, "\"", value, "\"");
    } else {
        serde_json::to_writer(out, value).expect("a string can be written as JSON");
    }
}
