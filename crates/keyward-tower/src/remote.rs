//! `Verify` over HTTP: every key is put to a running Keyward (`POST /v1/api-keys/verify`). Nothing is remembered here,
//! so a revoked key is refused as soon as Keyward refuses it, and nothing is served when Keyward does not answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use keyward_core::key;
use keyward_core::secret::Secret;
use keyward_core::verdict::{Outcome, Request, Verdict};
use keyward_core::verify::{CannotJudge, Verify};
use reqwest::{Client, Url, redirect};
use serde::Serialize;

use crate::answer::{self, UnreadableAnswer};

/// How long an answer may take unless told otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

/// Judges keys by asking a running Keyward. Cheap to clone; clones share their connections.
///
/// Whose keys are known is decided by the service key, and the client's country by Keyward, so `reach` and `country` of
/// a request are not sent. In the records of its verdicts the digest is zero and the key's own rules are absent.
#[derive(Debug, Clone)]
pub struct Remote {
    client: Client,
    endpoint: Url,
    service_key: Arc<Secret<String>>,
    timeout: Duration,
}

/// Why a `Remote` could not be made, or reached no verdict.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Keyward's address is not an `http` or `https` URL.
    #[error("the address of Keyward must be an http or https URL")]
    Address,
    /// The service key has characters that no header can carry.
    #[error("the service key cannot be sent in a header")]
    ServiceKey,
    /// The system gives no HTTP client, for example for want of certificates.
    #[error("no HTTP client could be made")]
    Client(#[source] reqwest::Error),
    /// Keyward could not be reached, or not in time.
    #[error("Keyward did not answer")]
    Unreachable(#[source] reqwest::Error),
    /// Keyward answered with an error: 401 or 403 when the service key is at fault.
    #[error("Keyward answered {0}")]
    Refused(StatusCode),
    /// Keyward's answer is none that we know.
    #[error("Keyward's answer could not be read")]
    Unreadable(#[source] UnreadableAnswer),
}

/// The body of a verify call (contract, section 4).
#[derive(Serialize)]
struct Question<'a> {
    key: &'a str,
    scopes: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<&'a str>,
    cost: u64,
    limits: Vec<LimitQuestion<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    dry_run: bool,
}

#[derive(Serialize)]
struct LimitQuestion<'a> {
    name: &'a str,
    cost: u64,
}

impl Remote {
    /// Asks the Keyward at `url`, as the holder of a service key with the permission `keys:verify`. Goes straight there:
    /// redirects are not followed, and the proxies that the process's environment names are not used.
    ///
    /// # Errors
    /// When the URL or the service key cannot be used.
    pub fn new(url: &str, service_key: impl Into<String>) -> Result<Self, RemoteError> {
        let service_key = Secret::new(service_key.into());
        HeaderValue::from_str(service_key.expose()).map_err(|_| RemoteError::ServiceKey)?;
        let client = Client::builder().redirect(redirect::Policy::none()).no_proxy().build();
        Ok(Self {
            client: client.map_err(RemoteError::Client)?,
            endpoint: endpoint(url).ok_or(RemoteError::Address)?,
            service_key: Arc::new(service_key),
            timeout: DEFAULT_TIMEOUT,
        })
    }

    /// How long an answer may take, connecting included; 2 seconds unless told.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn ask(&self, question: &Question<'_>) -> Result<Verdict, RemoteError> {
        let response = self
            .client
            .post(self.endpoint.clone())
            .bearer_auth(self.service_key.expose())
            .timeout(self.timeout)
            .json(question)
            .send()
            .await
            .map_err(RemoteError::Unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(RemoteError::Refused(response.status()));
        }
        let body = response.bytes().await.map_err(RemoteError::Unreachable)?;
        answer::read(&body).map_err(RemoteError::Unreadable)
    }
}

fn endpoint(url: &str) -> Option<Url> {
    let mut url = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    url.path_segments_mut().ok()?.pop_if_empty().extend(["v1", "api-keys", "verify"]);
    Some(url)
}

impl Verify for Remote {
    async fn verify(&self, presented: &str, request: &Request<'_>) -> Result<Verdict, CannotJudge> {
        // What no key can look like is not worth the way.
        if key::shape(presented).is_none() {
            return Ok(Verdict::unknown(Outcome::Malformed, request.dry_run));
        }
        let question = Question {
            key: presented,
            scopes: request.scopes,
            environment: request.environment,
            cost: request.cost,
            limits: request.limits.iter().map(|used| LimitQuestion { name: used.name, cost: used.cost }).collect(),
            ip: request.ip,
            method: request.method,
            path: request.path,
            dry_run: request.dry_run,
        };
        self.ask(&question).await.map_err(|error| CannotJudge(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_stands_below_the_given_address() {
        let text = |url| endpoint(url).map(String::from);
        assert_eq!(text("http://localhost:8080").as_deref(), Some("http://localhost:8080/v1/api-keys/verify"));
        assert_eq!(text("https://a.example/keys/").as_deref(), Some("https://a.example/keys/v1/api-keys/verify"));
        assert_eq!(text("localhost:8080"), None);
        assert_eq!(text("ftp://a.example"), None);
    }

    #[test]
    fn the_service_key_is_checked_and_never_printed() {
        let remote = Remote::new("http://localhost", "kw_live_secret").unwrap();
        assert!(!format!("{remote:?}").contains("kw_live_secret"));
        assert!(matches!(Remote::new("http://localhost", "line\nbreak"), Err(RemoteError::ServiceKey)));
    }
}
