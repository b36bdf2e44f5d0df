//! Who Keyward serves: organizations and their plans, people and their roles, and the set-up of the first of each.

mod hashing;
pub mod invitations;
pub mod members;
pub mod organizations;
pub mod passwords;
pub mod people;
pub mod plans;
mod provided;
pub(crate) mod room;
pub mod setup;
mod sql;
