//! How limits stand, as the answer's JSON and as the fields `RateLimit-Policy` and `RateLimit`
//! (draft-ietf-httpapi-ratelimit-headers-11).

use http::{HeaderMap, HeaderValue};
use keyward::limits::callers::Room;
use keyward_core::limit::{LimitState, QuotaState};
use keyward_core::time::Timestamp;
use keyward_core::verdict::{Outcome, Verdict};

use super::fields::{Name, PutField, name as field_name};
use super::text::put;

pub static POLICY: Name = field_name!("ratelimit-policy");
pub static STATE: Name = field_name!("ratelimit");
/// The draft's problem type of a request beyond a limit.
pub const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
/// The name of the quota among the policies.
const QUOTA: &str = "quota";

/// What stands around the names and numbers of the two fields. Known when this is compiled, a piece is put without a call.
trait Marks {
    const OPEN: &'static str;
    const NEXT: &'static str;
    const QUANTITY: &'static str;
    const REMAINING: &'static str;
}

struct InField;
struct InJson;

/// The marks with these quotes around the names.
macro_rules! marks {
    ($kind:ident $quote:literal) => {
        impl Marks for $kind {
            const OPEN: &'static str = $quote;
            const NEXT: &'static str = concat!(", ", $quote);
            const QUANTITY: &'static str = concat!($quote, ";q=");
            const REMAINING: &'static str = concat!($quote, ";r=");
        }
    };
}

marks!(InField "\"");
marks!(InJson "\\\"");

/// Writes `"limits":[…],"quota":…,"headers":{…}`.
pub fn write(verdict: &Verdict, now: Timestamp, out: &mut Vec<u8>) {
    put!(out, "\"limits\":[");
    for (index, state) in verdict.limits.iter().enumerate() {
        let LimitState { rule, remaining, reset_seconds, .. } = state;
        put!(out, if index > 0 { "," } else { "" }, "{\"name\":\"", &rule.name, "\",\"limit\":", rule.limit);
        put!(out, ",\"remaining\":", *remaining, ",\"reset_seconds\":", *reset_seconds);
        put!(out, ",\"window_seconds\":", rule.window_seconds, "}");
    }
    put!(out, "],\"quota\":");
    match verdict.quota {
        None => put!(out, "null"),
        Some(QuotaState { limit, remaining, resets_at }) => {
            put!(out, "{\"limit\":", limit, ",\"remaining\":", remaining, ",\"resets_at\":\"", resets_at, "\"}");
        }
    }
    put!(out, ",\"headers\":{");
    if has_policies(verdict) {
        put!(out, "\"RateLimit-Policy\":\"");
        policies::<InJson>(verdict, out);
        put!(out, "\",\"RateLimit\":\"");
        states::<InJson>(verdict, now, out);
        put!(out, "\"");
    }
    put!(out, "}");
}

/// Puts the two fields on an answer, if there are any.
pub fn put_fields(verdict: &Verdict, now: Timestamp, answer: &mut impl PutField) {
    if has_policies(verdict) {
        answer.put_field(&POLICY, |out| policies::<InField>(verdict, out));
        answer.put_field(&STATE, |out| states::<InField>(verdict, now, out));
    }
}

/// Puts the two fields of a limit of the management API on an answer that has none yet.
pub fn tell_room(room: &Room, headers: &mut HeaderMap) {
    if headers.contains_key(STATE.name) {
        return;
    }
    let Room { policy, limit, window_seconds, remaining, reset_seconds } = room;
    let field = |text: String| HeaderValue::from_str(&text).expect("policies have plain names");
    headers.insert(POLICY.name, field(format!("{policy:?};q={limit};w={window_seconds}")));
    headers.insert(STATE.name, field(format!("{policy:?};r={remaining};t={reset_seconds}")));
}

/// The names of the policies that refused.
pub fn violated(verdict: &Verdict) -> Vec<String> {
    match verdict.outcome {
        Outcome::QuotaExceeded => vec![QUOTA.to_owned()],
        _ => {
            let refused = verdict.limits.iter().enumerate().filter(|(_, state)| state.refused);
            let names = refused.map(|(index, _)| {
                let mut text = Vec::new();
                name(&verdict.limits, index, &mut text);
                String::from_utf8_lossy(&text).into_owned()
            });
            names.collect()
        }
    }
}

fn has_policies(verdict: &Verdict) -> bool {
    !verdict.limits.is_empty() || verdict.quota.is_some()
}

fn policies<M: Marks>(verdict: &Verdict, out: &mut Vec<u8>) {
    for (index, LimitState { rule, .. }) in verdict.limits.iter().enumerate() {
        open::<M>(index, out);
        name(&verdict.limits, index, out);
        put!(out, M::QUANTITY, rule.limit, ";w=", rule.window_seconds);
    }
    if let Some(quota) = verdict.quota {
        open::<M>(verdict.limits.len(), out);
        put!(out, QUOTA, M::QUANTITY, quota.limit);
    }
}

fn states<M: Marks>(verdict: &Verdict, now: Timestamp, out: &mut Vec<u8>) {
    for (index, LimitState { remaining, reset_seconds, .. }) in verdict.limits.iter().enumerate() {
        open::<M>(index, out);
        name(&verdict.limits, index, out);
        put!(out, M::REMAINING, *remaining, ";t=", *reset_seconds);
    }
    if let Some(quota) = verdict.quota {
        let left = (quota.resets_at.as_seconds() - now.as_seconds()).max(0) as u64;
        open::<M>(verdict.limits.len(), out);
        put!(out, QUOTA, M::REMAINING, quota.remaining, ";t=", left);
    }
}

/// Begins what has that place in a field.
fn open<M: Marks>(index: usize, out: &mut Vec<u8>) {
    if index == 0 {
        put!(out, M::OPEN);
    } else {
        put!(out, M::NEXT);
    }
}

/// The name of a policy: the limit's, with its window behind where the name alone is taken, and its place where that is.
fn name(states: &[LimitState], index: usize, out: &mut Vec<u8>) {
    let rule = &states[index].rule;
    put!(out, &rule.name);
    let before = || states[..index].iter().filter(|state| state.rule.name == rule.name);
    if before().next().is_some() {
        put!(out, "-", rule.window_seconds);
        let same = before().skip(1).filter(|state| state.rule.window_seconds == rule.window_seconds).count();
        if same > 0 {
            put!(out, "-", same as u64 + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keyward_core::limit::LimitRule;

    use super::*;

    #[test]
    fn policies_have_names_of_their_own() {
        let state = |name: &str, window| LimitState {
            rule: Arc::new(LimitRule::plain(name, 10, window)),
            remaining: 9,
            reset_seconds: 1,
            refused: true,
        };
        let mut verdict = Verdict::unknown(Outcome::RateLimited, false);
        verdict.limits = [state("requests", 60), state("requests", 60), state("requests", 1), state("tokens", 60)]
            .into_iter()
            .collect();
        let (mut policy, mut out) = (Vec::new(), Vec::new());
        policies::<InField>(&verdict, &mut policy);
        let expected = r#""requests";q=10;w=60, "requests-60";q=10;w=60, "requests-1";q=10;w=1, "tokens";q=10;w=60"#;
        assert_eq!(String::from_utf8(policy).unwrap(), expected);
        states::<InField>(&verdict, Timestamp::from_micros(0), &mut out);
        assert!(String::from_utf8(out).unwrap().starts_with(r#""requests";r=9;t=1, "#));
        assert_eq!(violated(&verdict), ["requests", "requests-60", "requests-1", "tokens"]);
    }
}
