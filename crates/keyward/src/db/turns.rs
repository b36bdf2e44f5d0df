//! SQLite's threads among others on few processors: what is written behind takes milliseconds, a search in a large table many more, and
//! a scheduler lets a thread that has begun go on for one or more of them although a request has come. So they have a lower priority,
//! and offer their processor to whoever waits for one.

use sqlx::SqliteConnection;

use crate::aside::{Share, Turns, step_back};

/// Steps of SQLite's machine after which it looks at the time: some tens of microseconds, where they put rows into indexes.
const STEPS: i32 = 40;

/// Has the connection's thread step back, and offer its processor now and then while a statement runs: the threads that answer have
/// just used much of it, and without the first would not be due again when it is offered.
pub(super) async fn take_turns(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    on_thread_of(connection, || step_back(Share::Quarter)).await?;
    let mut turns = Turns::begin();
    connection.lock_handle().await?.set_progress_handler(STEPS, move || {
        turns.offer();
        true
    });
    Ok(())
}

/// Runs something once on the connection's thread. Only SQLite runs there: so from its progress handler.
pub(super) async fn on_thread_of(connection: &mut SqliteConnection, what: fn()) -> Result<(), sqlx::Error> {
    let mut what = Some(what);
    connection.lock_handle().await?.set_progress_handler(1, move || {
        if let Some(what) = what.take() {
            what();
        }
        true
    });
    sqlx::query("SELECT 1").execute(&mut *connection).await?;
    connection.lock_handle().await?.remove_progress_handler();
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::db::{Db, sql};

    /// The nice value of every thread of this process.
    fn nice_values() -> std::io::Result<Vec<i32>> {
        let threads = std::fs::read_dir("/proc/self/task")?;
        let stat = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok());
        // The second field is a name in parentheses; the nice value is the 19th.
        let nice = |stat: String| stat.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok();
        Ok(stat.filter_map(nice).collect())
    }

    #[tokio::test]
    async fn the_threads_of_the_database_have_a_lower_priority() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let db = Db::open_sqlite(&folder.path().join("keyward.db")).await?;
        let nicer = rustix::process::getpriority_process(None)? + Share::Quarter as i32;
        // One that writes, one that reads; those of other tests may be seen as well.
        assert!(nice_values()?.into_iter().filter(|nice| *nice == nicer).count() >= 2);
        // And they work on.
        sql("SELECT 1 AS value").one::<(i64,)>(&db).await?;
        db.begin().await?.commit().await?;
        db.close().await;
        Ok(())
    }

    #[tokio::test]
    async fn what_a_verification_reads_waits_for_no_search() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let db = Db::open_sqlite(&folder.path().join("keyward.db")).await?;
        let Db::Sqlite { readers, .. } = &db else { panic!("SQLite") };
        let mut searches = Vec::new();
        for _ in 0..readers.options().get_max_connections() {
            searches.push(readers.acquire().await?);
        }
        sql("SELECT 1 AS value").one::<(i64,)>(&db.prompt()).await?;
        drop(searches);
        db.close().await;
        Ok(())
    }
}
