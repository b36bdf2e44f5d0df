//! Keyward's rules: what a key looks like, who may do what, and how a presented key is judged.
//!
//! Everything here is pure: no IO, no async runtime, and time is an argument. The platform (`keyward`) fetches what a
//! rule needs; the doors (`keyward-server`, `keyward-tower`) carry the answer out.

pub mod access;
pub mod contained;
pub mod distinct;
pub mod hours;
pub mod id;
pub mod key;
pub mod leaf;
pub mod limit;
pub mod month;
pub mod network;
pub mod note;
pub mod prefetch;
pub mod problem;
pub mod quota;
pub mod record;
pub mod route;
pub mod scope;
pub mod secret;
pub mod sketch;
pub mod tally;
pub mod text;
pub mod time;
pub mod tree;
pub mod usd;
pub mod varint;
pub mod verdict;
pub mod verify;
