//! Who calls: the credential becomes a context, the route's permission is checked, and a refusal is noted in the book.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use keyward::audit::{Event, EventType};
use keyward::context::{Actor, ActorKind, Context};
use keyward::idempotency::Begin;
use keyward::limits::callers::{Call, Source};
use keyward::sessions::Present;
use keyward_core::access::Permission;
use keyward_core::id::{self, Id, Kind};
use keyward_core::problem::Code;
use keyward_core::secret::Secret;

use super::route::Access;
use super::{cookies, origin};
use crate::app::{App, SharedApp};
use crate::gateway::partner::PartnerKeys;
use crate::hot::{cannot_judge, credential};
use crate::problem::Problem;
use crate::serve::Peer;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What stands before a route's handler.
#[derive(Clone)]
pub struct Guard {
    pub app: SharedApp,
    pub access: Access,
    pub limited: Option<Call>,
    pub idempotent: bool,
}

/// The caller of a request, found by the guard.
#[derive(Clone)]
pub struct Caller {
    pub context: Arc<Context>,
    /// The service key that calls, if it is one.
    pub key: Option<Id<id::Key>>,
    /// The session that calls, if it is a person.
    pub session: Option<Arc<Present>>,
    source: Source,
    /// What answers are kept under for a repeated call.
    credential: Arc<Secret<String>>,
}

