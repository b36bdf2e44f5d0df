//! The judgement of a key: one pure function from a record, a request and the time to a verdict.
//!
//! The rules stand in the order of the contract (section 4) and the first that applies decides. Nothing is counted
//! here: limits and quotas are taken by the platform after every rule has passed.

mod explain;

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::id::{self, Id};
use crate::limit::{Decision, LimitState, QuotaState};
use crate::problem::Code;
use crate::record::{KeyRecord, KeyStatus, SecretStatus};
use crate::time::Timestamp;
use crate::{route, scope};

pub use explain::{Check, CheckOutcome, explain};
use explain::{explain_limits, explain_unknown};

macro_rules! outcomes {
    ($($variant:ident $code:literal $status:literal $meaning:literal;)*) => {
        /// What was decided, in the order in which the rules apply.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Outcome { $($variant),* }

        impl Outcome {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The contract's `code`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }

            /// The HTTP status with which a gateway tells the client.
            pub fn gateway_status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// A sentence for whoever was refused.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }
        }
    };
}

outcomes! {
    Valid "valid" 204 "The key may do this.";
    Malformed "malformed" 401 "What was sent has not the form of a key: a character is missing, or two were exchanged.";
    NotFound "not_found" 401 "No such key is known here, or none was sent.";
    Disabled "disabled" 401 "The key is paused. Its owner can enable it again.";
    Revoked "revoked" 401 "The key was ended for good. Use another one.";
    Rotated "rotated" 401 "This secret was replaced by a newer one of the same key.";
    Expired "expired" 401 "The time of the key, or of this secret, is over.";
    WrongEnvironment "wrong_environment" 403 "The key belongs to another environment, such as `test` instead of `live`.";
    InsufficientScope "insufficient_scope" 403 "The key's scopes do not cover what was asked for.";
    IpForbidden "ip_forbidden" 403 "The address of the client is not among those from which the key may be used, or is not known.";
    RouteForbidden "route_forbidden" 403 "The key may not be used for this method and path.";
    OutsideHours "outside_hours" 403 "The key is not active at this time.";
    CountryForbidden "country_forbidden" 403 "The key may not be used from this country, or the country is not known.";
    OrganizationSuspended "organization_suspended" 403 "The organization that owns the key is suspended.";
    RateLimited "rate_limited" 429 "A limit of the key or its plan is reached. Wait for the time in Retry-After.";
    QuotaExceeded "quota_exceeded" 429 "The quota of the key or its plan is used up until its period ends.";
}

impl Outcome {
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.as_str() == code)
    }

    /// The problem type under which a gateway tells a refusal.
    pub fn problem(self) -> Code {
        match self {
            Self::RateLimited => Code::RateLimited,
            Self::QuotaExceeded => Code::QuotaExceeded,
            refused if refused.gateway_status() == 401 => Code::Unauthenticated,
            _ => Code::KeyRefused,
        }
    }

    pub fn is_valid(self) -> bool {
        self == Self::Valid
    }
}

/// Whose keys the caller may ask about; others look like absent ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    #[default]
    Instance,
    Organization(Id<id::Organization>),
}

impl Reach {
    pub fn includes(self, organization: Id<id::Organization>) -> bool {
        match self {
            Self::Instance => true,
            Self::Organization(own) => own == organization,
        }
    }
}

/// A named limit that a call draws on, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitUse<'a> {
    pub name: &'a str,
    pub cost: u64,
}

/// What is asked about a presented key.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub reach: Reach,
    /// All must be covered.
    pub scopes: &'a [&'a str],
    pub environment: Option<&'a str>,
    pub cost: u64,
    pub limits: &'a [LimitUse<'a>],
    pub ip: Option<IpAddr>,
    /// ISO 3166-1 alpha-2, upper case, when it could be told from the address.
    pub country: Option<[u8; 2]>,
    pub method: Option<&'a str>,
    pub path: Option<&'a str>,
    /// Count nothing and tell every rule's state.
    pub dry_run: bool,
}

