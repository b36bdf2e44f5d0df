//! What a key may be given: its settings as they come in, checked, with a pointer to the field at fault.

use keyward_core::access::Permission;
use keyward_core::hours::{ActiveHours, HoursText};
use keyward_core::limit::{LimitRule, Per, QuotaRule};
use keyward_core::network::{self, AddressRules};
use keyward_core::problem::{Code, FieldFault};
use keyward_core::record::Rules;
use keyward_core::time::Timestamp;
use keyward_core::{route, scope, text};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::keyspaces::Keyspace;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::limits::check_limits;

/// Most scopes, rules of one kind, and limits of a key.
const MAX_LIST: usize = 100;
/// Largest metadata as JSON text, in bytes.
const MAX_METADATA: usize = 4_096;
const MAX_EXPIRY_DAYS: i64 = 365;

/// The rules of a key as they are written and stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RulesText {
    pub allowed_ips: Vec<String>,
    pub denied_ips: Vec<String>,
    pub allowed_routes: Vec<String>,
    /// ISO 3166-1 alpha-2.
    pub allowed_countries: Vec<String>,
    pub active_hours: Option<HoursText>,
    pub limits: Vec<LimitRule>,
    pub quota: Option<QuotaRule>,
}

/// When a key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// As the keyspace says.
    Default,
    Never,
    InDays(i64),
    At(Timestamp),
}

/// Everything that is chosen about a key.
#[derive(Debug, Clone)]
pub struct KeyTerms {
    pub name: String,
    pub scopes: Vec<String>,
    pub permissions: Vec<String>,
    pub rules: RulesText,
    pub external_id: Option<String>,
    pub metadata: Value,
}

fn fault(pointer: impl Into<String>, detail: impl std::fmt::Display) -> Error {
    Error::field(pointer, detail)
}

fn check_list<T>(field: &str, items: &[T], check: impl Fn(&T) -> bool, kind: &str) -> Result<()> {
    if items.len() > MAX_LIST {
        return Err(fault(format!("/{field}"), format!("has more than {MAX_LIST} entries")));
    }
    match items.iter().position(|item| !check(item)) {
        Some(index) => Err(fault(format!("/{field}/{index}"), format!("is not {kind}"))),
        None => Ok(()),
    }
}

impl RulesText {
    /// Reads the rules into what a verdict judges by.
    pub fn read(&self) -> Result<Rules> {
        let is_block = |text: &String| network::parse_block(text).is_some();
        check_list("allowed_ips", &self.allowed_ips, is_block, "an address or CIDR block")?;
        check_list("denied_ips", &self.denied_ips, is_block, "an address or CIDR block")?;
        check_list(
            "allowed_routes",
            &self.allowed_routes,
            |text| route::is_valid(text),
            "a route such as GET /invoices/*",
        )?;
        check_list(
            "allowed_countries",
            &self.allowed_countries,
            |text| read_country(text).is_some(),
            "a country code such as JP",
        )?;
        check_limits(&self.limits, Per::Key)?;
        if let Some(index) = self.limits.iter().position(|rule| rule.per == Some(Per::Organization)) {
            return Err(fault(
                format!("/limits/{index}/per"),
                "is what the plan says; a key's limit is per key or external_id",
            ));
        }
        if let Some((field, why)) = self.quota.as_ref().and_then(QuotaRule::fault) {
            return Err(fault(format!("/quota/{field}"), why));
        }
        let blocks = |texts: &[String]| texts.iter().filter_map(|text| network::parse_block(text)).collect();
        Ok(Rules {
            addresses: AddressRules { allowed: blocks(&self.allowed_ips), denied: blocks(&self.denied_ips) },
            routes: self.allowed_routes.iter().map(|text| text.as_str().into()).collect(),
            countries: self.allowed_countries.iter().filter_map(|text| read_country(text)).collect(),
            hours: self
                .active_hours
                .as_ref()
                .map(ActiveHours::read)
                .transpose()
                .map_err(|why| fault("/active_hours", why))?,
        })
    }
}

