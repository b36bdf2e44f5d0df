//! Usage over HTTP: records in, reports out. Every report is of one month, the present one when none is named.

mod bodies;
pub(super) mod views;

use axum::Json as Answer;
use axum::extract::State;
use keyward::usage::Ranking;
use keyward_core::access::Permission::{UsageRead, UsageWrite};
use keyward_core::month::Month;
use keyward_core::problem::Code;
use schemars::JsonSchema;
use serde::Deserialize;

use super::caller::{Caller, In, Params};
use super::json::LargeJson;
use super::page::List;
use super::route::{Access::Needs, Route, get, post};
use crate::app::{App, SharedApp};
use crate::problem::Problem;
use bodies::RecordsBody;
use views::{ConsumerView, DayView, ErrorsView, ReceiptView, RouteView, SummaryView};

/// Most lines of a ranking.
const MOST_LINES: u32 = 200;

pub fn routes() -> Vec<Route> {
    let read = Needs(UsageRead);
    vec![
        post("/usage", Needs(UsageWrite), "Report calls, up to 1,000 at once; each counts once by its id", record)
            .takes::<RecordsBody>()
            .answers::<ReceiptView>(200),
        get("/usage", read, "The month in one picture, as /usage/summary", summary)
            .query::<MonthParams>()
            .answers::<SummaryView>(200),
        get("/usage/summary", read, "The month in one picture", summary)
            .query::<MonthParams>()
            .answers::<SummaryView>(200),
        get("/usage/daily", read, "The month day by day", daily).query::<MonthParams>().answers::<List<DayView>>(200),
        get("/usage/endpoints", read, "The routes with the most calls", endpoints)
            .query::<RankedParams>()
            .answers::<List<RouteView>>(200),
        get("/usage/errors", read, "Failed calls by status and text, refused verifications by code", errors)
            .query::<RankedParams>()
            .answers::<ErrorsView>(200),
        get("/usage/top-consumers", read, "The keys that were used most", top_consumers)
            .query::<ConsumerParams>()
            .answers::<List<ConsumerView>>(200),
    ]
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MonthParams {
    /// E.g. `2026-11`, in UTC; the present month when absent.
    pub month: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RankedParams {
    /// E.g. `2026-11`, in UTC; the present month when absent.
    month: Option<String>,
    /// How many of the first: 1–200, 200 when absent.
    limit: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ConsumerParams {
    /// E.g. `2026-11`, in UTC; the present month when absent.
    month: Option<String>,
    /// 1–200, 10 when absent.
    limit: Option<u32>,
    /// `calls` (the default) or `cost`.
    by: Option<String>,
}

pub(super) fn read_month(app: &App, month: Option<&str>) -> Result<Month, Problem> {
    let malformed = |_| Problem::new(Code::MalformedRequest, "month must be a month such as 2026-11.");
    month.map_or(Ok(app.keyward.usage.this_month()), |text| text.parse().map_err(malformed))
}

/// How many lines are asked for.
fn read_limit(limit: Option<u32>, absent: u32) -> Result<u32, Problem> {
    let limit = limit.unwrap_or(absent);
    let fits = (1..=MOST_LINES).contains(&limit);
    fits.then_some(limit).ok_or_else(|| Problem::new(Code::MalformedRequest, "limit must be between 1 and 200."))
}

/// The few lines of a report, as a list that is complete.
fn whole<T, U>(lines: Vec<T>, show: impl FnMut(T) -> U) -> Answer<List<U>> {
    Answer(List { items: lines.into_iter().map(show).collect(), next_cursor: None })
}

async fn record(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    LargeJson(body): LargeJson<RecordsBody>,
) -> Result<Answer<ReceiptView>, Problem> {
    Ok(Answer(app.keyward.usage.record(&caller.context, organization, body.read()).await?.into()))
}

async fn summary(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Params(params): Params<MonthParams>,
) -> Result<Answer<SummaryView>, Problem> {
    let month = read_month(&app, params.month.as_deref())?;
    Ok(Answer(app.keyward.usage.summary(&caller.context, organization, month).await?.into()))
}

async fn daily(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Params(params): Params<MonthParams>,
) -> Result<Answer<List<DayView>>, Problem> {
    let month = read_month(&app, params.month.as_deref())?;
    Ok(whole(app.keyward.usage.daily(&caller.context, organization, month).await?, DayView::from))
}

async fn endpoints(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Params(params): Params<RankedParams>,
) -> Result<Answer<List<RouteView>>, Problem> {
    let month = read_month(&app, params.month.as_deref())?;
    let limit = read_limit(params.limit, MOST_LINES)?;
    let mut routes = app.keyward.usage.endpoints(&caller.context, organization, month).await?;
    routes.truncate(limit as usize);
    Ok(whole(routes, RouteView::from))
}

async fn errors(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Params(params): Params<RankedParams>,
) -> Result<Answer<ErrorsView>, Problem> {
    let month = read_month(&app, params.month.as_deref())?;
    let limit = read_limit(params.limit, MOST_LINES)?;
    let mut errors = app.keyward.usage.errors(&caller.context, organization, month).await?;
    errors.calls.truncate(limit as usize);
    Ok(Answer(errors.into()))
}

async fn top_consumers(
    State(app): State<SharedApp>,
    caller: Caller,
    In(organization): In,
    Params(params): Params<ConsumerParams>,
) -> Result<Answer<List<ConsumerView>>, Problem> {
    let month = read_month(&app, params.month.as_deref())?;
    let ranking = match params.by.as_deref() {
        None | Some("calls") => Ranking::Calls,
        Some("cost") => Ranking::Cost,
        Some(_) => return Err(Problem::new(Code::MalformedRequest, "by must be calls or cost.")),
    };
    let limit = read_limit(params.limit, 10)?;
    let consumers = app.keyward.usage.top_consumers(&caller.context, organization, month, ranking, limit);
    Ok(whole(consumers.await?, ConsumerView::from))
}
