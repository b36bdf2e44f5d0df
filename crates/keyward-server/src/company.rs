//! Whether requests come one by one or many at a time. Many are better answered in step: what each waits for, the others' work hides
//! (`docs/decisions/0006`). One alone would only go through the runtime's loop for nothing.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;

/// Turns that are not offered once nobody took one.
const SPARED: u32 = 8;

/// What a thread has seen.
#[derive(Clone, Copy)]
struct Seen {
    /// Turns that were offered on it, or spared, and returns from those that were offered.
    steps: u64,
    /// Turns that need not be offered.
    spared: u32,
}

thread_local! {
    static SEEN: Cell<Seen> = const { Cell::new(Seen { steps: 0, spared: 0 }) };
}

/// Lets others have their turn first that have a request waiting too, unless there was nobody a moment ago.
pub async fn others_first() {
    let Seen { steps, spared } = SEEN.get();
    let steps = steps.wrapping_add(1);
    SEEN.set(Seen { steps, spared: spared.saturating_sub(1) });
    if spared > 0 {
        return;
    }
    turn().await;
    // On another thread now, that thread's steps are taken for company: only a turn more is offered.
    let Seen { steps: since, spared } = SEEN.get();
    let spared = if since == steps { SPARED } else { spared };
    SEEN.set(Seen { steps: since.wrapping_add(1), spared });
}

/// Returns when everything else had its turn that is ready to run on this thread. `tokio::task::yield_now` would also have the
/// runtime ask the kernel for events each time.
async fn turn() {
    let mut given = false;
    poll_fn(|context| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn who_is_alone_is_asked_now_and_then() {
        others_first().await;
        for _ in 0..SPARED {
            assert!(others_first().now_or_never().is_some(), "nobody was there");
        }
        assert!(others_first().now_or_never().is_none());
    }

    #[tokio::test]
    async fn in_company_each_waits_for_the_others() {
        for _ in 0..3 {
            tokio::join!(others_first(), others_first(), others_first());
        }
        assert!(others_first().now_or_never().is_none());
    }
}