pub async fn guard(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let permission = match guard.access {
        Access::Needs(permission) => Some(permission),
        Access::Known(_) | Access::Person => None,
        Access::NeedsOrSignature(permission) if !PartnerKeys::is_signed(request.headers()) => Some(permission),
        Access::Probe(_) => return next.run(request).await,
        Access::NeedsOrSignature(_) | Access::Open(_) => {
            let stranger = Stranger::of(&guard.app, &request);
            if let Err(problem) = stranger.admit(&guard.app, guard.limited.unwrap_or(Call::Unauthenticated)).await {
                return problem.into_response();
            }
            return match origin::check_sign_in(&guard.app, &request) {
                Ok(()) => next.run(request).await,
                Err(problem) => {
                    stranger.note(&guard.app, "access_denied", &problem.0).await;
                    problem.into_response()
                }
            };
        }
    };
    let circumstances = Circumstances::of(&request);
    let caller = match identify(&guard.app, request.headers(), circumstances).await {
        Ok(caller) => caller,
        Err(problem) if problem.0.code == Code::Unauthenticated => {
            let stranger = Stranger::of(&guard.app, &request);
            drop(request);
            let limited = stranger.admit(&guard.app, Call::Unauthenticated).await;
            return limited.err().unwrap_or(problem).into_response();
        }
        Err(problem) => return problem.into_response(),
    };
    request.extensions_mut().insert(caller.clone());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = match admit(&guard, &caller, permission, &request) {
        Ok(()) if guard.idempotent && request.headers().contains_key(IDEMPOTENCY_KEY) => {
            once(&guard.app, &caller, request, next).await.unwrap_or_else(IntoResponse::into_response)
        }
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    if matches!(response.status(), StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS) {
        let problem = response.extensions().get::<Problem>().cloned();
        note_refusal(&guard.app, &caller, &method, &path, problem.as_ref()).await;
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether this caller may make this call now; without a permission, any signed-in person may, or anybody known.
fn admit(guard: &Guard, caller: &Caller, permission: Option<Permission>, request: &Request) -> Result<(), Problem> {
    let keyward = &guard.app.keyward;
    // Only cookies show a browser's session.
    if let Some(present) = caller.session.as_ref().filter(|present| present.browser) {
        origin::check(&guard.app, request.method(), request.headers(), present.session)?;
    }
    match (permission, &caller.session) {
        (Some(permission), _) => caller.context.require_anywhere(permission)?,
        (None, Some(_)) => {}
        (None, None) if matches!(guard.access, Access::Known(_)) => {}
        (None, None) => return Err(Problem::new(Code::Forbidden, "Only a signed-in person can do this.")),
    }
    if let Some(present) = caller.session.as_ref().filter(|_| guard.access != Access::Person) {
        if present.must_enrol {
            return Err(Problem::plain(Code::SecondFactorEnrolmentRequired));
        }
        if permission.is_some_and(Permission::needs_fresh_factor) && !present.has_fresh_factor(keyward.clock.now()) {
            return Err(Problem::plain(Code::InsufficientUserAuthentication));
        }
    }
    let Some(call) = guard.limited else { return Ok(()) };
    let taken = keyward.caller_limits.take(call, caller.source, keyward.clock.now());
    taken.map_err(|refused| keyward::Error::limited(refused.exceeded).into())
}

/// Nobody known, who makes a call from an address.
pub struct Stranger {
    address: IpAddr,
    request_id: Option<Id<id::Request>>,
    route: String,
}

impl Stranger {
    pub fn of(app: &App, request: &Request) -> Self {
        let Circumstances { peer, request_id } = Circumstances::of(request);
        let peer = peer.map_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), |peer| peer.address.ip());
        let route = format!("{} {}", request.method(), request.uri().path());
        Self { address: app.client_address(peer, request.headers()), request_id, route }
    }

    /// Counts the call against the address. The first one beyond the limit is noted in the book.
    pub async fn admit(&self, app: &App, call: Call) -> Result<(), Problem> {
        let now = app.keyward.clock.now();
        let Err(refused) = app.keyward.caller_limits.take(call, Source::address(self.address), now) else {
            return Ok(());
        };
        let error = keyward::Error::limited(refused.exceeded);
        if refused.first {
            self.note(app, "rate_limited", &error).await;
        }
        Err(error.into())
    }

    async fn note(&self, app: &App, action: &'static str, refused: &keyward::Error) {
        let event = Event::new(EventType::Security, action, "route", self.route.clone());
        let actor = Actor { kind: ActorKind::External, id: "visitor".to_owned(), name: None };
        let (ip, request_id) = (Some(self.address), self.request_id);
        let context = Context { actor, ip, request_id, ..Context::system("visitor") };
        if let Err(error) = app.keyward.audit.note(&context, event.failed(refused.detail.clone())).await {
            tracing::error!(%error, "a refused call could not be noted");
        }
    }
}

/// Where a request came from, and under which id.
#[derive(Clone, Copy)]
struct Circumstances {
    peer: Option<Peer>,
    request_id: Option<Id<id::Request>>,
}

impl Circumstances {
    fn of(request: &Request) -> Self {
        let extensions = request.extensions();
        Self { peer: extensions.get().copied(), request_id: extensions.get().copied() }
    }
}

async fn identify(app: &App, headers: &HeaderMap, circumstances: Circumstances) -> Result<Caller, Problem> {
    let peer = circumstances.peer.ok_or_else(|| Problem::plain(Code::Internal))?;
    let address = app.client_address(peer.address.ip(), headers);
    let cookie = cookies::read(headers, cookies::ACCESS);
    let unauthenticated = || Problem::plain(Code::Unauthenticated);
    let presented = match (credential(headers)?, cookie) {
        (Some(_), Some(_)) => return Err(Problem::plain(Code::AmbiguousCredentials)),
        (Some(presented), None) => presented,
        (None, Some(token)) => {
            let present = app.keyward.sessions.identify(token).await?.ok_or_else(unauthenticated)?;
            // What programs hold is no good as a cookie: forged requests would not be looked for.
            let present = Some(present).filter(|present| present.browser).ok_or_else(unauthenticated)?;
            return Ok(person(app, present, address, headers, circumstances.request_id));
        }
        (None, None) => return Err(unauthenticated()),
    };
    // Only an access token has dots.
    if presented.contains('.') {
        let present = app.keyward.sessions.identify(presented).await?;
        // What a browser keeps in its cookies is no good anywhere else.
        let present = present.filter(|present| !present.browser).ok_or_else(unauthenticated)?;
        return Ok(person(app, present, address, headers, circumstances.request_id));
    }
    caller_with(app, presented, address, headers, circumstances.request_id).await
}

/// A signed-in person as a caller.
fn person(
    app: &App,
    present: Arc<Present>,
    address: IpAddr,
    headers: &HeaderMap,
    request_id: Option<Id<id::Request>>,
) -> Caller {
    let context = Context {
        actor: Actor { kind: ActorKind::User, id: present.person.to_string(), name: Some(present.email.clone()) },
        grant: Some(present.grant.clone()),
        scopes: String::new(),
        ip: Some(address),
        user_agent: user_agent_of(headers),
        request_id,
    };
    Caller {
        context: Arc::new(context),
        key: None,
        source: Source::Person(present.person),
        credential: Arc::new(app.keyward.sessions.seal_of(present.person)),
        session: Some(present),
    }
}

/// What the client calls itself, as it may stand in a log.
pub fn user_agent_of(headers: &HeaderMap) -> Option<String> {
    headers.get(header::USER_AGENT).map(|value| {
        let text = String::from_utf8_lossy(value.as_bytes());
        text.chars().filter(|letter| !letter.is_control()).take(300).collect()
    })
}

/// The client's address.
pub fn address_of(app: &App, parts: &Parts) -> Result<IpAddr, Problem> {
    let peer: Peer = parts.extensions.get().copied().ok_or_else(|| Problem::plain(Code::Internal))?;
    Ok(app.client_address(peer.address.ip(), &parts.headers))
}

async fn caller_with(
    app: &App,
    presented: &str,
    address: IpAddr,
    headers: &HeaderMap,
    request_id: Option<Id<id::Request>>,
) -> Result<Caller, Problem> {
    let record = app.keyward.verifier.identify(presented, Some(address)).await.map_err(cannot_judge)?;
    let record = record.ok_or_else(|| Problem::plain(Code::Unauthenticated))?;
    let context = Context {
        actor: Actor { kind: ActorKind::Key, id: record.key_id.to_string(), name: Some(record.name().to_owned()) },
        grant: record.grant.as_deref().cloned(),
        scopes: record.scopes().to_owned(),
        ip: Some(address),
        user_agent: user_agent_of(headers),
        request_id,
    };
    Ok(Caller {
        context: Arc::new(context),
        key: Some(record.key_id),
        session: None,
        source: Source::Caller(record.key_id),
        credential: Arc::new(Secret::new(presented.to_owned())),
    })
}

/// Notes that a hot route, which asks for its caller's right beneath the framework, refused the caller.
#[cold]
pub async fn note_refusal_beneath(
    app: &App,
    presented: Option<&str>,
    address: IpAddr,
    (method, path, headers): (&Method, &str, &HeaderMap),
    request_id: &str,
    problem: &Problem,
) {
    let Some(presented) = presented else { return };
    if let Ok(caller) = caller_with(app, presented, address, headers, request_id.parse().ok()).await {
        note_refusal(app, &caller, method, path, Some(problem)).await;
    }
}

/// One event for each refused call (statement L-01).
async fn note_refusal(app: &App, caller: &Caller, method: &Method, path: &str, problem: Option<&Problem>) {
    let limited = problem.is_some_and(|problem| problem.0.code == Code::RateLimited);
    let action = if limited { "rate_limited" } else { "access_denied" };
    let why = problem.map_or_else(String::new, |problem| problem.0.detail.clone());
    let mut event = Event::new(EventType::Security, action, "route", format!("{method} {path}")).failed(why);
    event.organization = caller.context.grant.as_ref().map(|grant| grant.organization);
    if let Err(error) = app.keyward.audit.note(&caller.context, event).await {
        tracing::error!(%error, "a refused call could not be noted");
    }
}

/// Does a request once: a repetition under the same Idempotency-Key gets the kept answer.
async fn once(app: &SharedApp, caller: &Caller, request: Request, next: Next) -> Result<Response, Problem> {
    let key = request.headers()[IDEMPOTENCY_KEY].to_str().unwrap_or_default().to_owned();
    let (method, target) = (request.method().to_string(), request.uri().to_string());
    let (parts, body) = request.into_parts();
    let body = super::json::read_body(Request::from_parts(parts.clone(), body), app).await?;
    let store = &app.keyward.idempotency;
    let name = caller.context.actor.id.clone();
    let begun = match store
        .begin(&name, caller.credential.expose(), &key, &[method.as_bytes(), target.as_bytes(), &body])
        .await?
    {
        Begin::New(begun) => begun,
        Begin::Done { status, body } => return replay(status, &body),
    };
    let response = next.run(Request::from_parts(parts, body.into())).await;
    if !response.status().is_success() {
        store.abandon(begun).await?;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.map_err(|_| Problem::plain(Code::Internal))?;
    let location = parts.headers.get(header::LOCATION).map_or(&b""[..], HeaderValue::as_bytes);
    store.end(begun, parts.status.as_u16(), &[location, b"\n", &body].concat()).await?;
    Ok(Response::from_parts(parts, body.into()))
}

fn replay(status: u16, kept: &[u8]) -> Result<Response, Problem> {
    let internal = || Problem::plain(Code::Internal);
    let end = kept.iter().position(|byte| *byte == b'\n').ok_or_else(internal)?;
    let (location, body) = (&kept[..end], kept[end + 1..].to_vec());
    let mut response = (StatusCode::from_u16(status).map_err(|_| internal())?, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    if !location.is_empty() {
        headers.insert(header::LOCATION, HeaderValue::from_bytes(location).map_err(|_| internal())?);
    }
    Ok(response)
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Problem::plain(Code::Unauthenticated))
    }
}

/// The organization of a scoped route: from the path, or the caller's own.
pub struct In(pub Id<id::Organization>);

impl<S: Send + Sync> FromRequestParts<S> for In {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if let Some(text) = path_parameter(parts, state, "org").await {
            return text.parse().map(Self).map_err(|_| Problem::from(keyward::Error::not_found()));
        }
        let caller = Caller::from_request_parts(parts, state).await?;
        caller
            .context
            .grant
            .as_ref()
            .map(|grant| Self(grant.organization))
            .ok_or_else(|| Problem::plain(Code::Unauthenticated))
    }
}

/// The object that a path names by id.
pub struct Target<K>(pub Id<K>);

impl<S: Send + Sync, K: Kind> FromRequestParts<S> for Target<K> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = path_parameter(parts, state, "id").await.unwrap_or_default();
        text.parse().map(Self).map_err(|_| Problem::from(keyward::Error::not_found()))
    }
}

/// The object that a path names by id or name.
pub struct Named(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = path_parameter(parts, state, "id").await.filter(|text| !text.contains('\0'));
        text.map(Self).ok_or_else(|| Problem::from(keyward::Error::not_found()))
    }
}

async fn path_parameter<S: Send + Sync>(parts: &mut Parts, state: &S, name: &str) -> Option<String> {
    let parameters = RawPathParams::from_request_parts(parts, state).await.ok()?;
    parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
}

/// A query of the given form; what it does not know is refused.
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        if query.contains("%00") {
            return Err(Problem::new(Code::MalformedRequest, "The query contains U+0000."));
        }
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(params)) => Ok(Self(params)),
            Err(error) => Err(Problem::new(Code::MalformedRequest, format!("{}.", error.body_text()))),
        }
    }
}
