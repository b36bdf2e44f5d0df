//! The server's table of contents: connections in, the two hot routes beneath the framework, everything else through
//! the router, and a shutdown that finishes what was begun.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use bytes::Bytes;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use keyward::Familiar;
use keyward_core::id::{self, Id};
use keyward_core::problem::Code;
use keyward_core::time::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use crate::app::{App, SharedApp};
use crate::connections::{Open, Patience, keep};
use crate::fixed_headers::Asked as Origin;
use crate::hot::Asked;
use crate::problem::Problem;
use crate::tls::Tls;
use crate::{api, console, fixed_headers, gateway, hot, lane};

/// The answer's body: small and whole from the hot routes, whatever the framework makes from the others.
pub type Body = Either<Full<Bytes>, axum::body::Body>;

/// Longest request target, in bytes.
const MAX_URI: usize = 8_192;
/// Largest block of request headers, in bytes.
const MAX_HEADERS: usize = 32 * 1024;
/// What is read of a head before the connection ends without a word: up to there its sender is told what was too long.
const MAX_READ: usize = 4 * MAX_HEADERS;

/// What is known of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    pub address: SocketAddr,
    /// It came in on the address whose callers need no service key for forward-auth.
    pub trusted: bool,
    /// It speaks TLS with us.
    pub is_https: bool,
}

/// Addresses that are listened on, and the certificate that both show.
pub struct Listeners {
    pub main: TcpListener,
    pub trusted: Option<TcpListener>,
    pub tls: Option<Tls>,
}

impl Listeners {
    pub async fn bind(settings: &keyward::config::ServerSettings) -> anyhow::Result<Self> {
        let bind = async |address: &str| {
            TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
        };
        let trusted = match settings.trusted_listen.as_str() {
            "" => None,
            address => Some(bind(address).await?),
        };
        Ok(Self { tls: Tls::read(settings)?, main: bind(&settings.listen).await?, trusted })
    }
}

