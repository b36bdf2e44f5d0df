//! Settings of the events that are too many to be written one by one.

use serde::Deserialize;

/// What is done with each class, and how many events may wait.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassSettings {
    pub verify_refused: ClassPolicy,
    pub limit_denied: ClassPolicy,
    pub verify: ClassPolicy,
    pub queue_events: usize,
}

/// What becomes of an event of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassPolicy {
    /// It is not noted.
    Off,
    /// It is noted; where there is no room it is lost, and the loss is noted.
    Open,
    /// It is noted; where there is no room the verification is not answered.
    Closed,
}
