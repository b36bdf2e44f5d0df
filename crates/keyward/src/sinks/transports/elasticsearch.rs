//! Elasticsearch's and OpenSearch's `_bulk`: each line is created under its own key, so that sending it again changes nothing. Every
//! item has an answer of its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyward_core::time::Clock;
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{Post, is_about_lines};
use super::{Line, Taken, Trouble};
use crate::config::SinkSettings;
use crate::error::Result;

/// The line is there already.
const CONFLICT: u16 = 409;

pub struct Elasticsearch {
    post: Post,
    index: String,
}

#[derive(Deserialize)]
struct Told {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    create: Outcome,
}

#[derive(Deserialize)]
struct Outcome {
    status: u16,
    #[serde(default)]
    error: Value,
}

impl Elasticsearch {
    /// A token with a colon is a name and a password (RFC 7617), any other an API key.
    pub fn open(settings: &SinkSettings, clock: &Clock) -> Result<Self> {
        let mut post = Post::open(settings, "", "application/x-ndjson", clock)?;
        let path = post.path().trim_end_matches('/').to_owned();
        if !path.ends_with("/_bulk") {
            post.set_path(&format!("{path}/_bulk"));
        }
        let token = settings.token.as_str();
        let post = match token.split_once(':') {
            Some((_, password)) => post.authorized(&format!("Basic {}", STANDARD.encode(token)), password),
            None if token.is_empty() => post,
            None => post.authorized(&format!("ApiKey {token}"), token),
        };
        Ok(Self { post, index: settings.index.clone() })
    }

    pub async fn send(&self, lines: &[Line]) -> Result<Taken, Trouble> {
        let mut body = String::new();
        for line in lines {
            body += &json!({ "create": { "_index": self.index, "_id": line.key } }).to_string();
            body.push('\n');
            body += &with_timestamp(line);
            body.push('\n');
        }
        let text = self.post.send(body).await?;
        let told: Option<Told> = serde_json::from_str(&text).ok();
        let items = told.map(|told| told.items).filter(|items| items.len() == lines.len());
        let items = items.ok_or_else(|| Trouble::later("its answer is none of _bulk"))?;
        let mut taken = Taken::default();
        for (place, Item { create }) in items.into_iter().enumerate() {
            let why = || self.post.tell(&format!("an item was answered {}: {}", create.status, reason(&create.error)));
            match create.status {
                200..300 | CONFLICT => {}
                status if is_about_lines(status) => taken.refused.push((place, why())),
                _ => {
                    taken.stopped = Some((place, why()));
                    return Ok(taken);
                }
            }
        }
        Ok(taken)
    }
}

/// The line with the one field that a data stream needs.
fn with_timestamp(line: &Line) -> String {
    let text = line.text.get();
    match text.strip_prefix('{') {
        Some(rest) if !text.contains(r#""@timestamp":"#) => format!(r#"{{"@timestamp":"{}",{rest}"#, line.at),
        _ => text.to_owned(),
    }
}

fn reason(error: &Value) -> String {
    let (kind, reason) = (error["type"].as_str(), error["reason"].as_str());
    [kind, reason].into_iter().flatten().collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_stream_finds_its_instant() {
        let line = super::super::a_line("x");
        assert_eq!(with_timestamp(&line), r#"{"@timestamp":"2026-11-20T12:00:00.000001Z","a":"é"}"#);
    }
}
