//! What is sent next: the gap that is still to be told, events from the cursor on, and a checkpoint where one is due.

use keyward_core::note::SignedCheckpoint;
use keyward_core::time::Timestamp;
use serde_json::value::to_raw_value;

use super::cursor::CursorRow;
use super::delivery::Delivery;
use super::formats;
use super::record::{Gap, Record};
use super::transports::Line;
use crate::audit::EventFilter;
use crate::context::Context;
use crate::error::Result;

/// Most events, and about the most bytes, of one batch. Datadog takes 1,000 items and 5 MB.
const MOST_EVENTS: i64 = 500;
const MOST_BYTES: usize = 4_000_000;
/// A sink that gets events gets a checkpoint at least so often, even one that is ahead of it.
const CHECKPOINT_SECONDS: i64 = 60;

/// Lines and what each of them means for the cursor.
pub struct Batch {
    pub lines: Vec<Line>,
    pub steps: Vec<Step>,
    /// Where the cursor stands after the whole batch; events that the sink does not want lie between.
    pub next_sequence: i64,
}

/// What is done once a line is settled.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// An event; `is_gap_note` where the book itself tells of a gap.
    Event {
        sequence: i64,
        is_gap_note: bool,
    },
    Gap,
    Checkpoint {
        size: i64,
    },
}

impl Delivery {
    /// The batch at the cursor; without lines and steps when there is nothing to send.
    pub(super) async fn batch(&self, row: &CursorRow) -> Result<Batch> {
        let now = self.cursor.ground.now();
        let mut batch = Batch { lines: Vec::new(), steps: Vec::new(), next_sequence: row.next_sequence };
        if let Some(gap) = row.gap() {
            batch.push(self.line(Record::Gap(gap, now)), Step::Gap);
        }
        let (context, filter) = (Context::system("sinks"), EventFilter::default());
        let rows = self.audit.list_from(&context, None, &filter, row.next_sequence, MOST_EVENTS).await?;
        let mut bytes = 0;
        let mut has_events = false;
        for event in rows {
            let (sequence, is_gap_note) = (event.sequence, event.action == GAP_NOTED && event.event_type == "SYSTEM");
            let record = Record::Event(Box::new(event));
            if self.wants(&record) {
                let line = self.line(record);
                bytes += line.text.get().len();
                if bytes > MOST_BYTES && has_events {
                    break;
                }
                has_events = true;
                batch.push(line, Step::Event { sequence, is_gap_note });
            }
            batch.next_sequence = sequence + 1;
        }
        if let Some(latest) = self.proofs.latest().await?
            && is_due(&latest, row, batch.next_sequence, has_events, now)
        {
            let size = latest.checkpoint.size as i64;
            batch.push(self.line(Record::Checkpoint(Box::new(latest), now)), Step::Checkpoint { size });
        }
        Ok(batch)
    }

    fn wants(&self, record: &Record) -> bool {
        let types = &self.settings.event_types;
        let is_wanted = |name: &str| types.is_empty() || types.iter().any(|wanted| wanted == name);
        record.severity() >= self.settings.min_severity
            && record.event().is_none_or(|event| is_wanted(&event.event_type))
    }

    fn line(&self, record: Record) -> Line {
        let told = formats::tell(&record, self.settings.format, &self.log);
        Line {
            id: record.id(),
            at: record.at(),
            action: record.action().to_owned(),
            severity: record.severity(),
            sequence: record.sequence(),
            event_type: record.event().map_or_else(|| "SYSTEM".to_owned(), |event| event.event_type.clone()),
            organization: record.event().and_then(|event| event.organization_id).map(|id| id.to_string()),
            text: to_raw_value(&told).expect("a JSON value is JSON"),
        }
    }
}

/// The action of the event that notes a gap in the book.
pub const GAP_NOTED: &str = "sink_gap";

impl Batch {
    fn push(&mut self, line: Line, step: Step) {
        self.lines.push(line);
        self.steps.push(step);
    }

    /// The events among the refused lines as one gap, and whether the book shall note it: a note that is refused is not noted
    /// again, or two sinks that refuse everything would keep each other busy.
    pub fn gap_of(&self, refused: &[(usize, String)]) -> Option<(Gap, bool)> {
        let mut found: Option<(Gap, bool)> = None;
        for (place, reason) in refused {
            let Step::Event { sequence, is_gap_note } = self.steps[*place] else { continue };
            let one = Gap { from: sequence, to: sequence, count: 1, reason: reason.clone() };
            found = Some(match found {
                Some((gap, noted)) => (gap.with(one), noted || !is_gap_note),
                None => (one, !is_gap_note),
            });
        }
        found
    }
}

/// Whether the sink gets the newest checkpoint after this batch: it has all events of it by then, or has waited long enough.
fn is_due(latest: &SignedCheckpoint, row: &CursorRow, next: i64, has_events: bool, now: Timestamp) -> bool {
    let size = latest.checkpoint.size as i64;
    let is_long_ago = row.checkpoint_at.is_none_or(|at| at.plus_seconds(CHECKPOINT_SECONDS) <= now);
    size > row.checkpoint_size && (size <= next || has_events && is_long_ago)
}
