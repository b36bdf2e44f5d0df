//! Signing in by an identity provider: the browser is sent there, comes back, and gets the cookies of a session. Programs have
//! nothing to do here. What goes wrong is told as a page to browsers, and as a problem to everybody else.

use axum::Json as Answer;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use keyward::oidc::{Arrival, LOGIN_SECONDS, Oidc};
use keyward::sessions::{PENDING_SECONDS, SignedIn};
use keyward_core::problem::Code;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SIGNS_IN, Visitor, keep};
use crate::api::caller::Params;
use crate::api::cookies;
use crate::api::route::{Access::Open, Route, get};
use crate::app::{App, SharedApp};
use crate::console::page::{escape, page};
use crate::console::second_factor;
use crate::problem::Problem;

const START: &str = "/v1/auth/oidc/start";

pub fn routes() -> Vec<Route> {
    vec![
        get("/v1/auth/oidc", Open(SIGNS_IN), "Whether people may sign in by an identity provider", show)
            .answers::<ProviderView>(200),
        get(START, Open(SIGNS_IN), "Send the browser to the identity provider", start)
            .query::<StartParams>()
            .redirects(),
        get(
            "/v1/auth/oidc/callback",
            Open(SIGNS_IN),
            "Where the identity provider sends the browser back to",
            callback,
        )
        .query::<CallbackParams>()
        .redirects(),
    ]
}

#[derive(Debug, Serialize, JsonSchema)]
struct ProviderView {
    enabled: bool,
    /// What a button says that leads there.
    label: Option<String>,
    /// Where the button leads; `next` names the path that comes after.
    start: Option<&'static str>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StartParams {
    /// A path of this instance, where the browser is sent in the end.
    next: Option<String>,
}

/// What else the provider sends is not looked at.
#[derive(Deserialize, JsonSchema)]
struct CallbackParams {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

async fn show(State(app): State<SharedApp>) -> Answer<ProviderView> {
    let label = app.keyward.oidc.as_ref().map(|oidc| oidc.label().to_owned());
    let enabled = label.is_some();
    Answer(ProviderView { enabled, label, start: enabled.then_some(START) })
}

async fn start(
    State(app): State<SharedApp>,
    visitor: Visitor,
    params: Result<Params<StartParams>, Problem>,
) -> Response {
    let depart = async {
        let Params(params) = params?;
        let kept = cookies::read(&visitor.headers, cookies::PROVIDER);
        Ok(provider(&app)?.start(params.next.as_deref(), kept).await?)
    };
    match depart.await {
        Ok(departure) => {
            let cookie = cookies::set(cookies::PROVIDER, departure.browser.expose(), LOGIN_SECONDS);
            redirect(&departure.location, [cookie])
        }
        Err(problem) => refused(&visitor, problem),
    }
}

async fn callback(
    State(app): State<SharedApp>,
    mut visitor: Visitor,
    params: Result<Params<CallbackParams>, Problem>,
) -> Response {
    // Only browsers come this way, and what follows is kept in cookies.
    visitor.client.browser = true;
    let arrive = async {
        let Params(params) = params?;
        let arrival = Arrival {
            state: params.state.as_deref(),
            code: params.code.as_deref(),
            error: params.error.as_deref(),
            issuer: params.iss.as_deref(),
            browser: cookies::read(&visitor.headers, cookies::PROVIDER),
            device: cookies::read(&visitor.headers, cookies::DEVICE),
        };
        Ok(provider(&app)?.finish(&visitor.context, &visitor.client, &arrival).await?)
    };
    match arrive.await {
        Ok((SignedIn::Done(tokens), next)) => {
            let mut response = redirect(&next, []);
            keep(&mut response, &tokens);
            response
        }
        Ok((SignedIn::Pending { login_token, .. }, next)) => {
            let cookie = cookies::set(cookies::LOGIN, login_token.expose(), PENDING_SECONDS);
            redirect(&second_factor::address(&next), [cookie])
        }
        Err(problem) => refused(&visitor, problem),
    }
}

fn provider(app: &App) -> Result<&Oidc, Problem> {
    app.keyward.oidc.as_ref().ok_or_else(|| Problem::plain(Code::NotFound))
}

fn redirect<const N: usize>(to: &str, cookies: [HeaderValue; N]) -> Response {
    let mut response = StatusCode::FOUND.into_response();
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_str(to).expect("addresses are visible ASCII"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for cookie in cookies {
        headers.append(header::SET_COOKIE, cookie);
    }
    response
}

fn refused(visitor: &Visitor, problem: Problem) -> Response {
    if !wants_page(&visitor.headers) {
        return problem.into_response();
    }
    problem.log(&visitor.context.request_id.map(|id| id.to_string()).unwrap_or_default());
    let code = problem.0.code;
    let body = format!(
        "<h1>{}</h1><p class=\"lead\">{}</p><p><a href=\"{START}\">Try again</a> · <a href=\"/errors/{}\">What this means</a></p>",
        escape(code.title()),
        escape(&problem.0.detail),
        code.as_str(),
    );
    let mut response = (problem.status(), Html(page(code.title(), &body))).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whether the answer is shown to somebody.
fn wants_page(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}
