//! The layer: what it asks of every request, and the one question it puts to its `Verify`. How a request then goes on
//! is `service`; how a refusal is worded is `refusal`.

use std::net::IpAddr;

use http::request::Parts;
use http::{Extensions, HeaderName};
use keyward_core::limit::MAX_COUNT;
use keyward_core::time::Clock;
use keyward_core::verdict::{Outcome, Request, Verdict};
use keyward_core::verify::Verify;
use keyward_core::{key, scope};

use crate::address::AddressSource;
use crate::guard::KeywardService;
use crate::identity::ApiKeyIdentity;
use crate::presented::{X_API_KEY, presented};
use crate::refusal::{Refusal, Refused};

/// Lets only requests with a valid API key through.
///
/// A request that passes carries an [`ApiKeyIdentity`] in its extensions. Every other is answered here, with 401, 403,
/// 429 or, when no verdict could be reached, 503; the service behind is not called.
///
/// Put one layer around each group of routes that asks for the same. Two layers around one route would count its calls
/// twice. The path that is judged is the one the layer sees: inside a nested axum router that is the rest of the path.
#[derive(Clone)]
pub struct KeywardLayer<V> {
    verify: V,
    pub(crate) scopes: Vec<String>,
    environment: Option<String>,
    cost: u64,
    key_header: HeaderName,
    address: AddressSource,
}

impl<V> KeywardLayer<V> {
    /// A layer that asks for any valid key, in `Authorization: Bearer` or else in `X-Api-Key`, at a cost of 1.
    pub fn new(verify: V) -> Self {
        Self {
            verify,
            scopes: Vec::new(),
            environment: None,
            cost: 1,
            key_header: X_API_KEY,
            address: AddressSource::default(),
        }
    }

    /// The key must cover this scope, too.
    ///
    /// # Panics
    /// When the text is not a scope such as `invoices:read`.
    #[must_use]
    pub fn require_scope(mut self, scope: impl Into<String>) -> Self {
        let scope = scope.into();
        assert!(scope::is_valid(&scope), "{scope:?} is not a scope such as invoices:read");
        self.scopes.push(scope);
        self
    }

    /// The key must be of this environment.
    ///
    /// # Panics
    /// When the text is not an environment such as `live`.
    #[must_use]
    pub fn environment(mut self, environment: impl Into<String>) -> Self {
        let environment = environment.into();
        assert!(key::is_environment(&environment), "{environment:?} is not an environment such as live");
        self.environment = Some(environment);
        self
    }

    /// What a call costs of the key's limits and quota.
    ///
    /// # Panics
    /// When the cost is 0 or above 2^53 − 1.
    #[must_use]
    pub fn cost(mut self, cost: u64) -> Self {
        assert!((1..=MAX_COUNT).contains(&cost), "a call costs at least 1 and at most 2^53 - 1");
        self.cost = cost;
        self
    }

    /// The header that may hold the key when `Authorization: Bearer` does not; `X-Api-Key` unless told.
    #[must_use]
    pub fn key_header(mut self, name: HeaderName) -> Self {
        self.key_header = name;
        self
    }

    /// Where the address of the peer stands in a request's extensions; [`ClientAddress`](crate::ClientAddress) unless
    /// told. Without an address, keys that have address rules are refused.
    #[must_use]
    pub fn client_address(mut self, peer: impl Fn(&Extensions) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        self.address.read_peer_with(peer);
        self
    }

    /// How many proxies of your own every request passes. Above 0, the client's address is that entry of
    /// `X-Forwarded-For`, counted from the right; the header is not read otherwise. Only right when the service cannot
    /// be reached past the proxies.
    #[must_use]
    pub fn trusted_proxies(mut self, count: usize) -> Self {
        self.address.trusted_proxies = count;
        self
    }
}

impl<V: Verify> KeywardLayer<V> {
    /// Who calls, or why the call goes no further.
    pub(crate) async fn admit(&self, request: &Parts) -> Result<ApiKeyIdentity, Refused> {
        let presented =
            presented(&request.headers, &self.key_header).ok_or_else(|| Refused::at_once(Refusal::NoKey))?;
        let scopes: Vec<&str> = self.scopes.iter().map(String::as_str).collect();
        let asked = Request {
            scopes: &scopes,
            environment: self.environment.as_deref(),
            cost: self.cost,
            ip: self.address.of(request),
            method: Some(request.method.as_str()),
            path: Some(request.uri.path()),
            ..Request::default()
        };
        match self.verify.verify(presented, &asked).await {
            Ok(Verdict { outcome: Outcome::Valid, record: Some(record), .. }) => Ok(ApiKeyIdentity::new(record)),
            Ok(Verdict { outcome: Outcome::Valid, record: None, .. }) => {
                tracing::error!("a key was called valid without saying whose it is; the request was refused");
                Err(Refused::at_once(Refusal::CannotJudge))
            }
            Ok(verdict) => Err(Refused {
                refusal: Refusal::Key(verdict.outcome),
                retry_after_seconds: verdict.retry_after_seconds(Clock::System.now()),
            }),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the request was refused");
                Err(Refused::at_once(Refusal::CannotJudge))
            }
        }
    }
}

impl<V: Clone, S> tower::Layer<S> for KeywardLayer<V> {
    type Service = KeywardService<V, S>;

    fn layer(&self, inner: S) -> Self::Service {
        KeywardService::new(self.clone(), inner)
    }
}
