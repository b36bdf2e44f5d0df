//! How many more keys a plan allows. Keys are counted when the room that was found last is used up, not for each new one: with a
//! hundred thousand keys that takes a tenth of a second, in which nobody else can write to SQLite.

use keyward_core::id::{self, Id};

use super::organizations::{count_keys, lock};
use super::sql as statements;
use crate::change::Change;
use crate::db::{row, sql};
use crate::error::{Error, Result};

/// Room under the organization's plan, held until the change ends.
pub(crate) struct Room {
    organization: Id<id::Organization>,
    key_limit: i64,
    left: i64,
}

row! {
    /// The limit of the plan, and the room that was found last.
    struct Known {
        key_limit: i64,
        spare_keys: i64,
        /// The limit under which it was found.
        spare_under: i64,
    }
}

impl Room {
    /// Holds the organization, so that parallel calls queue here, and finds room for `wanted` keys if there is any.
    pub(crate) async fn find(change: &mut Change<'_>, organization: Id<id::Organization>, wanted: i64) -> Result<Self> {
        lock(change, organization).await?;
        let found = sql(statements::KEY_LIMIT).bind(organization).optional::<Known>(change.tx()).await?;
        let Known { key_limit, spare_keys, spare_under } = found.ok_or_else(Error::not_found)?;
        let left = if spare_under == key_limit && spare_keys >= wanted {
            spare_keys
        } else {
            key_limit - count_keys(change, organization).await?
        };
        Ok(Self { organization, key_limit, left })
    }

    /// Keys that fit; fewer than were wanted only where the plan allows no more.
    pub(crate) fn left(&self) -> i64 {
        self.left
    }

    /// Uses room for so many keys.
    pub(crate) async fn take(self, change: &mut Change<'_>, count: i64) -> Result<()> {
        let update =
            sql(statements::SET_SPARE_KEYS).bind(self.organization).bind(self.left - count).bind(self.key_limit);
        update.execute(change.tx()).await?;
        Ok(())
    }
}
