//! Adds what batches of records left behind to the sums. A batch writes down what it adds as one row (`packed`), in the
//! transaction of its records; here many such rows are added at once, so that a sum is read and written once for all of them.
//! Whoever reads sums adds up first, so reports are never behind the records.

use keyward_core::id::{self, Id};

use super::rollup::{self, Rollup};
use super::{Usage, sql as statements};
use crate::db::{DbError, On, Tx, sql};
use crate::error::Result;

/// Batches that are taken at a time.
const TAKEN_AT_ONCE: i64 = 8;
/// Sums of which no more are made in one transaction than this and what one taking brings.
const MOST: usize = 4_000;

impl Usage {
    /// Adds up what waits of every organization.
    pub(crate) async fn add_up_all(&self) -> Result<()> {
        let waiting: Vec<(Id<id::Organization>,)> = sql(statements::ORGANIZATIONS_WAITING).all(&self.ground.db).await?;
        for (organization,) in waiting {
            self.add_up(organization).await?;
        }
        Ok(())
    }

    /// Adds up what waits of one now. What comes meanwhile waits for the next time, so this ends however much comes.
    pub(super) async fn add_up(&self, organization: Id<id::Organization>) -> Result<()> {
        let Some(newest) = newest(&self.ground.db, organization).await? else { return Ok(()) };
        loop {
            let mut tx = self.ground.db.begin().await?;
            rollup::lock(&mut tx, organization).await?;
            let sums = take(&mut tx, organization, newest).await?;
            if sums.len() == 0 {
                return Ok(());
            }
            sums.add_to(&mut tx, organization).await?;
            tx.commit().await?;
        }
    }
}

/// The newest batch that waits.
pub(super) async fn newest(
    on: impl Into<On<'_>>,
    organization: Id<id::Organization>,
) -> Result<Option<Id<id::UsageBatch>>> {
    let newest: Option<(Id<id::UsageBatch>,)> = sql(statements::NEWEST_SUMS).bind(organization).optional(on).await?;
    Ok(newest.map(|(newest,)| newest))
}

/// Takes the sums of some batches, up to the newest, away from where they wait. Under the lock of the sums.
pub(super) async fn take(
    tx: &mut Tx,
    organization: Id<id::Organization>,
    newest: Id<id::UsageBatch>,
) -> Result<Rollup<'static>> {
    let mut sums = Rollup::default();
    while sums.len() < MOST {
        let take = sql(statements::TAKE_SUMS).bind(organization).bind(newest).bind(TAKEN_AT_ONCE);
        let taken: Vec<(Vec<u8>,)> = take.all(&mut *tx).await?;
        if taken.is_empty() {
            break;
        }
        for (bytes,) in taken {
            let unreadable = || DbError::Unreadable(format!("the sums of a batch of organization {organization}"));
            sums.merge_bytes(&bytes).ok_or_else(unreadable)?;
        }
    }
    Ok(sums)
}
