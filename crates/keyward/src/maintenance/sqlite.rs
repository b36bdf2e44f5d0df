//! The figures of an SQLite file: its pages, its log beside it, and when it was last looked through.

use std::io::ErrorKind;

use super::health::{Panel, Status};
use super::stats::Part;
use super::{Maintenance, sql as statements};
use crate::db::{Ddl, ddl};
use crate::error::Result;
use crate::jobs::JobKind;

const MEBIBYTE: f64 = 1_048_576.0;
const MOST_WAL_BYTES: f64 = 64.0 * MEBIBYTE;
const MOST_FREE_PERCENT: f64 = 25.0;
/// A small file may be empty for the most part.
const SMALL_FILE_BYTES: f64 = 16.0 * MEBIBYTE;
const CHECK_DAYS: f64 = 30.0;

/// What to do about a finding.
pub(super) fn advice(panel: &str) -> Option<&'static str> {
    Some(match panel {
        "free_pages" => "Start a vacuum: it gives the space back.",
        "write_ahead_log" => "Look for a reader that never ends; the log shrinks when all readers have moved on.",
        "integrity" => "Start a vacuum: it looks through the file first.",
        _ => return None,
    })
}

impl Maintenance {
    pub(super) async fn check_file(&self) -> Result<Vec<Panel>> {
        let page_size = self.number(statements::PAGE_SIZE).await? as f64;
        let pages = self.number(statements::PAGE_COUNT).await? as f64;
        let free = self.number(statements::FREE_PAGES).await? as f64;
        let mut size = Panel::new("size", "Size of the file", "bytes", "tells, does not judge".to_owned());
        size.find("keyward.db", pages * page_size, format!("{pages} pages of {page_size} bytes"), Status::Ok);

        let threshold = format!("warns from {MOST_FREE_PERCENT} in files from {SMALL_FILE_BYTES} bytes");
        let mut unused = Panel::new("free_pages", "Pages that hold nothing", "percent", threshold);
        let percent = free * 100.0 / pages.max(1.0);
        let wasteful = percent >= MOST_FREE_PERCENT && pages * page_size >= SMALL_FILE_BYTES;
        unused.find("keyward.db", percent, format!("{free} pages"), warn_if(wasteful));
        Ok(vec![size, unused, self.check_log(), self.check_age().await?])
    }

    fn check_log(&self) -> Panel {
        let threshold = format!("warns from {MOST_WAL_BYTES}");
        let mut panel = Panel::new("write_ahead_log", "Changes not yet in the file", "bytes", threshold);
        match std::fs::metadata(self.data_dir.join("keyward.db-wal")) {
            Ok(file) => {
                let bytes = file.len() as f64;
                panel.find("keyward.db-wal", bytes, "", warn_if(bytes >= MOST_WAL_BYTES));
                panel
            }
            // The last to close the file takes the log away.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panel.find("keyward.db-wal", 0.0, "", Status::Ok);
                panel
            }
            Err(error) => panel.unknown(error.to_string()),
        }
    }

    async fn check_age(&self) -> Result<Panel> {
        let threshold = format!("warns from {CHECK_DAYS}");
        let mut panel = Panel::new("integrity", "Since every page was looked at", "days", threshold);
        let last = self.jobs.last_success(JobKind::Vacuum).await?;
        let Some(at) = last.and_then(|job| job.finished_at) else {
            return Ok(panel.unknown("The file was never looked through: the weekly vacuum does it."));
        };
        let days = (self.ground.now().as_seconds() - at.as_seconds()) as f64 / 86_400.0;
        panel.find("keyward.db", days, format!("at {at}"), warn_if(days >= CHECK_DAYS));
        Ok(panel)
    }

    /// Counts the rows of each table; sizes are known of the whole file only.
    pub(super) async fn measure_file(&self, items: &mut [Part]) -> Result<()> {
        for part in items {
            let count: Ddl = ddl("SELECT count(*) AS value FROM ").name(&part.name);
            part.estimated_rows = Some(count.number(&self.ground.db).await?);
        }
        Ok(())
    }
}

fn warn_if(bad: bool) -> Status {
    if bad { Status::Warning } else { Status::Ok }
}
