//! One POST to a sink: no redirects, no proxy, no long waits; a status is read as taken, not now, or never. What is told of an answer
//! holds no secret.

use std::time::{Duration, UNIX_EPOCH};

use keyward_core::problem::Code;
use keyward_core::time::{Clock, Timestamp};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, Response, Url, redirect};

use super::Trouble;
use crate::config::SinkSettings;
use crate::error::{Error, Result};

/// Longest times to connect, and for the whole answer.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a connection waits for the next batch.
const IDLE: Duration = Duration::from_secs(10);
/// Most of an answer that is read: Elasticsearch tells every item.
const MOST_BYTES: usize = 8 << 20;
/// Most of an answer that is told.
const MOST_TOLD: usize = 200;
/// A longer wait than this is not believed.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// Of the 4xx, those that are not about what was sent: credentials, addresses, pace.
const ABOUT_SENDER: [u16; 16] = [401, 403, 404, 405, 407, 408, 410, 411, 414, 415, 421, 425, 426, 429, 431, 451];

/// Where to, and with what.
pub struct Post {
    client: Client,
    url: Url,
    headers: HeaderMap,
    /// Not to be told, whoever tells them.
    secrets: Vec<String>,
    clock: Clock,
}

impl Post {
    /// `path` is appended where the settings name no path of their own.
    pub fn open(settings: &SinkSettings, path: &str, content_type: &'static str, clock: &Clock) -> Result<Self> {
        let mut url = Url::parse(&settings.url).map_err(|error| unusable(settings, error))?;
        if matches!(url.path(), "" | "/") && !path.is_empty() {
            url.set_path(path);
        }
        let mut client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_PATIENCE)
            .timeout(PATIENCE)
            .pool_idle_timeout(IDLE)
            .user_agent(concat!("keyward/", env!("CARGO_PKG_VERSION")));
        if !settings.ca_file.as_os_str().is_empty() {
            let pem = std::fs::read(&settings.ca_file).map_err(|error| unusable(settings, error))?;
            let bundle = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(settings, error))?;
            if bundle.is_empty() {
                return Err(unusable(settings, "ca_file holds no certificate"));
            }
            client = client.tls_certs_only(bundle);
        }
        let client = client.build().map_err(|error| unusable(settings, error))?;
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        Ok(Self { client, url, headers, secrets: Vec::new(), clock: clock.clone() })
    }

    /// `Authorization: <text>`, of which `secret` is never told.
    pub fn authorized(self, text: &str, secret: &str) -> Self {
        self.with_secret(AUTHORIZATION, text, secret)
    }

    pub fn with_secret(mut self, name: HeaderName, text: &str, secret: &str) -> Self {
        // The settings were checked to be ASCII.
        if let Ok(mut value) = HeaderValue::from_str(text) {
            value.set_sensitive(true);
            self.headers.insert(name, value);
        }
        self.secrets.push(secret.to_owned());
        self
    }

    pub fn path(&self) -> &str {
        self.url.path()
    }

    pub fn set_path(&mut self, path: &str) {
        self.url.set_path(path);
    }

    /// Sends a body; answers the status and the text of the answer.
    pub async fn ask(&self, body: String) -> Result<Answer, Trouble> {
        let request = self.client.post(self.url.clone()).headers(self.headers.clone()).body(body);
        let answer = request.send().await.map_err(|error| Trouble::later(self.tell(&because(error))))?;
        let status = answer.status().as_u16();
        let wait = self.wait_told(&answer);
        let text = read(answer).await.map_err(|error| Trouble::later(self.tell(&because(error))))?;
        Ok(Answer { status, wait, text })
    }

    /// Sends a body that is taken whole or not at all; answers the text of the answer.
    pub async fn send(&self, body: String) -> Result<String, Trouble> {
        let answer = self.ask(body).await?;
        match answer.status {
            200..300 => Ok(answer.text),
            _ => Err(self.trouble(&answer)),
        }
    }

    /// What an answer means that is no success.
    pub fn trouble(&self, answer: &Answer) -> Trouble {
        let why = self.tell(&format!("it answered {}: {}", answer.status, answer.text));
        match is_about_lines(answer.status) {
            true => Trouble::Refused(why),
            false => Trouble::Later(why, answer.wait),
        }
    }

    /// A text for health, log and book: short, on one line, without secrets.
    pub fn tell(&self, text: &str) -> String {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let clean = self.secrets.iter().fold(text, |text, secret| text.replace(secret.as_str(), "[redacted]"));
        clean.trim_end_matches([':', ' ']).chars().take(MOST_TOLD).collect()
    }

    fn wait_told(&self, answer: &Response) -> Option<Duration> {
        wait_of(answer.headers().get(RETRY_AFTER)?.to_str().ok()?, self.clock.now())
    }
}

/// An answer of whatever status.
pub struct Answer {
    pub status: u16,
    pub wait: Option<Duration>,
    pub text: String,
}

/// Retry-After (RFC 9110, 10.2.3): seconds or a date.
fn wait_of(text: &str, now: Timestamp) -> Option<Duration> {
    let seconds = text.trim().parse().ok().or_else(|| {
        let at = httpdate::parse_http_date(text.trim()).ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(at.as_secs().saturating_sub(now.as_seconds().try_into().ok()?))
    })?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// Whether a status says that what was sent will never be taken.
pub fn is_about_lines(status: u16) -> bool {
    (400..500).contains(&status) && !ABOUT_SENDER.contains(&status)
}

async fn read(mut answer: Response) -> reqwest::Result<String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if bytes.len() + chunk.len() > MOST_BYTES {
            break;
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The innermost reason; the address, which may be long, is not repeated.
fn because(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    format!("it could not be reached: {innermost}")
}

pub fn unusable(settings: &SinkSettings, why: impl std::fmt::Display) -> Error {
    Error::new(Code::NotReady, format!("The sink {:?} of audit.sinks cannot be used: {why}", settings.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_in_seconds_or_as_a_date() {
        let now = Timestamp::from_micros(1_795_176_000_000_000);
        for (text, seconds) in [
            ("30", Some(30)),
            ("99999", Some(3_600)),
            ("Fri, 20 Nov 2026 12:01:30 GMT", Some(90)),
            ("Fri, 20 Nov 2026 11:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ] {
            assert_eq!(wait_of(text, now), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn what_is_about_the_lines_and_what_is_not() {
        for status in [400, 413, 422] {
            assert!(is_about_lines(status), "{status}");
        }
        for status in [200, 301, 401, 403, 404, 408, 429, 500, 503] {
            assert!(!is_about_lines(status), "{status}");
        }
    }
}
