//! The open connections of this node: counted, and told when the node stops.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

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

impl Open<'_> {
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