impl Default for Request<'_> {
    fn default() -> Self {
        Self {
            reach: Reach::Instance,
            scopes: &[],
            environment: None,
            cost: 1,
            limits: &[],
            ip: None,
            country: None,
            method: None,
            path: None,
            dry_run: false,
        }
    }
}

/// The answer about a presented key.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub outcome: Outcome,
    /// Whom the key belongs to; absent when it is malformed or not found.
    pub record: Option<Arc<KeyRecord>>,
    /// How the limits of the call stand; empty where none was asked because a rule had refused before.
    pub limits: SmallVec<[LimitState; 2]>,
    pub quota: Option<QuotaState>,
    /// The index of a limit that the call names and nobody has set; then nothing was decided.
    pub unknown_limit: Option<usize>,
    /// Every rule's state, for a dry run only.
    pub checks: Vec<Check>,
}

/// No key is known yet: room for a verdict.
impl Default for Verdict {
    fn default() -> Self {
        Self::unknown(Outcome::NotFound, false)
    }
}

impl Verdict {
    /// A verdict without a record: malformed or not found.
    pub fn unknown(outcome: Outcome, dry_run: bool) -> Self {
        let checks = if dry_run { explain_unknown(outcome) } else { Vec::new() };
        Self { outcome, record: None, limits: SmallVec::new(), quota: None, unknown_limit: None, checks }
    }

    /// Judges a key by every rule that needs no counter, in the place of whatever was judged before.
    pub fn judge(&mut self, key: &KeyRecord, request: &Request<'_>, now: Timestamp) {
        self.clear();
        self.outcome = judge(key, request, now);
        if request.dry_run {
            self.checks = explain(key, request, now);
        }
    }

    /// Holds on to nothing and nobody.
    pub fn clear(&mut self) {
        self.record = None;
        self.limits.clear();
        (self.quota, self.unknown_limit) = (None, None);
        self.checks.clear();
    }

    /// Takes in what was decided about the limits; a rule that refused before stays the outcome.
    pub fn limited(&mut self, decision: Decision, dry_run: bool) {
        if dry_run {
            self.checks.extend(explain_limits(&decision));
        }
        if let Some(refused) = decision.refused.filter(|_| self.is_valid()) {
            self.outcome = refused;
        }
        (self.limits, self.quota) = (decision.limits, decision.quota);
    }

    pub fn is_valid(&self) -> bool {
        self.outcome.is_valid()
    }

    /// Seconds after which a limited call can pass: the longest wait of what refused it.
    pub fn retry_after_seconds(&self, now: Timestamp) -> Option<u64> {
        match self.outcome {
            Outcome::RateLimited => {
                self.limits.iter().filter(|state| state.refused).map(|state| state.reset_seconds).max()
            }
            Outcome::QuotaExceeded => {
                self.quota.map(|quota| (quota.resets_at.as_seconds() - now.as_seconds()).max(0) as u64)
            }
            _ => None,
        }
        .map(|seconds| seconds.max(1))
    }
}

