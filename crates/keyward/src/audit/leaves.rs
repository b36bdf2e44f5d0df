//! Rows of the book and the leaves that they are.

use keyward_core::id::{self, Id};
use keyward_core::leaf::{Actor, Leaf, Object, Salt, Seal};
use keyward_core::time::Timestamp;
use keyward_core::tree::Hash;
use serde::ser::{Serialize, SerializeSeq, Serializer};
use serde_json::Value;
use uuid::Uuid;

use crate::db::{Json, row};

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
        pub details: Json<Value>,
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
        Some(self.leaf(log, &self.details.0.to_string())?.hash())
    }
}

/// Rows as `INSERT_EVENTS` takes them: the fields in the order of its columns.
pub(super) struct Rows<'a>(pub &'a [EventRow]);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Fields))
    }
}

struct Fields<'a>(&'a EventRow);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = self.0;
        let mut fields = serializer.serialize_seq(Some(21))?;
        fields.serialize_element(&row.sequence)?;
        fields.serialize_element(&row.logged_at.as_micros())?;
        fields.serialize_element(&row.occurred_at.as_micros())?;
        fields.serialize_element(row.id.uuid().simple().encode_lower(&mut [0; 32]))?;
        let organization = row.organization_id.map(|id| id.uuid().simple().to_string());
        fields.serialize_element(&organization)?;
        fields.serialize_element(&row.success)?;
        fields.serialize_element(&row.event_type)?;
        fields.serialize_element(&row.action)?;
        fields.serialize_element(&row.actor_type)?;
        fields.serialize_element(&row.actor_id)?;
        fields.serialize_element(&row.actor_name)?;
        fields.serialize_element(&row.resource_type)?;
        fields.serialize_element(&row.resource_id)?;
        fields.serialize_element(&row.resource_name)?;
        fields.serialize_element(&row.error_message)?;
        fields.serialize_element(&row.ip_address)?;
        fields.serialize_element(&row.user_agent)?;
        fields.serialize_element(&row.request_id)?;
        fields.serialize_element(&row.details.0)?;
        fields.serialize_element(&hex(&row.actor_seal))?;
        fields.serialize_element(&hex(&row.object_seal))?;
        fields.end()
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}
