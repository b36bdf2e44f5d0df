//! Where passwords are hashed: on threads of their own, as many as may hash at the same time, which give way to everything else.
//! Where a core is free nobody is slower for it; where none is, verifies go first and those who sign in wait.
//!
//! A thread keeps the memory of its last hash for the next, as long as people sign in: to be given 19 MiB anew each time, and the
//! system to clear them, takes up to a fifth of the hash.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use argon2::Block;
use flume::{Receiver, RecvTimeoutError, Sender, unbounded};
use keyward_core::problem::Code;
use tokio::sync::oneshot;

use crate::aside::{Share, step_back};
use crate::error::{Error, Result};

/// How long a thread without work keeps its memory.
const KEPT: Duration = Duration::from_secs(1);

/// The memory that a thread hashes in.
pub(super) type Memory = Vec<Block>;

type Work = Box<dyn FnOnce(&mut Memory) + Send>;

/// Threads that hash, and a bounded number of those who wait for one.
pub(super) struct Hashing {
    work: Sender<Work>,
    waiting: Arc<AtomicUsize>,
    most_waiting: usize,
}

impl Hashing {
    /// At most so many threads, and no more than there are cores: hashes that share one push each other's memory out of its cache,
    /// and together keep whoever wakes up beside them waiting for longer. They end when this is dropped.
    pub fn start(most_threads: usize, most_waiting: usize) -> Self {
        let (work, given) = unbounded();
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        for _ in 0..most_threads.clamp(1, cores) {
            let given = given.clone();
            let thread = std::thread::Builder::new().name("hashing".to_owned());
            thread.spawn(move || work_off(&given)).expect("the operating system gives a thread");
        }
        Self { work, waiting: Arc::default(), most_waiting: most_waiting.max(1) }
    }

    /// Runs when its turn has come; refuses when too many wait.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce(&mut Memory) -> T + Send + 'static) -> Result<T> {
        let place = Place::take(&self.waiting, self.most_waiting)
            .ok_or_else(|| Error::new(Code::Overloaded, "Too many people are signing in at once."))?;
        let (answer, answered) = oneshot::channel();
        let work = move |memory: &mut Memory| {
            drop(place);
            // Whoever has gone away meanwhile needs no answer.
            if !answer.is_closed() {
                let _ = answer.send(work(memory));
            }
        };
        let internal = |error: &str| Error::new(Code::Internal, Code::Internal.meaning()).with_source(error.to_owned());
        self.work.send(Box::new(work)).map_err(|_| internal("no thread hashes any more"))?;
        answered.await.map_err(|_| internal("a hash came to nothing"))
    }
}

fn work_off(given: &Receiver<Work>) {
    step_back(Share::Tenth);
    let mut memory = Memory::new();
    loop {
        let next = given.recv_timeout(KEPT).or_else(|nothing| match nothing {
            RecvTimeoutError::Timeout => {
                memory = Memory::new();
                given.recv().ok().ok_or(nothing)
            }
            RecvTimeoutError::Disconnected => Err(nothing),
        });
        let Ok(work) = next else { return };
        // The thread outlives a hash that goes wrong; whoever waits for it is told.
        let _ = catch_unwind(AssertUnwindSafe(|| work(&mut memory)));
    }
}

/// A place among those who wait for a thread.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(waiting: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let place = Self(waiting.clone());
        (waiting.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_outlives_what_goes_wrong_and_steps_back() {
        let hashing = Hashing::start(1, 1);
        assert!(hashing.run(|_| panic!("on purpose")).await.is_err_and(|error| error.code == Code::Internal));
        assert_eq!(hashing.run(|_| 7).await.ok(), Some(7));
        #[cfg(target_os = "linux")]
        {
            use rustix::process::getpriority_process;
            let ours = getpriority_process(None).unwrap();
            let theirs = hashing.run(|_| getpriority_process(None).ok()).await.ok().flatten();
            assert_eq!(theirs, Some((ours + Share::Tenth as i32).min(19)));
        }
    }
}
