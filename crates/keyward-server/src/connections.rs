//! The open connections of this node: counted, told when the node stops, and closed when they bring nothing for long. What is
//! answered on them is decided elsewhere.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::http1::UpgradeableConnection;
use hyper::service::Service;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, interval_at};

use crate::serve::Body;

/// Shared by everything that holds a connection.
#[derive(Debug)]
pub struct Connections {
    stop: watch::Sender<bool>,
    http: AtomicU64,
    sockets: AtomicU64,
    /// WebSockets since the node started.
    pub sockets_opened: AtomicU64,
    /// Messages to WebSockets since the node started.
    pub messages_sent: AtomicU64,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            stop: watch::Sender::new(false),
            http: AtomicU64::new(0),
            sockets: AtomicU64::new(0),
            sockets_opened: AtomicU64::new(0),
            messages_sent: AtomicU64::new(0),
        }
    }
}

/// One open connection; dropped, it no longer counts.
pub struct Open<'a> {
    count: &'a AtomicU64,
    stopped: watch::Receiver<bool>,
}

impl Connections {
    pub fn open_http(&self) -> Open<'_> {
        self.open(&self.http)
    }

    pub fn open_socket(&self) -> Open<'_> {
        self.sockets_opened.fetch_add(1, Ordering::Relaxed);
        self.open(&self.sockets)
    }

    fn open<'a>(&'a self, count: &'a AtomicU64) -> Open<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        Open { count, stopped: self.stop.subscribe() }
    }

    pub fn http_count(&self) -> u64 {
        self.http.load(Ordering::Relaxed)
    }

    pub fn socket_count(&self) -> u64 {
        self.sockets.load(Ordering::Relaxed)
    }

    /// Tells every connection to end, and returns when all have.
    pub async fn end_all(&self) {
        self.stop.send_replace(true);
        self.stop.closed().await;
    }
}

/// Tells whether the node stops, to whoever does not wait for it.
pub struct Stopping(watch::Receiver<bool>);

impl Stopping {
    pub fn is_on(&self) -> bool {
        // The only thing that is ever said; to see whether it was takes no lock.
        self.0.has_changed().unwrap_or(true)
    }
}

impl Open<'_> {
    pub fn stopping(&self) -> Stopping {
        let mut stopped = self.stopped.clone();
        if *stopped.borrow() {
            // It was said before this connection began.
            stopped.mark_changed();
        }
        Stopping(stopped)
    }

    /// Returns when the node stops.
    pub async fn stopped(&mut self) {
        if self.stopped.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a connection has done: one timer for it all costs less than one for each request's head.
#[derive(Default)]
pub struct Activity {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Activity {
    pub fn begin(&self) {
        one_more(&self.begun);
    }

    pub fn end(&self) {
        one_more(&self.ended);
    }

    /// Requests so far, when none is running.
    fn at_rest(&self) -> Option<u64> {
        let ended = self.ended.load(Ordering::Relaxed);
        (self.begun.load(Ordering::Relaxed) == ended).then_some(ended)
    }
}

/// Only the connection itself counts, so nothing is lost between the two.
fn one_more(count: &AtomicU64) {
    count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// How long a connection is borne with that brings nothing.
pub struct Patience {
    activity: Arc<Activity>,
    timer: Interval,
    seen: Option<u64>,
}

impl Patience {
    pub fn new(timeout: Duration) -> Self {
        Self { activity: Arc::default(), timer: interval_at(Instant::now() + timeout, timeout), seen: Some(0) }
    }

    pub fn activity(&self) -> Arc<Activity> {
        self.activity.clone()
    }

    /// Returns when for a whole time no complete head of a request came and none was answered.
    pub async fn lost(&mut self) {
        loop {
            self.timer.tick().await;
            let now = self.activity.at_rest();
            if now.is_some() && now == self.seen {
                return;
            }
            self.seen = now;
        }
    }
}

/// Runs a connection to its end, or to that of its present request when the node stops, or to that of the patience with it.
pub async fn keep<I, S>(mut open: Open<'_>, connection: UpgradeableConnection<I, S>, mut patience: Patience)
where
    I: Read + Write + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
{
    let mut stopping = false;
    let mut connection = std::pin::pin!(connection);
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended badly");
                }
                return;
            }
            () = open.stopped(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = patience.lost() => return,
        }
    }
}
