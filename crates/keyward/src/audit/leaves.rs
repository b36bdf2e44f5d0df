//! Rows of the book and the leaves that they are.

use keyward_core::id::{self, Id};
use keyward_core::leaf::{Actor, Leaf, Object, Salt, Seal};
use keyward_core::time::Timestamp;
use keyward_core::tree::Hash;
use serde_json::Value as Details;
use uuid::Uuid;

use crate::db::{Bind as _, Json, Value, row};

row! {
    /// A row of the book.
    #[derive(Debug, Clone)]
    pub struct EventRow {
        /// Its place in the book, from 0.
        pub sequence: i64,
        pub id: Id<id::Event>,
        pub event_type: String,
        pub action: String,
        pub actor_type: String,
        /// Empty once erased.
        pub actor_id: String,
        pub actor_name: Option<String>,
        pub resource_type: String,
        /// Empty once erased.
        pub resource_id: String,
        pub resource_name: Option<String>,
        pub success: bool,
        pub error_message: Option<String>,
        pub details: Json<Details>,
        pub ip_address: Option<String>,
        pub user_agent: Option<String>,
        pub organization_id: Option<Id<id::Organization>>,
        pub request_id: Option<String>,
        pub occurred_at: Timestamp,
        /// Never before that of an earlier row.
        pub logged_at: Timestamp,
        pub actor_seal: Vec<u8>,
        pub object_seal: Vec<u8>,
    }
}

row! {
    /// The end of the book.
    #[derive(Debug, Clone)]
    pub struct Head {
        pub log_id: Uuid,
        /// Events that have a number.
        pub size: i64,
        pub logged_at: Timestamp,
        /// Earlier events were retired.
        pub kept_from: i64,
    }
}

impl EventRow {
    /// Takes its place; its parts are sealed under the salts.
    pub(super) fn number(&mut self, sequence: i64, logged_at: Timestamp, salts: [Salt; 2]) {
        (self.sequence, self.logged_at) = (sequence, logged_at);
        (self.actor_seal, self.object_seal) = (salts[0].to_vec(), salts[1].to_vec());
    }

    /// What its leaf says, given the details as text; `None` when the row cannot be one of the book.
    pub fn leaf<'a>(&'a self, log: Uuid, details: &'a str) -> Option<Leaf<'a>> {
        Some(Leaf {
            log: log.into_bytes(),
            sequence: self.sequence.try_into().ok()?,
            id: self.id.uuid().into_bytes(),
            organization: self.organization_id.map(|id| id.uuid().into_bytes()),
            event_type: &self.event_type,
            action: &self.action,
            success: self.success,
            actor_kind: &self.actor_type,
            resource_kind: &self.resource_type,
            request_id: self.request_id.as_deref(),
            occurred_at: self.occurred_at,
            logged_at: self.logged_at,
            actor: Actor {
                id: &self.actor_id,
                name: self.actor_name.as_deref(),
                ip_address: self.ip_address.as_deref(),
                user_agent: self.user_agent.as_deref(),
            },
            actor_seal: Seal::read(&self.actor_seal)?,
            object: Object {
                id: &self.resource_id,
                name: self.resource_name.as_deref(),
                error_message: self.error_message.as_deref(),
                details,
            },
            object_seal: Seal::read(&self.object_seal)?,
        })
    }

    pub fn leaf_hash(&self, log: Uuid) -> Option<Hash> {
        Some(self.leaf(log, &serde_json::to_string(&self.details.0).ok()?)?.hash())
    }
}

impl EventRow {
    /// The fields in the order of `sql::EVENTS`.
    pub(super) fn into_values(self) -> [Value; 21] {
        [
            self.sequence.into_value(),
            self.logged_at.into_value(),
            self.occurred_at.into_value(),
            self.id.into_value(),
            self.organization_id.into_value(),
            self.success.into_value(),
            self.event_type.into_value(),
            self.action.into_value(),
            self.actor_type.into_value(),
            self.actor_id.into_value(),
            self.actor_name.into_value(),
            self.resource_type.into_value(),
            self.resource_id.into_value(),
            self.resource_name.into_value(),
            self.error_message.into_value(),
            self.ip_address.into_value(),
            self.user_agent.into_value(),
            self.request_id.into_value(),
            self.details.into_value(),
            self.actor_seal.into_value(),
            self.object_seal.into_value(),
        ]
    }
}
