//! The sequencer: gives each event its place in the one order of the book, and the hash of what it says.

use serde_json::json;
use sha2::{Digest, Sha256};

use keyward_core::id::{self, Id};

use super::{Audit, EventRow, sql as statements};
use crate::db::sql;
use crate::error::Result;

/// Events that one transaction numbers.
const BATCH: i64 = 1_000;
/// RFC 6962, 2.1: leaves and nodes never hash alike.
const LEAF: [u8; 1] = [0];

impl Audit {
    /// Numbers every event that has no number yet; answers how many are numbered in all.
    pub async fn sequence(&self) -> Result<i64> {
        loop {
            let mut tx = self.ground.db.begin().await?;
            statements::LOCK_ORDER.within(&tx).execute(&mut tx).await?;
            let (last,): (i64,) = sql(statements::LAST_SEQUENCE).one(&mut tx).await?;
            let waiting: Vec<EventRow> = sql(statements::WAITING).bind(BATCH).all(&mut tx).await?;
            if waiting.is_empty() {
                return Ok(last + 1);
            }
            for (row, sequence) in waiting.iter().zip(last + 1..) {
                let insert = sql(statements::INSERT_LEAF).bind(sequence).bind(row.id).bind(row.leaf_hash().to_vec());
                insert.execute(&mut tx).await?;
                sql(statements::DELETE_WAITING).bind(row.id).execute(&mut tx).await?;
            }
            tx.commit().await?;
        }
    }

    /// The number of an event, if it has one.
    pub async fn sequence_of(&self, event: Id<id::Event>) -> Result<Option<i64>> {
        let found: Option<(i64,)> = sql(statements::SEQUENCE_OF).bind(event).optional(&self.ground.db).await?;
        Ok(found.map(|(sequence,)| sequence))
    }
}

impl EventRow {
    /// SHA-256 of everything that the event says, in one fixed form: names in the order of the alphabet, instants in
    /// microseconds since 1970.
    pub fn leaf_hash(&self) -> [u8; 32] {
        let said = json!({
            "action": self.action, "actor": [self.actor_type, self.actor_id, self.actor_name], "details": self.details.0,
            "error_message": self.error_message, "event_type": self.event_type, "id": self.id.to_string(),
            "ip_address": self.ip_address, "logged_at": self.logged_at.as_micros(), "occurred_at": self.occurred_at.as_micros(),
            "organization_id": self.organization_id.map(|id| id.to_string()), "request_id": self.request_id,
            "resource": [self.resource_type, self.resource_id, self.resource_name], "success": self.success,
            "user_agent": self.user_agent,
        });
        let mut hash = Sha256::new();
        hash.update(LEAF);
        hash.update(said.to_string());
        hash.finalize().into()
    }
}
