//! Whether a request that carries cookies comes from our own pages (statements W-01, W-02): where it says that it comes from,
//! and a token that only our pages can read.

use axum::extract::Request;
use http::{HeaderMap, HeaderName, Method, header};
use keyward_core::id::{self, Id};
use keyward_core::problem::Code;

use super::cookies;
use crate::app::App;
use crate::problem::Problem;

pub const CSRF_TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses a change that a page of another origin may have sent with our cookies.
pub fn check(app: &App, method: &Method, headers: &HeaderMap, session: Id<id::Session>) -> Result<(), Problem> {
    if method.is_safe() {
        return Ok(());
    }
    check_origin(app, headers)?;
    let sent = headers.get(CSRF_TOKEN).and_then(|value| value.to_str().ok());
    let kept = cookies::read(headers, cookies::CSRF);
    let is_good = match (sent, kept) {
        (Some(sent), Some(kept)) => sent == kept && app.keyward.sessions.check_csrf(session, sent).is_some(),
        _ => false,
    };
    if is_good { Ok(()) } else { Err(Problem::plain(Code::CsrfFailed)) }
}

/// A browser that signs in has no session yet to bind a token to; its origin is checked all the same.
pub fn check_sign_in(app: &App, request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    if request.method().is_safe() || !(cookies::is_browser(headers) || headers.contains_key(header::COOKIE)) {
        return Ok(());
    }
    check_origin(app, headers)
}

/// Fetch Metadata where the browser sends it, else `Origin`, else `Referer`; without any of them nothing is believed.
fn check_origin(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let is_ours = match (text(FETCH_SITE), text(header::ORIGIN), text(header::REFERER)) {
        (Some(site), origin, _) => {
            site == "same-origin" || site == "none" || origin.is_some_and(|origin| app.allows_origin(origin))
        }
        (None, Some(origin), _) => app.is_own_origin(origin, headers) || app.allows_origin(origin),
        (None, None, Some(referer)) => origin_of(referer).is_some_and(|origin| app.is_own_origin(origin, headers)),
        (None, None, None) => false,
    };
    if is_ours { Ok(()) } else { Err(Problem::plain(Code::CsrfFailed)) }
}

/// `scheme://host:port` of an address.
fn origin_of(url: &str) -> Option<&str> {
    let host = url.find("://")? + 3;
    let end = url[host..].find('/').map_or(url.len(), |end| host + end);
    Some(&url[..end])
}

#[cfg(test)]
mod tests {
    use super::origin_of;

    #[test]
    fn an_origin_ends_before_the_path() {
        assert_eq!(origin_of("https://a.example:8443/x/y"), Some("https://a.example:8443"));
        assert_eq!(origin_of("https://a.example"), Some("https://a.example"));
        assert_eq!(origin_of("a.example/x"), None);
    }
}
