//! The identity provider as it describes itself: its addresses and its keys, fetched when they are needed and remembered for an
//! hour. A key that is not known makes us fetch the keys again, at most every half minute.

use std::sync::Arc;

use keyward_core::time::{Clock, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use super::fetch::{FetchError, Fetcher};
use super::id_token::{self, Claims, Expected, Jwk, Refused};
use crate::config::OidcSettings;

const REMEMBER_SECONDS: i64 = 3_600;
const FETCH_AGAIN_SECONDS: i64 = 30;
/// How long a provider that did not answer is left alone: visitors must not wait one behind the other for its silence.
const REST_SECONDS: i64 = 5;
/// An address, and whether it is the person's own.
const ADDRESS: [&str; 2] = ["email", "email_verified"];

/// OpenID Connect Discovery 1.0, section 3, as far as it is needed.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    pub issuer: String,
    pub authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
    /// RFC 9207.
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// What a code is exchanged for. More may come; it is not needed. It is never printed and never kept.
#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    access_token: Option<String>,
}

/// Why a sign-in came to nothing.
pub(super) enum Failure {
    /// The provider did not answer.
    Unreachable(FetchError),
    /// What it said is not believed, and why.
    Refused(String),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused.why().to_owned())
    }
}

/// A code, and what it must answer to.
pub(super) struct Exchange<'a> {
    pub code: &'a str,
    pub verifier: &'a str,
    pub nonce: &'a str,
    pub redirect_uri: &'a str,
}

/// The provider, remembered.
pub(super) struct Provider {
    settings: OidcSettings,
    clock: Clock,
    fetcher: Fetcher,
    metadata: Remembered<Metadata>,
    keys: Remembered<Vec<Jwk>>,
}

/// Something that was fetched. One fetch goes on at a time; who comes meanwhile waits for its outcome.
struct Remembered<T>(Mutex<Memory<T>>);

struct Memory<T> {
    read: Option<(Timestamp, Arc<T>)>,
    failed_at: Option<Timestamp>,
}

impl<T> Remembered<T> {
    fn nothing() -> Self {
        Self(Mutex::new(Memory { read: None, failed_at: None }))
    }

    /// What was fetched no longer ago than `oldest` seconds.
    async fn get(
        &self,
        now: Timestamp,
        oldest: i64,
        fetch: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Arc<T>, Failure> {
        let mut memory = self.0.lock().await;
        if let Some((_, known)) = memory.read.as_ref().filter(|(at, _)| at.plus_seconds(oldest) > now) {
            return Ok(known.clone());
        }
        if memory.failed_at.is_some_and(|at| at.plus_seconds(REST_SECONDS) > now) {
            return Err(Failure::Unreachable(FetchError::Resting));
        }
        match fetch.await {
            Ok(fetched) => {
                let fetched = Arc::new(fetched);
                *memory = Memory { read: Some((now, fetched.clone())), failed_at: None };
                Ok(fetched)
            }
            Err(failure) => {
                memory.failed_at = Some(now);
                Err(failure)
            }
        }
    }

    /// What was fetched last, however long ago.
    async fn last(&self) -> Option<Arc<T>> {
        self.0.lock().await.read.as_ref().map(|(_, known)| known.clone())
    }
}

impl Provider {
    /// Checks what can be checked without asking the provider.
    pub fn new(settings: OidcSettings, clock: Clock) -> Result<Self, FetchError> {
        let fetcher = Fetcher::new(settings.allow_private_addresses)?;
        fetcher.allowed(&settings.issuer)?;
        Ok(Self { settings, clock, fetcher, metadata: Remembered::nothing(), keys: Remembered::nothing() })
    }

    /// What the provider says of itself. Where it does not answer, what it said last.
    pub async fn metadata(&self) -> Result<Arc<Metadata>, Failure> {
        match self.metadata.get(self.clock.now(), REMEMBER_SECONDS, self.discover()).await {
            Ok(metadata) => Ok(metadata),
            Err(failure) => self.metadata.last().await.ok_or(failure).inspect(|_| {
                tracing::warn!(
                    "the identity provider's description could not be read again; the last one stays in use"
                );
            }),
        }
    }

