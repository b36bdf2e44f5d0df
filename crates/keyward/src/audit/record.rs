//! An event as it leaves the book and can come back: with what its leaf is made from. Exports and archives are made of such lines.

use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::text;
use keyward_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::EventRow;
use crate::db::Json;
use crate::error::{Error, Result};

/// An event with what its leaf is made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportedEvent {
    pub sequence: i64,
    pub id: Id<id::Event>,
    pub event_type: String,
    pub action: String,
    pub actor: ExportedParty,
    pub resource: ExportedParty,
    pub success: bool,
    pub error_message: Option<String>,
    pub details: Value,
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
    pub organization_id: Option<Id<id::Organization>>,
    pub request_id: Option<String>,
    pub occurred_at: Timestamp,
    pub logged_at: Timestamp,
    pub actor_seal: String,
    pub object_seal: String,
    pub leaf_hash: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportedParty {
    pub r#type: String,
    pub id: String,
    pub name: Option<String>,
}

impl ExportedEvent {
    pub(crate) fn of(row: EventRow, log: Uuid) -> Result<Self> {
        let unreadable = || Error::new(Code::Internal, "An event cannot be read.");
        let leaf_hash = text::hex(&row.leaf_hash(log).ok_or_else(unreadable)?);
        Ok(Self {
            leaf_hash,
            sequence: row.sequence,
            id: row.id,
            event_type: row.event_type,
            action: row.action,
            actor: ExportedParty { r#type: row.actor_type, id: row.actor_id, name: row.actor_name },
            resource: ExportedParty { r#type: row.resource_type, id: row.resource_id, name: row.resource_name },
            success: row.success,
            error_message: row.error_message,
            details: row.details.0,
            ip_address: row.ip_address,
            user_agent: row.user_agent,
            organization_id: row.organization_id,
            request_id: row.request_id,
            occurred_at: row.occurred_at,
            logged_at: row.logged_at,
            actor_seal: text::hex(&row.actor_seal),
            object_seal: text::hex(&row.object_seal),
        })
    }

    /// As it stands in the book; `None` when a seal is no hexadecimal text.
    pub(crate) fn into_row(self) -> Option<EventRow> {
        Some(EventRow {
            actor_seal: text::from_hex(&self.actor_seal)?,
            object_seal: text::from_hex(&self.object_seal)?,
            sequence: self.sequence,
            id: self.id,
            event_type: self.event_type,
            action: self.action,
            actor_type: self.actor.r#type,
            actor_id: self.actor.id,
            actor_name: self.actor.name,
            resource_type: self.resource.r#type,
            resource_id: self.resource.id,
            resource_name: self.resource.name,
            success: self.success,
            error_message: self.error_message,
            details: Json(self.details),
            ip_address: self.ip_address,
            user_agent: self.user_agent,
            organization_id: self.organization_id,
            request_id: self.request_id,
            occurred_at: self.occurred_at,
            logged_at: self.logged_at,
        })
    }
}
