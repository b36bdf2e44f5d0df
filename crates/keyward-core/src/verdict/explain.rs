//! A dry run: every rule's state in words, so that whoever asks "why was it refused" gets an answer.

use super::{Outcome, RULES, Request};
use crate::limit::Decision;
use crate::record::{KeyRecord, SecretStatus};
use crate::scope;
use crate::time::Timestamp;

/// The state of one rule in a dry run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// The code that the rule would refuse with.
    pub check: &'static str,
    pub outcome: CheckOutcome,
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    Pass,
    Fail,
    /// The rule had nothing to judge by.
    Skipped,
}

/// Every rule's state for a dry run, in order.
pub fn explain(key: &KeyRecord, request: &Request<'_>, now: Timestamp) -> Vec<Check> {
    let mut checks =
        vec![pass(Outcome::Malformed, "the key has the right form"), pass(Outcome::NotFound, "the key exists")];
    for (refusal, passes) in RULES {
        let outcome = match () {
            () if !passes(key, request, now) => CheckOutcome::Fail,
            () if !applies(*refusal, key, request) => CheckOutcome::Skipped,
            () => CheckOutcome::Pass,
        };
        checks.push(Check { check: refusal.as_str(), outcome, detail: detail(*refusal, outcome, key, request) });
    }
    checks
}

/// The limits' and the quota's state for a dry run.
pub(super) fn explain_limits(decision: &Decision) -> [Check; 2] {
    let refusing = decision.limits.iter().find(|state| state.refused);
    let limit = match refusing.or(decision.limits.first()) {
        None => (CheckOutcome::Skipped, "no such rule applies".to_owned()),
        Some(state) => {
            let text = format!(
                "{}: {} of {} left in {} s",
                state.rule.name, state.remaining, state.rule.limit, state.rule.window_seconds
            );
            (if state.refused { CheckOutcome::Fail } else { CheckOutcome::Pass }, text)
        }
    };
    let quota = match decision.quota {
        None => (CheckOutcome::Skipped, "no such rule applies".to_owned()),
        Some(quota) => {
            let spent = quota.remaining == 0 || decision.refused == Some(Outcome::QuotaExceeded);
            let text = format!("{} of {} left until {}", quota.remaining, quota.limit, quota.resets_at);
            (if spent { CheckOutcome::Fail } else { CheckOutcome::Pass }, text)
        }
    };
    [(Outcome::RateLimited, limit), (Outcome::QuotaExceeded, quota)].map(|(of, (outcome, detail))| Check {
        check: of.as_str(),
        outcome,
        detail,
    })
}

pub(super) fn explain_unknown(outcome: Outcome) -> Vec<Check> {
    let fail = |of: Outcome, detail: &str| Check {
        check: of.as_str(),
        outcome: CheckOutcome::Fail,
        detail: detail.to_owned(),
    };
    match outcome {
        Outcome::Malformed => {
            vec![fail(Outcome::Malformed, "the string has not the form of a key, or its checksum is wrong")]
        }
        _ => vec![
            pass(Outcome::Malformed, "the key has the right form"),
            fail(Outcome::NotFound, "no such key is known"),
        ],
    }
}

fn pass(of: Outcome, detail: &str) -> Check {
    Check { check: of.as_str(), outcome: CheckOutcome::Pass, detail: detail.to_owned() }
}

/// Whether the rule had something to judge.
fn applies(refusal: Outcome, key: &KeyRecord, request: &Request<'_>) -> bool {
    let rules = key.rules();
    match refusal {
        Outcome::Expired => key.expires_at != Timestamp::NEVER,
        Outcome::WrongEnvironment => request.environment.is_some(),
        Outcome::InsufficientScope => !request.scopes.is_empty(),
        Outcome::IpForbidden => rules.is_some_and(|rules| !rules.addresses.is_empty()),
        Outcome::RouteForbidden => rules.is_some_and(|rules| !rules.routes.is_empty()),
        Outcome::OutsideHours => rules.is_some_and(|rules| rules.hours.is_some()),
        Outcome::CountryForbidden => rules.is_some_and(|rules| !rules.countries.is_empty()),
        _ => true,
    }
}

fn detail(refusal: Outcome, outcome: CheckOutcome, key: &KeyRecord, request: &Request<'_>) -> String {
    let told = |text: &str| text.to_owned();
    match (refusal, outcome) {
        (_, CheckOutcome::Skipped) => told("no such rule applies"),
        (Outcome::Rotated, _) if key.secret_status == SecretStatus::Rotated => {
            format!("this secret was replaced; its overlap ends at {}", key.secret_expires_at)
        }
        (Outcome::Expired, _) => format!("the key expires at {}", key.expires_at),
        (Outcome::WrongEnvironment, _) => {
            format!("the key is for {}, asked was {}", key.environment(), request.environment.unwrap_or("-"))
        }
        (Outcome::InsufficientScope, CheckOutcome::Fail) => {
            let missing: Vec<&str> =
                request.scopes.iter().copied().filter(|wanted| !scope::any_covers(key.scopes(), wanted)).collect();
            format!("not covered: {}", missing.join(" "))
        }
        (Outcome::IpForbidden, CheckOutcome::Fail) => match request.ip {
            Some(address) => format!("the key's address rules refuse {address}"),
            None => told("the key has address rules and no address was told"),
        },
        (Outcome::RouteForbidden, CheckOutcome::Fail) => match (request.method, request.path) {
            (Some(method), Some(path)) => format!("no allowed route covers {method} {path}"),
            _ => told("the key has allowed routes and no method and path were told"),
        },
        (Outcome::CountryForbidden, CheckOutcome::Fail) if request.country.is_none() => {
            told("the key has allowed countries and the country of the address is not known")
        }
        (_, CheckOutcome::Pass) => told("passed"),
        (_, CheckOutcome::Fail) => told("refused"),
    }
}