    async fn discover(&self) -> Result<Metadata, Failure> {
        let issuer = &self.settings.issuer;
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let metadata: Metadata = self.fetcher.get(&url, None).await.map_err(Failure::Unreachable)?;
        if metadata.issuer != *issuer {
            return Err(Failure::Refused(format!(
                "the provider calls itself {:?}, oidc.issuer {issuer:?}",
                metadata.issuer
            )));
        }
        for url in [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri] {
            self.fetcher.allowed(url).map_err(Failure::Unreachable)?;
        }
        Ok(metadata)
    }

    /// Exchanges a code, and answers what the provider says about whoever signed in.
    pub async fn exchange(&self, exchange: &Exchange<'_>) -> Result<Claims, Failure> {
        let metadata = self.metadata().await?;
        let tokens = self.tokens(&metadata, exchange).await?;
        let access_token = tokens.access_token.as_deref();
        let expected = Expected {
            issuer: &metadata.issuer,
            client_id: &self.settings.client_id,
            nonce: exchange.nonce,
            access_token,
            now: self.clock.now(),
        };
        let keys = self.keys(&metadata, REMEMBER_SECONDS).await?;
        let mut claims = match id_token::verify(&tokens.id_token, &keys, &expected) {
            Err(Refused::UnknownKey) => {
                let keys = self.keys(&metadata, FETCH_AGAIN_SECONDS).await?;
                id_token::verify(&tokens.id_token, &keys, &expected)?
            }
            verified => verified?,
        };
        if let (Some(url), Some(token)) = (&metadata.userinfo_endpoint, access_token) {
            self.complete(&mut claims, url, token).await?;
        }
        Ok(claims)
    }

    async fn tokens(&self, metadata: &Metadata, exchange: &Exchange<'_>) -> Result<Tokens, Failure> {
        let (id, secret) = (self.settings.client_id.as_str(), self.settings.client_secret.as_str());
        let methods = &metadata.token_endpoint_auth_methods_supported;
        let names = |method: &str| methods.iter().any(|known| known == method);
        let in_form = secret.is_empty() || names("client_secret_post") && !names("client_secret_basic");
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", exchange.code),
            ("redirect_uri", exchange.redirect_uri),
            ("code_verifier", exchange.verifier),
        ];
        if in_form {
            form.push(("client_id", id));
            form.extend(Some(("client_secret", secret)).filter(|_| !secret.is_empty()));
        }
        let basic = (!in_form).then_some((id, secret));
        self.fetcher.post_form(&metadata.token_endpoint, &form, basic).await.map_err(|error| match error {
            FetchError::Status { status: 400..500, .. } | FetchError::Unreadable { .. } => {
                Failure::Refused(format!("the provider does not exchange the code: {error}"))
            }
            error => Failure::Unreachable(error),
        })
    }

    /// The provider's keys, none fetched longer ago than so.
    async fn keys(&self, metadata: &Metadata, oldest: i64) -> Result<Arc<Vec<Jwk>>, Failure> {
        let fetch = async {
            let set: KeySet = self.fetcher.get(&metadata.jwks_uri, None).await.map_err(Failure::Unreachable)?;
            // Keys of other kinds stand there too; one that cannot be read is none of ours.
            Ok(set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect())
        };
        self.keys.get(self.clock.now(), oldest, fetch).await
    }

    /// Asks for what the token leaves out: many providers tell address and groups only there (Core 5.3).
    async fn complete(&self, claims: &mut Claims, url: &str, token: &str) -> Result<(), Failure> {
        let groups = self.settings.groups_claim.as_str();
        let has_address = ADDRESS.iter().all(|name| claims.0.contains_key(*name));
        let has_groups = self.settings.roles.is_empty() || claims.0.contains_key(groups) || claims.has_too_many(groups);
        if has_address && has_groups {
            return Ok(());
        }
        let mut told: Map<String, Value> = self.fetcher.get(url, Some(token)).await.map_err(Failure::Unreachable)?;
        if told.get("sub") != claims.0.get("sub") {
            return Err(Failure::Refused("the provider tells about somebody else".to_owned()));
        }
        if !has_address && told.contains_key("email") {
            // Both from the same place: one address must not be verified by what is said of another.
            for name in ADDRESS {
                claims.0.remove(name);
                claims.0.extend(told.remove(name).map(|value| (name.to_owned(), value)));
            }
        }
        for name in ["name", groups] {
            if let Some(value) = told.remove(name).filter(|_| !claims.0.contains_key(name)) {
                claims.0.insert(name.to_owned(), value);
            }
        }
        Ok(())
    }
}
