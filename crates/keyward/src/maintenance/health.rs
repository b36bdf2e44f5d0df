//! The health page: every check judged by its thresholds, and the advice that follows, each with its reason.

use std::collections::BTreeMap;

use keyward_core::access::Permission;
use keyward_core::time::Timestamp;
use serde::Serialize;

use super::checks::{Bad, CHECKS, Check};
use super::stats::{IndexStats, PartitionStats, SlowQueries};
use super::{Maintenance, sql as statements};
use crate::context::Context;
use crate::db::{Session, row, sql};
use crate::error::Result;

/// A statement of the page that takes longer is given up.
const STATEMENT_TIMEOUT: &str = "5s";
/// Findings shown of one check.
const MOST_FINDINGS: usize = 50;
/// From here on a statement counts as slow: its mean, and how often it ran.
const SLOW_MEAN_MS: f64 = 20.0;
const SLOW_CALLS: i64 = 100;

/// How something fares; the worse, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ok,
    /// It could not be looked at; says why.
    Unknown,
    Warning,
    Critical,
}

#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub subject: String,
    pub value: f64,
    pub detail: String,
    pub status: Status,
}

/// One check and what came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Panel {
    pub name: &'static str,
    pub title: &'static str,
    pub status: Status,
    /// Why it is unknown.
    pub why: Option<String>,
    pub unit: &'static str,
    pub threshold: String,
    pub findings: Vec<Finding>,
}

/// What to do, and for which reason.
#[derive(Debug, Clone, Serialize)]
pub struct Advice {
    pub panel: &'static str,
    pub subject: String,
    pub reason: String,
    pub action: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Health {
    pub status: Status,
    pub database: &'static str,
    pub version: String,
    pub checked_at: Timestamp,
    /// Since when the database's counters count.
    pub counted_since: Option<Timestamp>,
    pub panels: Vec<Panel>,
    pub advice: Vec<Advice>,
}

/// Everything that is known, in one answer.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub health: Health,
    pub partitions: PartitionStats,
    pub indexes: IndexStats,
    pub slow_queries: SlowQueries,
    /// The last upkeep of each kind that succeeded.
    pub last_upkeep: BTreeMap<&'static str, Option<Timestamp>>,
}

row! {
    struct FindingRow {
        subject: Option<String>,
        value: f64,
        detail: Option<String>,
    }
}

impl Panel {
    pub(super) fn new(name: &'static str, title: &'static str, unit: &'static str, threshold: String) -> Self {
        Self { name, title, status: Status::Ok, why: None, unit, threshold, findings: Vec::new() }
    }

    pub(super) fn find(&mut self, subject: impl Into<String>, value: f64, detail: impl Into<String>, status: Status) {
        self.status = self.status.max(status);
        self.findings.push(Finding { subject: subject.into(), value, detail: detail.into(), status });
    }

    #[must_use]
    pub(super) fn unknown(mut self, why: impl Into<String>) -> Self {
        self.status = Status::Unknown;
        self.why = Some(why.into());
        self
    }
}

impl Check {
    fn judge(&self, value: f64) -> Status {
        let beyond = |threshold: f64| match self.bad {
            Bad::High => value >= threshold,
            Bad::Low => value < threshold,
        };
        match self.critical_at {
            Some(threshold) if beyond(threshold) => Status::Critical,
            _ if beyond(self.warn_at) => Status::Warning,
            _ => Status::Ok,
        }
    }

    fn panel(&self) -> Panel {
        let side = if self.bad == Bad::High { "from" } else { "below" };
        let critical = self.critical_at.map_or_else(String::new, |at| format!(", critical {side} {at}"));
        let threshold = format!("warns {side} {}{critical}", self.warn_at);
        Panel::new(self.name, self.title, self.unit, threshold)
    }
}

impl Maintenance {
    /// How the database fares. Nothing is changed, and no check takes long.
    pub async fn health(&self, context: &Context) -> Result<Health> {
        context.require_at_instance(Permission::SystemRead)?;
        let (panels, counted_since) = if self.ground.db.is_postgres() {
            let since: (Option<Timestamp>,) = sql(statements::STATISTICS_RESET).one(&self.ground.db).await?;
            (self.check_postgres(context).await?, since.0)
        } else {
            (self.check_file().await?, None)
        };
        let advice = panels.iter().flat_map(advise).collect();
        let status = panels.iter().map(|panel| panel.status).max().unwrap_or(Status::Unknown);
        let (database, version) = (self.ground.db.kind(), self.version().await?);
        Ok(Health { status, database, version, checked_at: self.ground.now(), counted_since, panels, advice })
    }

