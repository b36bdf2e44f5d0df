//! The two hot routes, served straight on the connection: verify here, forward-auth in `gateway`. What they share:
//! who calls, and answers that are written once.

pub mod answer;
pub mod body;
pub mod fields;
pub mod limits;
pub mod text;
pub mod verify;

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Response, StatusCode, header};
use http_body_util::{Either, Full};
use keyward::Familiar;
use keyward_core::access::Permission;
use keyward_core::problem::Code;
use keyward_core::time::Timestamp;
use keyward_core::verdict::{Reach, Verdict};
use keyward_core::verify::CannotJudge;

use crate::app::App;
use crate::gateway::forward_auth;
use crate::hot::fields::Fields;
use crate::problem::Problem;
use crate::serve::{Body, Peer};

pub const VERIFY_PATH: &str = "/v1/api-keys/verify";
pub const FORWARD_AUTH_PATH: &str = "/v1/forward-auth";
pub const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A request for one of the hot routes, but for its body.
pub struct Asked<'a, F> {
    pub peer: Peer,
    pub method: &'a Method,
    pub query: Option<&'a str>,
    pub fields: &'a F,
    pub request_id: &'a str,
    /// When its head came. All is judged and told by this time but what is in a body, which may be long in coming.
    pub at: Timestamp,
}

/// What a hot route answers.
pub enum Reply<'a> {
    /// A verdict as JSON.
    Told(Vec<u8>),
    /// The proxy may let the request through.
    Admitted(&'a Verdict),
    /// All else, which is seldom asked for in haste.
    Other(Box<Response<Body>>),
}

impl Reply<'_> {
    pub fn into_response(self, at: Timestamp) -> Response<Body> {
        match self {
            Self::Told(body) => {
                let mut response = whole(StatusCode::OK, body.into());
                response.headers_mut().extend(verify::FIELDS);
                response
            }
            Self::Admitted(verdict) => {
                let mut response = whole(StatusCode::NO_CONTENT, Bytes::new());
                forward_auth::tell(verdict, at, response.headers_mut());
                response
            }
            Self::Other(response) => *response,
        }
    }
}

/// The credential of a request: `Authorization: Bearer` or `X-Api-Key`; two that differ are refused.
pub fn credential<F: Fields>(fields: &F) -> Result<Option<&str>, Problem> {
    let bearer = fields.text(&header::AUTHORIZATION).and_then(bearer);
    let key = fields.text(&X_API_KEY);
    match (bearer, key) {
        (Some(one), Some(other)) if one != other => Err(Problem::plain(Code::AmbiguousCredentials)),
        (one, other) => Ok(one.or(other)),
    }
}

/// The token of `Bearer …` (RFC 6750); the scheme's case does not matter.
pub fn bearer(text: &str) -> Option<&str> {
    // The space is near: a search that is made for long texts takes longer.
    let (scheme, token) = text.split_at(text.bytes().position(|byte| byte == b' ')?);
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whose keys the presented service key may verify.
pub async fn reach_of_caller(
    app: &App,
    presented: Option<&str>,
    ip: IpAddr,
    at: Timestamp,
    familiar: &mut Familiar,
) -> Result<Reach, Problem> {
    let presented = presented.ok_or_else(|| Problem::plain(Code::Unauthenticated))?;
    let record = app.keyward.verifier.identify_again(presented, Some(ip), at, familiar).await.map_err(cannot_judge)?;
    let grant = record.and_then(|record| record.grant()).ok_or_else(|| Problem::plain(Code::Unauthenticated))?;
    if grant.at_instance(Permission::KeysVerify) {
        Ok(Reach::Instance)
    } else if grant.home.all.contains(Permission::KeysVerify) {
        Ok(Reach::Organization(grant.organization))
    } else {
        Err(keyward::Error::forbidden(Permission::KeysVerify).into())
    }
}

/// 503, with the reason where it is one that the client may know.
pub fn cannot_judge(error: CannotJudge) -> Problem {
    let told = error.0.downcast_ref::<keyward::Error>().filter(|error| error.code.status() == 503);
    let (code, detail) =
        told.map_or((Code::NotReady, Code::NotReady.meaning().to_owned()), |error| (error.code, error.detail.clone()));
    keyward::Error::new(code, detail).with_source(error).into()
}

/// A problem as a whole answer.
pub fn refuse(app: &App, problem: &Problem, request_id: &str) -> Response<Body> {
    problem.log(request_id);
    let mut response = whole(problem.status(), problem.body(&app.public_url, request_id).into());
    response.headers_mut().extend(problem.headers());
    response
}

/// Headers of an answer of the hot routes, at most.
const HEADERS: usize = 20;

/// An answer whose body is in memory.
pub fn whole(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(body)));
    *response.status_mut() = status;
    // Room for all that comes: a map that grows is hashed anew each time.
    *response.headers_mut() = HeaderMap::with_capacity(HEADERS);
    response
}
