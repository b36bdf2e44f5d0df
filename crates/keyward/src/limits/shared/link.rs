//! The connection to Redis: made and made again beside the requests. No request waits for a Redis that is gone: after
//! the first failure all go by their limits' policies until a new connection answers.

use std::sync::Mutex;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisError};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::error::{Error, Result};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two tries to connect, and between two looks at an idle connection.
const RETRY: Duration = Duration::from_millis(200);

pub(super) struct Link {
    client: Client,
    connection: Mutex<Option<MultiplexedConnection>>,
    lost: Notify,
    /// Whether Redis answers, for whoever writes down that it does not.
    state: watch::Sender<bool>,
}

impl Link {
    pub(super) fn new(url: &str) -> Result<Self> {
        let unusable = |error: RedisError| Error::field("/redis/url", "is not a Redis address").with_source(error);
        let address = url.into_connection_info().map_err(unusable)?;
        let address = address.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = Client::open(address).map_err(unusable)?;
        Ok(Self { client, connection: Mutex::default(), lost: Notify::new(), state: watch::Sender::new(false) })
    }

    /// The connection, if Redis answered last.
    pub(super) fn connection(&self) -> Option<MultiplexedConnection> {
        self.connection.lock().expect("no one panics while looking").clone()
    }

    /// Redis did not answer: nobody asks it until it does again.
    pub(super) fn lose(&self, error: &RedisError) {
        if self.connection.lock().expect("no one panics while losing").take().is_some() {
            tracing::warn!(%error, "Redis does not answer; limits go by their policies");
            self.state.send_replace(false);
            self.lost.notify_one();
        }
    }

    pub(super) fn states(&self) -> watch::Receiver<bool> {
        self.state.subscribe()
    }

    /// Connects, and connects again whenever the connection is lost. Never returns.
    pub(super) async fn keep(&self) {
        loop {
            match self.connect().await {
                Ok(connection) => {
                    *self.connection.lock().expect("no one panics while connecting") = Some(connection);
                    self.state.send_replace(true);
                    self.watch().await;
                }
                Err(error) => {
                    tracing::debug!(%error, "Redis cannot be reached");
                    sleep(RETRY).await;
                }
            }
        }
    }

    pub(super) async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        redis::cmd("PING").exec_async(&mut connection).await?;
        Ok(connection)
    }

    /// Returns when the connection is lost; an idle one is asked now and then.
    async fn watch(&self) {
        while let Some(mut connection) = self.connection() {
            tokio::select! {
                () = self.lost.notified() => return,
                () = sleep(RETRY) => {}
            }
            if let Err(error) = redis::cmd("PING").exec_async(&mut connection).await {
                self.lose(&error);
            }
        }
    }
}