    pub async fn report(&self, context: &Context) -> Result<Report> {
        let mut last_upkeep = BTreeMap::new();
        for kind in crate::jobs::JobKind::ALL {
            let last = self.jobs.last_success(*kind).await?;
            last_upkeep.insert(kind.as_str(), last.and_then(|job| job.finished_at));
        }
        Ok(Report {
            health: self.health(context).await?,
            partitions: self.partitions(context).await?,
            indexes: self.indexes(context).await?,
            slow_queries: self.slow_queries(context).await?,
            last_upkeep,
        })
    }

    async fn check_postgres(&self, context: &Context) -> Result<Vec<Panel>> {
        let missing = self.missing_right().await?;
        let mut session = self.ground.db.session().await?;
        sql(statements::STATEMENT_TIMEOUT).bind(STATEMENT_TIMEOUT).one::<(String,)>(&mut session).await?;
        let mut panels = vec![self.check_slow(context).await?];
        for check in CHECKS {
            panels.push(match &missing {
                Some(why) if check.needs_monitor => check.panel().unknown(why),
                _ => look(check, &mut session).await,
            });
        }
        panels.push(self.check_partitions().await?);
        panels.push(self.check_owner().await?);
        Ok(panels)
    }

    async fn check_slow(&self, context: &Context) -> Result<Panel> {
        let threshold = format!("warns from {SLOW_MEAN_MS} ms over {SLOW_CALLS} calls");
        let mut panel = Panel::new("slow_queries", "Statements that are slow on the mean", "milliseconds", threshold);
        let slow = self.slow_queries(context).await?;
        if let Some(why) = slow.why {
            return Ok(panel.unknown(why));
        }
        let slow = slow.items.into_iter().filter(|one| one.mean_ms >= SLOW_MEAN_MS && one.calls >= SLOW_CALLS);
        for one in slow.take(MOST_FINDINGS) {
            panel.find(one.query, one.mean_ms, format!("{} calls", one.calls), Status::Warning);
        }
        Ok(panel)
    }
}

/// What cannot be looked at is unknown, whatever the reason.
async fn look(check: &Check, session: &mut Session) -> Panel {
    let mut panel = check.panel();
    match sql(check.statement).all::<FindingRow>(session).await {
        Ok(rows) => {
            for row in rows.into_iter().take(MOST_FINDINGS) {
                let (subject, detail) = (row.subject.unwrap_or_default(), row.detail.unwrap_or_default());
                panel.find(subject, row.value, detail, check.judge(row.value));
            }
            panel
        }
        Err(error) => panel.unknown(error.told()),
    }
}

fn advise(panel: &Panel) -> Vec<Advice> {
    let known = CHECKS.iter().find(|check| check.name == panel.name).map(|check| check.advice);
    let action = known.or_else(|| super::sqlite::advice(panel.name)).or_else(|| super::partitions::advice(panel.name));
    let action = action.unwrap_or("Read its plan with EXPLAIN, and give it an index or fewer rows.");
    let troubled = panel.findings.iter().filter(|finding| finding.status > Status::Unknown);
    let advice = troubled.map(|finding| Advice {
        panel: panel.name,
        subject: finding.subject.clone(),
        reason: format!("{}: {} {} ({})", panel.title, finding.value, panel.unit, panel.threshold),
        action: action.to_owned(),
    });
    let unknown = panel.why.as_ref().map(|why| Advice {
        panel: panel.name,
        subject: panel.title.to_owned(),
        reason: "It could not be looked at.".to_owned(),
        action: why.clone(),
    });
    advice.chain(unknown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_judged_at_their_thresholds() {
        let check = |name: &str| CHECKS.iter().find(|check| check.name == name).unwrap();
        for (name, value, status) in [
            ("long_running", 59.9, Status::Ok),
            ("long_running", 60.0, Status::Warning),
            ("long_running", 3_600.0, Status::Critical),
            ("cache_hit", 99.0, Status::Ok),
            ("cache_hit", 98.9, Status::Warning),
            ("cache_hit", 89.9, Status::Critical),
            ("blocked", 0.0, Status::Warning),
            ("wraparound", 1_499_999_999.0, Status::Warning),
            ("wraparound", 9_999_999.0, Status::Critical),
        ] {
            assert_eq!(check(name).judge(value), status, "{name} {value}");
        }
        assert!(Status::Unknown > Status::Ok, "what is not known is never green");
    }
}
