//! The lane beneath hyper: plain requests for the two hot routes, answered from the bytes that came to the bytes that leave
//! (`docs/decisions/0006`). At the first request that is anything else, the connection goes over to hyper for good, with every
//! byte of it unread.

mod begun;
mod head;
mod write;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use keyward::Familiar;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::app::App;
use crate::connections::{Activity, Open, Patience};
use crate::gateway::forward_auth;
use crate::hot::{self, Asked, Reply};
use crate::serve::{Peer, new_request_id};
pub use begun::Begun;
use head::{Head, Route, Step};

/// Bytes of requests that are held at most; a request beyond that is hyper's.
const MAX_HELD: usize = 8_192;
/// Room to read into.
const ROOM: usize = 2_048;
/// Answers that are gathered before they are sent, when requests come faster than they are answered.
const MAX_GATHERED: usize = 16_384;

/// Serves a connection until it ends, which is `None`, or until it brings something that is not for the lane.
pub async fn attend(
    app: &App,
    peer: Peer,
    stream: TcpStream,
    open: &mut Open<'_>,
    patience: &mut Patience,
) -> Option<Begun<TcpStream>> {
    let activity = patience.activity();
    let (resting, stopping) = (AtomicBool::new(true), AtomicBool::new(false));
    let lane = Lane { app, peer, activity: &activity, resting: &resting, stopping: &stopping };
    let mut lane = std::pin::pin!(lane.run(stream));
    // Asked only when it has something to say: a request of the lane wakes nothing else.
    let mut interrupts = FuturesUnordered::<BoxFuture<'_, Interrupt>>::new();
    interrupts.push(open.stopped().map(|()| Interrupt::Stop).boxed());
    interrupts.push(patience.lost().map(|()| Interrupt::Lost).boxed());
    loop {
        tokio::select! {
            biased;
            ended = &mut lane => {
                return ended.unwrap_or_else(|error| {
                    tracing::debug!(%error, "a connection ended badly");
                    None
                });
            }
            Some(interrupt) = interrupts.next() => match interrupt {
                Interrupt::Stop if !resting.load(Ordering::Relaxed) => stopping.store(true, Ordering::Relaxed),
                Interrupt::Stop | Interrupt::Lost => return None,
            }
        }
    }
}

/// What ends a connection from outside.
enum Interrupt {
    /// The node stops.
    Stop,
    /// The connection brought nothing for too long.
    Lost,
}

struct Lane<'a> {
    app: &'a App,
    peer: Peer,
    activity: &'a Activity,
    /// Nothing is being answered.
    resting: &'a AtomicBool,
    /// The node stops: the request that runs is the last.
    stopping: &'a AtomicBool,
}

impl Lane<'_> {
    async fn run(self, mut stream: TcpStream) -> io::Result<Option<Begun<TcpStream>>> {
        let (mut held, mut out) = (Vec::with_capacity(ROOM), Vec::with_capacity(ROOM));
        let mut kept = Kept::default();
        loop {
            self.resting.store(true, Ordering::Relaxed);
            held.reserve(ROOM);
            if self.stopping.load(Ordering::Relaxed) || stream.read_buf(&mut held).await? == 0 {
                return Ok(None);
            }
            self.resting.store(false, Ordering::Relaxed);
            let mut done = 0;
            let is_other = loop {
                let mut slots = head::slots();
                let head = match head::read(&held[done..], &mut slots) {
                    Step::Asked(head) => head,
                    Step::More => break held.len() - done >= MAX_HELD,
                    Step::Other => break true,
                };
                done += head.len;
                let is_last = self.answer(&head, &mut kept, &mut out).await;
                if is_last || out.len() > MAX_GATHERED {
                    stream.write_all(&out).await?;
                    out.clear();
                }
                if is_last {
                    return Ok(None);
                }
            };
            if !out.is_empty() {
                // Others that have come are judged first, then all answers leave together: whoever reads them is woken up once for
                // many, and each half of the work stays in the processor's caches (`docs/decisions/0006`).
                tokio::task::yield_now().await;
                stream.write_all(&out).await?;
                out.clear();
            }
            held.drain(..done);
            if is_other {
                return Ok(Some(Begun::new(held, stream)));
            }
        }
    }

    /// Appends the answer to one request; `true` when it is the last.
    async fn answer(&self, head: &Head<'_, '_>, kept: &mut Kept, out: &mut Vec<u8>) -> bool {
        self.activity.begin();
        let at = self.app.keyward.clock.now();
        let id = new_request_id(at).text();
        let (route, query) = (head.route, head.query);
        let asked =
            Asked { peer: self.peer, method: route.method(), query, fields: &head.fields, request_id: id.as_str(), at };
        let mut reply = match route {
            Route::ForwardAuth => forward_auth::answer(self.app, &asked, &mut kept.familiar).await,
            Route::Verify => {
                let body = std::future::ready(Ok(head.body));
                let told = std::mem::take(&mut kept.told);
                hot::verify::answer(self.app, &asked, &mut kept.familiar, body, told).await
            }
        };
        let closing = self.stopping.load(Ordering::Relaxed);
        let is_last = write::answer(self.app, self.peer, &mut reply, id.as_str(), at, closing, out).await;
        if let Reply::Told(mut told) = reply {
            told.clear();
            kept.told = told;
        }
        self.activity.end();
        is_last
    }
}

/// What one request leaves to the next on its connection.
#[derive(Default)]
struct Kept {
    familiar: Familiar,
    /// Room for a verdict.
    told: Vec<u8>,
}