/// Serves until `stop` ends, then finishes the running requests, stops the tasks and writes what they hold.
pub async fn serve(app: SharedApp, listeners: Listeners, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let tasks = app.keyward.start_tasks().await?;
    let router = router(app.clone());
    let grace = Duration::from_secs(app.keyward.settings.server.shutdown_grace_seconds);
    let mut following = JoinSet::new();
    following.extend(listeners.tls.clone().map(|tls| tls.follow(app.keyward.metrics.clone())));
    let mut stop = std::pin::pin!(stop);
    loop {
        let (accepted, trusted) = tokio::select! {
            accepted = listeners.main.accept() => (accepted, false),
            accepted = accept(listeners.trusted.as_ref()) => (accepted, true),
            () = &mut stop => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file handles or a client that was gone already: neither ends the server.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (app, router) = (app.clone(), router.clone());
        let peer = Peer { address, trusted, is_https: listeners.tls.is_some() };
        match listeners.tls.as_ref().map(|tls| tls.acceptor.clone()) {
            None => drop(tokio::spawn(async move {
                let mut open = app.connections.open_http();
                let mut patience = patience(&app);
                if let Some(begun) = lane::attend(&app, peer, stream, &mut open, &mut patience).await {
                    // Boxed, so that a connection in the lane does not carry hyper with it.
                    Box::pin(attend(&app, router, peer, begun, open, patience)).await;
                }
            })),
            Some(acceptor) => drop(tokio::spawn(async move {
                let mut open = app.connections.open_http();
                let time = Duration::from_secs(app.keyward.settings.server.read_timeout_seconds);
                // Boxed, so that a connection does not carry its handshake with it for its whole life.
                let stream = Box::pin(shake_hands(acceptor, stream, time, &mut open)).await;
                if let Some(stream) = stream {
                    let patience = patience(&app);
                    attend(&app, router, peer, stream, open, patience).await;
                }
            })),
        }
    }
    drop(listeners);
    drop(following);
    if tokio::time::timeout(grace, app.connections.end_all()).await.is_err() {
        tracing::warn!("some requests did not finish in time");
    }
    tasks.stop().await;
    app.keyward.close().await;
    Ok(())
}

/// How long a connection may bring nothing.
fn patience(app: &App) -> Patience {
    Patience::new(Duration::from_secs(app.keyward.settings.server.read_timeout_seconds))
}

/// Runs a connection to its end.
async fn attend<I>(app: &SharedApp, router: Router, peer: Peer, stream: I, open: Open<'_>, patience: Patience)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let noted = patience.activity();
    let service = service_fn(|request| {
        let (app, router, noted) = (app.clone(), router.clone(), noted.clone());
        async move {
            noted.begin();
            let answer = answer(app, router, peer, request).await;
            noted.end();
            answer
        }
    });
    // A client that hangs up does not end what it asked for half-way: a change is made whole, and its answer kept for a repetition.
    let mut http = http1::Builder::new();
    http.max_buf_size(MAX_READ).half_close(true);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    keep(open, connection.with_upgrades(), patience).await;
}

/// The stream within the TLS connection; `None` when the client does not bring it off in `time`, speaks no TLS, or the node
/// stops.
async fn shake_hands(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    time: Duration,
    open: &mut Open<'_>,
) -> Option<TlsStream<TcpStream>> {
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(time, acceptor.accept(stream)) => shaken.ok()?,
        () = open.stopped() => return None,
    };
    shaken.inspect_err(|error| tracing::debug!(%error, "a handshake failed")).ok()
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(tokio::net::TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Everything but the hot routes.
fn router(app: SharedApp) -> Router {
    Router::new()
        .merge(api::router(&app))
        .merge(console::router())
        .fallback(async || Problem::plain(Code::NotFound))
        .method_not_allowed_fallback(async || Problem::plain(Code::MethodNotAllowed))
        .with_state(app)
}

async fn answer(
    app: SharedApp,
    router: Router,
    peer: Peer,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let at = app.keyward.clock.now();
    let request_id = new_request_id(at);
    let id_text = request_id.text();
    let is_behind_proxy = app.trusts(peer.address.ip());
    let mut response = match (too_large(&request), request.uri().path()) {
        (Some(code), _) => hot::refuse(&app, &Problem::plain(code), id_text.as_str()),
        (None, hot::VERIFY_PATH) if request.method() == http::Method::POST => {
            let (parts, body) = request.into_parts();
            let asked = asked(peer, &parts, id_text.as_str(), at);
            let (body, told) = (hot::verify::body_of(&app, body), Vec::with_capacity(640));
            hot::verify::answer(&app, &asked, &mut Familiar::default(), body, told).await.into_response(at)
        }
        (None, hot::FORWARD_AUTH_PATH) => {
            let (parts, _) = request.into_parts();
            let asked = asked(peer, &parts, id_text.as_str(), at);
            let (mut familiar, mut verdict) = Default::default();
            gateway::forward_auth::answer(&app, &asked, &mut familiar, &mut verdict).await.into_response(at)
        }
        (None, _) => {
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(request_id);
            // Boxed, so that the hot routes do not carry the framework's future with them.
            Box::pin(route(&app, router, request, id_text.as_str(), is_behind_proxy)).await
        }
    };
    seal(&app, peer, &mut response, id_text.as_str());
    Ok(response)
}

/// A request for a hot route that hyper has read.
fn asked<'a>(peer: Peer, parts: &'a Parts, request_id: &'a str, at: Timestamp) -> Asked<'a, HeaderMap> {
    Asked { peer, method: &parts.method, query: parts.uri.query(), fields: &parts.headers, request_id, at }
}

/// Puts on an answer what stands on each.
pub fn seal(app: &App, peer: Peer, response: &mut Response<Body>, request_id: &str) {
    fixed_headers::add(app, peer.is_https, response);
    if matches!(response.status().as_u16(), 408 | 413 | 414 | 431) {
        // What is left of the request is not read: no other request must come behind it on this connection.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let id = HeaderValue::from_str(request_id).expect("an identifier is a header value");
    response.headers_mut().insert(hot::REQUEST_ID, id);
}

/// How the request's head is beyond its limits, if it is; the reader below us bounds it only roughly.
fn too_large(request: &Request<Incoming>) -> Option<Code> {
    let uri = request.uri();
    if uri.path().len() + uri.query().map_or(0, str::len) > MAX_URI {
        return Some(Code::UriTooLong);
    }
    let headers = request.headers().iter();
    let size: usize = headers.map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    (size > MAX_HEADERS).then_some(Code::HeadersTooLarge)
}

/// Hands a request to the framework and writes the problem that may come back.
async fn route(
    app: &Arc<App>,
    router: Router,
    request: Request<Incoming>,
    request_id: &str,
    is_behind_proxy: bool,
) -> Response<Body> {
    let asked = Origin::of(request.headers(), is_behind_proxy);
    if let Some(answer) = fixed_headers::preflight(app, request.method(), request.headers()) {
        let mut answer = answer.map(|()| Either::Left(Full::default()));
        fixed_headers::add_for(app, &asked, &mut answer);
        return answer;
    }
    let mut response = router.oneshot(request.map(axum::body::Body::new)).await.unwrap_or_else(|never| match never {});
    fixed_headers::add_for(app, &asked, &mut response);
    let (mut parts, body) = response.into_parts();
    match parts.extensions.remove::<Problem>() {
        Some(problem) => {
            problem.log(request_id);
            parts.headers.remove(http::header::CONTENT_LENGTH);
            Response::from_parts(parts, Either::Left(Full::from(problem.body(&app.public_url, request_id))))
        }
        None => Response::from_parts(parts, Either::Right(body)),
    }
}

/// From the thread's own generator: a request id needs to be unique, not secret.
pub fn new_request_id(now: Timestamp) -> Id<id::Request> {
    Id::new(now, rand::random())
}
