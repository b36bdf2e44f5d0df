//! Calls to the identity provider: small JSON answers, in time, from public addresses alone unless the settings allow others
//! (statement I-06). No redirect is followed and no proxy is taken from the environment.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use keyward_core::network::is_public;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{RequestBuilder, Url};
use serde::de::DeserializeOwned;

/// How long the provider has for an answer.
const TIME: Duration = Duration::from_secs(10);
/// Longest answer, in bytes.
const MAX_BYTES: usize = 512 * 1024;

pub(super) struct Fetcher {
    client: reqwest::Client,
    allow_private: bool,
}

/// Why nothing was fetched: for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0}: only https is allowed, at a public address; see oidc.allow_private_addresses")]
    NotAllowed(String),
    #[error("{url}: status {status}: {told}")]
    Status { url: String, status: u16, told: String },
    #[error("{0}: the answer is too long")]
    TooLong(String),
    #[error("{url}: the answer is not what it should be")]
    Unreadable { url: String, source: serde_json::Error },
    #[error("the provider did not answer a moment ago")]
    Resting,
    #[error(transparent)]
    Failed(#[from] reqwest::Error),
}

/// Resolves names to public addresses only: a name cannot lead inside.
struct PublicNames;

impl Resolve for PublicNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let public: Vec<SocketAddr> = found.into_iter().filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(format!("{} has no public address; see oidc.allow_private_addresses", name.as_str()).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

impl Fetcher {
    pub fn new(allow_private: bool) -> Result<Self, FetchError> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(TIME)
            .user_agent(concat!("keyward/", env!("CARGO_PKG_VERSION")));
        let client = if allow_private { client } else { client.https_only(true).dns_resolver(PublicNames) };
        Ok(Self { client: client.build()?, allow_private })
    }

    /// The address, if it may be called. Names are checked again when they are resolved.
    pub fn allowed(&self, text: &str) -> Result<Url, FetchError> {
        let not_allowed = || FetchError::NotAllowed(text.to_owned());
        let url = Url::parse(text).map_err(|_| not_allowed())?;
        let host = url.host_str().ok_or_else(not_allowed)?;
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let is_private = literal.is_ok_and(|address| !is_public(address)) || host == "localhost";
        let is_web = url.scheme() == "https" || url.scheme() == "http" && self.allow_private;
        if is_web && (self.allow_private || !is_private) { Ok(url) } else { Err(not_allowed()) }
    }

    pub async fn get<T: DeserializeOwned>(&self, url: &str, token: Option<&str>) -> Result<T, FetchError> {
        let request = self.client.get(self.allowed(url)?);
        self.read(url, if let Some(token) = token { request.bearer_auth(token) } else { request }).await
    }

    pub async fn post_form<T: DeserializeOwned>(
        &self,
        url: &str,
        form: &[(&str, &str)],
        basic: Option<(&str, &str)>,
    ) -> Result<T, FetchError> {
        let request = self.client.post(self.allowed(url)?).form(form);
        let request = match basic {
            // RFC 6749, 2.3.1: both parts are written as in a form first.
            Some((id, secret)) => request.basic_auth(form_encoded(id), Some(form_encoded(secret))),
            None => request,
        };
        self.read(url, request).await
    }

    async fn read<T: DeserializeOwned>(&self, url: &str, request: RequestBuilder) -> Result<T, FetchError> {
        let mut response = request.header("accept", "application/json").send().await?;
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await? {
            body.extend_from_slice(&part);
            if body.len() > MAX_BYTES {
                return Err(FetchError::TooLong(url.to_owned()));
            }
        }
        if !response.status().is_success() {
            let told = String::from_utf8_lossy(&body).chars().filter(|letter| !letter.is_control()).take(200).collect();
            return Err(FetchError::Status { url: url.to_owned(), status: response.status().as_u16(), told });
        }
        serde_json::from_slice(&body).map_err(|source| FetchError::Unreadable { url: url.to_owned(), source })
    }
}

/// Text as a form writes it.
fn form_encoded(text: &str) -> String {
    let mut url = Url::parse("https://form.invalid/").expect("an address");
    url.query_pairs_mut().append_pair("", text);
    url.query().unwrap_or_default().trim_start_matches('=').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_https_addresses_may_be_called() {
        let (public, any) = (Fetcher::new(false).unwrap(), Fetcher::new(true).unwrap());
        for url in [
            "http://id.example.com",
            "https://127.0.0.1",
            "https://[::1]:8443/x",
            "https://localhost",
            "https://169.254.169.254/latest",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://[::ffff:10.0.0.1]/",
            "ftp://id.example.com",
            "javascript:alert(1)",
            "id.example.com",
            "",
        ] {
            assert!(public.allowed(url).is_err(), "{url}");
        }
        assert!(public.allowed("https://id.example.com/realms/one").is_ok());
        assert!(any.allowed("http://127.0.0.1:9400").is_ok() && any.allowed("javascript:alert(1)").is_err());
    }

    #[tokio::test]
    async fn no_name_leads_inside() {
        for name in ["localhost", "localhost.localdomain", "127.0.0.1"] {
            let found = PublicNames.resolve(name.parse().unwrap()).await;
            assert!(found.is_err(), "{name}");
        }
    }

    #[test]
    fn a_client_secret_is_written_as_in_a_form() {
        assert_eq!(form_encoded("a b:c/%é"), "a+b%3Ac%2F%25%C3%A9");
        assert_eq!(form_encoded("=="), "%3D%3D");
    }
}
