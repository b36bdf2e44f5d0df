//! What reporters of usage send (contract, section 9).

use keyward::usage::NewRecord;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Number;

/// A batch of records.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordsBody {
    /// 1–1,000.
    records: Vec<RecordBody>,
}

/// One call with a key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RecordBody {
    /// Your own, 1–128 characters, unique in the organization: a repeated one counts once.
    id: String,
    key_id: String,
    /// Path or template, e.g. `/v1/invoices/{id}`.
    endpoint: String,
    method: String,
    /// HTTP status, 100–599.
    status: Number,
    duration_ms: Option<Number>,
    request_bytes: Option<Number>,
    response_bytes: Option<Number>,
    tokens_in: Option<Number>,
    tokens_out: Option<Number>,
    /// A decimal number as text, exact to nine digits behind the point: `"0.00012"`.
    cost_usd: Option<String>,
    ip: Option<String>,
    user_agent: Option<String>,
    error: Option<String>,
    /// RFC 3339; now when absent. At most five minutes ahead.
    occurred_at: Option<String>,
}

impl RecordsBody {
    pub(super) fn read(self) -> Vec<NewRecord> {
        self.records.into_iter().map(RecordBody::read).collect()
    }
}

impl RecordBody {
    fn read(self) -> NewRecord {
        NewRecord {
            id: self.id,
            key_id: self.key_id,
            endpoint: self.endpoint,
            method: self.method,
            status: self.status,
            duration_ms: self.duration_ms,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            tokens_in: self.tokens_in,
            tokens_out: self.tokens_out,
            cost_usd: self.cost_usd,
            ip: self.ip,
            user_agent: self.user_agent,
            error: self.error,
            occurred_at: self.occurred_at,
        }
    }
}
