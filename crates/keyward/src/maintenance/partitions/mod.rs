//! Monthly partitions of the tables that are partitioned by an instant: made ahead of time, looked after, and mended
//! where a run broke off. The catalog alone says what there is; bounds are in UTC.
//!
//! Another tool that manages a table already is left to it.

mod plan;
pub(super) mod retire;
mod sql;

use keyward_core::time::Timestamp;
use serde_json::{Value, json};

use super::Maintenance;
use super::health::{Panel, Status};
use crate::audit::{FEWEST_AHEAD, HOLD_DESK};
use crate::db::{Ddl, Session, ddl, row, sql as statement};
use crate::error::Result;
use crate::jobs::Running;
pub(super) use plan::Range;

/// More often it is no coincidence.
const MOST_MADE_BY_OTHERS: u32 = 3;
/// SQLSTATEs of a table, its type or its range being there already.
const MADE_BY_OTHERS: [&str; 4] = ["42P07", "42710", "42P17", "23505"];

row! {
    /// A table that is partitioned by ranges of one instant.
    #[derive(Debug, Clone)]
    pub(super) struct Parent {
        pub(super) name: String,
        /// The column of the instant.
        column_name: String,
        oid: i64,
    }
}

row! {
    #[derive(Debug, Clone)]
    pub(super) struct Child {
        pub(super) name: String,
        /// Absent for "from the beginning".
        from_at: Option<Timestamp>,
        /// Absent for "for ever".
        pub(super) to_at: Option<Timestamp>,
        is_default: bool,
        detaching: bool,
        estimated_rows: i64,
    }
}

impl Child {
    fn range(&self) -> Option<Range> {
        let from = self.from_at.unwrap_or(Timestamp::from_micros(i64::MIN));
        (!self.is_default).then(|| Range { from, to: self.to_at.unwrap_or(Timestamp::NEVER) })
    }
}

/// What to do about a finding.
pub(super) fn advice(panel: &str) -> Option<&'static str> {
    (panel == "partitions").then_some("Start the partitions job, and read its lines if it fails.")
}

impl Maintenance {
    /// Makes missing partitions, finishes what broke off, and renews what the planner knows.
    pub(super) async fn look_after_partitions(&self, job: &Running) -> Result<Value> {
        if !self.ground.db.is_postgres() {
            job.tell("SQLite keeps the log in one table: there are no partitions.");
            let retired = self.retire_events(job).await?;
            let indexed = self.index_events(job).await?;
            return Ok(json!({
                "partitioned": false, "tables": [], "retired_events": retired, "indexed_events": indexed,
            }));
        }
        let parents = self.parents().await?;
        let mut tables = Vec::new();
        for (index, parent) in parents.iter().enumerate() {
            job.stop_if_cancelled()?;
            job.progress(index, parents.len(), "tables");
            tables.push(self.look_after(job, parent).await?);
        }
        job.progress(parents.len(), parents.len(), "tables");
        Ok(json!({ "partitioned": !parents.is_empty(), "tables": tables }))
    }

    async fn look_after(&self, job: &Running, parent: &Parent) -> Result<Value> {
        let left = |why: String| {
            job.tell(format!("{}: {why}", parent.name));
            json!({ "table": parent.name, "left_alone": why })
        };
        if let Some(other) = self.managed_by(parent).await? {
            return Ok(left(format!("{other} manages it")));
        }
        // The lock lives and dies with this session.
        let mut lock = self.session().await?;
        let (held,): (bool,) = statement(sql::TRY_LOCK).bind(parent.oid).one(&mut lock).await?;
        if !held {
            return Ok(left("another node is at it".to_owned()));
        }
        let finished = self.finish_detaching(job, parent).await?;
        let created = self.make_missing(job, parent).await?;
        let retired = self.retire(job, parent).await?;
        let indexed = self.index_closed_months(job, parent).await?;
        let summarised = self.summarise(&mut lock, parent).await?;
        self.run(job, &ddl("ANALYZE ").name(&parent.name)).await?;
        Ok(json!({
            "table": parent.name, "created": created, "finished_detaching": finished, "retired": retired,
            "indexed": indexed, "summarised_ranges": summarised,
        }))
    }

