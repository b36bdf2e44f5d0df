//! Slices of the budgets: asked for when a call finds none, many limits in one trip. A few trips may be under way, never two for one
//! limit, so that a slice is settled once.

use std::collections::HashMap;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use keyward_core::limit::{Bound, Grant, Lease, MAX_COUNT, grain};
use redis::{RedisError, Script};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::Budgets;
use super::link::Link;

/// Slices that are asked for in one trip.
const MAX_BATCH: usize = 128;
/// Trips that are under way at a time: what comes meanwhile gathers for the next, which is cheaper than many small ones.
const MAX_TRIPS: usize = 2;

pub(super) struct Leased {
    budgets: Budgets,
    script: Script,
    wanted: mpsc::UnboundedSender<Wanted>,
    asked: Mutex<mpsc::UnboundedReceiver<Wanted>>,
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

/// By limit, who came while a trip for it was under way.
type UnderWay = HashMap<u128, Vec<Wanted>>;

impl Leased {
    pub(super) fn new(budgets: Budgets) -> Self {
        let (wanted, asked) = mpsc::unbounded_channel();
        Self { budgets, script: Script::new(include_str!("lease.lua")), wanted, asked: Mutex::new(asked) }
    }

    /// Waits until new slices of these limits are there, or Redis is gone.
    pub(super) async fn fetch(&self, wanting: impl Iterator<Item = (Bound, u64)>) {
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

    /// Takes the slices that calls wait for. Never returns.
    pub(super) async fn run(&self, link: &Link) {
        let mut asked = self.asked.lock().await;
        let (mut batch, mut under_way, mut trips) = (Vec::new(), UnderWay::new(), FuturesUnordered::new());
        loop {
            tokio::select! {
                _ = asked.recv_many(&mut batch, MAX_BATCH), if trips.len() < MAX_TRIPS => {}
                Some(limits) = trips.next() => batch.extend(returned(limits, &mut under_way)),
            }
            let queues = self.gather(&mut batch, &mut under_way);
            if !queues.is_empty() {
                trips.push(self.travel(link, queues));
            }
        }
    }

    /// Of several calls that wait for one limit, one asks for all. Whom the trip before served needs none.
    fn gather(&self, batch: &mut Vec<Wanted>, under_way: &mut UnderWay) -> Vec<Queue> {
        let mut queues: HashMap<u128, Queue> = HashMap::new();
        for wanted in batch.drain(..) {
            if let Some(later) = under_way.get_mut(&wanted.bound.counter.id) {
                later.push(wanted);
                continue;
            }
            let Wanted { bound, cost, done } = wanted;
            let new = || Queue { bound: bound.clone(), least: cost, sum: 0, waiting: Vec::new() };
            let queue = queues.entry(bound.counter.id).or_insert_with(new);
            queue.least = queue.least.min(cost);
            queue.sum = queue.sum.saturating_add(cost).min(MAX_COUNT);
            queue.waiting.push(done);
        }
        let now = self.budgets.clock.now();
        let is_served = |queue: &Queue| queue.bound.counter.lock().lease.has(queue.sum, now);
        let (served, queues): (Vec<Queue>, Vec<Queue>) = queues.into_values().partition(is_served);
        served.into_iter().for_each(Queue::wake);
        under_way.extend(queues.iter().map(|queue| (queue.bound.counter.id, Vec::new())));
        queues
    }

    /// One trip; answers for which limits it was.
    async fn travel(&self, link: &Link, queues: Vec<Queue>) -> Vec<u128> {
        if let Err(error) = self.take_slices(link, &queues).await {
            link.lose(&error);
            queues.iter().for_each(|queue| queue.bound.counter.lock().lease.give_up());
        }
        let limits = queues.iter().map(|queue| queue.bound.counter.id).collect();
        queues.into_iter().for_each(Queue::wake);
        limits
    }

    async fn take_slices(&self, link: &Link, queues: &[Queue]) -> Result<(), RedisError> {
        // Whoever waits finds out by itself that Redis is gone.
        let Some(mut connection) = link.connection() else { return Ok(()) };
        let mut call = self.script.prepare_invoke();
        call.arg(self.budgets.shift());
        // Taken before the trip: the slice ends here no later than the shared window thinks.
        let asked_at = self.budgets.clock.now().as_micros();
        for Queue { bound, least, sum, .. } in queues {
            let (rule, window) = (&bound.rule, bound.rule.window_micros());
            let settled = bound.counter.lock().lease.settle();
            let [marks, costs] = self.budgets.names(bound);
            call.key(marks).key(costs).arg(window).arg(grain(rule.limit, window)).arg(rule.ceiling());
            call.arg(Lease::slice(rule, *sum)).arg(*least).arg(Lease::long_life(rule)).arg(Lease::life(rule));
            call.arg(settled.at).arg(settled.granted).arg(settled.unused);
        }
        let answer: Vec<i64> = call.invoke_async(&mut connection).await?;
        for (Queue { bound, .. }, numbers) in queues.iter().zip(answer.as_chunks().0) {
            let [granted, at, life, left, wait] = *numbers;
            let count = |number: i64| u64::try_from(number).unwrap_or(0);
            let grant = Grant { granted: count(granted), at, life, left: count(left), wait };
            bound.counter.lock().lease.receive(grant, asked_at);
        }
        Ok(())
    }
}

/// Those who came while a trip for these limits was under way.
fn returned(limits: Vec<u128>, under_way: &mut UnderWay) -> impl Iterator<Item = Wanted> {
    limits.into_iter().filter_map(|limit| under_way.remove(&limit)).flatten()
}

impl Queue {
    fn wake(self) {
        for done in self.waiting {
            let _ = done.send(());
        }
    }
}
