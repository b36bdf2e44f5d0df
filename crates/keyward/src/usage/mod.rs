//! Usage: what callers report of each call (`ingest`), what the verifier counts by itself (`meter`), the sums over both
//! (`rollup`), and the reports that are read from the sums (`reports`).
//!
//! Records, and what they add to the sums, commit together, so a crash leaves no drift between the two. Limits and quotas are
//! not kept here: what decides about a call must not wait for what is told about it.

mod add_up;
mod batch;
mod bytes;
mod flush;
mod fold;
mod gathered;
mod ingest;
pub mod meter;
mod packed;
mod recompute;
mod record;
mod reports;
mod retention;
mod rollup;
mod sql;
mod totals;

use std::sync::Arc;

use keyward_core::access::Permission;
use keyward_core::id::{self, Id};
use tokio::sync::Mutex;

use crate::accounts::organizations;
use crate::config::UsageSettings;
use crate::context::{Context, Whose};
use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::metrics::Metrics;

pub use ingest::{MAX_RECORDS, Receipt};
pub use record::{NewRecord, Rejection};
pub use reports::{Consumer, Consumers, Day, ErrorLine, Errors, Ranking, RouteLine, Summary, VerifyLine};
pub use totals::Totals;

use meter::Meter;

/// Taking records in, and telling what was used.
#[derive(Clone)]
pub struct Usage {
    ground: Ground,
    settings: UsageSettings,
    meter: Arc<Meter>,
    /// Held while this node folds.
    folding: Arc<Mutex<()>>,
}

impl Usage {
    pub(crate) fn new(ground: Ground, settings: UsageSettings, metrics: Arc<Metrics>) -> Self {
        let meter = Arc::new(Meter::new(settings.metering, ground.new_id(), metrics));
        Self { ground, settings, meter, folding: Arc::default() }
    }

    /// Where the verifier counts.
    pub(crate) fn meter(&self) -> Arc<Meter> {
        self.meter.clone()
    }

    /// Whose usage the caller may see in an organization that exists. What was counted so far is in the sums then.
    async fn reach(&self, context: &Context, organization: Id<id::Organization>) -> Result<Whose> {
        let whose = context.require(organization, Permission::UsageRead)?;
        self.require_present(context, organization).await?;
        self.fold_counts().await?;
        self.add_up(organization).await?;
        Ok(whose)
    }

    /// The caller's own organization exists; of others it has to be asked.
    async fn require_present(&self, context: &Context, organization: Id<id::Organization>) -> Result<()> {
        let own = context.grant.as_ref().is_some_and(|grant| grant.organization == organization);
        if own || organizations::find(&self.ground.db, organization).await?.is_some() {
            return Ok(());
        }
        Err(Error::not_found())
    }
}