    /// Whoever writes into a month that is missing makes it as well, perhaps at this moment: then what is missing is looked for
    /// again.
    async fn make_missing(&self, job: &Running, parent: &Parent) -> Result<Vec<String>> {
        let mut created = Vec::new();
        let mut made_by_others = 0;
        loop {
            let children = self.children(parent).await?;
            let Some((name, step)) = self.missing(parent, &children).await?.into_iter().next() else {
                return Ok(created);
            };
            match self.run(job, &step).await {
                Ok(()) => {
                    job.tell(format!("made {name}"));
                    created.push(name);
                }
                Err(error) if error.sqlstate().is_some_and(|state| MADE_BY_OTHERS.contains(&state.as_str())) => {
                    made_by_others += 1;
                    if made_by_others > MOST_MADE_BY_OTHERS {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What a run would do.
    pub(super) async fn plan_partitions(&self) -> Result<Vec<String>> {
        let mut steps = Vec::new();
        if self.ground.db.is_postgres() {
            for parent in self.parents().await? {
                if self.managed_by(&parent).await?.is_none() {
                    let children = self.children(&parent).await?;
                    steps.extend(
                        self.missing(&parent, &children).await?.into_iter().map(|(_, step)| step.text().to_owned()),
                    );
                }
            }
        }
        Ok(steps)
    }

    async fn parents(&self) -> Result<Vec<Parent>> {
        Ok(statement(sql::PARENTS).all(&self.ground.db).await?)
    }

    pub(super) async fn children(&self, parent: &Parent) -> Result<Vec<Child>> {
        Ok(statement(sql::CHILDREN).bind(&parent.name).all(&self.ground.db).await?)
    }

    /// Names and statements of the partitions that are missing between now and the months ahead.
    async fn missing(&self, parent: &Parent, children: &[Child]) -> Result<Vec<(String, Ddl)>> {
        let present: Vec<Range> = children.iter().filter_map(Child::range).collect();
        let ranges = plan::missing(self.ground.now(), self.settings.partitions_ahead, &present);
        let taken = self.tables().await?;
        let shut_out = self.shut_out(parent).await?;
        let step = |range: Range| {
            let wanted = format!("{}_{}", parent.name, range.label());
            // A table of that name that was taken out keeps it.
            let mut names = std::iter::once(wanted.clone()).chain((2..).map(|number| format!("{wanted}_{number}")));
            let name = names.find(|name| !taken.iter().any(|table| table.name == *name)).unwrap_or(wanted);
            let step = attach(&parent.name, &name, range, shut_out.as_deref());
            (name, step)
        };
        Ok(ranges.into_iter().map(step).collect())
    }

    /// The other tool that manages a table, if one does.
    async fn managed_by(&self, parent: &Parent) -> Result<Option<&'static str>> {
        let (config,): (Option<String>,) = statement(sql::PARTMAN_SCHEMA).one(&self.ground.db).await?;
        if let Some(schema) = config {
            let question =
                ddl("SELECT count(*) AS value FROM ").name(&schema).then(".part_config WHERE parent_table IN (");
            let question = question.literal(&parent.name).then(", current_schema() || '.' || ");
            if question.literal(&parent.name).then(")").number(&self.ground.db).await? > 0 {
                return Ok(Some("pg_partman"));
            }
        }
        if self.number(sql::HAS_CRON).await? > 0 {
            let (jobs,): (i64,) = statement(sql::CRON_JOBS).bind(&parent.name).one(&self.ground.db).await?;
            return Ok((jobs > 0).then_some("pg_cron"));
        }
        Ok(None)
    }

    /// A concurrent detach that was cancelled has hidden the rows already; only its end is missing.
    async fn finish_detaching(&self, job: &Running, parent: &Parent) -> Result<Vec<String>> {
        let mut finished = Vec::new();
        for child in self.children(parent).await?.into_iter().filter(|child| child.detaching) {
            let step = ddl("ALTER TABLE ").name(&parent.name).then(" DETACH PARTITION ").name(&child.name);
            self.run(job, &step.then(" FINALIZE")).await?;
            job.tell(format!("finished taking out {}", child.name));
            finished.push(child.name);
        }
        Ok(finished)
    }

    /// BRIN indexes know new blocks only when they are told to look.
    async fn summarise(&self, session: &mut Session, parent: &Parent) -> Result<i64> {
        Ok(statement(sql::SUMMARISE).bind(&parent.name).one::<(i64,)>(session).await?.0)
    }

    /// Whether partitions are as they should be.
    pub(super) async fn check_partitions(&self) -> Result<Panel> {
        let threshold = format!("warns below {FEWEST_AHEAD} months ahead, of gaps, of rows outside of months");
        let mut panel = Panel::new("partitions", "Partitions of the tables kept by month", "months ahead", threshold);
        for parent in self.parents().await? {
            if let Some(other) = self.managed_by(&parent).await? {
                panel.find(&parent.name, 0.0, format!("managed by {other}"), Status::Ok);
                continue;
            }
            let children = self.children(&parent).await?;
            let present: Vec<Range> = children.iter().filter_map(Child::range).collect();
            let ahead = plan::whole_months_ahead(self.ground.now(), &present);
            let status = match ahead {
                0 => Status::Critical,
                few if few < FEWEST_AHEAD => Status::Warning,
                _ => Status::Ok,
            };
            panel.find(&parent.name, ahead as f64, format!("{} partitions", children.len()), status);
            for (from, to) in plan::gaps(&present) {
                panel.find(&parent.name, 0.0, format!("no partition from {from} to {to}"), Status::Warning);
            }
            for child in &children {
                if child.detaching {
                    panel.find(&child.name, 0.0, "was not taken out to the end", Status::Warning);
                }
                if child.is_default && child.estimated_rows > 0 {
                    let detail = format!("{} rows outside of months", child.estimated_rows);
                    panel.find(&child.name, 0.0, detail, Status::Warning);
                }
            }
        }
        Ok(panel)
    }
}

/// One transaction: only an attach lets writers through. The desk of the book makes months as well, never at the same time. Who is
/// shut out has no right to the month itself, whatever rights new tables come with.
pub(super) fn attach(parent: &str, name: &str, range: Range, shut_out: Option<&str>) -> Ddl {
    let made = ddl("BEGIN; ").then(HOLD_DESK).then("; ").partition(parent, name, range.from, range.to);
    let shut = match shut_out {
        Some(role) => made.then("; REVOKE ALL ON ").name(name).then(" FROM ").name(role),
        None => made,
    };
    shut.then("; COMMIT")
}
