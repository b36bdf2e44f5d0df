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
    violated_policies: Option<[&'a str; 1]>,
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

    /// The body of the answer.
    pub fn body(&self, public_url: &str, request_id: &str) -> Vec<u8> {
        let Error { code, detail, faults, exceeded, .. } = &*self.0;
        let body = ProblemBody {
            r#type: match exceeded {
                Some(_) => QUOTA_EXCEEDED.to_owned(),
                None => format!("{public_url}/errors/{}", code.as_str()),
            },
            title: code.title(),
            status: code.status(),
            detail,
            code: code.as_str(),
            request_id,
            errors: faults,
            violated_policies: exceeded.as_ref().map(|exceeded| [exceeded.policy.as_str()]),
        };
        serde_json::to_vec(&body).expect("a problem can be written as JSON")
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
            (limits::POLICY, policy),
            (limits::STATE, state),
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
