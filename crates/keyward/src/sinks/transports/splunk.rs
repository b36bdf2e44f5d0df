//! Splunk's HTTP Event Collector: JSON objects one behind the other, each an event with what Splunk wants to know about it.

use keyward_core::time::Clock;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::http::Post;
use super::{Line, Taken, Trouble};
use crate::config::SinkSettings;
use crate::error::Result;

const PATH: &str = "/services/collector/event";
/// Codes of answers with status 400 that are about the collector's settings: incorrect index, channels, acknowledgement.
const ABOUT_SETTINGS: [u32; 4] = [7, 10, 11, 14];

pub struct Splunk {
    post: Post,
    host: String,
    index: Option<String>,
    sourcetype: String,
}

#[derive(Serialize)]
struct Item<'a> {
    /// Seconds since 1970.
    time: f64,
    host: &'a str,
    source: &'static str,
    sourcetype: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<&'a str>,
    event: &'a RawValue,
}

#[derive(Deserialize)]
struct Told {
    code: u32,
}

impl Splunk {
    pub fn open(settings: &SinkSettings, host: &str, clock: &Clock) -> Result<Self> {
        let token = &settings.token;
        let post = Post::open(settings, PATH, "application/json", clock)?.authorized(&format!("Splunk {token}"), token);
        let named = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Ok(Self {
            post,
            host: host.to_owned(),
            index: named(&settings.index),
            sourcetype: named(&settings.sourcetype).unwrap_or_else(|| "keyward:audit".to_owned()),
        })
    }

    pub async fn send(&self, lines: &[Line]) -> Result<Taken, Trouble> {
        let mut body = String::new();
        for line in lines {
            let item = Item {
                time: line.at.as_micros() as f64 / 1e6,
                host: &self.host,
                source: "keyward",
                sourcetype: &self.sourcetype,
                index: self.index.as_deref(),
                event: &line.text,
            };
            body += &serde_json::to_string(&item).expect("an item is JSON");
            body.push('\n');
        }
        let answer = self.post.ask(body).await?;
        if (200..300).contains(&answer.status) {
            return Ok(Taken::default());
        }
        let is_about_settings =
            serde_json::from_str(&answer.text).is_ok_and(|told: Told| ABOUT_SETTINGS.contains(&told.code));
        Err(match self.post.trouble(&answer) {
            Trouble::Refused(why) if is_about_settings => Trouble::later(why),
            trouble => trouble,
        })
    }
}
