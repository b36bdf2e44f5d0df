//! Reads Keyward's answer to a verify call (contract, section 4) back into a verdict. Fields that it does not know are
//! passed over; codes that it does not know are an error, because nobody may be let in by a word we do not understand.

use std::borrow::Cow;
use std::sync::Arc;

use keyward_core::id::{self, Id};
use keyward_core::key::KeyDigest;
use keyward_core::limit::{LimitRule, LimitState, QuotaState};
use keyward_core::record::{KeyRecord, KeyStatus, RecordParts, Rules, SecretStatus, Tenant};
use keyward_core::time::Timestamp;
use keyward_core::verdict::{Check, CheckOutcome, Outcome, Verdict};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Why an answer is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableAnswer {
    /// Not JSON, or not of the answer's shape.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A code that this version does not know.
    #[error("the code {0:?} is not known")]
    Code(String),
    /// `valid` says one thing and `code` another, or a valid key is nobody's.
    #[error("the answer contradicts itself")]
    Contradiction,
}

#[derive(Deserialize)]
struct Answer<'a> {
    valid: bool,
    #[serde(borrow)]
    code: Cow<'a, str>,
    key_id: Option<Id<id::Key>>,
    secret_id: Option<Id<id::KeySecret>>,
    organization_id: Option<Id<id::Organization>>,
    owner_id: Option<Id<id::User>>,
    #[serde(borrow)]
    external_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    environment: Cow<'a, str>,
    #[serde(borrow, default)]
    plan: Cow<'a, str>,
    #[serde(borrow, default)]
    scopes: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    expires_at: Option<Timestamp>,
    #[serde(borrow, default)]
    limits: Vec<LimitAnswer<'a>>,
    quota: Option<QuotaAnswer>,
    #[serde(borrow, default)]
    checks: Vec<CheckAnswer<'a>>,
}

#[derive(Deserialize)]
struct LimitAnswer<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    limit: u64,
    remaining: u64,
    reset_seconds: u64,
    window_seconds: u64,
}

#[derive(Deserialize)]
struct QuotaAnswer {
    limit: u64,
    remaining: u64,
    resets_at: Timestamp,
}

#[derive(Deserialize)]
struct CheckAnswer<'a> {
    #[serde(borrow)]
    check: Cow<'a, str>,
    #[serde(with = "CheckOutcomeAnswer")]
    outcome: CheckOutcome,
    detail: String,
}

#[derive(Deserialize)]
#[serde(remote = "CheckOutcome", rename_all = "snake_case")]
enum CheckOutcomeAnswer {
    Pass,
    Fail,
    Skipped,
}

/// The verdict that the JSON tells of.
pub fn read(json: &[u8]) -> Result<Verdict, UnreadableAnswer> {
    let answer: Answer<'_> = serde_json::from_slice(json)?;
    let outcome = outcome(&answer.code)?;
    let record = answer.record(outcome).map(Arc::new);
    if answer.valid != outcome.is_valid() || answer.valid && record.is_none() {
        return Err(UnreadableAnswer::Contradiction);
    }
    let checks = answer.checks.into_iter().map(CheckAnswer::read).collect::<Result<_, _>>()?;
    let refused = outcome == Outcome::RateLimited;
    // Which of several limits refused is not told: one with nothing left did; where each has some, any may have had too little.
    let is_any_spent = answer.limits.iter().any(|limit| limit.remaining == 0);
    let limits = answer.limits.iter().map(|limit| limit.read(refused && (limit.remaining == 0 || !is_any_spent)));
    let limits = limits.collect();
    let quota =
        answer.quota.map(|QuotaAnswer { limit, remaining, resets_at }| QuotaState { limit, remaining, resets_at });
    Ok(Verdict { outcome, record, limits, quota, unknown_limit: None, checks })
}

fn outcome(code: &str) -> Result<Outcome, UnreadableAnswer> {
    Outcome::from_code(code).ok_or_else(|| UnreadableAnswer::Code(code.to_owned()))
}

impl LimitAnswer<'_> {
    fn read(&self, refused: bool) -> LimitState {
        LimitState {
            rule: Arc::new(LimitRule::plain(&self.name, self.limit, self.window_seconds)),
            remaining: self.remaining,
            reset_seconds: self.reset_seconds,
            refused,
        }
    }
}

