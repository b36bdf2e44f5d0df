//! SQLite's thread among others on few processors: what is written behind takes milliseconds, and a scheduler lets a thread that has
//! begun go on for one or more of them although a request has come. So it offers its processor to whoever waits for one.

use std::time::{Duration, Instant};

use sqlx::SqliteConnection;

/// Steps of SQLite's machine after which it looks at the time: some tens of microseconds, where they put rows into indexes.
const STEPS: i32 = 40;
/// How long it works before it offers the processor. Where requests fill the only one, it still has a fifth of it; with a quarter of
/// this, a seventeenth, and changes wait accordingly (`docs/decisions/0019`).
const TURN: Duration = Duration::from_micros(200);

/// Has the connection's thread offer its processor now and then while a statement runs.
pub(super) async fn take_turns(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let mut began = Instant::now();
    connection.lock_handle().await?.set_progress_handler(STEPS, move || {
        if began.elapsed() >= TURN {
            std::thread::yield_now();
            began = Instant::now();
        }
        true
    });
    Ok(())
}
