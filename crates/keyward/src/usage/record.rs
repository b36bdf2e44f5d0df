//! One reported call: as it is given, and as it is taken once every field has been checked. Whether its key exists is
//! asked later, once for a whole batch.

use keyward_core::id::{self, Id};
use keyward_core::network::parse_address;
use keyward_core::route;
use keyward_core::sketch::Bucket;
use keyward_core::text;
use keyward_core::time::Timestamp;
use keyward_core::usd::Usd;
use serde_json::Number;

/// A call as its reporter tells it; numbers are checked here, so that one bad record does not spoil a batch.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// The reporter's own, unique in the organization: a repeated one counts once.
    pub id: String,
    pub key_id: String,
    pub endpoint: String,
    pub method: String,
    pub status: Number,
    pub duration_ms: Option<Number>,
    pub request_bytes: Option<Number>,
    pub response_bytes: Option<Number>,
    pub tokens_in: Option<Number>,
    pub tokens_out: Option<Number>,
    /// A decimal number as text.
    pub cost_usd: Option<String>,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    pub error: Option<String>,
    /// RFC 3339; now when absent.
    pub occurred_at: Option<String>,
}

/// A record that was not taken, and why.
#[derive(Debug, Clone)]
pub struct Rejection {
    /// Its place in the batch.
    pub index: usize,
    /// `invalid_field`, `not_found`, `in_the_future` or `too_old`.
    pub code: &'static str,
    pub detail: String,
}

/// A checked call.
#[derive(Debug)]
pub(super) struct Record {
    pub index: usize,
    pub id: String,
    pub key: Id<id::Key>,
    pub occurred_at: Timestamp,
    pub endpoint: String,
    pub method: String,
    /// Method and endpoint as they are summed up.
    pub route: String,
    pub status: i64,
    pub duration_micros: Option<i64>,
    pub duration_bucket: Option<Bucket>,
    pub request_bytes: i64,
    pub response_bytes: i64,
    pub tokens_in: i64,
    pub tokens_out: i64,
    pub cost: Usd,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    pub error: Option<String>,
}

/// How far a reporter's clock may be ahead, in seconds.
const MAX_AHEAD_SECONDS: i64 = 300;
/// A terabyte, a milliard of tokens, 31 days, ten thousand dollars: what no one call has. Sums of more calls than can be
/// stored stay exact below these.
const MAX_BYTES: i64 = 1_000_000_000_000;
const MAX_TOKENS: i64 = 1_000_000_000;
const MAX_DURATION_MS: f64 = 31.0 * 86_400_000.0;
const MAX_COST: Usd = Usd::from_dollars(10_000);

impl Rejection {
    fn invalid(index: usize, field: &str, fault: impl std::fmt::Display) -> Self {
        Self { index, code: "invalid_field", detail: format!("{field} {fault}") }
    }

    /// A key that does not exist and one of another organization read the same.
    pub(super) fn unknown_key(index: usize) -> Self {
        Self { index, code: "not_found", detail: "key_id names no key of this organization".to_owned() }
    }
}

impl NewRecord {
    /// Checks everything that can be told from the record alone.
    pub(super) fn check(self, index: usize, now: Timestamp, oldest: Timestamp) -> Result<Record, Rejection> {
        let invalid = |field: &'static str, fault: &dyn std::fmt::Display| Rejection::invalid(index, field, fault);
        let label =
            |field: &'static str, text: &str, limit| text::label(text, limit).map_err(|fault| invalid(field, &fault));
        label("id", &self.id, 128)?;
        let key = self.key_id.parse().map_err(|_| Rejection::unknown_key(index))?;
        label("endpoint", &self.endpoint, 512)?;
        let method = self.method.to_ascii_uppercase();
        if !(1..=16).contains(&method.len()) || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(invalid("method", &"is not a method such as GET"));
        }
        for (field, given, limit) in [("user_agent", &self.user_agent, 512), ("error", &self.error, 500)] {
            given.as_deref().map_or(Ok(()), |text| label(field, text, limit))?;
        }
        if self.ip.as_deref().is_some_and(|text| parse_address(text).is_none()) {
            return Err(invalid("ip", &"is not an address"));
        }
        let whole = |field: &'static str, given: Option<&Number>, limit| match given.map(Number::as_i64) {
            None => Ok(0),
            Some(Some(number)) if (0..=limit).contains(&number) => Ok(number),
            Some(_) => Err(invalid(field, &format_args!("is not a whole number from 0 to {limit}"))),
        };
        let status = self.status.as_i64().filter(|status| (100..600).contains(status));
        let status = status.ok_or_else(|| invalid("status", &"is not a status from 100 to 599"))?;
        let duration_micros = match self.duration_ms.as_ref().map(Number::as_f64) {
            None => None,
            Some(Some(millis)) if (0.0..=MAX_DURATION_MS).contains(&millis) => Some((millis * 1000.0).round() as i64),
            Some(_) => {
                return Err(invalid("duration_ms", &format_args!("is not a number from 0 to {MAX_DURATION_MS}")));
            }
        };
        let cost = match self.cost_usd.as_deref().map(str::parse::<Usd>) {
            None => Usd::default(),
            Some(Ok(cost)) if cost <= MAX_COST => cost,
            Some(Ok(_)) => return Err(invalid("cost_usd", &format_args!("is more than {MAX_COST}"))),
            Some(Err(fault)) => return Err(invalid("cost_usd", &fault)),
        };
        let occurred_at = match self.occurred_at.as_deref().map(str::parse::<Timestamp>) {
            None => now,
            Some(Ok(at)) => at,
            Some(Err(fault)) => return Err(invalid("occurred_at", &fault)),
        };
        if occurred_at > now.plus_seconds(MAX_AHEAD_SECONDS) {
            let detail = format!("occurred_at is more than {MAX_AHEAD_SECONDS} seconds ahead");
            return Err(Rejection { index, code: "in_the_future", detail });
        }
        if occurred_at < oldest {
            return Err(Rejection { index, code: "too_old", detail: format!("records before {oldest} are not kept") });
        }
        Ok(Record {
            index,
            key,
            occurred_at,
            route: route_of(&method, &self.endpoint),
            status,
            duration_micros,
            duration_bucket: duration_micros.map(|micros| Bucket::of(micros.unsigned_abs())),
            request_bytes: whole("request_bytes", self.request_bytes.as_ref(), MAX_BYTES)?,
            response_bytes: whole("response_bytes", self.response_bytes.as_ref(), MAX_BYTES)?,
            tokens_in: whole("tokens_in", self.tokens_in.as_ref(), MAX_TOKENS)?,
            tokens_out: whole("tokens_out", self.tokens_out.as_ref(), MAX_TOKENS)?,
            cost,
            id: self.id,
            endpoint: self.endpoint,
            method,
            ip: self.ip,
            user_agent: self.user_agent,
            error: self.error,
        })
    }
}

