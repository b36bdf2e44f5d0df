//! How a request is turned away: problem+json (RFC 9457) with a stable code, and the challenge of RFC 6750. Whether it
//! is turned away is decided by the verdict.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use keyward_core::problem::Code;
use keyward_core::verdict::Outcome;
use serde::Serialize;

/// Seconds after which a caller may ask again when nothing tells the time.
const RETRY_AFTER_SECONDS: u64 = 1;

/// Why a request went no further. Stands in the extensions of the refusing response, for those who log or reword it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No key was sent, so nobody was asked.
    NoKey,
    /// The key was judged and refused; never `Outcome::Valid`.
    Key(Outcome),
    /// No verdict could be reached. The log says why.
    CannotJudge,
}

/// A refusal, and when trying again makes sense.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused {
    pub refusal: Refusal,
    /// Until what refused has room again; of a key that is beyond a limit or quota.
    pub retry_after_seconds: Option<u64>,
}

impl Refused {
    pub fn at_once(refusal: Refusal) -> Self {
        Self { refusal, retry_after_seconds: None }
    }

    /// The whole answer. `required` are the scopes that a client is told about when its key lacks one.
    pub fn respond<R: From<Bytes>>(self, required: &[String]) -> Response<R> {
        let Self { refusal, retry_after_seconds } = self;
        let mut response = Response::new(refusal.body().into());
        *response.status_mut() = refusal.status();
        response.extensions_mut().insert(refusal);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(challenge) = refusal.challenge(required) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if matches!(refusal.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(header::RETRY_AFTER, retry_after_seconds.unwrap_or(RETRY_AFTER_SECONDS).into());
        }
        response
    }
}

#[derive(Serialize)]
struct ProblemBody<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
}

impl Refusal {
    /// The stable code of the answer: the outcome's own where a key was judged.
    pub fn code(self) -> &'static str {
        match self {
            Self::Key(outcome) => outcome.as_str(),
            Self::NoKey | Self::CannotJudge => self.kind().as_str(),
        }
    }

    /// 401, 403, 429 or 503.
    pub fn status(self) -> StatusCode {
        let status = match self {
            Self::Key(outcome) => outcome.gateway_status(),
            Self::NoKey | Self::CannotJudge => self.kind().status(),
        };
        StatusCode::from_u16(status).expect("the tables hold valid statuses")
    }

    fn body(self) -> Bytes {
        let kind = self.kind();
        let body = ProblemBody {
            r#type: format!("/errors/{}", kind.as_str()),
            title: kind.title(),
            status: self.status().as_u16(),
            detail: &self.detail(),
            code: self.code(),
        };
        serde_json::to_vec(&body).expect("a problem can be written as JSON").into()
    }

    /// The problem type, which has a page at Keyward.
    fn kind(self) -> Code {
        match self {
            Self::NoKey => Code::Unauthenticated,
            Self::CannotJudge => Code::NotReady,
            Self::Key(outcome) => outcome.problem(),
        }
    }

    fn detail(self) -> String {
        match self {
            Self::NoKey => "No API key was sent. Send it as `Authorization: Bearer …`.".to_owned(),
            Self::Key(outcome) => format!("The API key was refused: {}.", outcome.as_str()),
            Self::CannotJudge => "The API key cannot be checked just now. Try again in a moment.".to_owned(),
        }
    }

    /// RFC 6750, 3: without a credential the bare challenge, else what is wrong with it.
    fn challenge(self, required: &[String]) -> Option<HeaderValue> {
        match self {
            Self::NoKey => Some(HeaderValue::from_static("Bearer")),
            Self::Key(Outcome::InsufficientScope) => {
                let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{}\"", required.join(" "));
                Some(challenge.try_into().expect("scopes are visible ASCII without quotes"))
            }
            Self::Key(outcome) if outcome.gateway_status() == 401 => {
                Some(HeaderValue::from_static("Bearer error=\"invalid_token\""))
            }
            Self::Key(_) | Self::CannotJudge => None,
        }
    }
}
