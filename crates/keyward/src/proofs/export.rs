//! The book, or the part of it that a filter chooses, as lines that can be checked without a server: each event with what its leaf
//! is made from; where events are left out, the hashes of the subtrees that they make; at the end the signed checkpoint.

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::note::SignedCheckpoint;
use keyward_core::text;
use keyward_core::time::Timestamp;
use keyward_core::tree;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Proofs;
use crate::audit::{EventFilter, ExportedEvent};
use crate::context::Context;
use crate::error::Result;

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
            let hashes = self.proofs.audit.hashes(&spans).await?.iter().map(|hash| text::hex(hash)).collect();
            lines.push(ExportLine::Skipped { from, to, hashes });
        }
        Ok(())
    }
}
