//! The book: one row for each change and each refused attempt, who did what, from where, with what before and after; Keyward's own
//! and those that applications send.
//!
//! A change's event waits in the outbox, written in the change's own transaction. The desk gives every event its place in the one
//! order of the book, its leaf in the tree, and its share in the sums, in one transaction. Rows are never changed after that. What
//! is signed and proven about the tree is not decided here.

mod classes;
mod contained;
mod desk;
mod details;
mod erase;
mod event;
mod ingest;
mod leaves;
mod months;
mod record;
mod redact;
mod rehash;
mod reports;
mod retention;
mod rollup;
mod search;
mod sql;
mod terms;
mod tiles;
mod verify;

pub(crate) use classes::Classes;
pub use erase::Erased;
pub(crate) use event::append;
pub use event::{Event, EventType, Resource};
pub use ingest::{Kept, MAX_EVENTS, NewEvent, Party, event_id};
pub use leaves::{EventRow, Head};
pub(crate) use months::FEWEST_AHEAD;
pub use record::{ExportedEvent, ExportedParty};
pub use reports::{DayReport, MonthReport, TopActor, TypeCount};
pub use search::EventFilter;
pub(crate) use sql::HOLD_DESK;
pub use verify::{Fault, Findings};

use std::sync::Arc;

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use tokio::sync::watch;

use crate::context::Context;
use crate::db::{DbError, sql};
use crate::error::{Error, Result};
use crate::ground::Ground;
use desk::Desk;

/// Reading the book, and writing into it. Cheap to clone; all clones share one desk.
#[derive(Clone)]
pub struct Audit {
    pub(crate) ground: Ground,
    desk: Arc<Desk>,
}

impl Audit {
    pub(crate) fn new(ground: Ground) -> Self {
        Self { desk: Arc::new(Desk::new(ground.clone())), ground }
    }

    /// Notes something that changed nothing, such as a refused call.
    pub async fn note(&self, context: &Context, event: Event) -> Result<()> {
        crate::change::Change::begin(&self.ground, context).await?.commit(event).await?;
        Ok(())
    }

    /// Numbers every event that waits; answers how many have a number in all.
    pub async fn sequence(&self) -> Result<i64> {
        let (waiting,): (i64,) = sql(sql::WAITING).one(&self.ground.db).await?;
        match waiting {
            0 => Ok(self.head().await?.map_or(0, |head| head.size)),
            _ => Desk::settle(&self.desk).await,
        }
    }

    /// How many events this node knows to have a number; changes as they come.
    pub fn watch(&self) -> watch::Receiver<i64> {
        self.desk.watch()
    }

    /// The end of the book; `None` before its first event.
    pub async fn head(&self) -> Result<Option<Head>> {
        Ok(sql(sql::HEAD).optional(&self.ground.db).await?)
    }

    /// An event by its id. The same id may be known to several organizations; one that may not be seen is not told from none.
    pub async fn get(&self, context: &Context, id: Id<id::Event>) -> Result<EventRow> {
        self.sequence().await?;
        let rows: Vec<EventRow> = sql(sql::GET).bind(id).all(&self.ground.db).await?;
        rows.into_iter().find(|row| row.is_for(context)).ok_or_else(Error::not_found)
    }
}

impl EventRow {
    /// Whether the caller may read it.
    fn is_for(&self, context: &Context) -> bool {
        let reach = match self.organization_id {
            Some(organization) => context.require(organization, Permission::AuditRead),
            None => context.require_at_instance(Permission::AuditRead).map(|()| crate::context::Whose::Everyones),
        };
        reach.is_ok_and(|whose| whose.owner().is_none_or(|user| user.to_string() == self.actor_id))
    }
}

/// The book cannot be written, and so what must be noted in it cannot be done.
fn unwritable(error: DbError) -> Error {
    Error::new(Code::NotReady, "The audit log cannot be written now, so nothing was changed.").with_source(error)
}
