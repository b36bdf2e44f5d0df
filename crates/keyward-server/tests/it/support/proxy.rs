//! A TCP proxy that the tests can cut: between a node and its PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What of the traffic passes.
#[derive(Default)]
struct Switch {
    /// Nothing passes; open connections end, new ones are refused.
    cut: AtomicBool,
    /// Connections that have said LISTEN are ended; the others go on.
    deaf: AtomicBool,
    /// Nothing passes, and nobody is told: connections stay open.
    stalled: AtomicBool,
    changed: Notify,
}

pub struct Proxy {
    pub port: u16,
    switch: Arc<Switch>,
}

impl Proxy {
    /// Stands before the server at `port`.
    pub async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own_port = listener.local_addr().expect("an address").port();
        let switch = Arc::new(Switch::default());
        let shared = switch.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !shared.cut.load(Ordering::SeqCst) {
                    tokio::spawn(pass(client, port, shared.clone()));
                }
            }
        });
        Self { port: own_port, switch }
    }

    /// Ends every connection and lets none in.
    pub fn cut(&self) {
        self.switch.cut.store(true, Ordering::SeqCst);
        self.switch.changed.notify_waiters();
    }

    /// Lets connections in again.
    pub fn mend(&self) {
        self.switch.cut.store(false, Ordering::SeqCst);
    }

    /// Lets nothing pass any more, on connections that stay open.
    pub fn stall(&self) {
        self.switch.stalled.store(true, Ordering::SeqCst);
        self.switch.changed.notify_waiters();
    }

    /// Ends the connections that listen for notifications, now and from now on.
    pub fn deafen(&self) {
        self.switch.deaf.store(true, Ordering::SeqCst);
        self.switch.changed.notify_waiters();
    }
}

async fn pass(mut client: TcpStream, port: u16, switch: Arc<Switch>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (mut from_client, mut from_server) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut listens = false;
    loop {
        let changed = switch.changed.notified();
        if switch.cut.load(Ordering::SeqCst) || listens && switch.deaf.load(Ordering::SeqCst) {
            return;
        }
        if switch.stalled.load(Ordering::SeqCst) {
            changed.await;
            continue;
        }
        let passed = tokio::select! {
            read = client.read(&mut from_client) => match read {
                Ok(count @ 1..) => {
                    listens |= from_client[..count].windows(6).any(|word| word == b"LISTEN");
                    server.write_all(&from_client[..count]).await
                }
                _ => return,
            },
            read = server.read(&mut from_server) => match read {
                Ok(count @ 1..) => client.write_all(&from_server[..count]).await,
                _ => return,
            },
            () = changed => Ok(()),
        };
        if passed.is_err() {
            return;
        }
    }
}
