//! The parts of the chores that the tests use as well.

pub mod packages;
pub mod postgres;
