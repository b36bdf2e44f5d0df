//! Headers that stand on every answer (statements W-05, W-06, W-08): what browsers must not do with it. Pages bring a policy of
//! their own for what they load.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use crate::app::App;
use crate::console::page::STYLE;

const fn fixed(value: &'static str) -> HeaderValue {
    HeaderValue::from_static(value)
}

/// On every answer, unless a page says something stricter of its own.
pub const ALL: [(HeaderName, HeaderValue); 7] = [
    (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
    (header::REFERRER_POLICY, fixed("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), fixed("same-origin")),
    (header::X_FRAME_OPTIONS, fixed("DENY")),
    (header::CONTENT_SECURITY_POLICY, fixed("default-src 'none'; frame-ancestors 'none'")),
    (header::X_XSS_PROTECTION, fixed("0")),
    (header::VARY, fixed("origin")),
];

/// Where browsers tell what a page's policy has stopped: by the Reporting API, or as older ones do.
pub const CSP_REPORT: &str = "/v1/security/csp-report";

/// On pages.
const OF_PAGES: [(HeaderName, HeaderValue); 3] = [
    (HeaderName::from_static("reporting-endpoints"), fixed("csp=\"/v1/security/csp-report\"")),
    (HeaderName::from_static("cross-origin-opener-policy"), fixed("same-origin")),
    (
        HeaderName::from_static("permissions-policy"),
        fixed("camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ),
];

/// Pages load nothing but the style sheet that stands in them, which is told by its hash.
static PAGE_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = BASE64.encode(digest(&SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src 'self' data:; form-action 'self'; base-uri 'none'; \
         object-src 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; report-uri {CSP_REPORT}; \
         report-to csp"
    );
    HeaderValue::from_str(&policy).expect("a policy is visible ASCII")
});

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// What HTTPS answers say about later visits: by HTTPS alone, for a year.
pub fn hsts(preload: bool) -> HeaderValue {
    fixed(if preload { "max-age=31536000; includeSubDomains; preload" } else { "max-age=31536000; includeSubDomains" })
}

/// Whether the client is connected by HTTPS, as a proxy in front of us says.
pub fn is_https(headers: &HeaderMap) -> bool {
    headers.get(FORWARDED_PROTO).is_some_and(|proto| proto == "https")
}

/// What of a request decides about headers of its answer.
pub struct Asked {
    origin: Option<HeaderValue>,
    is_https: bool,
}

impl Asked {
    pub fn of(headers: &HeaderMap, is_behind_proxy: bool) -> Self {
        let is_https = is_behind_proxy && is_https(headers);
        Self { origin: headers.get(header::ORIGIN).cloned(), is_https }
    }
}

/// Adds the headers that stand everywhere, and on a connection by HTTPS.
pub fn add<B>(app: &App, is_https: bool, response: &mut Response<B>) {
    let headers = response.headers_mut();
    if is_https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, app.hsts.clone());
    }
    for (name, value) in ALL {
        headers.entry(name).or_insert(value);
    }
}

/// Adds what depends on the request, on everything but the hot routes.
pub fn add_for<B>(app: &App, asked: &Asked, response: &mut Response<B>) {
    let headers = response.headers_mut();
    let is_page = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if is_page {
        headers.extend(OF_PAGES);
        headers.insert(header::CONTENT_SECURITY_POLICY, PAGE_POLICY.clone());
    }
    if asked.is_https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, app.hsts.clone());
    }
    let origin = asked.origin.as_ref().filter(|origin| origin.to_str().is_ok_and(|origin| app.allows_origin(origin)));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, fixed("true"));
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            fixed("Request-Id, RateLimit, RateLimit-Policy, Retry-After, Location"),
        );
    }
}

/// The answer to a browser that asks before it sends a request from another origin; `None` when it is no such question, or
/// the origin may not ask.
pub fn preflight(app: &App, method: &Method, headers: &HeaderMap) -> Option<Response<()>> {
    let origin = headers.get(header::ORIGIN)?.to_str().ok()?;
    let asks = method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !asks || !app.allows_origin(origin) {
        return None;
    }
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let answer = response.headers_mut();
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, fixed("GET, POST, PATCH, DELETE"));
    answer.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        fixed("Authorization, Content-Type, Idempotency-Key, X-Api-Key, X-CSRF-Token, X-Keyward-Client"),
    );
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, fixed("600"));
    Some(response)
}
