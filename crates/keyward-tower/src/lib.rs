//! The door you can take home: a tower `Layer` that lets only requests with a valid API key through to your service.
//!
//! The layer takes the key from the request, asks a [`Verify`], and answers refusals itself. Two judge: [`Remote`] asks
//! a running Keyward over HTTP; `keyward::verify::Verifier` judges in process. Keys are not made or changed here.
//!
//! ```
//! use axum::{Extension, Router, routing::get};
//! use keyward_tower::{ApiKeyIdentity, KeywardLayer, Remote};
//!
//! # fn main() -> Result<(), keyward_tower::RemoteError> {
//! let keyward = Remote::new("https://keys.example.com", "kw_live_your_service_key")?;
//! let app: Router = Router::new()
//!     .route("/whoami", get(async |Extension(key): Extension<ApiKeyIdentity>| key.name().to_owned()))
//!     .layer(KeywardLayer::new(keyward).require_scope("profile:read"));
//! # Ok(())
//! # }
//! ```

mod address;
mod answer;
mod guard;
mod identity;
mod layer;
mod presented;
mod refusal;
mod remote;

pub use address::ClientAddress;
pub use answer::UnreadableAnswer;
pub use guard::KeywardService;
pub use identity::ApiKeyIdentity;
pub use keyward_core::verify::{CannotJudge, Verify};
pub use layer::KeywardLayer;
pub use refusal::Refusal;
pub use remote::{Remote, RemoteError};
