//! VACUUM, ANALYZE and REINDEX as jobs: table by table, waiting for locks only so long, leaving nothing half done.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Maintenance, TableRow, named_tables, sql as statements};
use crate::db::{DbError, Ddl, Session, ddl, row, sql};
use crate::error::{Error, Result};
use crate::jobs::{JobKind, Running};
use keyward_core::problem::Code;

/// Locks that were not got, deadlocks, and statements that were cancelled for them.
const WORTH_ANOTHER_TRY: &[&str] = &["55P03", "40P01"];
const TRIES: u32 = 10;

row! {
    struct LeftoverRow {
        schema: String,
        name: String,
    }
}

impl Maintenance {
    /// What an upkeep would run.
    pub(super) async fn plan(&self, kind: JobKind, tables: &[String]) -> Result<Vec<String>> {
        if kind == JobKind::Partitions {
            return self.plan_partitions().await;
        }
        let steps = self.steps(kind, tables).await?;
        Ok(steps.into_iter().map(|(_, step)| step.text().to_owned()).collect())
    }

    /// Does the upkeep of a job.
    pub(crate) async fn perform(&self, job: &Running) -> Result<Value> {
        if self.ground.db.is_postgres() {
            self.require_owner().await?;
        }
        match job.kind {
            JobKind::Partitions => self.look_after_partitions(job).await,
            JobKind::Convert => self.perform_conversion(job).await,
            kind => self.keep_up(kind, job).await,
        }
    }

    async fn steps(&self, kind: JobKind, named: &[String]) -> Result<Vec<(TableRow, Ddl)>> {
        let postgres = self.ground.db.is_postgres();
        if kind == JobKind::Vacuum && !postgres {
            let whole = TableRow { name: "the whole file".to_owned(), ours: true };
            return Ok(vec![(whole, ddl("VACUUM"))]);
        }
        let statement = |table: &TableRow| {
            let start = match (kind, postgres) {
                (JobKind::Vacuum, _) => "VACUUM (ANALYZE) ",
                (JobKind::Analyze, _) => "ANALYZE ",
                (_, true) => "REINDEX TABLE CONCURRENTLY ",
                (_, false) => "REINDEX ",
            };
            ddl(start).name(&table.name)
        };
        Ok(self.chosen(named).await?.into_iter().map(|table| (table.clone(), statement(&table))).collect())
    }

    async fn keep_up(&self, kind: JobKind, job: &Running) -> Result<Value> {
        let steps = self.steps(kind, &named_tables(&job.arguments)).await?;
        let mut result = json!({});
        if self.ground.db.is_postgres() {
            result["dropped_leftovers"] = json!(self.drop_leftovers(job).await?);
        } else if kind == JobKind::Vacuum {
            // What is broken must not be copied as if it were whole.
            result["integrity"] = json!(self.check_integrity(job).await?);
        }
        let mut done = Vec::new();
        for (index, (table, step)) in steps.iter().enumerate() {
            job.stop_if_cancelled()?;
            job.progress(index, steps.len(), "tables");
            if !table.ours {
                return Err(Error::new(Code::Conflict, format!("The table {} belongs to another role.", table.name)));
            }
            let began = Instant::now();
            let ran = self.run(job, step).await;
            if ran.is_err() && self.ground.db.is_postgres() && kind == JobKind::Reindex {
                self.drop_leftovers(job).await?;
            }
            ran?;
            job.tell(format!("{}: {} ms", step.text(), began.elapsed().as_millis()));
            done.push(table.name.clone());
        }
        job.progress(steps.len(), steps.len(), "tables");
        result["tables"] = json!(done);
        Ok(result)
    }

    /// Runs one statement outside of any transaction. A lock that is not got in time is tried for again; a job that is
    /// cancelled takes its statement with it.
    pub(super) async fn run(&self, job: &Running, step: &Ddl) -> Result<()> {
        for attempt in 1.. {
            job.stop_if_cancelled()?;
            let mut session = self.session().await?;
            let Err(error) = self.until_cancelled(job, &mut session, step).await? else { return Ok(()) };
            let again = error.sqlstate().is_some_and(|state| WORTH_ANOTHER_TRY.contains(&state.as_str()));
            if !again || attempt >= TRIES {
                let told = error.told();
                return Err(Error::new(Code::Conflict, format!("{}: {told}", step.text())).with_source(error));
            }
            job.tell(format!("{}: {}; try {attempt} of {TRIES}", step.text(), error.told()));
            let jitter: u64 = u64::from(attempt) * 100 + self.ground.now().as_micros().unsigned_abs() % 400;
            sleep(Duration::from_millis(jitter)).await;
        }
        Ok(())
    }

    /// Runs one statement that waits for others to end rather than for a lock, at most so long.
    pub(super) async fn run_within(&self, job: &Running, step: &Ddl, time: Duration) -> Result<()> {
        let mut session = self.owner.session().await?;
        let time = time.as_millis().to_string();
        sql(statements::STATEMENT_TIMEOUT).bind(time).one::<(String,)>(&mut session).await?;
        let ran = self.until_cancelled(job, &mut session, step).await?;
        ran.map_err(|error| Error::new(Code::Conflict, format!("{}: {}", step.text(), error.told())).with_source(error))
    }

    async fn until_cancelled(
        &self,
        job: &Running,
        session: &mut Session,
        step: &Ddl,
    ) -> Result<std::result::Result<(), DbError>> {
        let process = match session {
            Session::Postgres(_) => Some(sql(statements::OWN_PROCESS).one::<(i64,)>(&mut *session).await?.0),
            Session::Sqlite(_) => None,
        };
        let mut statement = std::pin::pin!(step.run(session));
        tokio::select! {
            ran = &mut statement => return Ok(ran),
            () = job.cancelled(), if process.is_some() => {}
        }
        // Only who began it may end it.
        sql(statements::CANCEL).bind(process).one::<(bool,)>(&self.owner).await?;
        Ok(statement.await)
    }

    /// A session that does not wait long for locks.
    pub(super) async fn session(&self) -> Result<Session> {
        let mut session = self.owner.session().await?;
        if let Session::Postgres(_) = session {
            let timeout = self.settings.lock_timeout_millis.to_string();
            sql(statements::LOCK_TIMEOUT).bind(timeout).one::<(String,)>(&mut session).await?;
        }
        Ok(session)
    }

    /// Drops the invalid indexes that a concurrent build or rebuild left behind when it failed.
    pub(super) async fn drop_leftovers(&self, job: &Running) -> Result<Vec<String>> {
        let leftovers: Vec<LeftoverRow> = sql(statements::LEFTOVERS).all(&self.ground.db).await?;
        let mut dropped = Vec::new();
        for LeftoverRow { schema, name } in leftovers {
            self.run(job, &ddl("DROP INDEX CONCURRENTLY IF EXISTS ").name(&schema).then(".").name(&name)).await?;
            job.tell(format!("dropped {name}, left behind by a rebuild that failed"));
            dropped.push(name);
        }
        Ok(dropped)
    }

    /// SQLite's own look at every page. Readers and writers go on meanwhile.
    async fn check_integrity(&self, job: &Running) -> Result<String> {
        let (told,): (String,) = sql(statements::INTEGRITY).one(&self.ground.db).await?;
        job.tell(format!("integrity check: {told}"));
        if told == "ok" { Ok(told) } else { Err(Error::new(Code::Conflict, format!("The file is damaged: {told}"))) }
    }
}
