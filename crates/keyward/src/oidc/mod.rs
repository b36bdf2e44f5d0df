//! Signing in by an identity provider (OpenID Connect Core, code flow with PKCE): the browser is sent there and comes back with
//! a code, and what the provider says then opens an account here. An account is known by issuer and subject; it is joined by
//! its address once, where the provider vouches for it. Passwords and second factors stay with `sessions`.

mod account;
mod fetch;
mod id_token;
mod provider;
mod rules;
mod sql;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use keyward_core::problem::Code;
use keyward_core::secret::Secret;
use keyward_core::time::{Clock, Timestamp};
use sha2::{Digest, Sha256};

use crate::accounts::people::People;
use crate::config::{OidcSettings, Settings};
use crate::context::Context;
use crate::db::{row, sql};
use crate::error::{Error, Result};
use crate::ground::Ground;
use crate::sessions::{Client, Sessions, SignedIn, new_token};
use id_token::Claims;
use provider::{Exchange, Failure, Provider};
use rules::Rule;
use sql as statements;

/// How long a visitor has at the provider.
pub const LOGIN_SECONDS: i64 = 600;
/// Where the provider sends them back to, on `server.public_url`.
const CALLBACK: &str = "/v1/auth/oidc/callback";
const BROWSER_PREFIX: &str = "kwo";
const MAX_NEXT: usize = 2_000;

row! {
    struct LoginRow { next_path: String, expires_at: Timestamp }
}

/// Signing in by the provider that the settings name.
pub struct Oidc {
    ground: Ground,
    people: People,
    sessions: Arc<Sessions>,
    checked: Checked,
    settings: OidcSettings,
}

/// What is made of the settings.
struct Checked {
    provider: Provider,
    rules: Vec<Rule>,
    redirect_uri: String,
}

/// Where a visitor is sent, and what their browser keeps meanwhile.
pub struct Departure {
    pub location: String,
    pub browser: Secret<String>,
}

/// With what a visitor comes back.
#[derive(Default)]
pub struct Arrival<'a> {
    pub state: Option<&'a str>,
    pub code: Option<&'a str>,
    /// What the provider says where it gives no code.
    pub error: Option<&'a str>,
    /// RFC 9207.
    pub issuer: Option<&'a str>,
    /// What the browser has kept.
    pub browser: Option<&'a str>,
    pub device: Option<&'a str>,
}

/// Why a visitor is not let in: for the book and the log. All of them are told the same.
enum Refusal {
    Because(String),
    Error(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<crate::db::DbError> for Refusal {
    fn from(error: crate::db::DbError) -> Self {
        Self::Error(error.into())
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(why) => Self::Because(why),
            Failure::Unreachable(error) => Self::Error(unreachable(error)),
        }
    }
}

/// Whether the settings hold, as far as that can be told without the provider.
pub fn check(settings: &Settings) -> Result<()> {
    Checked::read(settings, Clock::System).map(drop)
}

impl Checked {
    fn read(settings: &Settings, clock: Clock) -> Result<Option<Self>> {
        let (public_url, settings) = (settings.server.public_url.trim_end_matches('/'), &settings.oidc);
        if settings.issuer.is_empty() {
            return Ok(None);
        }
        let wrong = |sentence: String| Error::new(Code::NotReady, sentence);
        if settings.client_id.is_empty() {
            return Err(wrong("oidc.client_id is needed with oidc.issuer".to_owned()));
        }
        if public_url.is_empty() {
            return Err(wrong("oidc.issuer needs server.public_url: the provider sends people back there".to_owned()));
        }
        let rules = rules::read(&settings.roles).map_err(|fault| wrong(format!("oidc.roles: {fault}")))?;
        let provider = Provider::new(settings.clone(), clock);
        let provider = provider.map_err(|error| wrong(format!("oidc.issuer: {error}")))?;
        Ok(Some(Self { provider, rules, redirect_uri: format!("{public_url}{CALLBACK}") }))
    }
}

impl Oidc {
    /// `None` where no provider is set. Does not call the provider.
    pub(crate) fn open(
        ground: Ground,
        settings: &Settings,
        people: People,
        sessions: Arc<Sessions>,
    ) -> Result<Option<Self>> {
        let Some(checked) = Checked::read(settings, ground.clock.clone())? else { return Ok(None) };
        Ok(Some(Self { ground, people, sessions, checked, settings: settings.oidc.clone() }))
    }

    /// What a button says that begins the sign-in.
    pub fn label(&self) -> &str {
        &self.settings.label
    }

