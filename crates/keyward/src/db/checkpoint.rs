//! SQLite's log, moved into the file by a thread of its own that gives way to all others: on the writer it would be some ten
//! milliseconds in one piece, in which requests wait on few processors (`docs/decisions/0019`).

use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection};

use super::turns::on_thread_of;
use super::{Db, DbError};

/// A connection that does nothing else. It holds no lock that a reader or the writer needs.
pub struct Checkpointer(SqliteConnection);

impl Db {
    /// `None` on PostgreSQL, which has its own.
    pub async fn checkpointer(&self) -> Result<Option<Checkpointer>, DbError> {
        let Self::Sqlite { writer, .. } = self else { return Ok(None) };
        let mut connection = writer.connect_options().connect().await?;
        on_thread_of(&mut connection, give_way).await?;
        Ok(Some(Checkpointer(connection)))
    }
}

impl Checkpointer {
    /// Moves what stands in the log and no reader needs there. With all of it moved, the log is written from its beginning again.
    pub async fn run(&mut self) -> Result<(), DbError> {
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut self.0).await?;
        Ok(())
    }

    pub async fn close(self) -> Result<(), DbError> {
        Ok(self.0.close().await?)
    }
}

/// Puts this thread into the idle class: it runs where nobody else wants to, and stops at once for who does. What it is too slow for
/// then, the writer still does.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = into_idle_class() {
        tracing::debug!(?error, "the thread that moves the database's log keeps its priority");
    }
}

#[cfg(target_os = "linux")]
fn into_idle_class() -> Result<(), thread_priority::Error> {
    use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};

    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let thread = thread_priority::thread_native_id();
    thread_priority::set_thread_priority_and_policy(thread, ThreadPriority::Min, idle)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::db::{ddl, sql};

    type Tested<T = ()> = Result<T, Box<dyn std::error::Error>>;

    /// `SCHED_IDLE` of Linux.
    const IDLE: u32 = 5;

    /// Rows that stand in the file by itself, without its log; `None` where not even their table does.
    async fn rows_in(file: &Path) -> Tested<Option<usize>> {
        let copy = file.with_file_name("copy.db");
        std::fs::copy(file, &copy)?;
        let db = Db::read_sqlite(&copy).await?;
        let rows = sql("SELECT value FROM noted").all::<(i64,)>(&db).await;
        db.close().await;
        Ok(rows.ok().map(|rows| rows.len()))
    }

    /// The scheduling class of every thread of this process.
    fn classes() -> Tested<Vec<u32>> {
        let threads = std::fs::read_dir("/proc/self/task")?;
        let stat = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok());
        // The second field is a name in parentheses; the class is the 41st.
        let class = |stat: String| stat.rsplit_once(')')?.1.split_whitespace().nth(38)?.parse().ok();
        Ok(stat.filter_map(class).collect())
    }

    #[tokio::test]
    async fn the_log_is_moved_by_a_thread_that_gives_way() -> Tested {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("keyward.db");
        let db = Db::open_sqlite(&file).await?;
        ddl("CREATE TABLE noted (value INTEGER)").run(&mut db.session().await?).await?;
        sql("INSERT INTO noted VALUES (1), (2)").execute(&db).await?;
        let mut checkpointer = db.checkpointer().await?.expect("SQLite has a log");
        if cfg!(target_os = "linux") {
            assert!(classes()?.contains(&IDLE));
        }
        assert_eq!(rows_in(&file).await?, None);
        checkpointer.run().await?;
        assert_eq!(rows_in(&file).await?, Some(2));
        checkpointer.close().await?;
        db.close().await;
        Ok(())
    }
}
