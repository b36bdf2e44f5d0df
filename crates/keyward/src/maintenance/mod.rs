//! Looking after the database: what it holds, how it fares, and the work that keeps it well. Figures are read when they
//! are asked for; what changes something is a job.
//!
//! Where a right is missing, a figure is unknown and says so: it is never taken for good.

mod book;
mod checks;
mod conversion;
mod health;
mod owner;
mod partitions;
mod sql;
mod sqlite;
mod stats;
mod upkeep;

use std::path::PathBuf;

use keyward_core::access::Permission;
use serde_json::{Value, json};

use crate::audit::Audit;
use crate::config::MaintenanceSettings;
use crate::context::Context;
use crate::db::{Db, row, sql};
use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::jobs::{Job, JobKind, Jobs};
pub use conversion::Conversion;
pub use health::{Health, Report, Status};
pub(crate) use owner::connect as connect_owner;
pub use stats::{IndexStats, PartitionStats, SlowQueries};

/// Verbs and figures of the database.
#[derive(Clone)]
pub struct Maintenance {
    pub(crate) ground: Ground,
    /// Where upkeep connects: perhaps as another role.
    pub(crate) owner: Db,
    pub(crate) jobs: Jobs,
    pub(crate) settings: MaintenanceSettings,
    pub(crate) data_dir: PathBuf,
    pub(crate) audit: Audit,
    /// Events are retired only behind a checkpoint that a witness signed as well.
    pub(crate) needs_witness: bool,
}

/// What an upkeep is asked to touch.
#[derive(Debug, Clone, Default)]
pub struct UpkeepRequest {
    /// Tables by name; all when empty.
    pub tables: Vec<String>,
    /// Only tell what would be done.
    pub dry_run: bool,
}

/// What came of the request.
#[derive(Debug, Clone)]
pub enum Asked {
    Started(Box<Job>),
    /// The statements that a run would make.
    Planned(Vec<String>),
}

row! {
    /// A table that upkeep may touch.
    #[derive(Debug, Clone)]
    struct TableRow {
        name: String,
        /// Whether our role may look after it.
        ours: bool,
    }
}

impl Maintenance {
    /// Starts an upkeep of the given kind.
    pub async fn start(&self, context: &Context, kind: JobKind, request: UpkeepRequest) -> Result<Asked> {
        context.require_at_instance(Permission::SystemMaintain)?;
        let known = self.tables().await?;
        for (index, name) in request.tables.iter().enumerate() {
            if !known.iter().any(|table| table.name == *name) {
                return Err(Error::field(format!("/tables/{index}"), "is not a table of this database"));
            }
        }
        if request.dry_run {
            return self.plan(kind, &request.tables).await.map(Asked::Planned);
        }
        let arguments = json!({ "tables": request.tables });
        Ok(Asked::Started(Box::new(self.jobs.start(context, kind, None, arguments).await?)))
    }

    async fn tables(&self) -> Result<Vec<TableRow>> {
        Ok(sql::TABLES.on(&self.owner).all(&self.owner).await?)
    }

    /// The tables that a job names, or all; those of others only when they are named.
    async fn chosen(&self, named: &[String]) -> Result<Vec<TableRow>> {
        let mut tables = self.tables().await?;
        tables.retain(|table| if named.is_empty() { table.ours } else { named.contains(&table.name) });
        Ok(tables)
    }

    /// Its name and version.
    pub(crate) async fn version(&self) -> Result<String> {
        Ok(sql::VERSION.on(&self.ground.db).one::<(String,)>(&self.ground.db).await?.0)
    }

    async fn number(&self, statement: &'static str) -> Result<i64> {
        Ok(sql(statement).one::<(i64,)>(&self.ground.db).await?.0)
    }
}

/// The names that a job was given.
fn named_tables(arguments: &Value) -> Vec<String> {
    let names = arguments["tables"].as_array().into_iter().flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}