    /// Begins a sign-in. `browser` is what the browser has kept of another one, so that two can go on at the same time.
    pub async fn start(&self, next: Option<&str>, browser: Option<&str>) -> Result<Departure> {
        let next = local_path(next.unwrap_or("/"))?;
        let metadata = self.checked.provider.metadata().await.map_err(|failure| match failure {
            Failure::Unreachable(error) => unreachable(error),
            Failure::Refused(why) => unreachable(why),
        })?;
        let kept =
            browser.filter(|kept| kept.starts_with(BROWSER_PREFIX) && kept.len() == new_token(BROWSER_PREFIX).len());
        let browser = kept.map_or_else(|| new_token(BROWSER_PREFIX), str::to_owned);
        let (state, now) = (new_token("s"), self.ground.now());
        sql(statements::SWEEP_LOGINS).bind(now).execute(&self.ground.db).await?;
        let insert = sql(statements::INSERT_LOGIN).bind(digest(&state)).bind(digest(&browser)).bind(next);
        insert.bind(now.plus_seconds(LOGIN_SECONDS)).execute(&self.ground.db).await?;
        let challenge = BASE64.encode(Sha256::digest(derive(&browser, &state, "verifier")));
        let scopes = self.settings.scopes.join(" ");
        let nonce = derive(&browser, &state, "nonce");
        let query = [
            ("response_type", "code"),
            ("client_id", &self.settings.client_id),
            ("redirect_uri", &self.checked.redirect_uri),
            ("scope", &scopes),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let location = reqwest::Url::parse_with_params(&metadata.authorization_endpoint, query).map_err(unreachable)?;
        Ok(Departure { location: location.into(), browser: Secret::new(browser) })
    }

    /// Ends a sign-in: where it stands, and the path that the visitor wanted. A state that is unknown, used, out of date or
    /// another browser's is one and the same to whoever sends it.
    pub async fn finish(
        &self,
        context: &Context,
        client: &Client,
        arrival: &Arrival<'_>,
    ) -> Result<(SignedIn, String)> {
        let unknown = || Error::new(Code::InvalidToken, Code::InvalidToken.meaning());
        let (state, browser) = arrival.state.zip(arrival.browser).ok_or_else(unknown)?;
        let mut tx = self.ground.db.begin().await?;
        let take = sql(statements::TAKE_LOGIN).bind(digest(state)).bind(digest(browser));
        let login: Option<LoginRow> = take.optional(&mut tx).await?;
        tx.commit().await?;
        let login = login.filter(|login| login.expires_at > self.ground.now()).ok_or_else(unknown)?;
        let claims = self.claims(arrival, state, browser).await;
        let account: String = claims.as_ref().ok().and_then(|claims| claims.text("email")).unwrap_or_default().into();
        let let_in = match claims {
            Ok(claims) => self.let_in(context, client, arrival.device, &claims).await,
            Err(refusal) => Err(refusal),
        };
        let (why, error) = match let_in {
            Ok(signed_in) => return Ok((signed_in, login.next_path)),
            Err(Refusal::Because(why)) => (why, None),
            Err(Refusal::Error(error)) if error.code == Code::ProviderRefused => (error.detail, None),
            Err(Refusal::Error(error)) => (error.detail.clone(), Some(error)),
        };
        tracing::warn!(why, "a sign-in by the identity provider came to nothing");
        self.sessions.note_refused(context, &account, &why).await;
        Err(error.unwrap_or_else(|| Error::new(Code::ProviderRefused, Code::ProviderRefused.meaning())))
    }

    /// What the provider says about the visitor, in exchange for the code that they bring.
    async fn claims(&self, arrival: &Arrival<'_>, state: &str, browser: &str) -> Result<Claims, Refusal> {
        if let Some(error) = arrival.error {
            let told: String = error.chars().filter(char::is_ascii_graphic).take(60).collect();
            return Err(Refusal::Because(format!("the provider says {told}")));
        }
        let metadata = self.checked.provider.metadata().await?;
        let needs_issuer = metadata.authorization_response_iss_parameter_supported;
        if arrival.issuer.map_or(needs_issuer, |issuer| issuer != metadata.issuer) {
            return Err(Refusal::Because("the answer is from another issuer".to_owned()));
        }
        let code = arrival.code.ok_or_else(|| Refusal::Because("the provider gives no code".to_owned()))?;
        let (verifier, nonce) = (derive(browser, state, "verifier"), derive(browser, state, "nonce"));
        let exchange = Exchange { code, verifier: &verifier, nonce: &nonce, redirect_uri: &self.checked.redirect_uri };
        Ok(self.checked.provider.exchange(&exchange).await?)
    }
}

/// A path of this instance, and nothing that a browser could take for an address elsewhere (statement W-09).
pub fn local_path(next: &str) -> Result<&str> {
    let is_local = next.starts_with('/')
        && !next.starts_with("//")
        && next.len() <= MAX_NEXT
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_local { Ok(next) } else { Err(Error::field("/next", "must be a path of this instance, such as /docs")) }
}

/// Nonce and verifier of a sign-in: only the browser that began it holds what they are made of.
fn derive(browser: &str, state: &str, purpose: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(browser.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(format!("{purpose}\n{state}").as_bytes());
    BASE64.encode(mac.finalize().into_bytes())
}

fn digest(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

fn unreachable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Code::NotReady, "The identity provider does not answer as it should.").with_source(source)
}
