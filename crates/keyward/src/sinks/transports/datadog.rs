//! Datadog's log intake: an array of logs, whose message is the line.

use keyward_core::time::Clock;
use reqwest::header::HeaderName;
use serde::Serialize;

use super::http::Post;
use super::{Line, Taken, Trouble};
use crate::config::{Severity, SinkSettings};
use crate::error::Result;

const PATH: &str = "/api/v2/logs";

pub struct Datadog {
    post: Post,
    host: String,
}

#[derive(Serialize)]
struct Log<'a> {
    ddsource: &'static str,
    ddtags: String,
    hostname: &'a str,
    service: &'static str,
    status: &'static str,
    message: &'a str,
}

impl Datadog {
    pub fn open(settings: &SinkSettings, host: &str, clock: &Clock) -> Result<Self> {
        let post = Post::open(settings, PATH, "application/json", clock)?;
        let key = HeaderName::from_static("dd-api-key");
        Ok(Self { post: post.with_secret(key, &settings.token, &settings.token), host: host.to_owned() })
    }

    pub async fn send(&self, lines: &[Line]) -> Result<Taken, Trouble> {
        let log = |line| log_of(line, &self.host);
        let logs: Vec<Log<'_>> = lines.iter().map(log).collect();
        self.post.send(serde_json::to_string(&logs).expect("logs are JSON")).await?;
        Ok(Taken::default())
    }
}

fn log_of<'a>(line: &'a Line, host: &'a str) -> Log<'a> {
    Log {
        ddsource: "keyward",
        ddtags: format!("event_type:{},action:{}", line.event_type.to_lowercase(), line.action),
        hostname: host,
        service: "keyward",
        status: match line.severity {
            Severity::Informational => "info",
            Severity::Low => "notice",
            Severity::Medium => "warning",
            Severity::High => "error",
        },
        message: line.text.get(),
    }
}
