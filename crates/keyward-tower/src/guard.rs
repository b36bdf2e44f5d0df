//! The service that the layer makes: hold the request until there is a verdict, then hand it on or answer it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use keyward_core::verify::Verify;

use crate::layer::KeywardLayer;

/// A service behind a [`KeywardLayer`].
pub struct KeywardService<V, S> {
    layer: Arc<KeywardLayer<V>>,
    inner: S,
}

impl<V, S> KeywardService<V, S> {
    pub(crate) fn new(layer: KeywardLayer<V>, inner: S) -> Self {
        Self { layer: Arc::new(layer), inner }
    }
}

impl<V, S: Clone> Clone for KeywardService<V, S> {
    fn clone(&self) -> Self {
        Self { layer: self.layer.clone(), inner: self.inner.clone() }
    }
}

impl<V, S, B, R> tower::Service<Request<B>> for KeywardService<V, S>
where
    V: Verify + 'static,
    S: tower::Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: From<Bytes>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The readiness that `poll_ready` promised belongs to this `inner`, so the clone stays behind for the next call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let layer = self.layer.clone();
        Box::pin(async move {
            // Apart from its body: a body need not be `Sync`, and the parts are lent across the verdict.
            let (mut parts, body) = request.into_parts();
            match layer.admit(&parts).await {
                Ok(identity) => {
                    parts.extensions.insert(identity);
                    inner.call(Request::from_parts(parts, body)).await
                }
                Err(refused) => Ok(refused.respond(&layer.scopes)),
            }
        })
    }
}