/// The rules in order, each with the outcome that it refuses with.
type Rule = (Outcome, fn(&KeyRecord, &Request<'_>, Timestamp) -> bool);

const RULES: &[Rule] = &[
    (Outcome::Disabled, |key, _, _| key.status != KeyStatus::Disabled),
    (Outcome::Revoked, |key, _, _| key.status != KeyStatus::Revoked && key.secret_status != SecretStatus::Revoked),
    (Outcome::Rotated, |key, _, now| !is_rotated(key, now)),
    (Outcome::Expired, |key, _, now| key.expires_at > now && key.status != KeyStatus::Expired),
    (Outcome::WrongEnvironment, |key, asked, _| asked.environment.is_none_or(|wanted| wanted == key.environment())),
    (Outcome::InsufficientScope, |key, asked, _| {
        asked.scopes.iter().all(|wanted| scope::any_covers(key.scopes(), wanted))
    }),
    (Outcome::IpForbidden, permits_address),
    (Outcome::RouteForbidden, permits_route),
    (Outcome::OutsideHours, |key, _, now| {
        key.rules().and_then(|rules| rules.hours.as_ref()).is_none_or(|hours| hours.contains(now))
    }),
    (Outcome::CountryForbidden, permits_country),
    (Outcome::OrganizationSuspended, |key, _, _| !key.tenant.suspended),
];

/// Judges a key by every rule that needs no counter.
pub fn judge(key: &KeyRecord, request: &Request<'_>, now: Timestamp) -> Outcome {
    judge_but(&[], key, request, now)
}

/// Judges a key by every rule that needs no counter, but for those that refuse with one of `left_out`: where what they are about is
/// not at hand.
pub fn judge_but(left_out: &[Outcome], key: &KeyRecord, request: &Request<'_>, now: Timestamp) -> Outcome {
    let mut refusals = RULES.iter().filter(|(_, passes)| !passes(key, request, now)).map(|(refusal, _)| *refusal);
    refusals.find(|refusal| !left_out.contains(refusal)).unwrap_or(Outcome::Valid)
}

fn is_rotated(key: &KeyRecord, now: Timestamp) -> bool {
    key.secret_status == SecretStatus::Rotated && key.secret_expires_at <= now
}

fn permits_address(key: &KeyRecord, request: &Request<'_>, _: Timestamp) -> bool {
    key.rules().map(|rules| &rules.addresses).filter(|rules| !rules.is_empty()).is_none_or(|rules| {
        // A key with address rules is refused when the address is not told.
        request.ip.is_some_and(|address| rules.permits(address))
    })
}

fn permits_route(key: &KeyRecord, request: &Request<'_>, _: Timestamp) -> bool {
    key.rules().map(|rules| &rules.routes).filter(|routes| !routes.is_empty()).is_none_or(|routes| {
        match (request.method, request.path) {
            (Some(method), Some(path)) => routes.iter().any(|pattern| route::covers(pattern, method, path)),
            _ => false,
        }
    })
}

fn permits_country(key: &KeyRecord, request: &Request<'_>, _: Timestamp) -> bool {
    key.rules()
        .map(|rules| &rules.countries)
        .filter(|countries| !countries.is_empty())
        .is_none_or(|countries| request.country.is_some_and(|country| countries.contains(&country)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyDigest;
    use crate::record::{RecordParts, Rules, Tenant};

    fn now() -> Timestamp {
        "2026-11-20T12:00:00Z".parse().unwrap()
    }

    fn key(change: impl FnOnce(&mut RecordParts<'_>)) -> KeyRecord {
        let nil = uuid::Uuid::nil();
        let mut parts = RecordParts {
            digest: KeyDigest::from_bytes([0; 32]),
            key_id: Id::from_uuid(nil),
            secret_id: Id::from_uuid(nil),
            owner_id: None,
            tenant: Arc::new(Tenant::new(Id::from_uuid(nil), "pro", false)),
            status: KeyStatus::Active,
            secret_status: SecretStatus::Active,
            expires_at: None,
            secret_expires_at: None,
            rules: Rules::default(),
            allowance: Default::default(),
            grant: None,
            name: "billing",
            environment: "live",
            scopes: "invoices:read orders:*",
            metadata: "{}",
            external_id: None,
        };
        change(&mut parts);
        KeyRecord::new(parts)
    }

    fn check(key: &KeyRecord, request: Request<'_>, expected: Outcome) {
        assert_eq!(judge(key, &request, now()), expected);
        let explained = explain(key, &request, now());
        let first =
            explained.iter().find(|check| check.outcome == CheckOutcome::Fail).map_or("valid", |check| check.check);
        assert_eq!(first, expected.as_str(), "the dry run tells the same");
    }

    #[test]
    fn each_rule_refuses_with_its_own_code() {
        let plain = Request::default();
        check(&key(|_| {}), plain, Outcome::Valid);
        check(&key(|k| k.status = KeyStatus::Disabled), plain, Outcome::Disabled);
        check(&key(|k| k.status = KeyStatus::Revoked), plain, Outcome::Revoked);
        check(&key(|k| k.secret_status = SecretStatus::Revoked), plain, Outcome::Revoked);
        check(&key(|k| k.expires_at = Some(now())), plain, Outcome::Expired);
        check(&key(|k| k.expires_at = Some(now().plus_seconds(1))), plain, Outcome::Valid);
        check(&key(|_| {}), Request { environment: Some("test"), ..plain }, Outcome::WrongEnvironment);
        check(&key(|_| {}), Request { scopes: &["orders:write", "invoices:read"], ..plain }, Outcome::Valid);
        check(&key(|_| {}), Request { scopes: &["invoices:write"], ..plain }, Outcome::InsufficientScope);
        let suspended = Arc::new(Tenant::new(Id::from_uuid(uuid::Uuid::nil()), "pro", true));
        check(&key(|k| k.tenant = suspended), plain, Outcome::OrganizationSuspended);
    }

    #[test]
    fn a_rotated_secret_lives_until_its_overlap_ends() {
        let rotated = |until: Timestamp| {
            key(|k| {
                k.secret_status = SecretStatus::Rotated;
                k.secret_expires_at = Some(until);
            })
        };
        check(&rotated(now().plus_seconds(1)), Request::default(), Outcome::Valid);
        check(&rotated(now()), Request::default(), Outcome::Rotated);
    }

    #[test]
    fn rules_without_the_facts_to_judge_by_refuse() {
        let plain = Request::default();
        let ruled = |rules: Rules| key(|k| k.rules = rules);
        let mut addresses = Rules::default();
        addresses.addresses.allowed = [crate::network::parse_block("192.0.2.0/24").unwrap()].into();
        check(&ruled(addresses.clone()), plain, Outcome::IpForbidden);
        check(&ruled(addresses), Request { ip: Some("192.0.2.9".parse().unwrap()), ..plain }, Outcome::Valid);
        let routes = Rules { routes: ["GET /invoices/*".into()].into(), ..Rules::default() };
        check(&ruled(routes.clone()), plain, Outcome::RouteForbidden);
        check(&ruled(routes), Request { method: Some("GET"), path: Some("/invoices/7"), ..plain }, Outcome::Valid);
        let countries = Rules { countries: [*b"JP"].into(), ..Rules::default() };
        check(&ruled(countries.clone()), plain, Outcome::CountryForbidden);
        check(&ruled(countries), Request { country: Some(*b"JP"), ..plain }, Outcome::Valid);
    }

    #[test]
    fn a_rule_that_is_left_out_hides_no_other() {
        let routes = Rules { routes: ["GET /invoices/*".into()].into(), ..Rules::default() };
        let suspended = Arc::new(Tenant::new(Id::from_uuid(uuid::Uuid::nil()), "pro", true));
        let judge = |tenant: Option<&Arc<Tenant>>, left_out: &[Outcome]| {
            let key = key(|k| {
                k.rules = routes.clone();
                k.tenant = tenant.cloned().unwrap_or_else(|| k.tenant.clone());
            });
            judge_but(left_out, &key, &Request::default(), now())
        };
        assert_eq!(judge(None, &[]), Outcome::RouteForbidden);
        assert_eq!(judge(None, &[Outcome::RouteForbidden]), Outcome::Valid);
        assert_eq!(judge(Some(&suspended), &[Outcome::RouteForbidden]), Outcome::OrganizationSuspended);
    }

    #[test]
    fn the_first_rule_that_applies_decides() {
        let worst = key(|k| {
            k.status = KeyStatus::Disabled;
            k.expires_at = Some(now());
        });
        check(
            &worst,
            Request { scopes: &["nothing"], environment: Some("test"), ..Request::default() },
            Outcome::Disabled,
        );
    }
}