impl Answer<'_> {
    /// What the answer tells of the key; absent when it is malformed or not found.
    fn record(&self, outcome: Outcome) -> Option<KeyRecord> {
        let suspended = outcome == Outcome::OrganizationSuspended;
        Some(KeyRecord::new(RecordParts {
            digest: KeyDigest::from_bytes([0; 32]),
            key_id: self.key_id?,
            secret_id: self.secret_id?,
            owner_id: self.owner_id,
            tenant: Arc::new(Tenant::new(self.organization_id?, &self.plan, suspended)),
            status: match outcome {
                Outcome::Disabled => KeyStatus::Disabled,
                Outcome::Revoked => KeyStatus::Revoked,
                Outcome::Expired => KeyStatus::Expired,
                _ => KeyStatus::Active,
            },
            secret_status: match outcome {
                Outcome::Rotated => SecretStatus::Rotated,
                _ => SecretStatus::Active,
            },
            expires_at: self.expires_at,
            secret_expires_at: None,
            rules: Rules::default(),
            allowance: Default::default(),
            grant: None,
            name: &self.name,
            environment: &self.environment,
            scopes: &self.scopes.join(" "),
            metadata: self.metadata.map_or("{}", RawValue::get),
            external_id: self.external_id.as_deref(),
        }))
    }
}

impl CheckAnswer<'_> {
    fn read(self) -> Result<Check, UnreadableAnswer> {
        Ok(Check { check: outcome(&self.check)?.as_str(), outcome: self.outcome, detail: self.detail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = r#"{"valid":true,"code":"valid","key_id":"key_01h455vb4pex5vsknk084sn02q",
        "secret_id":"sec_01h455vb4pex5vsknk084sn02q","organization_id":"org_01h455vb4pex5vsknk084sn02q",
        "owner_id":null,"external_id":"customer \"7\"","name":"billing","environment":"live","plan":"pro",
        "scopes":["invoices:read","orders:*"],"metadata":{"team":"a b"},"expires_at":"2026-12-01T00:00:00Z",
        "limits":[],"quota":null,"headers":{},"a_later_field":1}"#;

    #[test]
    fn a_valid_answer_gives_the_whole_record() {
        let verdict = read(VALID.as_bytes()).unwrap();
        assert!(verdict.is_valid());
        let record = verdict.record.unwrap();
        assert_eq!(record.key_id.to_string(), "key_01h455vb4pex5vsknk084sn02q");
        assert_eq!(record.tenant.id.to_string(), "org_01h455vb4pex5vsknk084sn02q");
        assert_eq!((record.name(), record.environment(), &*record.tenant.plan), ("billing", "live", "pro"));
        assert_eq!(record.external_id(), Some("customer \"7\""));
        assert_eq!(record.scopes(), "invoices:read orders:*");
        assert_eq!(record.metadata(), r#"{"team":"a b"}"#);
        assert_eq!(record.expires_at, "2026-12-01T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn a_refusal_may_know_no_record() {
        let verdict = read(br#"{"valid":false,"code":"not_found","limits":[],"quota":null,"headers":{}}"#).unwrap();
        assert_eq!((verdict.outcome, verdict.record.is_none()), (Outcome::NotFound, true));
    }

    #[test]
    fn a_call_that_costs_more_than_is_left_knows_when_to_come_again() {
        let after = |limits: [(u64, u64); 2]| {
            let limits = limits.map(|(remaining, reset)| {
                format!(r#"{{"name":"tokens","limit":10,"remaining":{remaining},"reset_seconds":{reset},"window_seconds":60}}"#)
            });
            let json = format!(r#"{{"valid":false,"code":"rate_limited","limits":[{}]}}"#, limits.join(","));
            read(json.as_bytes()).unwrap().retry_after_seconds(Timestamp::from_micros(0))
        };
        assert_eq!(after([(3, 40), (4, 7)]), Some(40));
        assert_eq!(after([(3, 40), (0, 7)]), Some(7));
    }

    #[test]
    fn a_dry_run_brings_its_checks() {
        let json = br#"{"valid":false,"code":"not_found","checks":[
            {"check":"malformed","outcome":"pass","detail":"the key has the right form"},
            {"check":"not_found","outcome":"fail","detail":"no such key is known"}]}"#;
        assert_eq!(read(json).unwrap().checks, Verdict::unknown(Outcome::NotFound, true).checks);
    }

    #[test]
    fn nothing_is_believed_that_is_not_understood() {
        for bad in [
            "",
            "[]",
            r#"{"valid":true,"code":"splendid"}"#,
            r#"{"valid":true,"code":"valid"}"#,
            &VALID.replace("true", "false"),
            &VALID.replace("\"code\":\"valid\"", "\"code\":\"revoked\""),
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
