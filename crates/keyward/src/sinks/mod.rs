//! Events of the book, sent on to other systems: syslog, Splunk, Elasticsearch, Datadog, or anything that takes JSON lines.
//!
//! The book itself is what waits: each sink has a cursor in the database, and whoever holds its lease sends what stands behind it, in
//! order and at least once. Nothing here is on the way of a change, and nothing of a sink's trouble reaches one.

mod backoff;
mod batch;
mod cursor;
mod delivery;
mod formats;
mod meaning;
mod record;
mod sql;
mod transports;

use std::sync::Arc;

use futures_util::future::join_all;
use keyward_core::access::Permission;
use keyward_core::id;
use keyward_core::time::Timestamp;
use tokio::sync::watch;

use crate::audit::Audit;
use crate::config::AuditSettings;
use crate::context::Context;
use crate::error::Result;
use crate::ground::Ground;
use crate::metrics::Metrics;
use crate::proofs::Proofs;
use cursor::Cursor;
use delivery::Delivery;
use transports::Transport;

/// Everything that the settings name under `audit.sinks`. Cheap to clone.
#[derive(Clone)]
pub struct Sinks {
    deliveries: Arc<[Delivery]>,
}

/// How a sink fares.
#[derive(Debug, Clone)]
pub struct SinkHealth {
    pub name: String,
    pub kind: &'static str,
    pub format: &'static str,
    /// The sequence of the first event that it does not have.
    pub next_sequence: i64,
    /// Events of the book that wait for it.
    pub lag: i64,
    pub delivered_count: i64,
    /// Since the last success.
    pub failure_count: i64,
    /// The size of the newest checkpoint that it has.
    pub checkpoint_size: i64,
    pub succeeded_at: Option<Timestamp>,
    pub failed_at: Option<Timestamp>,
    /// What went wrong the last time that something did.
    pub error: Option<String>,
    pub retry_at: Option<Timestamp>,
}

impl Sinks {
    /// Fails where a sink can never work, such as with a file of certificates that cannot be read.
    pub(crate) fn open(
        ground: &Ground,
        audit: &Audit,
        proofs: &Proofs,
        metrics: &Metrics,
        settings: &AuditSettings,
    ) -> Result<Self> {
        let node = ground.new_id::<id::Node>();
        let log = proofs.public_key().name;
        let host = log.split('/').next().unwrap_or_default();
        let open = |settings: &crate::config::SinkSettings| {
            let meter = metrics.of_sink(&settings.name);
            Ok(Delivery {
                transport: Transport::open(settings, host, &ground.clock)?,
                cursor: Cursor { ground: ground.clone(), name: settings.name.clone(), node },
                settings: settings.clone(),
                audit: audit.clone(),
                proofs: proofs.clone(),
                log: log.clone(),
                meter,
                nudged: Default::default(),
            })
        };
        Ok(Self { deliveries: settings.sinks.iter().map(open).collect::<Result<_>>()? })
    }

    /// Delivers until it is told to stop.
    pub(crate) async fn run(self, stopped: watch::Receiver<bool>) {
        join_all(self.deliveries.iter().map(|delivery| delivery.run(stopped.clone()))).await;
    }

    /// Looks at once whether there is something to send, also to a sink that was to be left in peace after a failure.
    pub fn nudge(&self) {
        self.deliveries.iter().for_each(|delivery| delivery.nudged.notify_one());
    }

    /// How each sink fares, in the order of the settings.
    pub async fn health(&self, context: &Context) -> Result<Vec<SinkHealth>> {
        context.require_at_instance(Permission::AuditRead)?;
        let mut all = Vec::with_capacity(self.deliveries.len());
        for delivery in self.deliveries.iter() {
            all.push(delivery.health().await?);
        }
        Ok(all)
    }
}
