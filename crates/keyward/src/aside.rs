//! Threads that give way. Among equals the kernel lets whoever computes go on for milliseconds before somebody who has just woken has
//! their turn, and with every core busy each verify would wait that long. A thread can step back but, without rights, never forward
//! again: so what takes long has threads of its own, and not the runtime's blocking ones.

use std::time::{Duration, Instant};

use keyward_core::problem::Code;
use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// How long a thread works before it offers the processor.
const TURN: Duration = Duration::from_micros(200);
/// Whoever takes longer than this has no request to answer, but work that fills the processor.
const LONG: Duration = Duration::from_millis(3);
/// Turns that are not offered then: the scheduler shares the processor out, and the work goes on (`docs/decisions/0019`).
const SPARED: u32 = 20;

/// How far a thread steps back: the number to add to its nice value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Share {
    /// A quarter of a core that one other wants as well.
    Quarter = 5,
    /// A tenth of it.
    Tenth = 10,
}

/// For this thread alone, and for good. Where the system does not let it, it works as before.
pub(crate) fn step_back(to: Share) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(to as i32) {
        tracing::warn!(%error, ?to, "a thread works as if nothing were more urgent");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = to;
}

/// The turns of a thread that has stepped back and works for long: even so a scheduler lets it go on for one or more milliseconds
/// although a request has come.
pub(crate) struct Turns {
    began: Instant,
    spared: u32,
}

impl Turns {
    pub fn begin() -> Self {
        Self { began: Instant::now(), spared: 0 }
    }

    /// Between two steps of some tens of microseconds: offers the processor to whoever waits for one, if this turn was long enough.
    pub fn offer(&mut self) {
        let now = Instant::now();
        if now - self.began < TURN {
            return;
        }
        self.began = now;
        if self.spared > 0 {
            self.spared -= 1;
            return;
        }
        std::thread::yield_now();
        self.began = Instant::now();
        self.spared = if self.began - now > LONG { SPARED } else { 0 };
    }
}

/// Computes on a thread of its own, which is worth it from some milliseconds on. Whoever drops this has it computed all the same.
pub(crate) async fn compute<T: Send + 'static>(share: Share, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (answer, answered) = oneshot::channel();
    let thread = std::thread::Builder::new().name("aside".to_owned()).spawn(move || {
        step_back(share);
        // Whoever has gone away meanwhile needs no answer.
        let _ = answer.send(work());
    });
    let internal = || Error::new(Code::Internal, Code::Internal.meaning());
    thread.map_err(|error| internal().with_source(error))?;
    answered.await.map_err(|_| internal().with_source("a computation came to nothing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_computed_aside_is_answered_and_what_goes_wrong_is_told() {
        assert_eq!(compute(Share::Quarter, || 7).await.ok(), Some(7));
        let wrong = compute(Share::Tenth, || panic!("on purpose")).await;
        assert!(wrong.is_err_and(|error: Error| error.code == Code::Internal));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn only_the_thread_that_computes_steps_back() -> rustix::io::Result<()> {
        use rustix::process::getpriority_process;
        let ours = getpriority_process(None)?;
        for share in [Share::Quarter, Share::Tenth] {
            let theirs = compute(share, || getpriority_process(None).ok()).await.ok().flatten();
            assert_eq!(theirs, Some((ours + share as i32).min(19)));
        }
        assert_eq!(getpriority_process(None), Ok(ours));
        Ok(())
    }
}
