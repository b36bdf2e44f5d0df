//! What was used in a month: read from sums of days and months only, whatever the number of records. Callers who may see
//! only their own keys are told of those alone.

use std::collections::BTreeMap;

use keyward_core::id::{self, Id};
use keyward_core::month::Month;
use keyward_core::time::Timestamp;
use keyward_core::usd::Usd;
use uuid::Uuid;

use super::record::route_of;
use super::rollup::{ALL_KEYS, Level};
use super::totals::{RollupRow, Totals};
use super::{Usage, sql as statements};
use crate::context::{Context, Whose};
use crate::db::{row, sql};
use crate::error::Result;

/// Most lines of a report.
const MAX_LINES: i64 = 200;

/// A month of an organization or of a key.
#[derive(Debug, Clone)]
pub struct Summary {
    pub month: Month,
    pub totals: Totals,
    /// By the verdict's code.
    pub verifications: BTreeMap<String, i64>,
}

/// A day of a month.
#[derive(Debug, Clone)]
pub struct Day {
    /// `2026-11-20`.
    pub date: String,
    pub totals: Totals,
    pub verifications: i64,
}

/// The calls of one route.
#[derive(Debug, Clone)]
pub struct RouteLine {
    pub method: String,
    pub endpoint: String,
    pub totals: Totals,
}

row! {
    /// Failed calls with one status and text.
    #[derive(Debug, Clone)]
    pub struct ErrorLine { pub status: i64, pub error: String, pub calls: i64 }
}

/// Verifications with one outcome that was not `valid`.
#[derive(Debug, Clone)]
pub struct VerifyLine {
    pub code: String,
    pub count: i64,
}

/// What failed in a month.
#[derive(Debug, Clone)]
pub struct Errors {
    pub calls: Vec<ErrorLine>,
    pub refusals: Vec<VerifyLine>,
}

row! {
    /// A key and what it used. The name is absent when the key has been deleted.
    #[derive(Debug, Clone)]
    pub struct Consumer {
        pub key_id: Id<id::Key>,
        pub name: Option<String>,
        pub calls: i64,
        pub errors: i64,
        pub tokens: i64,
        cost_nanos: i64,
        pub verifications: i64,
    }
}

impl Consumer {
    pub fn cost(&self) -> Usd {
        Usd::from_nanos(self.cost_nanos)
    }
}

pub type Consumers = Vec<Consumer>;

/// By what consumers are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranking {
    Calls,
    Cost,
}

row! {
    struct VerifyRow { starts_at: Timestamp, outcome: String, calls: i64 }
}

row! {
    struct EndpointRow { method: String, endpoint: String, calls: i64, errors: i64 }
}

/// Whose sums a report adds up.
#[derive(Clone, Copy)]
enum Of {
    /// One key, or `ALL_KEYS`.
    Key(Uuid),
    Owner(Id<id::User>),
}

impl From<Whose> for Of {
    fn from(whose: Whose) -> Self {
        match whose {
            Whose::Everyones => Self::Key(ALL_KEYS),
            Whose::Only(user) => Self::Owner(user),
        }
    }
}

impl Usage {
    /// The month that it is now.
    pub fn this_month(&self) -> Month {
        Month::of(self.ground.now())
    }

    /// Everything of a month in one picture.
    pub async fn summary(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        month: Month,
    ) -> Result<Summary> {
        let whose = self.reach(context, organization).await?;
        self.summarize(organization, whose.into(), month).await
    }

    /// The month of one key. That the caller may see the key has been found out before.
    pub async fn summary_of_key(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        key: Id<id::Key>,
        month: Month,
    ) -> Result<Summary> {
        self.reach(context, organization).await?;
        self.summarize(organization, Of::Key(key.uuid()), month).await
    }

    async fn summarize(&self, organization: Id<id::Organization>, of: Of, month: Month) -> Result<Summary> {
        let mut totals = Totals::default();
        for row in self.sums(organization, of, Level::Month, month).await? {
            totals.merge(&row.totals()?);
        }
        let mut verifications = BTreeMap::new();
        for row in self.verifies(organization, of, Level::Month, month).await? {
            *verifications.entry(row.outcome).or_default() += row.calls;
        }
        Ok(Summary { month, totals, verifications })
    }

    /// Every day of the month, also those without a call.
    pub async fn daily(&self, context: &Context, organization: Id<id::Organization>, month: Month) -> Result<Vec<Day>> {
        let of = self.reach(context, organization).await?.into();
        let mut days: BTreeMap<Timestamp, Day> = month
            .days()
            .map(|(start, date)| (start, Day { date, totals: Totals::default(), verifications: 0 }))
            .collect();
        for row in self.sums(organization, of, Level::Day, month).await? {
            if let Some(day) = days.get_mut(&row.starts_at) {
                day.totals.merge(&row.totals()?);
            }
        }
        for row in self.verifies(organization, of, Level::Day, month).await? {
            if let Some(day) = days.get_mut(&row.starts_at) {
                day.verifications += row.calls;
            }
        }
        Ok(days.into_values().collect())
    }

