//! Calls a running server's API, and makes its problems readable.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use http::header::RETRY_AFTER;
use http::{Method, StatusCode};
use serde_json::{Map, Value};

/// The windows of the server's limits are a minute.
const MAX_WAIT_SECONDS: u64 = 60;

/// Which server, and as whom.
#[derive(Args, Debug)]
pub struct Connection {
    /// The server's address.
    #[arg(long, env = "KEYWARD_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// A file whose first line is the service key; otherwise KEYWARD_SERVICE_KEY.
    #[arg(long)]
    service_key_file: Option<PathBuf>,
}

/// A connection with its credential.
pub struct Client {
    url: String,
    service_key: String,
    http: reqwest::Client,
}

impl Connection {
    pub fn client(&self) -> Result<Client> {
        let service_key = match &self.service_key_file {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
                text.lines().next().unwrap_or_default().to_owned()
            }
            None => {
                std::env::var("KEYWARD_SERVICE_KEY").context("set KEYWARD_SERVICE_KEY, or give --service-key-file")?
            }
        };
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Client { url: self.url.trim_end_matches('/').to_owned(), service_key, http })
    }
}

impl Client {
    /// The server's address, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it is asked with.
    pub fn service_key(&self) -> &str {
        &self.service_key
    }

    /// Whether the server is on this machine.
    pub fn is_loopback(&self) -> bool {
        let Ok(url) = reqwest::Url::parse(&self.url) else { return false };
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
    }

    /// The answer's JSON; null when it has none.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, _, json) = self.send(method, path, body).await?;
        if !status.is_success() {
            bail!("{}", readable(&json));
        }
        Ok(json)
    }

    /// The same for long work made of many calls: where the server says that it is asked too often, waits as it says.
    pub async fn call_patiently(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        loop {
            let (status, retry_after, json) = self.send(method.clone(), path, body).await?;
            match retry_after {
                Some(seconds) if status == StatusCode::TOO_MANY_REQUESTS && seconds <= MAX_WAIT_SECONDS => {
                    eprintln!("limited; going on in {seconds} s");
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                }
                _ if status.is_success() => return Ok(json),
                _ => bail!("{}", readable(&json)),
            }
        }
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(StatusCode, Option<u64>, Value)> {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.service_key);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.with_context(|| format!("no answer from {}", self.url))?;
        let status = answer.status();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let text = answer.text().await?;
        Ok((status, retry_after, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// An answer whose body is read part by part.
    pub async fn download(&self, path: &str) -> Result<reqwest::Response> {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.service_key);
        let answer = request.send().await.with_context(|| format!("no answer from {}", self.url))?;
        if !answer.status().is_success() {
            let problem = serde_json::from_str(&answer.text().await?).unwrap_or(Value::Null);
            bail!("{}", readable(&problem));
        }
        Ok(answer)
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.call(Method::POST, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Result<()> {
        self.call(Method::DELETE, path, None).await.map(|_| ())
    }

    /// Every item of a list, page by page, at most `most`.
    pub async fn list(&self, path: &str, query: &[(&str, String)], most: usize) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let limit = (most - items.len()).min(200);
            let mut pairs: Vec<String> = vec![format!("limit={limit}")];
            pairs.extend(Some(query_text(query)).filter(|text| !text.is_empty()));
            pairs.extend(cursor.map(|cursor: String| format!("cursor={cursor}")));
            let page = format!("{path}?{}", pairs.join("&"));
            let page = self.call_patiently(Method::GET, &page, None).await?;
            items.extend(page["items"].as_array().into_iter().flatten().cloned());
            match page["next_cursor"].as_str() {
                Some(next) if items.len() < most => cursor = Some(next.to_owned()),
                _ => return Ok(items),
            }
        }
    }
}

/// An object of the fields that were given.
pub fn given<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Map<_, _>>().into()
}

/// Names and values as a URL has them.
pub fn query_text(query: &[(&str, String)]) -> String {
    let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    pairs.join("&")
}

/// The detail, each field at fault on a line, and the id to look for in the log.
fn readable(problem: &Value) -> String {
    let Some(detail) = problem["detail"].as_str() else { return "the server answered with an error".to_owned() };
    let faults = problem["errors"].as_array().into_iter().flatten().map(|fault| {
        format!(
            "\n  {} {}",
            fault["pointer"].as_str().unwrap_or_default(),
            fault["detail"].as_str().unwrap_or_default()
        )
    });
    let request = problem["request_id"].as_str().map_or_else(String::new, |id| format!("\n  request {id}"));
    format!("{detail}{}{request}", faults.collect::<String>())
}

/// Percent-encodes a query value.
pub fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
