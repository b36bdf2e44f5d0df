//! Erasing what the book says about a person: the parts that name them go, with the salts under which they were committed to; the
//! commitments stay, so that every leaf and every proof is as before. That it was done is an event, without the person.

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use serde_json::{Value, json};

use super::terms::{self, DetailsRow};
use super::{Audit, Event, EventRow, EventType, sql as statements};
use crate::change::Change;
use crate::context::{Context, Whose};
use crate::db::{Json, Tx, sql};
use crate::error::{Error, Result};

/// Events that one transaction changes.
const BATCH: i64 = 500;

/// What was erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Events that the person did: they lost who, under which name, from where and with what.
    pub as_actor: u64,
    /// Events that were about the person: they lost whom, the error and the details.
    pub as_resource: u64,
}

impl Audit {
    /// Erases a person, by the id under which events know them, from an organization's events.
    pub async fn erase(&self, context: &Context, organization: Id<id::Organization>, subject: &str) -> Result<Erased> {
        if let Whose::Only(_) = context.require(organization, Permission::SettingsManage)? {
            return Err(Error::forbidden(Permission::SettingsManage));
        }
        if subject.is_empty() || subject.len() > 200 {
            return Err(Error::field("/subject", "must be the id of an actor or a resource, of 1 to 200 bytes"));
        }
        self.sequence().await?;
        let mut all = Erased::default();
        loop {
            let mut change = Change::begin(&self.ground, context).await?;
            let log = self.head().await?.map(|head| head.log_id).unwrap_or_default();
            let select = statements::OF_SUBJECT.on(&self.ground.db).bind(organization).bind(subject).bind(BATCH);
            let rows: Vec<EventRow> = select.all(change.tx()).await?;
            let mut erased = Erased::default();
            for row in &rows {
                erase_parts(change.tx(), row, log, subject, &mut erased).await?;
            }
            let is_last = (rows.len() as i64) < BATCH;
            if is_last {
                sql(statements::FORGET_ACTOR).bind(organization).bind(subject).execute(change.tx()).await?;
            }
            all.as_actor += erased.as_actor;
            all.as_resource += erased.as_resource;
            let details = json!({ "events_as_actor": erased.as_actor, "events_as_resource": erased.as_resource });
            let event = Event::new(EventType::Security, "personal_data_erased", "person", "erased").of(organization);
            change.commit(event.details(details)).await?;
            if is_last {
                return Ok(all);
            }
        }
    }
}

async fn erase_parts(tx: &mut Tx, row: &EventRow, log: uuid::Uuid, subject: &str, erased: &mut Erased) -> Result<()> {
    let details = row.details.0.to_string();
    let unreadable = || Error::new(keyward_core::problem::Code::Internal, "An event cannot be read.");
    let leaf = row.leaf(log, &details).ok_or_else(unreadable)?;
    if row.actor_id == subject {
        let update = sql(statements::ERASE_ACTOR).bind(row.sequence).bind(row.logged_at);
        update.bind(leaf.actor_commitment().to_vec()).execute(&mut *tx).await?;
        erased.as_actor += 1;
    }
    if row.resource_id == subject {
        let update = sql(statements::ERASE_OBJECT).bind(row.sequence).bind(row.logged_at);
        let nothing: Json<Value> = Json(json!({}));
        update.bind(leaf.object_commitment().to_vec()).bind(nothing).execute(&mut *tx).await?;
        terms::forget(tx, &[DetailsRow { sequence: row.sequence, details: row.details.clone() }]).await?;
        erased.as_resource += 1;
    }
    Ok(())
}