/// Method and path as they are summed up, e.g. `GET /invoices/{id}`.
pub(super) fn route_of(method: &str, path: &str) -> String {
    route::parts(path).fold(format!("{method} "), |route, part| route + "/" + part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(change: impl FnOnce(&mut NewRecord)) -> NewRecord {
        let mut record = NewRecord {
            id: "r-1".into(),
            key_id: "key_01h455vb4pex5vsknk084sn02q".into(),
            endpoint: "/v1/invoices/17".into(),
            method: "get".into(),
            status: 200.into(),
            duration_ms: Number::from_f64(12.5),
            request_bytes: None,
            response_bytes: Some(0.into()),
            tokens_in: None,
            tokens_out: None,
            cost_usd: Some("0.00012".into()),
            ip: None,
            user_agent: None,
            error: None,
            occurred_at: None,
        };
        change(&mut record);
        record
    }

    fn check(change: impl FnOnce(&mut NewRecord)) -> Result<Record, Rejection> {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        record(change).check(3, now, now.plus_days(-30))
    }

    #[test]
    fn a_good_record_is_taken_as_it_is() {
        let taken = check(|_| {}).unwrap();
        assert_eq!((taken.method.as_str(), taken.route.as_str()), ("GET", "GET /v1/invoices/{id}"));
        assert_eq!((taken.duration_micros, taken.cost.as_nanos()), (Some(12_500), 120_000));
    }

    #[test]
    fn each_fault_has_its_code_and_names_its_field() {
        let set = |field: fn(&mut NewRecord) -> &mut Option<Number>, value: Number| {
            check(move |record| *field(record) = Some(value)).unwrap_err()
        };
        const FIELDS: [fn(&mut NewRecord) -> &mut Option<Number>; 4] =
            [|r| &mut r.tokens_in, |r| &mut r.tokens_out, |r| &mut r.request_bytes, |r| &mut r.response_bytes];
        for bad in
            [Number::from(-1), Number::from_f64(1.5).unwrap(), Number::from(u64::MAX), Number::from_f64(1e30).unwrap()]
        {
            for field in FIELDS {
                assert_eq!(set(field, bad.clone()).code, "invalid_field", "{bad}");
            }
        }
        for bad in [Number::from(-1), Number::from_f64(1e300).unwrap()] {
            assert!(set(|record| &mut record.duration_ms, bad).detail.starts_with("duration_ms "));
        }
        let code = |change: fn(&mut NewRecord)| check(change).unwrap_err().code;
        assert_eq!(code(|record| record.status = 0.into()), "invalid_field");
        assert_eq!(code(|record| record.status = 600.into()), "invalid_field");
        assert_eq!(code(|record| record.id = "x".repeat(129)), "invalid_field");
        assert_eq!(code(|record| record.id = "a\nb".into()), "invalid_field");
        assert_eq!(code(|record| record.method = "GET /".into()), "invalid_field");
        assert_eq!(code(|record| record.cost_usd = Some("-1".into())), "invalid_field");
        assert_eq!(code(|record| record.cost_usd = Some("10000.000000001".into())), "invalid_field");
        assert_eq!(code(|record| record.ip = Some("x".into())), "invalid_field");
        assert_eq!(code(|record| record.occurred_at = Some("yesterday".into())), "invalid_field");
        assert_eq!(code(|record| record.key_id = "x".into()), "not_found");
        assert_eq!(code(|record| record.occurred_at = Some("2026-11-20T12:05:01Z".into())), "in_the_future");
        assert_eq!(code(|record| record.occurred_at = Some("2026-10-21T11:59:59Z".into())), "too_old");
        assert!(check(|record| record.occurred_at = Some("2026-11-20T12:05:00Z".into())).is_ok());
        assert!(check(|record| record.occurred_at = Some("2026-10-21T12:00:00Z".into())).is_ok());
    }
}
