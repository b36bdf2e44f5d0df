//! `/v1/forward-auth`: for nginx `auth_request`, Traefik and Caddy. The verdict is the status; no body is read.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use keyward::Familiar;
use keyward_core::limit::MAX_COUNT;
use keyward_core::problem::Code;
use keyward_core::scope;
use keyward_core::time::Timestamp;
use keyward_core::verdict::{self, Outcome, Reach, Verdict};

use crate::api::caller::note_refusal_beneath;
use crate::app::App;
use crate::company::others_first;
use crate::hot::fields::{Fields, Name, PutField, name};
use crate::hot::limits;
use crate::hot::text::put;
use crate::hot::{Asked, FORWARD_AUTH_PATH, Reply, X_API_KEY, bearer, cannot_judge, reach_of_caller, refuse, whole};
use crate::problem::{Problem, Told};
use crate::serve::Body;

const SERVICE_KEY: HeaderName = HeaderName::from_static("x-keyward-service-key");
static KEY_ID: Name = name!("x-keyward-key-id");
static ORGANIZATION_ID: Name = name!("x-keyward-organization-id");
static SCOPES: Name = name!("x-keyward-scopes");
static ENVIRONMENT: Name = name!("x-keyward-environment");
static CACHE_CONTROL: Name = name!("cache-control");
/// What proxies call the target and the method of the request that they ask about. A proxy sets one of each, and may pass on others
/// that its client made up.
static TARGETS: [HeaderName; 3] = [
    HeaderName::from_static("x-forwarded-uri"),
    HeaderName::from_static("x-original-uri"),
    HeaderName::from_static("x-original-url"),
];
static METHODS: [HeaderName; 2] =
    [HeaderName::from_static("x-forwarded-method"), HeaderName::from_static("x-original-method")];

/// Judges what a proxy asks about; the verdict stands in `verdict` then.
pub async fn answer<'v, F: Fields>(
    app: &App,
    asked: &Asked<'_, F>,
    familiar: &mut Familiar,
    verdict: &'v mut Verdict,
) -> Reply<'v> {
    match judge(app, asked, familiar, verdict).await {
        Ok(_) if verdict.is_valid() => Reply::Admitted(verdict),
        Ok(presented) => Reply::Other(Box::new(turn_away(app, verdict, presented, asked))),
        Err(problem) => {
            if problem.0.code == Code::Forbidden {
                let presented = asked.fields.text(&SERVICE_KEY);
                let address = asked.peer.address.ip().to_canonical();
                let headers = asked.fields.to_map();
                let call = (asked.method, FORWARD_AUTH_PATH, &headers);
                // Boxed: what seldom happens is not carried by every call.
                Box::pin(note_refusal_beneath(app, presented, address, call, asked.request_id, &problem)).await;
            }
            Reply::Other(Box::new(refuse(app, &problem, asked.request_id)))
        }
    }
}

async fn judge<F: Fields>(
    app: &App,
    asked: &Asked<'_, F>,
    familiar: &mut Familiar,
    verdict: &mut Verdict,
) -> Result<Presented, Problem> {
    let (fields, peer, verifier) = (asked.fields, asked.peer.address.ip(), &app.keyward.verifier);
    let target = only(fields, &TARGETS, path_of)?;
    let presented = presented(app, fields, target);
    let sought = presented.as_deref().map(|presented| verifier.seek(presented));
    // Its record comes from memory while the calls on other connections are looked at.
    sought.iter().for_each(|sought| verifier.line_up(sought));
    others_first().await;
    verifier.approach();
    let address = app.client_address(peer, fields);
    let reach = if asked.peer.trusted && fields.first(&SERVICE_KEY).is_none() {
        Reach::Instance
    } else {
        reach_of_caller(app, fields.text(&SERVICE_KEY), peer.to_canonical(), asked.at, familiar).await?
    };
    let mut wanted = Wanted { scopes: Vec::new(), cost: 1 };
    if let Some(query) = asked.query {
        wanted.read(query)?;
    }
    let Some(sought) = sought else {
        *verdict = Verdict::unknown(Outcome::NotFound, false);
        return Ok(Presented::Nothing);
    };
    let scopes: Vec<&str> = wanted.scopes.iter().map(AsRef::as_ref).collect();
    let request = verdict::Request {
        reach,
        scopes: &scopes,
        cost: wanted.cost,
        ip: Some(address),
        method: only(fields, &METHODS, |method| method)?,
        path: target.map(path_of),
        ..verdict::Request::default()
    };
    verifier.verify_sought(&sought, &request, asked.at, verdict).await.map_err(cannot_judge)?;
    Ok(Presented::Key)
}

/// What the client sent through the proxy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presented {
    Key,
    Nothing,
}

/// What the proxy asks for in the query of its own call.
struct Wanted<'a> {
    scopes: Vec<Cow<'a, str>>,
    cost: u64,
}

