//! How lines travel: one file a protocol. A transport sends a batch once and says what became of it; it neither waits nor tries
//! again.

mod connection;
mod datadog;
mod elasticsearch;
mod http;
mod json_lines;
mod splunk;
mod syslog;

use std::time::Duration;

use keyward_core::time::{Clock, Timestamp};
use serde_json::value::RawValue;

use crate::config::{Severity, SinkKind, SinkSettings};
use crate::error::Result;

/// A record in its words, ready to be sent.
#[derive(Debug)]
pub struct Line {
    pub id: String,
    /// What tells it from all other lines: the id, with the sequence behind it where two organizations chose the same.
    pub key: String,
    pub at: Timestamp,
    pub action: String,
    pub severity: Severity,
    /// Of an event: its place in the book.
    pub sequence: Option<i64>,
    pub event_type: String,
    pub organization: Option<String>,
    /// The JSON object, on one line.
    pub text: Box<RawValue>,
}

/// What became of a batch that the sink read: every line is there, but for these.
#[derive(Debug, Default)]
pub struct Taken {
    /// Lines that it will never take, by their place in the batch, and why.
    pub refused: Vec<(usize, String)>,
    /// The first line that it could not take now. Later ones may be there or not.
    pub stopped: Option<(usize, String)>,
}

/// Why nothing of a batch is known to have arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It may arrive another time; not before so long, if the sink said so.
    Later(String, Option<Duration>),
    /// A line in it will never be taken.
    Refused(String),
}

impl Trouble {
    fn later(why: impl Into<String>) -> Self {
        Self::Later(why.into(), None)
    }
}

pub enum Transport {
    Syslog(syslog::Syslog),
    Splunk(splunk::Splunk),
    Elasticsearch(elasticsearch::Elasticsearch),
    Datadog(datadog::Datadog),
    JsonLines(json_lines::JsonLines),
}

impl Transport {
    /// What the settings name; `host` is the instance's own name.
    pub fn open(settings: &SinkSettings, host: &str, clock: &Clock) -> Result<Self> {
        Ok(match settings.kind {
            SinkKind::Syslog => Self::Syslog(syslog::Syslog::open(settings, host)?),
            SinkKind::SplunkHec => Self::Splunk(splunk::Splunk::open(settings, host, clock)?),
            SinkKind::Elasticsearch => Self::Elasticsearch(elasticsearch::Elasticsearch::open(settings, clock)?),
            SinkKind::Datadog => Self::Datadog(datadog::Datadog::open(settings, host, clock)?),
            SinkKind::Http => Self::JsonLines(json_lines::JsonLines::open(settings, clock)?),
        })
    }

    pub async fn send(&self, lines: &[Line]) -> Result<Taken, Trouble> {
        match self {
            Self::Syslog(syslog) => syslog.send(lines).await,
            Self::Splunk(splunk) => splunk.send(lines).await,
            Self::Elasticsearch(elasticsearch) => elasticsearch.send(lines).await,
            Self::Datadog(datadog) => datadog.send(lines).await,
            Self::JsonLines(json_lines) => json_lines.send(lines).await,
        }
    }
}

#[cfg(test)]
fn a_line(id: &str) -> Line {
    Line {
        id: id.to_owned(),
        key: id.to_owned(),
        at: Timestamp::from_micros(1_795_176_000_000_001),
        action: "login".into(),
        severity: Severity::Medium,
        sequence: Some(3),
        event_type: "SECURITY".into(),
        organization: None,
        text: RawValue::from_string(r#"{"a":"é"}"#.into()).expect("JSON"),
    }
}
