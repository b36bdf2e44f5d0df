//! Limits that nodes share through Redis: `exact`, one script for each decision, or `leased`, slices of the budget that
//! a node uses without a trip. While Redis does not answer, each limit goes by its own policy.

mod exact;
mod leased;
mod link;

use std::sync::Arc;

use keyward_core::limit::{Bound, Counting, Decision, Drawn};
use keyward_core::time::Clock;
use tokio::sync::watch;

use crate::announce::Board;
use crate::config::{RedisMode, RedisSettings};
use crate::error::Result;
use exact::Exact;
use leased::Leased;
use link::Link;

/// The shared budgets.
pub(crate) struct Shared {
    mode: RedisMode,
    board: Arc<Board>,
    link: Link,
    exact: Exact,
    leased: Leased,
}

/// Where Redis keeps what is counted, and by which clock.
#[derive(Clone)]
struct Budgets {
    prefix: String,
    clock: Clock,
}

/// Whether Redis answers, as a node would ask it; `None` where none is set.
pub(crate) async fn greet(settings: &RedisSettings) -> Option<Result<(), String>> {
    if settings.url.is_empty() {
        return None;
    }
    let link = match Link::new(&settings.url) {
        Ok(link) => link,
        Err(error) => return Some(Err(error.detail)),
    };
    Some(link.connect().await.map(drop).map_err(|error| error.to_string()))
}

impl Shared {
    pub(crate) fn new(settings: &RedisSettings, clock: Clock, board: Arc<Board>) -> Result<Option<Self>> {
        if settings.url.is_empty() {
            return Ok(None);
        }
        let budgets = Budgets { prefix: settings.prefix.clone(), clock };
        Ok(Some(Self {
            mode: settings.mode,
            board,
            link: Link::new(&settings.url)?,
            exact: Exact::new(budgets.clone()),
            leased: Leased::new(budgets),
        }))
    }

    /// How this node counts at this moment; `None`: each decision is Redis's.
    pub(crate) fn counting(&self) -> Option<Counting> {
        if self.link.connection().is_none() {
            return Some(Counting::Unreachable { share: self.board.live_nodes() });
        }
        (self.mode == RedisMode::Leased).then_some(Counting::Leased)
    }

    pub(crate) fn states(&self) -> watch::Receiver<bool> {
        self.link.states()
    }

    /// Keeps the connection and fetches the slices that are waited for. Never returns.
    pub(crate) async fn run(&self) {
        tokio::join!(self.link.keep(), self.leased.run(&self.link), self.exact.run(&self.link));
    }

    /// Decides about all limits of a call in one atomic script. `None` when Redis did not answer.
    pub(crate) async fn decide(&self, drawn: &[Drawn<'_>], dry_run: bool) -> Option<Decision> {
        self.link.connection()?;
        self.exact.decide(drawn, dry_run).await
    }

    /// Waits until new slices of these limits are there, or Redis is gone.
    pub(crate) async fn fetch_slices(&self, wanting: impl Iterator<Item = (Bound, u64)>) {
        self.leased.fetch(wanting).await;
    }
}

impl Budgets {
    /// The two names of a limit: its marks, and their costs.
    fn names(&self, bound: &Bound) -> [String; 2] {
        ["marks", "costs"].map(|part| format!("{}:{{{:032x}}}:{part}", self.prefix, bound.counter.id))
    }

    /// Redis's own clock counts, so that nodes need not agree on the time; a clock that was set by hand is followed.
    fn shift(&self) -> i64 {
        match &self.clock {
            Clock::System => 0,
            clock @ Clock::Manual(_) => clock.now().as_micros() - Clock::System.now().as_micros(),
        }
    }
}
