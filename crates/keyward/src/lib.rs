//! Keyward's platform as a library: storage, organizations, plans, keys, verification, and the book of changes.
//!
//! `Keyward::open` gives the whole; each slice is a field of it (`keyward.keys.rotate(…)`). No web types here: the
//! binary `keyward` and the crate `keyward-tower` put doors in front.

pub mod accounts;
mod announce;
mod aside;
pub mod audit;
mod change;
pub mod checkup;
pub mod config;
pub mod context;
pub mod db;
pub mod error;
mod ground;
pub mod idempotency;
pub mod jobs;
pub mod keys;
pub mod limits;
mod mail;
pub mod maintenance;
pub mod metrics;
pub mod oidc;
pub mod page;
mod platform;
pub mod proofs;
pub mod reservations;
pub mod sessions;
pub mod sinks;
pub mod tasks;
pub mod usage;
pub mod verify;

pub use error::{Error, Result};
pub use platform::Keyward;
pub use verify::Familiar;
