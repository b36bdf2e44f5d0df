//! Who calls: the credential becomes a context, the route's permission is checked, and a refusal is noted in the book.

mod once;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use keyward::audit::{Event, EventType};
use keyward::context::{Actor, ActorKind, Context};
use keyward::limits::callers::{Call, Room, Source};
use keyward::sessions::Present;
use keyward_core::access::Permission;
use keyward_core::id::{self, Id, Kind};
use keyward_core::problem::Code;
use keyward_core::secret::Secret;

use super::route::Access;
use super::{cookies, origin};
use crate::app::{App, SharedApp};
use crate::gateway::forward_auth::decode;
use crate::gateway::partner::PartnerKeys;
use crate::hot::{cannot_judge, credential, limits};
use crate::problem::Problem;
use crate::serve::Peer;
use once::{IDEMPOTENCY_KEY, once};

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
    let (mut response, room) = match admit(&guard, &caller, permission, &request) {
        Ok(room) if guard.idempotent && request.headers().contains_key(IDEMPOTENCY_KEY) => {
            let done = once(&guard.app, &caller, request, next).await;
            (done.unwrap_or_else(IntoResponse::into_response), room)
        }
        Ok(room) => (next.run(request).await, room),
        Err(problem) => (problem.into_response(), None),
    };
    if let Some(room) = room {
        limits::tell_room(&room, response.headers_mut());
    }
    if matches!(response.status(), StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS) {
        let problem = response.extensions().get::<Problem>().cloned();
        note_refusal(&guard.app, &caller, &method, &path, problem.as_ref()).await;
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether this caller may make this call now, and how many more; without a permission, any signed-in person may, or anybody
/// known.
fn admit(
    guard: &Guard,
    caller: &Caller,
    permission: Option<Permission>,
    request: &Request,
) -> Result<Option<Room>, Problem> {
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
    let Some(call) = guard.limited else { return Ok(None) };
    let taken = keyward.caller_limits.take(call, caller.source, keyward.clock.now());
    taken.map(Some).map_err(|refused| keyward::Error::limited(refused.exceeded).into())
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

    /// One event for a refused call.
    pub async fn note(&self, app: &App, action: &'static str, refused: &keyward::Error) {
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
        grant: record.grant().cloned(),
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

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Problem::plain(Code::Unauthenticated))
    }
}

/// The organization of a scoped route: from the path, or the caller's own. It exists, or the caller may not know.
pub struct In(pub Id<id::Organization>);

impl FromRequestParts<SharedApp> for In {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &SharedApp) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, app).await?;
        let grant = caller.context.grant.as_ref().ok_or_else(|| Problem::plain(Code::Unauthenticated))?;
        let Some(text) = path_parameter(parts, app, "org").await else { return Ok(Self(grant.organization)) };
        let not_found = || Problem::from(keyward::Error::not_found());
        let named = text.parse().map_err(|_| not_found())?;
        // Whoever reaches all of them is told of a missing one; to others it is as one out of reach.
        if named != grant.organization && grant.holds_at_instance() && !app.keyward.organizations.exists(named).await? {
            return Err(not_found());
        }
        Ok(Self(named))
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
        let malformed = |detail: &str| Problem::new(Code::MalformedRequest, detail);
        match decode(parts.uri.query().unwrap_or_default()) {
            None => return Err(malformed("The query is not percent-encoded UTF-8.")),
            Some(query) if query.contains('\0') => return Err(malformed("The query contains U+0000.")),
            Some(_) => {}
        }
        axum::extract::Query::<T>::try_from_uri(&parts.uri).map(|params| Self(params.0)).map_err(|error| {
            let told = error.body_text();
            let why = told.rsplit_once("query string: ").map_or(&*told, |(_, why)| why);
            malformed(&format!("A parameter of the query is not valid: {why}."))
        })
    }
}
