//! Old partitions leave in steps, each of which may be the last before a crash: copied to an archive, the archive read
//! back, taken out beside readers and writers, dropped. A run begins with what an earlier one left.

use std::path::PathBuf;
use std::time::Duration;

use keyward_core::month::Month;
use keyward_core::problem::Code;
use keyward_core::text::hex;
use keyward_core::time::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};

use super::{Child, Parent, sql};
use crate::audit::{Event, EventType};
use crate::change::Change;
use crate::context::Context;
use crate::db::{ddl, row, sql as statement};
use crate::error::{Error, Result};
use crate::jobs::Running;
use crate::maintenance::Maintenance;
use crate::maintenance::book::BOOK;

/// Late events may still come into a month that has just ended.
const CLOSED_FOR_DAYS: i64 = 1;
/// A partition is taken out when the statements that began before have ended; longer we do not wait.
const DETACH_WITHIN: Duration = Duration::from_secs(600);

row! {
    /// The archive of a partition.
    #[derive(Debug, Clone)]
    struct Archive {
        name: String,
        row_count: i64,
        sha256: String,
        path: String,
    }
}

impl Maintenance {
    /// Retires the partitions that are older than the settings keep them; answers their names.
    pub(super) async fn retire(&self, job: &Running, parent: &Parent) -> Result<Vec<String>> {
        let mut retired = self.finish_retiring(job, parent).await?;
        let now = self.ground.now();
        let Some(cutoff) = self.cutoff(now) else { return Ok(retired) };
        for child in self.children(parent).await? {
            let Some(to) = child.to_at.filter(|to| *to <= cutoff && to.plus_days(CLOSED_FOR_DAYS) <= now) else {
                continue;
            };
            job.stop_if_cancelled()?;
            if parent.name == BOOK {
                self.require_proof(to).await?;
            }
            self.archive(job, parent, &child, to).await?;
            let step = ddl("ALTER TABLE ").name(&parent.name).then(" DETACH PARTITION ").name(&child.name);
            self.run_within(job, &step.then(" CONCURRENTLY"), DETACH_WITHIN).await?;
            self.drop_retired(job, &child.name).await?;
            retired.push(child.name);
        }
        Ok(retired)
    }

    /// What ends before this instant is no longer kept.
    pub(in crate::maintenance) fn cutoff(&self, now: Timestamp) -> Option<Timestamp> {
        let months = self.settings.retention_months;
        let oldest = (1..months).fold(Month::of(now), |month, _| Month::of(month.start().plus_days(-1)));
        (months > 0).then(|| oldest.start())
    }

    /// Partitions that were archived and taken out, but not dropped.
    async fn finish_retiring(&self, job: &Running, parent: &Parent) -> Result<Vec<String>> {
        let orphans: Vec<(String,)> =
            statement(sql::RETIRED_AND_PRESENT).bind(&parent.name).all(&self.ground.db).await?;
        for (name,) in &orphans {
            job.tell(format!("{name} was archived and taken out by a run that broke off"));
            self.drop_retired(job, name).await?;
        }
        Ok(orphans.into_iter().map(|(name,)| name).collect())
    }

    /// Copies a partition to a file of JSON lines, unless a whole copy is there, and notes it in the book.
    async fn archive(&self, job: &Running, parent: &Parent, child: &Child, to: Timestamp) -> Result<()> {
        if let Some(archive) = self.archive_of(&child.name).await?
            && self.is_whole(&archive).await
        {
            return Ok(());
        }
        let folder = self.archive_dir();
        tokio::fs::create_dir_all(&folder).await.map_err(unusable)?;
        let path = folder.join(format!("{}.jsonl", child.name));
        let mut session = self.session().await?;
        // A delimiter and a quote that JSON never holds leave the lines as they are.
        let copy = ddl("COPY (SELECT row_to_json(part) FROM ").name(&child.name).then(" AS part ORDER BY ");
        let copy = copy.name(&parent.column_name).then(") TO STDOUT (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02')");
        let mut file = BufWriter::new(File::create(&path).await.map_err(unusable)?);
        let (mut hash, mut lines) = (Sha256::new(), 0);
        let mut copied = session.copy_out(&copy).await?;
        while let Some(bytes) = copied.next().await? {
            hash.update(&bytes);
            lines += count_lines(&bytes);
            file.write_all(&bytes).await.map_err(unusable)?;
        }
        drop(copied);
        file.flush().await.map_err(unusable)?;
        file.into_inner().sync_all().await.map_err(unusable)?;
        let rows = ddl("SELECT count(*) AS value FROM ").name(&child.name).number(&self.owner).await?;
        let archive = Archive {
            name: child.name.clone(),
            row_count: rows,
            sha256: hex(&hash.finalize()),
            path: path.display().to_string(),
        };
        if lines != rows || !self.is_whole(&archive).await {
            let detail =
                format!("The archive {} holds {lines} lines of {rows} rows; nothing was dropped.", archive.path);
            return Err(Error::new(Code::Conflict, detail));
        }
        job.tell(format!("{}: {rows} rows copied to {}, and read back", archive.name, archive.path));
        self.note_archive(parent, child, to, archive).await
    }

