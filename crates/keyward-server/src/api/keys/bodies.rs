//! What is sent about keys.

use keyward::keys::{Expiry, ImportItem, KeyTerms, RulesText};
use keyward_core::hours::HoursText;
use keyward_core::limit::{LimitRule, QuotaRule};
use keyward_core::time::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::json::{given, or_empty, present};
use crate::problem::Problem;

/// What makes a key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKeyBody {
    name: String,
    /// What the key may do at the operator's API, e.g. `invoices:read`.
    #[serde(default)]
    scopes: Vec<String>,
    /// What the key may do at Keyward itself; makes it a service key.
    #[serde(default)]
    permissions: Vec<String>,
    /// One of the keyspace's environments; its first when absent.
    environment: Option<String>,
    /// Id or name; `default` when absent.
    keyspace: Option<String>,
    /// 1–365.
    expires_in_days: Option<i64>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<String>")]
    expires_at: Option<Option<Timestamp>>,
    /// CIDR blocks or addresses, v4 and v6.
    #[serde(default)]
    allowed_ips: Vec<String>,
    #[serde(default)]
    denied_ips: Vec<String>,
    /// E.g. `GET /invoices/*`.
    #[serde(default)]
    allowed_routes: Vec<String>,
    /// ISO 3166-1 alpha-2.
    #[serde(default)]
    allowed_countries: Vec<String>,
    #[schemars(with = "Option<Value>")]
    active_hours: Option<HoursText>,
    #[serde(default)]
    #[schemars(with = "Vec<Value>")]
    limits: Vec<LimitRule>,
    #[schemars(with = "Option<Value>")]
    quota: Option<QuotaRule>,
    external_id: Option<String>,
    /// An object of up to 4 KiB.
    metadata: Option<Value>,
}

fn expiry(in_days: Option<i64>, at: Option<Option<Timestamp>>) -> Result<Option<Expiry>, Problem> {
    match (in_days, at) {
        (None, None) => Ok(None),
        (Some(days), None) => Ok(Some(Expiry::InDays(days))),
        (None, Some(at)) => Ok(Some(at.map_or(Expiry::Never, Expiry::At))),
        (Some(_), Some(_)) => {
            Err(keyward::Error::field("/expires_at", "cannot be given beside expires_in_days").into())
        }
    }
}

impl NewKeyBody {
    pub(super) fn read(self) -> Result<keyward::keys::NewKey, Problem> {
        let terms = KeyTerms {
            name: self.name,
            scopes: self.scopes,
            permissions: self.permissions,
            rules: RulesText {
                allowed_ips: self.allowed_ips,
                denied_ips: self.denied_ips,
                allowed_routes: self.allowed_routes,
                allowed_countries: self.allowed_countries,
                active_hours: self.active_hours,
                limits: self.limits,
                quota: self.quota,
            },
            external_id: self.external_id,
            metadata: self.metadata.unwrap_or_else(|| json!({})),
        };
        let expiry = expiry(self.expires_in_days, self.expires_at)?.unwrap_or(Expiry::Default);
        Ok(keyward::keys::NewKey { terms, environment: self.environment, keyspace: self.keyspace, expiry })
    }
}

/// What changes about a key; what is left out stays, null clears, and a name cannot be cleared.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyPatch {
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "String")]
    name: Option<String>,
    #[serde(default, deserialize_with = "or_empty")]
    scopes: Option<Vec<String>>,
    #[serde(default, deserialize_with = "or_empty")]
    permissions: Option<Vec<String>>,
    expires_in_days: Option<i64>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<String>")]
    expires_at: Option<Option<Timestamp>>,
    #[serde(default, deserialize_with = "or_empty")]
    allowed_ips: Option<Vec<String>>,
    #[serde(default, deserialize_with = "or_empty")]
    denied_ips: Option<Vec<String>>,
    #[serde(default, deserialize_with = "or_empty")]
    allowed_routes: Option<Vec<String>>,
    #[serde(default, deserialize_with = "or_empty")]
    allowed_countries: Option<Vec<String>>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<Value>")]
    active_hours: Option<Option<HoursText>>,
    #[serde(default, deserialize_with = "or_empty")]
    #[schemars(with = "Option<Vec<Value>>")]
    limits: Option<Vec<LimitRule>>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<Value>")]
    quota: Option<Option<QuotaRule>>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<String>")]
    external_id: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    #[schemars(with = "Option<Value>")]
    metadata: Option<Option<Value>>,
}

impl KeyPatch {
    pub(super) fn expiry(&self) -> Result<Option<Expiry>, Problem> {
        expiry(self.expires_in_days, self.expires_at)
    }

    pub(super) fn apply(self, terms: &mut KeyTerms) {
        fn set<T>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        set(&mut terms.name, self.name);
        set(&mut terms.scopes, self.scopes);
        set(&mut terms.permissions, self.permissions);
        set(&mut terms.external_id, self.external_id);
        set(&mut terms.metadata, self.metadata.map(|metadata| metadata.unwrap_or_else(|| json!({}))));
        let rules = &mut terms.rules;
        set(&mut rules.allowed_ips, self.allowed_ips);
        set(&mut rules.denied_ips, self.denied_ips);
        set(&mut rules.allowed_routes, self.allowed_routes);
        set(&mut rules.allowed_countries, self.allowed_countries);
        set(&mut rules.active_hours, self.active_hours);
        set(&mut rules.limits, self.limits);
        set(&mut rules.quota, self.quota);
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateBody {
    /// How long the other secrets stay valid: 0 (at once) to 2592000 (30 days).
    pub overlap_seconds: Option<i64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReasonBody {
    /// Shown with the key and kept in the book.
    pub reason: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeAllBody {
    /// Must be true.
    pub confirm: bool,
    /// Only the keys of this user.
    pub owner_id: Option<String>,
    /// Only the keys of this keyspace, by id or name.
    pub keyspace: Option<String>,
    pub reason: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CleanupBody {
    /// Only keys that expired at least so many days ago; 0 when absent.
    pub older_than_days: Option<i64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportBody {
    /// 1–1,000.
    items: Vec<ImportItemBody>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ImportItemBody {
    name: String,
    hash: String,
    /// `sha256`, `sha512`, `hmac-sha256`, `pbkdf2-sha256`, `bcrypt` or `argon2id`.
    algorithm: String,
    /// The last four characters of the key.
    hint: Option<String>,
    /// What the key's string begins with.
    prefix: Option<String>,
    environment: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[schemars(with = "Option<String>")]
    expires_at: Option<Timestamp>,
    #[serde(default)]
    #[schemars(with = "Vec<Value>")]
    limits: Vec<LimitRule>,
    #[schemars(with = "Option<Value>")]
    quota: Option<QuotaRule>,
    external_id: Option<String>,
    metadata: Option<Value>,
}

impl ImportBody {
    pub(super) fn read(self) -> Vec<ImportItem> {
        let read = |item: ImportItemBody| ImportItem {
            name: item.name,
            hash: item.hash,
            algorithm: item.algorithm,
            hint: item.hint,
            prefix: item.prefix,
            environment: item.environment,
            scopes: item.scopes,
            expires_at: item.expires_at,
            limits: item.limits,
            quota: item.quota,
            external_id: item.external_id,
            metadata: item.metadata.unwrap_or_else(|| json!({})),
        };
        self.items.into_iter().map(read).collect()
    }
}
