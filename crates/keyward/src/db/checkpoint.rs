//! SQLite's log, moved into the file by a thread of its own that gives way to all others: on the writer it would be some ten
//! milliseconds in one piece, in which requests wait on few processors (`docs/decisions/0019`).

use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Connection};

use super::{Db, DbError};

/// The lowest priority, a seventieth of a processor that others fill. What it is too slow for, the writer still does.
const NICE: i32 = 19;

/// A connection that does nothing else. It holds no lock that a reader or the writer needs.
pub struct Checkpointer(SqliteConnection);

impl Db {
    /// `None` on PostgreSQL, which has its own.
    pub async fn checkpointer(&self) -> Result<Option<Checkpointer>, DbError> {
        let Self::Sqlite { writer, .. } = self else { return Ok(None) };
        let mut connection = writer.connect_options().connect().await?;
        give_way(&mut connection).await?;
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

/// Lowers the priority of the connection's thread. Only SQLite runs on it: so from its progress handler.
async fn give_way(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    connection.lock_handle().await?.set_progress_handler(1, || {
        // Elsewhere it would be the whole process's.
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::nice(NICE) {
            tracing::debug!(%error, "the priority stays as it is");
        }
        true
    });
    sqlx::query("SELECT 1").execute(&mut *connection).await?;
    connection.lock_handle().await?.remove_progress_handler();
    Ok(())
}