    async fn note_archive(&self, parent: &Parent, child: &Child, to: Timestamp, archive: Archive) -> Result<()> {
        let context = Context::system("maintenance");
        let mut change = Change::begin(&self.ground, &context).await?;
        let now = change.now();
        let Archive { name, row_count, sha256, path } = archive;
        let row = statement(sql::ADD_ARCHIVE)
            .bind(&name)
            .bind(&parent.name)
            .bind(child.from_at)
            .bind(to)
            .bind(row_count)
            .bind(&sha256)
            .bind(&path)
            .bind(now);
        row.execute(change.tx()).await?;
        if parent.name == BOOK {
            self.audit.retire_until(change.tx(), to).await?;
        }
        let details = json!({ "table": parent.name, "to": to, "rows": row_count, "sha256": sha256, "path": path });
        change.commit(event("partition_archived", &name).details(details)).await?;
        Ok(())
    }

    /// Drops a partition that belongs to no table any more, if its archive is whole.
    async fn drop_retired(&self, job: &Running, name: &str) -> Result<()> {
        let archive = self.archive_of(name).await?;
        let whole = match &archive {
            Some(archive) => self.is_whole(archive).await,
            None => false,
        };
        if !whole {
            return Err(Error::new(Code::Conflict, format!("The archive of {name} is not whole; it was not dropped.")));
        }
        self.run(job, &ddl("DROP TABLE IF EXISTS ").name(name)).await?;
        let context = Context::system("maintenance");
        let mut change = Change::begin(&self.ground, &context).await?;
        let now = change.now();
        statement(sql::END_ARCHIVE).bind(name).bind(now).execute(change.tx()).await?;
        change.commit(event("partition_dropped", name)).await?;
        job.tell(format!("dropped {name}"));
        Ok(())
    }

    async fn archive_of(&self, name: &str) -> Result<Option<Archive>> {
        Ok(statement(sql::ARCHIVE).bind(name).optional(&self.ground.db).await?)
    }

    pub(in crate::maintenance) fn archive_dir(&self) -> PathBuf {
        match self.settings.archive_dir.as_os_str().is_empty() {
            true => self.data_dir.join("archive"),
            false => self.settings.archive_dir.clone(),
        }
    }

    /// Reads an archive back.
    async fn is_whole(&self, archive: &Archive) -> bool {
        match read_back(&archive.path).await {
            Ok((lines, sha256)) => lines == archive.row_count && sha256 == archive.sha256,
            Err(_) => false,
        }
    }
}

pub(in crate::maintenance) async fn read_back(path: &str) -> std::io::Result<(i64, String)> {
    let mut file = BufReader::new(File::open(path).await?);
    let (mut hash, mut lines, mut block) = (Sha256::new(), 0, vec![0; 64 * 1024]);
    loop {
        let read = file.read(&mut block).await?;
        if read == 0 {
            return Ok((lines, hex(&hash.finalize())));
        }
        hash.update(&block[..read]);
        lines += count_lines(&block[..read]);
    }
}

fn count_lines(bytes: &[u8]) -> i64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as i64
}

pub(in crate::maintenance) fn unusable(error: std::io::Error) -> Error {
    Error::new(Code::NotReady, format!("The archive cannot be written: {error}"))
}

fn event(action: &'static str, partition: &str) -> Event {
    Event::new(EventType::System, action, "partition", partition)
}
