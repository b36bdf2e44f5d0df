//! Where passwords are hashed: on threads of their own, as many as may hash at the same time, which give way to everything else.
//!
//! A hash takes some twenty milliseconds and a verify a few microseconds. Among equals the kernel lets whoever computes go on for
//! milliseconds before somebody who has just woken has their turn, so with every core busy hashing each verify would wait that
//! long. A thread can step back but, without rights, never forward again: hence not the runtime's own blocking threads. Where a core
//! is free nobody is slower for it; where none is, verifies go first and those who sign in wait.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use keyward_core::problem::Code;
use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// How far the threads step back: of a busy core, such a one gets about a tenth beside the others.
#[cfg(target_os = "linux")]
const NICER: i32 = 10;

type Work = Box<dyn FnOnce() + Send>;

/// Threads that hash, and a bounded number of those who wait for one.
pub(super) struct Hashing {
    work: Sender<Work>,
    waiting: Arc<AtomicUsize>,
    most_waiting: usize,
}

impl Hashing {
    /// The threads end when this is dropped.
    pub fn start(threads: usize, most_waiting: usize) -> Self {
        let (work, given) = channel();
        let given = Arc::new(Mutex::new(given));
        for _ in 0..threads.max(1) {
            let given = given.clone();
            let thread = std::thread::Builder::new().name("hashing".to_owned());
            thread.spawn(move || work_off(&given)).expect("the operating system gives a thread");
        }
        Self { work, waiting: Arc::default(), most_waiting: most_waiting.max(1) }
    }

    /// Runs when its turn has come; refuses when too many wait.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let place = Place::take(&self.waiting, self.most_waiting)
            .ok_or_else(|| Error::new(Code::Overloaded, "Too many people are signing in at once."))?;
        let (answer, answered) = oneshot::channel();
        let work = move || {
            drop(place);
            // Whoever has gone away meanwhile needs no answer.
            if !answer.is_closed() {
                let _ = answer.send(work());
            }
        };
        let internal = |error: &str| Error::new(Code::Internal, Code::Internal.meaning()).with_source(error.to_owned());
        self.work.send(Box::new(work)).map_err(|_| internal("no thread hashes any more"))?;
        answered.await.map_err(|_| internal("a hash came to nothing"))
    }
}

fn work_off(given: &Mutex<Receiver<Work>>) {
    #[cfg(target_os = "linux")]
    if let Err(error) = step_back() {
        tracing::warn!(%error, "passwords are hashed as if nothing were more urgent");
    }
    loop {
        let next = given.lock().expect("no one panics while waiting for work").recv();
        let Ok(work) = next else { return };
        // The thread outlives a hash that goes wrong; whoever waits for it is told.
        let _ = catch_unwind(AssertUnwindSafe(work));
    }
}

/// For this thread alone.
#[cfg(target_os = "linux")]
fn step_back() -> rustix::io::Result<()> {
    use rustix::process::{getpriority_process, setpriority_process};
    setpriority_process(None, getpriority_process(None)? + NICER)
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
        assert!(hashing.run(|| panic!("on purpose")).await.is_err_and(|error| error.code == Code::Internal));
        assert_eq!(hashing.run(|| 7).await.ok(), Some(7));
        #[cfg(target_os = "linux")]
        {
            use rustix::process::getpriority_process;
            let ours = getpriority_process(None).unwrap();
            let theirs = hashing.run(|| getpriority_process(None).ok()).await.ok().flatten();
            assert_eq!(theirs, Some((ours + NICER).min(19)));
            assert_eq!(getpriority_process(None), Ok(ours), "nobody else steps back");
        }
    }
}
