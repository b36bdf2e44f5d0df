//! What can go wrong for a caller: a code from the one table, a sentence for the client, a source for the log.
//! How an error travels over HTTP is not known here.

use keyward_core::limit::Exceeded;
use keyward_core::problem::{Code, FieldFault};

use crate::db::DbError;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error with everything a door needs to tell it.
#[derive(Debug)]
pub struct Error {
    pub code: Code,
    /// For the client: names no internals.
    pub detail: String,
    pub faults: Vec<FieldFault>,
    /// The limit that refused, of a 429.
    pub exceeded: Option<Exceeded>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), faults: Vec::new(), exceeded: None, source: None }
    }

    /// It does not exist, or this caller may not see it; both read the same.
    pub fn not_found() -> Self {
        Self::new(Code::NotFound, Code::NotFound.meaning())
    }

    pub fn forbidden(permission: keyward_core::access::Permission) -> Self {
        Self::new(Code::Forbidden, format!("This needs the permission {permission}."))
    }

    /// Too many calls.
    pub fn limited(exceeded: Exceeded) -> Self {
        let Exceeded { policy, limit, window_seconds, .. } = &exceeded;
        let detail = format!("The limit {policy:?} is {limit} calls in {window_seconds} seconds.");
        Self { exceeded: Some(exceeded), ..Self::new(Code::RateLimited, detail) }
    }

    /// A field that is not valid; `pointer` as in RFC 6901, e.g. `/allowed_ips/0`.
    pub fn field(pointer: impl Into<String>, detail: impl std::fmt::Display) -> Self {
        Self::fields(Code::InvalidField, vec![FieldFault { pointer: pointer.into(), detail: detail.to_string() }])
    }

    pub fn fields(code: Code, faults: Vec<FieldFault>) -> Self {
        let detail = match faults.as_slice() {
            [whole] if whole.pointer.is_empty() => format!("The body {}", whole.detail),
            [only] => format!("{} {}", only.pointer, only.detail),
            many => format!("{} fields are not valid.", many.len()),
        };
        Self { code, detail, faults, exceeded: None, source: None }
    }

    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// PostgreSQL's SQLSTATE of what the database refused.
    pub(crate) fn sqlstate(&self) -> Option<String> {
        self.source.as_ref()?.downcast_ref::<DbError>()?.sqlstate()
    }

    /// Seconds after which trying again makes sense, where that is known.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        let told = self.exceeded.as_ref().map(|exceeded| exceeded.retry_after_seconds);
        told.or(matches!(self.code.status(), 429 | 503).then_some(1))
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

impl From<DbError> for Error {
    fn from(error: DbError) -> Self {
        match &error {
            DbError::Taken { column, .. } => {
                let field = column.split('.').next_back().unwrap_or(column);
                let fault = FieldFault { pointer: format!("/{field}"), detail: "is already taken".to_owned() };
                Self::fields(Code::AlreadyTaken, vec![fault])
            }
            DbError::Unreachable(_) => Self::new(Code::NotReady, "The database does not answer."),
            _ => Self::new(Code::Internal, Code::Internal.meaning()),
        }
        .with_source(error)
    }
}
