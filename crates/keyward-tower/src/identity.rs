//! Who calls: what the service behind the layer learns about the key. Never the key itself, nor its digest.

use std::sync::Arc;

use keyward_core::id::{self, Id};
use keyward_core::record::KeyRecord;
use keyward_core::scope;
use keyward_core::time::Timestamp;

/// The API key that opened the door, as a request extension. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ApiKeyIdentity(Arc<KeyRecord>);

impl ApiKeyIdentity {
    pub(crate) fn new(record: Arc<KeyRecord>) -> Self {
        Self(record)
    }

    /// The logical key; it stays the same when the secret is rotated.
    pub fn key_id(&self) -> Id<id::Key> {
        self.0.key_id
    }

    /// The one of the key's secrets that was presented.
    pub fn secret_id(&self) -> Id<id::KeySecret> {
        self.0.secret_id
    }

    /// The customer that the key belongs to.
    pub fn organization_id(&self) -> Id<id::Organization> {
        self.0.tenant.id
    }

    /// The person that the key belongs to, if it is not the organization's own.
    pub fn owner_id(&self) -> Option<Id<id::User>> {
        self.0.owner_id()
    }

    /// What the operator calls the key's holder elsewhere.
    pub fn external_id(&self) -> Option<&str> {
        self.0.external_id()
    }

    /// What people call the key.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// `live` or `test`, or another that the keyspace has.
    pub fn environment(&self) -> &str {
        self.0.environment()
    }

    /// The organization's plan.
    pub fn plan(&self) -> &str {
        &self.0.tenant.plan
    }

    /// The scopes as they were granted, wildcards included; to decide by them, ask [`Self::covers`].
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.0.scope_list()
    }

    /// Whether the key covers a scope beyond those that the layer required.
    pub fn covers(&self, wanted: &str) -> bool {
        scope::any_covers(self.0.scopes(), wanted)
    }

    /// The operator's own notes on the key: a JSON object as text.
    pub fn metadata(&self) -> &str {
        self.0.metadata()
    }

    /// None when the key does not expire.
    pub fn expires_at(&self) -> Option<Timestamp> {
        Some(self.0.expires_at).filter(|at| *at != Timestamp::NEVER)
    }
}
