//! What a sink is sent: events of the book, and two kinds of records beside them, gaps and checkpoints. In which words is not decided
//! here.

use keyward_core::note::SignedCheckpoint;
use keyward_core::time::Timestamp;

use super::meaning::severity_of;
use crate::audit::EventRow;
use crate::config::Severity;

/// The action of a record that stands for events which are missing.
pub const GAP: &str = "keyward.gap";
/// The action of a record that carries a signed checkpoint.
pub const CHECKPOINT: &str = "keyward.checkpoint";

/// One line to be.
#[derive(Debug)]
pub enum Record {
    Event(Box<EventRow>),
    Gap(Gap, Timestamp),
    Checkpoint(Box<SignedCheckpoint>, Timestamp),
}

/// Events that the sink does not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Sequences of the first and the last.
    pub from: i64,
    pub to: i64,
    pub count: i64,
    pub reason: String,
}

impl Gap {
    /// Both in one.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            from: self.from.min(other.from),
            to: self.to.max(other.to),
            count: self.count + other.count,
            reason: other.reason,
        }
    }
}

impl Record {
    /// The same for the same record, however often it is sent.
    pub fn id(&self) -> String {
        match self {
            Self::Event(event) => event.id.to_string(),
            Self::Gap(gap, _) => format!("gap-{}-{}-{}", gap.from, gap.to, gap.count),
            Self::Checkpoint(signed, _) => format!("checkpoint-{}", signed.checkpoint.size),
        }
    }

    /// The event's place in the book.
    pub fn sequence(&self) -> Option<i64> {
        match self {
            Self::Event(event) => Some(event.sequence),
            Self::Gap(..) | Self::Checkpoint(..) => None,
        }
    }

    pub fn at(&self) -> Timestamp {
        match self {
            Self::Event(event) => event.occurred_at,
            Self::Gap(_, at) | Self::Checkpoint(_, at) => *at,
        }
    }

    pub fn action(&self) -> &str {
        match self {
            Self::Event(event) => &event.action,
            Self::Gap(..) => GAP,
            Self::Checkpoint(..) => CHECKPOINT,
        }
    }

    pub fn severity(&self) -> Severity {
        match self {
            Self::Event(event) => severity_of(event),
            Self::Gap(..) => Severity::Medium,
            Self::Checkpoint(..) => Severity::Informational,
        }
    }

    /// The event that it is.
    pub fn event(&self) -> Option<&EventRow> {
        match self {
            Self::Event(event) => Some(event),
            Self::Gap(..) | Self::Checkpoint(..) => None,
        }
    }
}
