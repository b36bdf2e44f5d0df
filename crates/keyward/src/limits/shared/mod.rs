//! Limits that nodes share through Redis: `exact`, one script for each decision, or `leased`, slices of the budget that
//! a node uses without a trip. While Redis does not answer, each limit goes by its own policy.

mod exact;
mod link;

use std::collections::HashMap;
use std::sync::Arc;

use keyward_core::limit::{Bound, Counting, Decision, Drawn, Grant, Lease, MAX_COUNT, grain};
use keyward_core::time::Clock;
use redis::{RedisError, Script};
use tokio::sync::{mpsc, oneshot, watch};

use crate::announce::Board;
use crate::config::{RedisMode, RedisSettings};
use crate::error::Result;
use exact::Exact;
use link::Link;

/// Slices that are asked for in one trip.
const MAX_BATCH: usize = 128;

/// The shared budgets.
pub(crate) struct Shared {
    mode: RedisMode,
    prefix: String,
    clock: Clock,
    board: Arc<Board>,
    link: Link,
    exact: Exact,
    lease: Script,
    wanted: mpsc::UnboundedSender<Wanted>,
    asked: tokio::sync::Mutex<mpsc::UnboundedReceiver<Wanted>>,
}

/// A call that waits for a slice.
struct Wanted {
    bound: Bound,
    cost: u64,
    done: oneshot::Sender<()>,
}

/// The calls that wait for a slice of one limit.
struct Queue {
    bound: Bound,
    /// What the smallest of them costs, and all together.
    least: u64,
    sum: u64,
    waiting: Vec<oneshot::Sender<()>>,
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
        let (wanted, asked) = mpsc::unbounded_channel();
        Ok(Some(Self {
            mode: settings.mode,
            prefix: settings.prefix.clone(),
            clock,
            board,
            link: Link::new(&settings.url)?,
            exact: Exact::new(),
            lease: Script::new(include_str!("lease.lua")),
            wanted,
            asked: tokio::sync::Mutex::new(asked),
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
        tokio::join!(self.link.keep(), self.fetch(), self.exact.run(&self.link));
    }

    /// Decides about all limits of a call in one atomic script. `None` when Redis did not answer.
    pub(crate) async fn decide(&self, drawn: &[Drawn<'_>], dry_run: bool) -> Option<Decision> {
        self.link.connection()?;
        let names: Vec<[String; 2]> = drawn.iter().map(|drawn| self.names(drawn.bound)).collect();
        let answer = self.exact.ask(&names, self.shift(), drawn, dry_run).await?;
        Some(exact::read(drawn, &answer, dry_run))
    }

    /// Waits until new slices of these limits are there, or Redis is gone.
    pub(crate) async fn fetch_slices(&self, wanting: impl Iterator<Item = (Bound, u64)>) {
        let mut waiting = Vec::new();
        for (bound, cost) in wanting {
            let (done, fetched) = oneshot::channel();
            // Both ends live as long as this.
            let _ = self.wanted.send(Wanted { bound, cost, done });
            waiting.push(fetched);
        }
        for fetched in waiting {
            let _ = fetched.await;
        }
    }

    /// Takes the slices that calls wait for, many in one trip.
    async fn fetch(&self) {
        let mut asked = self.asked.lock().await;
        let mut batch = Vec::new();
        while asked.recv_many(&mut batch, MAX_BATCH).await > 0 {
            // Of several calls that wait for one limit, one asks for all.
            let mut queues: HashMap<u128, Queue> = HashMap::new();
            for Wanted { bound, cost, done } in batch.drain(..) {
                let new = || Queue { bound: bound.clone(), least: cost, sum: 0, waiting: Vec::new() };
                let queue = queues.entry(bound.counter.id).or_insert_with(new);
                queue.least = queue.least.min(cost);
                queue.sum = queue.sum.saturating_add(cost).min(MAX_COUNT);
                queue.waiting.push(done);
            }
            // What the trip before brought may be enough for these as well.
            let now = self.clock.now();
            let (served, queues): (Vec<Queue>, Vec<Queue>) =
                queues.into_values().partition(|queue| queue.bound.counter.lock().lease.has(queue.sum, now));
            if !queues.is_empty()
                && let Err(error) = self.take_slices(&queues).await
            {
                self.link.lose(&error);
                queues.iter().for_each(|queue| queue.bound.counter.lock().lease.give_up());
            }
            served.into_iter().chain(queues).flat_map(|queue| queue.waiting).for_each(|done| {
                let _ = done.send(());
            });
        }
    }

    async fn take_slices(&self, queues: &[Queue]) -> Result<(), RedisError> {
        // Whoever waits finds out by itself that Redis is gone.
        let Some(mut connection) = self.link.connection() else { return Ok(()) };
        let mut call = self.lease.prepare_invoke();
        call.arg(self.shift());
        // Taken before the trip: the slice ends here no later than the shared window thinks.
        let asked_at = self.clock.now().as_micros();
        for Queue { bound, least, sum, .. } in queues {
            let (rule, window) = (&bound.rule, bound.rule.window_micros());
            let settled = bound.counter.lock().lease.settle();
            let [marks, costs] = self.names(bound);
            call.key(marks).key(costs).arg(window).arg(grain(rule.limit, window)).arg(rule.ceiling());
            call.arg(Lease::slice(rule, *sum)).arg(*least).arg(Lease::life(rule));
            call.arg(settled.at).arg(settled.granted).arg(settled.unused);
        }
        let answer: Vec<i64> = call.invoke_async(&mut connection).await?;
        for (Queue { bound, .. }, numbers) in queues.iter().zip(answer.chunks_exact(4)) {
            let count = |number: i64| u64::try_from(number).unwrap_or(0);
            let grant = Grant { granted: count(numbers[0]), at: numbers[1], left: count(numbers[2]), wait: numbers[3] };
            bound.counter.lock().lease.receive(grant, asked_at, Lease::life(&bound.rule));
        }
        Ok(())
    }

    /// Where Redis keeps what was counted of a limit: marks and costs.
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
