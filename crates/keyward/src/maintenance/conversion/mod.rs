//! A plain table becomes a partitioned one while it is read and written (decision 13). What was there becomes the first
//! partition, up to a cut that lies ahead; months follow it. The one step that stops others is a few renames under a lock
//! that is waited for only shortly.
//!
//! Before the swap an abort leaves nothing but a table to drop; after it, the way back is one transaction.

mod preflight;
mod sql;
mod steps;

use keyward_core::access::Permission;
use keyward_core::month::Month;
use keyward_core::problem::Code;
use keyward_core::time::Timestamp;
use serde_json::{Value, json};

use super::{Asked, Maintenance};
use crate::context::Context;
use crate::db::{Ddl, row, sql as statement};
use crate::error::{Error, Result};
use crate::jobs::{JobKind, Running};
use steps::Steps;

/// The cut lies at least so far ahead: the work must be done before it.
const CUT_AHEAD_SECONDS: i64 = 3_600;
/// So shortly before the cut nothing is swapped any more.
const CUT_GUARD_SECONDS: i64 = 5;

/// What is to become of which table.
#[derive(Debug, Clone)]
pub struct Conversion {
    pub table: String,
    /// The column of the instant that months are made of.
    pub column: String,
    /// Back to a plain table.
    pub rollback: bool,
    pub dry_run: bool,
}

row! {
    /// What both sides of a swap must agree on.
    #[derive(Debug, Clone, PartialEq)]
    struct Sum {
        rows: i64,
        first_at: Option<Timestamp>,
        last_at: Option<Timestamp>,
        /// The sum of the rows' hashes: the same in any order.
        checksum: String,
    }
}

impl Maintenance {
    /// Starts the change of a table, or its way back; a dry run tells the statements, or what stands against them.
    pub async fn convert(&self, context: &Context, wanted: Conversion) -> Result<Asked> {
        context.require_at_instance(Permission::SystemMaintain)?;
        if !self.ground.db.is_postgres() {
            return Err(Error::new(Code::Conflict, "SQLite has no partitions."));
        }
        if !self.relation_exists(&wanted.table).await? {
            return Err(Error::field("/table", "is not a table of this database"));
        }
        if wanted.dry_run {
            let steps = self.conversion(&wanted.table, &wanted.column).await?;
            self.check(&steps, wanted.rollback).await?;
            let steps = if wanted.rollback { vec![steps.back()] } else { steps.all(self.ahead()) };
            return Ok(Asked::Planned(steps.iter().map(|step| step.text().to_owned()).collect()));
        }
        let arguments = json!({ "table": wanted.table, "column": wanted.column, "rollback": wanted.rollback });
        Ok(Asked::Started(Box::new(self.jobs.start(context, JobKind::Convert, None, arguments).await?)))
    }

    pub(super) async fn perform_conversion(&self, job: &Running) -> Result<Value> {
        let text = |name: &str| job.arguments[name].as_str().unwrap_or_default().to_owned();
        let steps = self.conversion(&text("table"), &text("column")).await?;
        let rollback = job.arguments["rollback"] == true;
        self.check(&steps, rollback).await?;
        if rollback { self.go_back(job, &steps).await } else { self.go_forth(job, &steps).await }
    }

    async fn check(&self, steps: &Steps, rollback: bool) -> Result<()> {
        if rollback { self.check_converted(steps).await } else { self.check_convertible(steps).await }
    }

    async fn conversion(&self, table: &str, column: &str) -> Result<Steps> {
        let now = self.ground.now();
        let mut cut = Month::of(now).end();
        if now.plus_seconds(CUT_AHEAD_SECONDS) > cut {
            cut = Month::of(cut).end();
        }
        self.steps_for(table, column, cut).await
    }

    fn ahead(&self) -> u32 {
        self.settings.partitions_ahead.max(2)
    }

    async fn go_forth(&self, job: &Running, steps: &Steps) -> Result<Value> {
        for leftover in steps.clean_up() {
            self.run(job, &leftover).await?;
        }
        let prepare = steps.prepare(self.ahead());
        let total = prepare.len() + 2;
        for (index, step) in prepare.iter().enumerate() {
            job.progress(index, total, "steps");
            if let Err(error) = self.told(job, step).await {
                for leftover in steps.clean_up() {
                    self.run(job, &leftover).await?;
                }
                return Err(error);
            }
        }
        if self.ground.now().plus_seconds(CUT_GUARD_SECONDS) >= steps.cut {
            return Err(Error::new(Code::Conflict, "The cut has come too near; start again."));
        }
        job.progress(prepare.len(), total, "steps");
        self.told(job, &steps.swap()).await?;
        job.progress(prepare.len() + 1, total, "steps");
        let sums = self.verify(steps).await?;
        self.told(job, &steps.analyze()).await?;
        job.progress(total, total, "steps");
        Ok(json!({ "table": steps.table, "cut_at": steps.cut, "legacy": steps.legacy(), "rows": sums.rows,
            "first_at": sums.first_at, "last_at": sums.last_at, "checksum": sums.checksum }))
    }

    async fn go_back(&self, job: &Running, steps: &Steps) -> Result<Value> {
        job.progress(0, 1, "steps");
        self.told(job, &steps.back()).await?;
        job.progress(1, 1, "steps");
        Ok(json!({ "table": steps.table, "partitioned": false }))
    }

    async fn told(&self, job: &Running, step: &Ddl) -> Result<()> {
        let began = std::time::Instant::now();
        self.run(job, step).await?;
        job.tell(format!("{}: {} ms", step.text(), began.elapsed().as_millis()));
        Ok(())
    }

    /// Compares what the new table shows before the cut with what the old one holds, in one snapshot.
    async fn verify(&self, steps: &Steps) -> Result<Sum> {
        let mut session = self.owner.session().await?;
        crate::db::ddl("BEGIN ISOLATION LEVEL REPEATABLE READ").run(&mut session).await?;
        let through: Sum = steps.sum(&steps.table).one(&mut session).await?;
        let held: Sum = steps.sum(&steps.legacy()).one(&mut session).await?;
        let (unattached,): (i64,) = statement(sql::INVALID_INDEXES).bind(&steps.table).one(&mut session).await?;
        if through != held || unattached > 0 {
            let detail =
                format!("The two sides differ: {through:?}, {held:?}, {unattached} indexes are not whole. Roll back.");
            return Err(Error::new(Code::Conflict, detail));
        }
        Ok(held)
    }

    async fn relation_exists(&self, name: &str) -> Result<bool> {
        Ok(statement(sql::EXISTS).bind(name).one::<(i64,)>(&self.ground.db).await?.0 > 0)
    }
}