    /// The routes with the most calls.
    pub async fn endpoints(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        month: Month,
    ) -> Result<Vec<RouteLine>> {
        let lines: Vec<(String, Totals)> = match self.reach(context, organization).await? {
            Whose::Everyones => {
                let routes = sql(statements::ROUTES).bind(organization).bind(month.start()).bind(ALL_KEYS);
                let rows: Vec<RollupRow> = routes.bind(MAX_LINES).all(&self.ground.db).await?;
                rows.iter().map(|row| Ok((row.route.clone(), row.totals()?))).collect::<Result<_>>()?
            }
            Whose::Only(user) => self.routes_of_owner(organization, user, month).await?,
        };
        let line = |(route, totals): (String, Totals)| {
            let (method, endpoint) = route.split_once(' ').unwrap_or_default();
            RouteLine { method: method.to_owned(), endpoint: endpoint.to_owned(), totals }
        };
        Ok(lines.into_iter().map(line).collect())
    }

    /// Calls and errors, without durations: sums by key and route are not kept.
    async fn routes_of_owner(
        &self,
        organization: Id<id::Organization>,
        user: Id<id::User>,
        month: Month,
    ) -> Result<Vec<(String, Totals)>> {
        let rows = sql(statements::ROUTES_OF_OWNER).bind(organization).bind(user).bind(month.start()).bind(month.end());
        let mut routes: BTreeMap<String, Totals> = BTreeMap::new();
        for row in rows.all::<EndpointRow>(&self.ground.db).await? {
            let totals = routes.entry(route_of(&row.method, &row.endpoint)).or_default();
            totals.merge(&Totals { calls: row.calls, client_errors: row.errors, ..Totals::default() });
        }
        let mut routes: Vec<(String, Totals)> = routes.into_iter().collect();
        routes.sort_by_key(|(_, totals)| std::cmp::Reverse(totals.calls));
        routes.truncate(MAX_LINES as usize);
        Ok(routes)
    }

    /// Failed calls by status and text, and refused verifications by code, most first.
    pub async fn errors(&self, context: &Context, organization: Id<id::Organization>, month: Month) -> Result<Errors> {
        let whose = self.reach(context, organization).await?;
        let calls = sql(statements::ERRORS).bind(organization).bind(month.start()).bind(month.end());
        let calls: Vec<ErrorLine> = calls.bind(whose.owner()).bind(MAX_LINES).all(&self.ground.db).await?;
        let refused = self.verifies(organization, whose.into(), Level::Month, month).await?.into_iter();
        let refused = refused.filter(|row| row.outcome != "valid");
        let mut refusals: Vec<VerifyLine> =
            refused.map(|row| VerifyLine { code: row.outcome, count: row.calls }).collect();
        refusals.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.code.cmp(&other.code)));
        Ok(Errors { calls, refusals })
    }

    /// The keys that were used most.
    pub async fn top_consumers(
        &self,
        context: &Context,
        organization: Id<id::Organization>,
        month: Month,
        ranking: Ranking,
        limit: u32,
    ) -> Result<Consumers> {
        let whose = self.reach(context, organization).await?;
        let text = match ranking {
            Ranking::Calls => statements::CONSUMERS_BY_CALLS,
            Ranking::Cost => statements::CONSUMERS_BY_COST,
        };
        let consumers = sql(text).bind(organization).bind(month.start()).bind(ALL_KEYS).bind(whose.owner()).bind(limit);
        Ok(consumers.all(&self.ground.db).await?)
    }

    async fn sums(
        &self,
        organization: Id<id::Organization>,
        of: Of,
        level: Level,
        month: Month,
    ) -> Result<Vec<RollupRow>> {
        let text = if matches!(of, Of::Key(_)) { statements::SUMS } else { statements::SUMS_OF_OWNER };
        let sums = sql(text).bind(organization).bind(level.as_str()).bind(month.start()).bind(month.end());
        Ok(of.bind(sums).all(&self.ground.db).await?)
    }

    async fn verifies(
        &self,
        organization: Id<id::Organization>,
        of: Of,
        level: Level,
        month: Month,
    ) -> Result<Vec<VerifyRow>> {
        let text = if matches!(of, Of::Key(_)) { statements::VERIFIES } else { statements::VERIFIES_OF_OWNER };
        let counts = sql(text).bind(organization).bind(level.as_str()).bind(month.start()).bind(month.end());
        Ok(of.bind(counts).all(&self.ground.db).await?)
    }
}

impl Of {
    fn bind(self, statement: crate::db::Sql) -> crate::db::Sql {
        match self {
            Self::Key(key) => statement.bind(key),
            Self::Owner(user) => statement.bind(user),
        }
    }
}
