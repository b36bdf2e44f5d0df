//! What ends a connection from outside. It is looked at only where the connection waits: a request that is answered at once pays for
//! nothing of it.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::connections::{Open, Patience};

enum Interrupt {
    /// The node stops.
    Stop,
    /// The connection brought nothing, or took nothing, for too long.
    Lost,
}

pub struct Interrupts<'a>(FuturesUnordered<BoxFuture<'a, Interrupt>>);

impl<'a> Interrupts<'a> {
    pub fn new(open: &'a mut Open<'_>, patience: &'a mut Patience) -> Self {
        let stopped = open.stopped().map(|()| Interrupt::Stop).boxed();
        let lost = patience.lost().map(|()| Interrupt::Lost).boxed();
        Self(FuturesUnordered::from_iter([stopped, lost]))
    }

    /// What `work` brings, unless anything ends the connection before.
    pub async fn while_resting<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            Some(_) = self.0.next() => None,
        }
    }

    /// What `work` brings, unless the connection is lost before. A node that stops lets it end.
    pub async fn unless_lost<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                Some(interrupt) = self.0.next() => match interrupt {
                    Interrupt::Stop => {}
                    Interrupt::Lost => return None,
                },
            }
        }
    }
}
