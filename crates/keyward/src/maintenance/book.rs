//! Old events of the book leave behind a proof: only what a signed checkpoint covers, and only after an archive of it was read back.
//! Their hashes stay, so that every proof of what is left holds. And what is there gets the index that is too dear while it grows.

use keyward_core::note::SignedCheckpoint;
use keyward_core::problem::Code;
use keyward_core::text::hex;
use keyward_core::time::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncWriteExt, BufWriter};

use super::partitions::Parent;
use super::partitions::retire::{read_back, unusable};
use super::{Maintenance, sql as statements};
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::{ddl, sql};
use crate::error::{Error, Result};
use crate::jobs::Running;

/// The book's table.
pub(super) const BOOK: &str = "audit_event";
/// Events that are archived, or deleted, at a time.
const RANGE: i64 = 1_000;
/// Late events may still come into a month that has just ended.
const CLOSED_FOR_DAYS: i64 = 1;

impl Maintenance {
    /// Refuses to let events go that no signed checkpoint covers, or none that a witness signed where there are witnesses.
    pub(super) async fn require_proof(&self, until: Timestamp) -> Result<()> {
        let end = self.audit.first_since(until).await?;
        let notes: Vec<(String,)> = sql(statements::CHECKPOINTS_FROM).bind(end).all(&self.ground.db).await?;
        let fewest = if self.needs_witness { 2 } else { 1 };
        let proves =
            |(note,): &(String,)| SignedCheckpoint::parse(note).is_some_and(|signed| signed.signatures.len() >= fewest);
        if notes.iter().any(proves) {
            return Ok(());
        }
        let by = if self.needs_witness { " that a witness signed" } else { "" };
        Err(Error::new(
            Code::Conflict,
            format!("No checkpoint{by} covers the events before {until}; none was retired."),
        ))
    }

    /// SQLite: archives and deletes, range by range, the events that are older than the settings keep them.
    pub(super) async fn retire_events(&self, job: &Running) -> Result<i64> {
        let Some(cutoff) = self.cutoff(self.ground.now()) else { return Ok(0) };
        let (from, end) = (self.audit.kept_from().await?, self.audit.first_since(cutoff).await?);
        if from < end {
            self.require_proof(cutoff).await?;
            self.archive_events(job, from, end, cutoff).await?;
        }
        // What an earlier run archived and did not get to delete goes as well.
        let kept_from = self.audit.kept_from().await?;
        let mut deleted = 0;
        loop {
            job.stop_if_cancelled()?;
            let gone = self.audit.delete_retired(kept_from, RANGE).await?;
            deleted += gone;
            if gone == 0 {
                break;
            }
        }
        if deleted > 0 {
            job.tell(format!("{deleted} events deleted, their hashes stay"));
        }
        Ok(deleted)
    }

    async fn archive_events(&self, job: &Running, from: i64, end: i64, cutoff: Timestamp) -> Result<()> {
        let folder = self.archive_dir();
        tokio::fs::create_dir_all(&folder).await.map_err(unusable)?;
        let name = format!("{BOOK}_{from}_{end}");
        let path = folder.join(format!("{name}.jsonl"));
        let mut file = BufWriter::new(File::create(&path).await.map_err(unusable)?);
        let (mut hash, mut lines, mut next) = (Sha256::new(), 0, from);
        while next < end {
            job.stop_if_cancelled()?;
            job.progress((next - from) as usize, (end - from) as usize, "events");
            let to = (next + RANGE).min(end);
            for record in self.audit.records(next, to).await? {
                let line = serde_json::to_string(&record).map_err(|error| unusable(error.into()))? + "\n";
                hash.update(&line);
                lines += 1;
                file.write_all(line.as_bytes()).await.map_err(unusable)?;
            }
            next = to;
        }
        file.flush().await.map_err(unusable)?;
        file.into_inner().sync_all().await.map_err(unusable)?;
        let (path, sha256) = (path.display().to_string(), hex(&hash.finalize()));
        let whole = read_back(&path).await.is_ok_and(|read| read == (lines, sha256.clone()));
        if !whole || lines != end - from {
            let detail = format!("The archive {path} holds {lines} of {} events; nothing was deleted.", end - from);
            return Err(Error::new(Code::Conflict, detail));
        }
        let context = Context::system("maintenance");
        let mut change = Change::begin(&self.ground, &context).await?;
        let now = change.now();
        let note = sql(statements::ADD_EVENT_ARCHIVE).bind(&name).bind(BOOK).bind(cutoff).bind(lines);
        note.bind(&sha256).bind(&path).bind(now).execute(change.tx()).await?;
        self.audit.retire_until(change.tx(), cutoff).await?;
        let details = json!({ "from": from, "to": end, "rows": lines, "sha256": sha256, "path": path });
        let event = Event::new(EventType::System, "events_archived", "archive", &name).details(details);
        change.commit(event).await?;
        job.tell(format!("{lines} events copied to {path}, and read back"));
        Ok(())
    }

    /// SQLite: every event gets the terms by which is found what details contain; answers how many got theirs. A run that broke off
    /// is gone on with.
    pub(super) async fn index_events(&self, job: &Running) -> Result<i64> {
        let waiting = self.audit.unindexed().await?;
        let mut indexed = 0;
        while indexed < waiting {
            job.stop_if_cancelled()?;
            job.progress(indexed as usize, waiting as usize, "events");
            match self.audit.index_details().await? {
                0 => break,
                step => indexed += step,
            }
        }
        if indexed > 0 {
            job.tell(format!("indexed the details of {indexed} events"));
        }
        Ok(indexed)
    }

    /// PostgreSQL: a month that has ended gets its indexes packed, and one by which is found what details contain. One that broke off
    /// is built again.
    pub(super) async fn index_closed_months(&self, job: &Running, parent: &Parent) -> Result<Vec<Value>> {
        let mut indexed = Vec::new();
        if parent.name != BOOK {
            return Ok(indexed);
        }
        let now = self.ground.now();
        for child in self.children(parent).await? {
            let name = format!("{}_by_details", child.name);
            let closed = child.to_at.is_some_and(|to| to.plus_days(CLOSED_FOR_DAYS) <= now);
            let state = sql(statements::INDEX_STATE).bind(&name);
            let valid: Option<(bool,)> = state.optional(&self.ground.db).await?;
            if !closed || valid == Some((true,)) {
                continue;
            }
            job.stop_if_cancelled()?;
            if valid.is_some() {
                self.run(job, &ddl("DROP INDEX CONCURRENTLY ").name(&name)).await?;
            }
            // Nothing comes in any more, so every page can be full.
            let packed = self.run(job, &ddl("REINDEX TABLE CONCURRENTLY ").name(&child.name)).await;
            if packed.is_err() {
                self.drop_leftovers(job).await?;
            }
            packed?;
            let build = ddl("CREATE INDEX CONCURRENTLY ").name(&name).then(" ON ").name(&child.name);
            self.run(job, &build.then(" USING gin (details jsonb_path_ops)")).await?;
            job.tell(format!("indexed the details of {}", child.name));
            indexed.push(json!(child.name));
        }
        Ok(indexed)
    }
}
