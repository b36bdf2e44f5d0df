//! The lane beneath hyper: plain requests for the two hot routes, answered from the bytes that came to the bytes that leave
//! (`docs/decisions/0006`). At the first request that is anything else, the connection goes over to hyper for good, with every
//! byte of it unread.

mod begun;
mod head;
mod interrupts;
mod socket;
mod write;

use std::io;

use keyward::Familiar;
use keyward_core::verdict::Verdict;
use tokio::net::TcpStream;

use crate::app::App;
use crate::company::others_first;
use crate::connections::{Activity, Open, Patience, Stopping};
use crate::gateway::forward_auth;
use crate::hot::{self, Asked, Reply};
use crate::serve::{Peer, new_request_id};
pub use begun::Begun;
use head::{Head, Route, Step};
use interrupts::Interrupts;
use socket::Socket;

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
    let (activity, stopping) = (patience.activity(), open.stopping());
    let interrupts = Interrupts::new(open, patience);
    let lane = Lane { app, peer, activity: &activity, stopping };
    lane.run(stream, interrupts).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "a connection ended badly");
        None
    })
}

struct Lane<'a> {
    app: &'a App,
    peer: Peer,
    activity: &'a Activity,
    /// When the node stops, the request that runs is the last.
    stopping: Stopping,
}

impl Lane<'_> {
    async fn run(self, stream: TcpStream, mut interrupts: Interrupts<'_>) -> io::Result<Option<Begun<TcpStream>>> {
        let (mut held, mut out) = (Vec::with_capacity(ROOM), Vec::with_capacity(ROOM));
        let (socket, mut kept) = (Socket(stream), Kept::default());
        loop {
            held.reserve(ROOM);
            if self.stopping.is_on() {
                return Ok(None);
            }
            match interrupts.while_resting(socket.read(&mut held)).await.transpose()? {
                None | Some(0) => return Ok(None),
                Some(_) => {}
            }
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
                    let sent = send(&socket, &mut out, &mut interrupts).await?;
                    if is_last || !sent {
                        return Ok(None);
                    }
                }
            };
            if !out.is_empty() {
                // Others that have come are judged first, then all answers leave together: whoever reads them is woken up once for
                // many, and each half of the work stays in the processor's caches (`docs/decisions/0006`).
                others_first().await;
                if !send(&socket, &mut out, &mut interrupts).await? {
                    return Ok(None);
                }
            }
            held.drain(..done);
            if is_other {
                return Ok(Some(Begun::new(held, socket.0)));
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
            Route::ForwardAuth => forward_auth::answer(self.app, &asked, &mut kept.familiar, &mut kept.verdict).await,
            Route::Verify => {
                let body = std::future::ready(Ok(head.body));
                let told = std::mem::take(&mut kept.told);
                hot::verify::answer(self.app, &asked, &mut kept.familiar, body, told).await
            }
        };
        let closing = self.stopping.is_on();
        let is_last = write::answer(self.app, self.peer, &mut reply, id.as_str(), at, closing, out).await;
        if let Reply::Told(mut told) = reply {
            told.clear();
            kept.told = told;
        }
        kept.verdict.clear();
        self.activity.end();
        is_last
    }
}

/// Sends the answers that were gathered; false where nobody reads them for too long.
async fn send(socket: &Socket, out: &mut Vec<u8>, interrupts: &mut Interrupts<'_>) -> io::Result<bool> {
    let sent = interrupts.unless_lost(socket.write(out)).await;
    out.clear();
    sent.transpose().map(|sent| sent.is_some())
}

/// What one request leaves to the next on its connection.
#[derive(Default)]
struct Kept {
    familiar: Familiar,
    /// Room for a verdict, and for its text.
    verdict: Verdict,
    told: Vec<u8>,
}