fn read_country(text: &str) -> Option<[u8; 2]> {
    text.as_bytes().try_into().ok().filter(|code: &[u8; 2]| code.iter().all(u8::is_ascii_uppercase))
}

impl KeyTerms {
    /// Refuses what is not well formed, and what the caller may not hand on.
    pub(super) fn check(&self, context: &Context) -> Result<()> {
        text::label(&self.name, 200).map_err(|why| fault("/name", why))?;
        check_list("scopes", &self.scopes, |text| scope::is_valid(text), "a scope such as invoices:read")?;
        self.rules.read()?;
        if let Some(external_id) = &self.external_id {
            text::label(external_id, 255).map_err(|why| fault("/external_id", why))?;
        }
        check_metadata(&self.metadata)?;
        self.check_within(context)
    }

    /// Refuses what the caller may not hand on.
    pub(super) fn check_within(&self, context: &Context) -> Result<()> {
        self.check_permissions(context)?;
        self.check_scopes_within(context)
    }

    /// A caller hands on only what it holds, and only what can be held by a key.
    fn check_permissions(&self, context: &Context) -> Result<()> {
        for (index, name) in self.permissions.iter().enumerate() {
            let pointer = format!("/permissions/{index}");
            let Ok(permission) = name.parse::<Permission>() else { return Err(fault(pointer, "is not a permission")) };
            if !permission.delegable() {
                let fault = FieldFault { pointer, detail: format!("{permission} cannot be given to a key") };
                return Err(Error::fields(Code::NotDelegable, vec![fault]));
            }
            context.require_anywhere(permission)?;
        }
        Ok(())
    }

    /// A key that has scopes itself hands on only what they cover.
    fn check_scopes_within(&self, context: &Context) -> Result<()> {
        let held = &context.scopes;
        match self.scopes.iter().find(|wanted| !held.is_empty() && !scope::any_covers(held, wanted)) {
            Some(beyond) => {
                Err(Error::new(Code::Forbidden, format!("The calling key's own scopes do not cover {beyond}.")))
            }
            None => Ok(()),
        }
    }

    /// What free text is looked for in.
    pub(super) fn search_text(&self) -> String {
        format!("{} {}", self.name, self.external_id.as_deref().unwrap_or_default()).to_lowercase()
    }
}

fn check_metadata(metadata: &Value) -> Result<()> {
    if !metadata.is_object() {
        return Err(fault("/metadata", "must be an object"));
    }
    if metadata.to_string().len() > MAX_METADATA {
        return Err(fault("/metadata", format!("is longer than {MAX_METADATA} bytes as JSON")));
    }
    Ok(())
}

impl Expiry {
    /// The instant of the end, within what the keyspace allows.
    pub(super) fn resolve(self, keyspace: &Keyspace, now: Timestamp) -> Result<Option<Timestamp>> {
        let longest = keyspace.max_expiry_days.unwrap_or(MAX_EXPIRY_DAYS).min(MAX_EXPIRY_DAYS);
        let (pointer, at) = match self {
            Self::Default => {
                ("/expires_in_days", keyspace.default_expiry_days.map(|days| now.plus_days(days.min(longest))))
            }
            Self::Never => ("/expires_at", None),
            Self::InDays(days) if (1..=MAX_EXPIRY_DAYS).contains(&days) => {
                ("/expires_in_days", Some(now.plus_days(days)))
            }
            Self::InDays(_) => {
                return Err(fault("/expires_in_days", format!("must be between 1 and {MAX_EXPIRY_DAYS}")));
            }
            Self::At(at) if at <= now => return Err(fault("/expires_at", "is not in the future")),
            Self::At(at) => ("/expires_at", Some(at)),
        };
        match at {
            None if keyspace.max_expiry_days.is_some() => {
                Err(fault(pointer, format!("keys of this keyspace end after at most {longest} days")))
            }
            Some(at) if at > now.plus_days(longest) => {
                Err(fault(pointer, format!("is more than {longest} days ahead")))
            }
            at => Ok(at),
        }
    }
}

/// Words parted by spaces.
pub(super) fn words(text: &str) -> Vec<String> {
    text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
