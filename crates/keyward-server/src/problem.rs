//! The one place where an error becomes an answer: `application/problem+json` (RFC 9457).

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use keyward::Error;
use keyward_core::limit::Exceeded;
use keyward_core::problem::{Code, FieldFault};
use serde::Serialize;

use crate::hot::limits::{self, QUOTA_EXCEEDED};

/// An error on its way to the client. The request's id and the public address are added on the way out.
#[derive(Debug, Clone)]
pub struct Problem(pub Arc<Error>);

/// What a problem says: of a call that failed, or of a key that a proxy is to turn away.
pub struct Told<'a> {
    /// It has a page of its own.
    pub code: &'a str,
    pub title: &'a str,
    pub status: u16,
    pub detail: &'a str,
    pub faults: &'a [FieldFault],
    /// The limits that were exceeded; the draft on RateLimit fields has a type of its own for them.
    pub violated: Option<&'a [String]>,
}

#[derive(Serialize)]
struct ProblemBody<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[FieldFault]>::is_empty")]
    errors: &'a [FieldFault],
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated_policies: Option<&'a [String]>,
}

impl Told<'_> {
    /// The body of the answer.
    pub fn body(&self, public_url: &str, request_id: &str) -> Vec<u8> {
        let &Told { code, title, status, detail, faults: errors, violated: violated_policies } = self;
        let r#type = match violated_policies {
            Some(_) => QUOTA_EXCEEDED.to_owned(),
            None => format!("{public_url}/errors/{code}"),
        };
        let body = ProblemBody { r#type, title, status, detail, code, request_id, errors, violated_policies };
        serde_json::to_vec(&body).expect("a problem can be written as JSON")
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self(Arc::new(error))
    }
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Error::new(code, detail).into()
    }

    /// The code with its own explanation.
    pub fn plain(code: Code) -> Self {
        Self::new(code, code.meaning())
    }

    /// The same about a part of the body: `pointer` comes before those of its fields.
    #[must_use]
    pub fn within(self, pointer: &str) -> Self {
        let inner = |fault: &FieldFault| FieldFault {
            pointer: format!("{pointer}{}", fault.pointer),
            detail: fault.detail.clone(),
        };
        Error::fields(self.0.code, self.0.faults.iter().map(inner).collect()).into()
    }

    /// The body of the answer.
    pub fn body(&self, public_url: &str, request_id: &str) -> Vec<u8> {
        let Error { code, detail, faults, exceeded, .. } = &*self.0;
        let violated = exceeded.as_ref().map(|exceeded| std::slice::from_ref(&exceeded.policy));
        let (title, status) = (code.title(), code.status());
        let told = Told { code: code.as_str(), title, status, detail, faults, violated };
        told.body(public_url, request_id)
    }

    /// Headers that go with the code.
    pub fn headers(&self) -> impl Iterator<Item = (header::HeaderName, HeaderValue)> {
        let error = &self.0;
        let challenge = match error.code {
            Code::Unauthenticated => Some(HeaderValue::from_static("Bearer realm=\"keyward\"")),
            Code::InsufficientUserAuthentication => Some(HeaderValue::from_static(
                "Bearer realm=\"keyward\", error=\"insufficient_user_authentication\", max_age=300",
            )),
            code if code.status() == 401 => {
                Some(HeaderValue::from_static("Bearer realm=\"keyward\", error=\"invalid_token\""))
            }
            Code::Forbidden => Some(HeaderValue::from_static("Bearer realm=\"keyward\", error=\"insufficient_scope\"")),
            _ => None,
        };
        let retry_after = error.retry_after_seconds().map(HeaderValue::from);
        let field = |text: String| HeaderValue::from_str(&text).expect("policies have plain names");
        let (policy, state) = match &error.exceeded {
            Some(Exceeded { policy, limit, window_seconds, retry_after_seconds }) => (
                Some(field(format!("{policy:?};q={limit};w={window_seconds}"))),
                Some(field(format!("{policy:?};r=0;t={retry_after_seconds}"))),
            ),
            None => (None, None),
        };
        [
            (header::CONTENT_TYPE, Some(HeaderValue::from_static("application/problem+json"))),
            // A 404, 405 or 414 may else be kept by whatever stands between.
            (header::CACHE_CONTROL, Some(HeaderValue::from_static("no-store"))),
            (header::WWW_AUTHENTICATE, challenge),
            (header::RETRY_AFTER, retry_after),
            (limits::POLICY.name.clone(), policy),
            (limits::STATE.name.clone(), state),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }

    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.code.status()).expect("the table holds valid statuses")
    }

    /// Tells the log what the client must not know.
    pub fn log(&self, request_id: &str) {
        if self.0.code.status() >= 500 {
            let source = std::error::Error::source(&*self.0).map(chain);
            tracing::error!(request_id, code = self.0.code.as_str(), source, "{}", self.0.detail);
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

impl IntoResponse for Problem {
    /// Carries the problem to the edge, where the body is written.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.headers_mut().extend(self.headers());
        response.extensions_mut().insert(self);
        response
    }
}
