//! Filling a large table: rows are made on a thread of their own while the database writes those before them.

use std::sync::mpsc::sync_channel;
use std::time::Instant;

use anyhow::{Context, Result};
use keyward_core::month::Month;
use keyward_core::time::Timestamp;
use uuid::Uuid;

use super::database::{Database, Rows};
use super::events::{BareRow, Event, Events};

/// Rows of one statement or COPY.
const BATCH: usize = 1_000;
/// Batches that wait to be written.
const AHEAD: usize = 8;
/// Rows after which it tells how far it is.
const TOLD: usize = 500_000;
const MONTHS: i64 = 18;
pub const DAY_MICROS: i64 = 86_400_000_000;

/// Which rows, and where they lie in time: the same for the book and for the plain table.
#[derive(Clone, Copy)]
pub struct Span {
    pub organization: Uuid,
    pub count: usize,
    start: i64,
    step: i64,
}

impl Span {
    /// Eighteen months until now.
    pub fn until(now: Timestamp, count: usize, organization: Uuid) -> Self {
        let start = now.as_micros() - MONTHS * 30 * DAY_MICROS;
        Self { organization, count, start, step: (now.as_micros() - start) / count as i64 }
    }

    /// When the row of this number was logged, in microseconds.
    pub fn at(&self, number: usize) -> i64 {
        self.start + self.step * number as i64
    }

    /// A whole month in the middle of what there is.
    pub fn month(&self) -> Month {
        Month::of(Timestamp::from_micros(self.at(self.count * 4 / 5)))
    }

    /// Writes all rows, of which the first gets the place `first`. `keep` sees each batch as it is made; `also` gets what that answers
    /// once the batch is written.
    pub fn fill<K: Send>(
        &self,
        database: &mut Database,
        table: &str,
        first: i64,
        mut keep: impl FnMut(&[Event], &[BareRow]) -> K + Send,
        mut also: impl FnMut(&mut Database, K) -> Result<()>,
    ) -> Result<()> {
        let (kind, began) = (database.kind(), Instant::now());
        let (made, ready) = sync_channel(AHEAD);
        let make = move || -> Result<()> {
            let mut events = Events::new(self.organization);
            let mut done = 0;
            while done < self.count {
                let batch = events.some(BATCH.min(self.count - done));
                let row = |(number, event)| events.row_at(event, first + number as i64, self.at(number));
                let rows: Vec<BareRow> = (done..).zip(&batch).map(row).collect();
                done += batch.len();
                let kept = keep(&batch, &rows);
                // Who writes has given up, and says why.
                if made.send((done, kind.rows(self.organization, &batch, &rows)?, kept)).is_err() {
                    break;
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let maker = scope.spawn(make);
            let write = |(done, rows, kept): (usize, Rows, K)| -> Result<()> {
                database.insert(table, rows)?;
                also(database, kept)?;
                if done.is_multiple_of(TOLD) {
                    eprintln!("  {table}: {done} of {} written, {:.0} s", self.count, began.elapsed().as_secs_f64());
                }
                Ok(())
            };
            let written = ready.into_iter().try_for_each(write);
            maker.join().ok().context("the rows are made without a panic")??;
            written
        })
    }
}
