//! Brings what the hot path noted into the book, batch by batch and oldest first, and behind it what was lost.

use keyward_core::id::{self, Id};
use keyward_core::time::Timestamp;
use serde_json::{Value, json};

use super::queue::Loss;
use super::{BATCH, Class, Classes, Noted};
use crate::audit::{EventRow, EventType};
use crate::db::Json;
use crate::error::Result;

/// Rows that are handed to the book together: of one class, or the gaps of all.
#[derive(Default)]
pub(super) struct Batch {
    rows: Vec<EventRow>,
    /// Whose oldest records the rows were made of, and how many.
    of: Option<(Class, usize)>,
    /// The book may have them already: their commit was begun, and its answer did not come.
    was_tried: bool,
}

impl Classes {
    /// Returns when a batch waits.
    pub(crate) async fn write_wanted(&self) {
        self.nudged.notified().await;
    }

    /// Writes what waits by now, then one event for each class of which something was lost. What the book does not take is kept
    /// for the next time, under the same ids.
    pub(crate) async fn write(&self) -> Result<()> {
        let mut batch = self.batch.lock().await;
        self.hand_in(&mut batch).await?;
        let mut left = Class::ALL.map(|class| self.of(class).waiting());
        // In turns, so that none waits for all of another.
        while left.iter().any(|left| *left > 0) {
            for (class, left) in Class::ALL.into_iter().zip(&mut left) {
                let count = (*left).min(BATCH);
                *batch = self.oldest(class, count);
                self.hand_in(&mut batch).await?;
                *left -= count;
            }
        }
        // Behind what came before it, and only where the book takes events again: so one outage is one gap.
        *batch = self.gaps();
        self.hand_in(&mut batch).await
    }

    async fn hand_in(&self, batch: &mut Batch) -> Result<()> {
        if batch.rows.is_empty() {
            return Ok(());
        }
        let submitted = self.audit.desk.submit(batch.rows.clone(), batch.was_tried).await;
        batch.was_tried = true;
        submitted?;
        if let Some((class, count)) = batch.of {
            self.of(class).drop_oldest(count);
        }
        *batch = Batch::default();
        Ok(())
    }

    fn oldest(&self, class: Class, count: usize) -> Batch {
        let (ground, now) = (&self.audit.ground, self.audit.ground.now());
        let records = self.of(class).oldest(count);
        let rows = records.into_iter().map(|noted| noted.into_row(ground.new_id(), now)).collect();
        Batch { rows, of: Some((class, count)), was_tried: false }
    }

    fn gaps(&self) -> Batch {
        let (ground, now) = (&self.audit.ground, self.audit.ground.now());
        let gap = |class: Class| Some(self.of(class).take_loss()?.into_row(class, ground.new_id(), now));
        Batch { rows: Class::ALL.into_iter().filter_map(gap).collect(), of: None, was_tried: false }
    }
}

impl Noted {
    fn into_row(self, id: Id<id::Event>, now: Timestamp) -> EventRow {
        let (event_type, action) = match Class::of(self.outcome) {
            Class::VerifyRefused => (EventType::Security, "verify_refused"),
            Class::LimitDenied => (EventType::Key, "limit_denied"),
            Class::Verify => (EventType::Key, "verified"),
        };
        let mut details = json!({ "code": self.outcome.as_str() });
        if let Some(key) = self.key {
            details["secret_id"] = json!(key.secret.to_string());
        }
        if let Some(limit) = self.limit {
            details["limit"] =
                json!({ "name": limit.name, "limit": limit.limit, "window_seconds": limit.window_seconds });
        }
        let key = self.key.map(|key| key.key.to_string());
        EventRow {
            actor_type: if key.is_some() { "key" } else { "external" }.to_owned(),
            actor_id: key.clone().unwrap_or_else(|| "visitor".to_owned()),
            resource_type: "api_key".to_owned(),
            resource_id: key.unwrap_or_else(|| "unknown".to_owned()),
            success: self.outcome.is_valid(),
            error_message: (!self.outcome.is_valid()).then(|| self.outcome.meaning().to_owned()),
            ip_address: self.address.map(|address| address.to_string()),
            organization_id: self.key.map(|key| key.organization),
            occurred_at: self.at,
            ..blank(id, event_type, action, details, now)
        }
    }
}

impl Loss {
    fn into_row(self, class: Class, id: Id<id::Event>, now: Timestamp) -> EventRow {
        let details = json!({ "class": class.as_str(), "count": self.count, "from": self.from, "to": self.to });
        EventRow {
            actor_type: "system".to_owned(),
            actor_id: "audit".to_owned(),
            resource_type: "audit_class".to_owned(),
            resource_id: class.as_str().to_owned(),
            error_message: Some(format!("{} events found no room and were lost.", self.count)),
            ..blank(id, EventType::System, "audit_gap", details, now)
        }
    }
}

/// A row about nobody and nothing yet.
fn blank(id: Id<id::Event>, event_type: EventType, action: &str, details: Value, now: Timestamp) -> EventRow {
    EventRow {
        sequence: 0,
        id,
        event_type: event_type.as_str().to_owned(),
        action: action.to_owned(),
        actor_type: String::new(),
        actor_id: String::new(),
        actor_name: None,
        resource_type: String::new(),
        resource_id: String::new(),
        resource_name: None,
        success: false,
        error_message: None,
        details: Json(details),
        ip_address: None,
        user_agent: None,
        organization_id: None,
        request_id: None,
        occurred_at: now,
        logged_at: now,
        actor_seal: Vec::new(),
        object_seal: Vec::new(),
    }
}
