//! What is sent next: the gap that is still to be told, events from the cursor on, and a checkpoint where one is due.

use keyward_core::time::Timestamp;
use serde_json::value::to_raw_value;

use super::cursor::CursorRow;
use super::delivery::Delivery;
use super::formats;
use super::record::{Gap, Record};
use super::transports::Line;
use crate::audit::EventFilter;
use crate::config::SinkKind;
use crate::context::Context;
use crate::error::Result;

/// Most events, and about the most bytes, of one batch. Datadog takes 1,000 items and 5 MB.
const MOST_EVENTS: i64 = 500;
const MOST_BYTES: usize = 4_000_000;
/// Each failure in a row halves a batch, so that a slow receiver gets on; no more often than this.
const MOST_HALVINGS: i64 = 6;
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
            batch.push(self.line(Record::Gap(gap, now), false), Step::Gap);
        }
        let (context, filter) = (Context::system("sinks"), EventFilter::default());
        let halvings = row.failure_count.clamp(0, MOST_HALVINGS);
        let (most_events, most_bytes) = (MOST_EVENTS >> halvings, MOST_BYTES >> halvings);
        let rows = self.audit.list_from(&context, None, &filter, row.next_sequence, most_events).await?;
        let namesakes = match (self.settings.kind, rows.last()) {
            (SinkKind::Elasticsearch, Some(last)) => self.audit.namesakes(row.next_sequence, last.sequence + 1).await?,
            _ => Vec::new(),
        };
        let mut bytes = 0;
        let mut has_events = false;
        for event in rows {
            let (sequence, is_gap_note) = (event.sequence, event.action == GAP_NOTED && event.event_type == "SYSTEM");
            let record = Record::Event(Box::new(event));
            if self.wants(&record) {
                let line = self.line(record, namesakes.contains(&sequence));
                bytes += line.text.get().len();
                if bytes > most_bytes && has_events {
                    break;
                }
                has_events = true;
                batch.push(line, Step::Event { sequence, is_gap_note });
            }
            batch.next_sequence = sequence + 1;
        }
        if let Some(latest) = self.proofs.latest().await? {
            let (size, had) = (latest.checkpoint.size as i64, (row.checkpoint_size, row.checkpoint_at));
            if is_due(size, had, batch.next_sequence, has_events, now) {
                batch.push(self.line(Record::Checkpoint(Box::new(latest), now), false), Step::Checkpoint { size });
            }
        }
        Ok(batch)
    }

    fn wants(&self, record: &Record) -> bool {
        let types = &self.settings.event_types;
        let is_wanted = |name: &str| types.is_empty() || types.iter().any(|wanted| wanted == name);
        record.severity() >= self.settings.min_severity
            && record.event().is_none_or(|event| is_wanted(&event.event_type))
    }

    fn line(&self, record: Record, has_namesake: bool) -> Line {
        let key = match record.sequence().filter(|_| has_namesake) {
            Some(sequence) => format!("{}-{sequence}", record.id()),
            None => record.id(),
        };
        let told = formats::tell(&record, self.settings.format, &self.log);
        Line {
            id: record.id(),
            key,
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

/// Whether the sink gets a checkpoint of so many events after this batch: it has them all by then, or none has come for a while.
fn is_due(size: i64, had: (i64, Option<Timestamp>), next: i64, has_events: bool, now: Timestamp) -> bool {
    let (had_size, had_at) = had;
    let is_long_ago = had_at.is_none_or(|at| at.plus_seconds(CHECKPOINT_SECONDS) <= now);
    size > had_size && (size <= next || has_events && is_long_ago)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_follows_its_events_and_comes_at_least_once_a_minute() {
        let now = Timestamp::from_micros(1_795_176_000_000_000);
        let ago = |seconds: i64| Some(now.plus_seconds(-seconds));
        for (size, had, next, has_events, expected) in [
            (10, (0, None), 10, true, true),
            (10, (0, None), 10, false, true),
            (10, (10, ago(90)), 10, true, false),
            (10, (5, ago(1)), 12, true, true),
            (10, (5, ago(59)), 9, true, false),
            (10, (5, ago(60)), 9, true, true),
            (10, (5, ago(60)), 9, false, false),
            (10, (0, None), 9, true, true),
        ] {
            assert_eq!(is_due(size, had, next, has_events, now), expected, "{size} {had:?} {next} {has_events}");
        }
    }
}
