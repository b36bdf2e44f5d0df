//! What every slice stands on: the database, the clock, and the board where changes are announced.

use std::sync::Arc;

use keyward_core::id::{Id, Kind};
use keyward_core::time::{Clock, Timestamp};

use crate::announce::Board;
use crate::db::Db;

/// Cheap to clone; each slice holds its own.
#[derive(Clone)]
pub struct Ground {
    pub db: Db,
    pub clock: Clock,
    pub board: Arc<Board>,
}

impl Ground {
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The same for what a verification waits for.
    #[must_use]
    pub fn prompt(&self) -> Self {
        Self { db: self.db.prompt(), ..self.clone() }
    }

    pub fn new_id<K: Kind>(&self) -> Id<K> {
        Id::generate(self.now())
    }
}
