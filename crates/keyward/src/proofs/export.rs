//! The book, or the part of it that a filter chooses, as lines that can be checked without a server: each event with what its leaf
//! is made from; where events are left out, the hashes of the subtrees that they make; at the end the signed checkpoint.

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::note::SignedCheckpoint;
use keyward_core::time::Timestamp;
use keyward_core::tree;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::Proofs;
use crate::audit::{EventFilter, EventRow};
use crate::context::Context;
use crate::db::Json;
use crate::error::{Error, Result};

/// Events that are read at a time.
const BATCH: i64 = 1_000;

/// A line of an export.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case", deny_unknown_fields)]
pub enum ExportLine {
    /// The first.
    Log {
        /// `name+id+key` (C2SP signed-note).
        public_key: String,
        log_id: Uuid,
        exported_at: Timestamp,
    },
    Event(Box<ExportedEvent>),
    /// Events that are left out: the hashes of the largest whole subtrees that they make, in hexadecimal digits, left to right.
    Skipped {
        from: u64,
        to: u64,
        hashes: Vec<String>,
    },
    /// The last.
    Checkpoint {
        note: String,
    },
}

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

/// An export in progress.
pub struct Exporting {
    proofs: Proofs,
    context: Context,
    organization: Option<Id<id::Organization>>,
    filter: EventFilter,
    log_id: Uuid,
    checkpoint: SignedCheckpoint,
    /// The next place of the book.
    next: u64,
    begun: bool,
    ended: bool,
}

impl Proofs {
    /// Begins an export of what a caller may export; with no organization, of the whole instance.
    pub async fn export(
        &self,
        context: &Context,
        organization: Option<Id<id::Organization>>,
        filter: EventFilter,
    ) -> Result<Exporting> {
        match organization {
            Some(organization) => context.require(organization, Permission::AuditExport).map(|_| ())?,
            None => context.require_at_instance(Permission::AuditExport)?,
        }
        let checkpoint = self.checkpoint().await?;
        let head = self.audit.head().await?;
        let log_id = head.map(|head| head.log_id).unwrap_or_default();
        let (proofs, context) = (self.clone(), context.clone());
        let exporting = Exporting {
            proofs,
            context,
            organization,
            filter,
            log_id,
            checkpoint,
            next: 0,
            begun: false,
            ended: false,
        };
        Ok(exporting)
    }
}

impl Exporting {
    /// The next lines; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<ExportLine>>> {
        if self.ended {
            return Ok(None);
        }
        let mut lines = Vec::new();
        if !std::mem::replace(&mut self.begun, true) {
            let (public_key, exported_at) = (self.proofs.public_key().text(), self.proofs.ground.now());
            lines.push(ExportLine::Log { public_key, log_id: self.log_id, exported_at });
        }
        let size = self.checkpoint.checkpoint.size;
        let audit = &self.proofs.audit;
        let list = audit.list_from(&self.context, self.organization, &self.filter, self.next as i64, BATCH);
        let rows = list.await?;
        let was_last = (rows.len() as i64) < BATCH;
        for row in rows.into_iter().take_while(|row| (row.sequence as u64) < size) {
            self.skip_to(row.sequence as u64, &mut lines).await?;
            self.next += 1;
            lines.push(ExportLine::Event(Box::new(ExportedEvent::of(row, self.log_id)?)));
        }
        if was_last || self.next >= size {
            self.skip_to(size, &mut lines).await?;
            lines.push(ExportLine::Checkpoint { note: self.checkpoint.note() });
            self.ended = true;
        }
        Ok(Some(lines))
    }

    async fn skip_to(&mut self, to: u64, lines: &mut Vec<ExportLine>) -> Result<()> {
        let from = std::mem::replace(&mut self.next, to);
        if from < to {
            let nodes = tree::cover(from, to).into_iter();
            let spans: Vec<_> = nodes.map(|node| (node.index << node.level, (node.index + 1) << node.level)).collect();
            let hashes = self.proofs.audit.hashes(&spans).await?.iter().map(|hash| hex(hash)).collect();
            lines.push(ExportLine::Skipped { from, to, hashes });
        }
        Ok(())
    }
}

impl ExportedEvent {
    fn of(row: EventRow, log: Uuid) -> Result<Self> {
        let unreadable = || Error::new(keyward_core::problem::Code::Internal, "An event cannot be read.");
        let leaf_hash = hex(&row.leaf_hash(log).ok_or_else(unreadable)?);
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
            actor_seal: hex(&row.actor_seal),
            object_seal: hex(&row.object_seal),
        })
    }

    /// As it stands in the book; `None` when a seal is no hexadecimal text.
    pub(super) fn into_row(self) -> Option<EventRow> {
        Some(EventRow {
            actor_seal: read_hex(&self.actor_seal)?,
            object_seal: read_hex(&self.object_seal)?,
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

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn read_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}
