//! What is summed up over calls. Adding is the only arithmetic: sums of parts are the sum of the whole, in any order.

use keyward_core::sketch::Sketch;
use keyward_core::time::Timestamp;
use keyward_core::usd::Usd;
use uuid::Uuid;

use super::record::Record;
use crate::db::{DbError, row};

/// Sums over a set of calls. A sum that would run over stays at the highest number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    pub calls: i64,
    /// Status 400–499.
    pub client_errors: i64,
    /// Status 500–599.
    pub server_errors: i64,
    pub request_bytes: i64,
    pub response_bytes: i64,
    pub tokens_in: i64,
    pub tokens_out: i64,
    pub cost: Usd,
    /// In microseconds.
    pub durations: Sketch,
}

impl Totals {
    pub fn errors(&self) -> i64 {
        self.client_errors.saturating_add(self.server_errors)
    }

    /// The duration that a share of the calls did not exceed, in milliseconds, within `sketch::RELATIVE_ERROR`; none
    /// when no call told how long it took.
    pub fn duration_ms(&self, share: f64) -> Option<f64> {
        self.durations.quantile(share).map(|micros| micros.round() / 1000.0)
    }

    pub(super) fn add(&mut self, record: &Record) {
        self.calls = self.calls.saturating_add(1);
        match record.status {
            400..500 => self.client_errors = self.client_errors.saturating_add(1),
            500..600 => self.server_errors = self.server_errors.saturating_add(1),
            _ => {}
        }
        for (sum, part) in [
            (&mut self.request_bytes, record.request_bytes),
            (&mut self.response_bytes, record.response_bytes),
            (&mut self.tokens_in, record.tokens_in),
            (&mut self.tokens_out, record.tokens_out),
        ] {
            *sum = sum.saturating_add(part);
        }
        self.cost = self.cost.saturating_add(record.cost);
        if let Some(bucket) = record.duration_bucket {
            self.durations.add(bucket);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (sum, part) in [
            (&mut self.calls, other.calls),
            (&mut self.client_errors, other.client_errors),
            (&mut self.server_errors, other.server_errors),
            (&mut self.request_bytes, other.request_bytes),
            (&mut self.response_bytes, other.response_bytes),
            (&mut self.tokens_in, other.tokens_in),
            (&mut self.tokens_out, other.tokens_out),
        ] {
            *sum = sum.saturating_add(part);
        }
        self.cost = self.cost.saturating_add(other.cost);
        self.durations.merge(&other.durations);
    }
}

row! {
    /// A stored sum.
    pub(super) struct RollupRow {
        pub level: String,
        pub starts_at: Timestamp,
        pub key_id: Uuid,
        pub route: String,
        calls: i64,
        client_errors: i64,
        server_errors: i64,
        request_bytes: i64,
        response_bytes: i64,
        tokens_in: i64,
        tokens_out: i64,
        cost_nanos: i64,
        durations: Vec<u8>,
    }
}

impl RollupRow {
    pub fn totals(&self) -> Result<Totals, DbError> {
        let durations = Sketch::from_bytes(&self.durations)
            .ok_or_else(|| DbError::Unreadable("durations is not a sketch of a known version".to_owned()))?;
        Ok(Totals {
            calls: self.calls,
            client_errors: self.client_errors,
            server_errors: self.server_errors,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            tokens_in: self.tokens_in,
            tokens_out: self.tokens_out,
            cost: Usd::from_nanos(self.cost_nanos),
            durations,
        })
    }
}
