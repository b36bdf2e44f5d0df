//! How usage is shown. Amounts of money are text, exact; durations are milliseconds, within a hundredth of the true ones.

use std::collections::BTreeMap;

use keyward::usage::{Consumer, Day, ErrorLine, Errors, Receipt, Rejection, RouteLine, Summary, Totals, VerifyLine};
use keyward_core::id::{self, Id};
use schemars::JsonSchema;
use serde::Serialize;

/// What became of a batch.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ReceiptView {
    /// Committed, and part of every sum.
    accepted: usize,
    /// Known before, or twice in the batch.
    duplicates: usize,
    rejected: Vec<RejectionView>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct RejectionView {
    /// Place in the batch, from 0.
    index: usize,
    /// `invalid_field`, `not_found`, `in_the_future` or `too_old`.
    code: &'static str,
    detail: String,
}

impl From<Receipt> for ReceiptView {
    fn from(receipt: Receipt) -> Self {
        let Receipt { accepted, duplicates, rejected } = receipt;
        let show = |Rejection { index, code, detail }| RejectionView { index, code, detail };
        Self { accepted, duplicates, rejected: rejected.into_iter().map(show).collect() }
    }
}

/// Sums over calls.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TotalsView {
    calls: i64,
    /// Status 400 and above.
    errors: i64,
    client_errors: i64,
    server_errors: i64,
    request_bytes: i64,
    response_bytes: i64,
    tokens_in: i64,
    tokens_out: i64,
    /// A decimal number, exact.
    cost_usd: String,
    duration_ms: PercentilesView,
}

/// Each within a hundredth of the true one; null where no call told its duration.
#[derive(Debug, Serialize, JsonSchema)]
struct PercentilesView {
    p50: Option<f64>,
    p90: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

impl From<&Totals> for TotalsView {
    fn from(totals: &Totals) -> Self {
        Self {
            calls: totals.calls,
            errors: totals.errors(),
            client_errors: totals.client_errors,
            server_errors: totals.server_errors,
            request_bytes: totals.request_bytes,
            response_bytes: totals.response_bytes,
            tokens_in: totals.tokens_in,
            tokens_out: totals.tokens_out,
            cost_usd: totals.cost.to_string(),
            duration_ms: totals.into(),
        }
    }
}

impl From<&Totals> for PercentilesView {
    fn from(totals: &Totals) -> Self {
        let [p50, p90, p95, p99] = [0.5, 0.9, 0.95, 0.99].map(|share| totals.duration_ms(share));
        Self { p50, p90, p95, p99 }
    }
}

/// A month in one picture.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SummaryView {
    month: String,
    #[serde(flatten)]
    totals: TotalsView,
    verifications: VerificationsView,
}

/// Judged keys, dry runs left out.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VerificationsView {
    total: i64,
    /// By the verdict's `code`.
    by_code: BTreeMap<String, i64>,
}

impl From<Summary> for SummaryView {
    fn from(summary: Summary) -> Self {
        let total = summary.verifications.values().sum();
        Self {
            month: summary.month.to_string(),
            totals: (&summary.totals).into(),
            verifications: VerificationsView { total, by_code: summary.verifications },
        }
    }
}

impl SummaryView {
    pub(in crate::api) fn verifications(&self) -> i64 {
        self.verifications.total
    }
}

/// A day.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DayView {
    /// `2026-11-20`, in UTC.
    date: String,
    #[serde(flatten)]
    totals: TotalsView,
    verifications: i64,
}

impl From<Day> for DayView {
    fn from(day: Day) -> Self {
        Self { date: day.date, totals: (&day.totals).into(), verifications: day.verifications }
    }
}

/// The calls of one route. Segments that look like identifiers stand together as `{id}`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RouteView {
    endpoint: String,
    method: String,
    calls: i64,
    errors: i64,
    duration_ms: PercentilesView,
}

impl From<RouteLine> for RouteView {
    fn from(line: RouteLine) -> Self {
        let RouteLine { method, endpoint, totals } = line;
        Self { endpoint, method, calls: totals.calls, errors: totals.errors(), duration_ms: (&totals).into() }
    }
}

/// What failed.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ErrorsView {
    /// Reported calls with a status of 400 and above, or with an error.
    items: Vec<ErrorView>,
    /// Verifications that were not `valid`.
    refusals: Vec<RefusalView>,
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ErrorView {
    status: i64,
    /// As reported; null where no text was.
    error: Option<String>,
    calls: i64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct RefusalView {
    /// The verdict's `code`.
    code: String,
    count: i64,
}

impl From<Errors> for ErrorsView {
    fn from(errors: Errors) -> Self {
        let call = |ErrorLine { status, error, calls }| ErrorView {
            status,
            error: Some(error).filter(|text| !text.is_empty()),
            calls,
        };
        let refusal = |VerifyLine { code, count }| RefusalView { code, count };
        Self {
            items: errors.calls.into_iter().map(call).collect(),
            refusals: errors.refusals.into_iter().map(refusal).collect(),
            next_cursor: None,
        }
    }
}

/// A key and what it used.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ConsumerView {
    #[schemars(with = "String")]
    key_id: Id<id::Key>,
    /// Null when the key has been deleted.
    name: Option<String>,
    calls: i64,
    errors: i64,
    /// In and out.
    tokens: i64,
    cost_usd: String,
    verifications: i64,
}

impl From<Consumer> for ConsumerView {
    fn from(consumer: Consumer) -> Self {
        let cost_usd = consumer.cost().to_string();
        let Consumer { key_id, name, calls, errors, tokens, verifications, .. } = consumer;
        Self { key_id, name, calls, errors, tokens, cost_usd, verifications }
    }
}
