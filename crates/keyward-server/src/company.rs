//! Whether requests come one by one or many at a time. Many are better answered in step: what each waits for, the others' work hides
//! (`docs/decisions/0006`). One alone would only go through the runtime's loop for nothing.

use std::cell::Cell;

/// Turns that are not offered once nobody took one.
const ALONE: u32 = 8;

/// What a thread has seen.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// Turns that were offered on it, or would have been.
    turns: u64,
    /// Turns that need not be offered.
    spared: u32,
}

thread_local! {
    static SEEN: Cell<Seen> = const { Cell::new(Seen { turns: 0, spared: 0 }) };
}

/// Lets others have their turn first that have a request waiting too, unless there was nobody a moment ago.
pub async fn others_first() {
    let Seen { turns, spared } = SEEN.get();
    let turns = turns.wrapping_add(1);
    if spared > 0 {
        SEEN.set(Seen { turns, spared: spared - 1 });
        return;
    }
    SEEN.set(Seen { turns, spared });
    tokio::task::yield_now().await;
    // On another thread now, it is taken for company; that is only a guess more.
    let after = SEEN.get();
    if after.turns == turns {
        SEEN.set(Seen { spared: ALONE, ..after });
    }
}
