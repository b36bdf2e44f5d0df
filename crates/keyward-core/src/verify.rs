//! The one port of the hot path: whoever can judge a presented key implements `Verify`.
//!
//! Two do: the platform in process (`keyward::verify::Verifier`) and `keyward_tower::Remote` over HTTP.

use std::future::Future;
use std::sync::Arc;

use crate::verdict::{Request, Verdict};

/// Judges presented keys.
pub trait Verify: Send + Sync {
    /// A verdict is a value; an error means "could not judge".
    fn verify(
        &self,
        presented: &str,
        request: &Request<'_>,
    ) -> impl Future<Output = Result<Verdict, CannotJudge>> + Send;
}

impl<V: Verify> Verify for Arc<V> {
    async fn verify(&self, presented: &str, request: &Request<'_>) -> Result<Verdict, CannotJudge> {
        V::verify(self, presented, request).await
    }
}

/// No verdict could be reached: the store or the server did not answer, or refused to.
#[derive(Debug)]
pub struct CannotJudge(pub Box<dyn std::error::Error + Send + Sync>);

impl std::fmt::Display for CannotJudge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the key could not be judged: {}", self.0)
    }
}

impl std::error::Error for CannotJudge {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.0.as_ref())
    }
}