impl<'a> Wanted<'a> {
    fn read(&mut self, query: &'a str) -> Result<(), Problem> {
        let bad = |detail: &str| Problem::new(Code::MalformedRequest, detail);
        let mut cost = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value).ok_or_else(|| bad("The query is not valid percent-encoded UTF-8."))?;
            match name {
                "scope" if !scope::is_valid(&value) => return Err(bad("scope is not a scope such as invoices:read.")),
                "scope" => self.scopes.push(value),
                "cost" if cost.is_none() => {
                    cost = value.parse().ok().filter(|cost| (1..=MAX_COUNT).contains(cost));
                    self.cost = cost.ok_or_else(|| bad("cost must be a whole number of at least 1."))?;
                }
                "cost" => return Err(bad("cost can be given once.")),
                // A rule that is misspelt must not let everybody in.
                _ => return Err(bad("The query may have scope, any number of times, and cost.")),
            }
        }
        Ok(())
    }
}

/// The key that the client sent through the proxy.
fn presented<'a>(app: &App, fields: &'a impl Fields, target: Option<&'a str>) -> Option<Cow<'a, str>> {
    let from_headers = fields
        .text(&header::AUTHORIZATION)
        .and_then(bearer)
        .or_else(|| fields.text(&X_API_KEY))
        .or_else(|| app.key_header.as_ref().and_then(|name| fields.text(name)));
    if from_headers.is_some() {
        return from_headers.map(Cow::Borrowed);
    }
    let wanted = app.key_query.as_deref()?;
    let (_, query) = target?.split_once('?')?;
    let (_, value) = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == wanted)?;
    decode(value)
}

/// What the fields of these names say, if they `mean` the same.
fn only<'a>(fields: &'a impl Fields, names: &[HeaderName], mean: fn(&str) -> &str) -> Result<Option<&'a str>, Problem> {
    let mut told = names.iter().filter_map(|name| fields.text(name));
    let first = told.next();
    if told.any(|other| Some(mean(other)) != first.map(mean)) {
        let names = names.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
        return Err(Problem::new(Code::MalformedRequest, format!("Of {names} only one may be given, or all alike.")));
    }
    Ok(first)
}

/// A proxy may send a whole URL; only the path counts.
fn path_of(target: &str) -> &str {
    match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    }
}

/// Percent-decoding of a query value; borrows where nothing is encoded.
pub fn decode(value: &str) -> Option<Cow<'_, str>> {
    if !value.contains(['%', '+']) {
        return Some(Cow::Borrowed(value));
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |byte: Option<u8>| (byte? as char).to_digit(16);
                (digit(rest.next())? << 4 | digit(rest.next())?) as u8
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// What the proxy is told of a key that it may let through.
pub fn tell(verdict: &Verdict, at: Timestamp, answer: &mut impl PutField) {
    // A 204 may else be kept by whatever stands between.
    answer.put_field(&CACHE_CONTROL, |out| put!(out, "no-store"));
    let Some(record) = &verdict.record else { return };
    answer.put_field(&KEY_ID, |out| put!(out, record.key_id));
    answer.put_field(&ORGANIZATION_ID, |out| put!(out, record.tenant.id));
    answer.put_text(&SCOPES, record.scopes());
    answer.put_text(&ENVIRONMENT, record.environment());
    limits::put_fields(verdict, at, answer);
}

/// 401, 403 or 429 with a problem whose `code` is the verdict's.
fn turn_away<F>(app: &App, verdict: &Verdict, presented: Presented, asked: &Asked<'_, F>) -> Response<Body> {
    let (outcome, now) = (verdict.outcome, asked.at);
    let (status, kind) = (outcome.gateway_status(), outcome.problem());
    let violated = (status == 429).then(|| limits::violated(verdict));
    let told = Told {
        code: outcome.as_str(),
        title: kind.title(),
        status,
        detail: outcome.meaning(),
        faults: &[],
        violated: violated.as_deref(),
    };
    let body = told.body(&app.public_url, asked.request_id);
    let mut response = whole(StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN), body.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    limits::put_fields(verdict, now, headers);
    if let Some(seconds) = verdict.retry_after_seconds(now) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == 401 {
        // Whoever sent nothing has made no error (RFC 6750, section 3.1).
        let challenge = match presented {
            Presented::Key => "Bearer realm=\"keyward\", error=\"invalid_token\"",
            Presented::Nothing => "Bearer realm=\"keyward\"",
        };
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries() {
        assert_eq!(path_of("https://api.example.com/a?b"), "/a?b");
        assert_eq!(path_of("https://api.example.com"), "/");
        assert_eq!(path_of("/a"), "/a");
        assert_eq!(decode("a%20b+c").as_deref(), Some("a b c"));
        assert_eq!(decode("%ff"), None);
        assert_eq!(decode("%zz"), None);
    }
}
