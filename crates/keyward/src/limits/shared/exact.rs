//! Each decision Redis's: one atomic script for all limits of a call. Calls that are ready at the same time travel together, each
//! still decided by itself; several such trips may be under way.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use keyward_core::limit::{Decision, Drawn, LimitState, Mode, Notice, grain, whole_seconds};
use keyward_core::verdict::Outcome;
use redis::{Cmd, Pipeline, RedisError, Script};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::Budgets;
use super::link::Link;

/// Decisions that are asked for in one trip.
const MAX_BATCH: usize = 128;
/// Bytes of a decision about two limits, names included.
const USUAL_BYTES: usize = 512;

pub(super) struct Exact {
    budgets: Budgets,
    script: Script,
    wanted: mpsc::UnboundedSender<Wanted>,
    asked: Mutex<mpsc::UnboundedReceiver<Wanted>>,
}

/// A call that waits for its decision.
struct Wanted {
    command: Cmd,
    decided: oneshot::Sender<Vec<i64>>,
}

impl Exact {
    pub(super) fn new(budgets: Budgets) -> Self {
        let (wanted, asked) = mpsc::unbounded_channel();
        Self { budgets, script: Script::new(include_str!("exact.lua")), wanted, asked: Mutex::new(asked) }
    }

    /// Decides about all limits of a call. `None` when Redis did not answer.
    pub(super) async fn decide(&self, drawn: &[Drawn<'_>], dry_run: bool) -> Option<Decision> {
        let names: Vec<[String; 2]> = drawn.iter().map(|drawn| self.budgets.names(drawn.bound)).collect();
        let mut command = Cmd::with_capacity(5 + 7 * drawn.len(), USUAL_BYTES);
        command.arg("EVALSHA").arg(self.script.get_hash()).arg(2 * names.len()).arg(names.as_flattened());
        command.arg(self.budgets.shift()).arg(u8::from(dry_run));
        for Drawn { bound, cost } in drawn {
            let (rule, window) = (&bound.rule, bound.rule.window_micros());
            command.arg(window).arg(grain(rule.limit, window)).arg(rule.ceiling()).arg(*cost);
            command.arg(u8::from(rule.mode == Mode::Enforce));
        }
        let (decided, decision) = oneshot::channel();
        self.wanted.send(Wanted { command, decided }).ok()?;
        Some(read(drawn, &decision.await.ok()?, dry_run))
    }

    /// Takes the calls to Redis. Never returns.
    pub(super) async fn run(&self, link: &Link) {
        let mut asked = self.asked.lock().await;
        let (mut batch, mut trips) = (Vec::new(), FuturesUnordered::new());
        loop {
            tokio::select! {
                _ = asked.recv_many(&mut batch, MAX_BATCH) => {
                    // Whoever is about to ask as well comes along.
                    tokio::task::yield_now().await;
                    while batch.len() < MAX_BATCH && let Ok(wanted) = asked.try_recv() {
                        batch.push(wanted);
                    }
                    trips.push(self.travel(link, std::mem::take(&mut batch)));
                }
                Some(()) = trips.next() => {}
            }
        }
    }

    /// One trip. Who gets no answer finds out when `decided` is dropped.
    async fn travel(&self, link: &Link, batch: Vec<Wanted>) {
        let Some(mut connection) = link.connection() else { return };
        let mut trip = Pipeline::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        for Wanted { command, decided } in batch {
            trip.add_command(command);
            waiting.push(decided);
        }
        let mut answers: Result<Vec<Vec<i64>>, RedisError> = trip.query_async(&mut connection).await;
        if answers.as_ref().is_err_and(|error| error.code() == Some("NOSCRIPT")) {
            // A Redis that has just started knows no script, and has run none of these.
            answers = match self.script.load_async(&mut connection).await {
                Ok(_) => trip.query_async(&mut connection).await,
                Err(error) => Err(error),
            };
        }
        match answers {
            Ok(answers) => waiting.into_iter().zip(answers).for_each(|(decided, answer)| {
                let _ = decided.send(answer);
            }),
            Err(error) => link.lose(&error),
        }
    }
}

/// The decision that the script tells of.
fn read(drawn: &[Drawn<'_>], answer: &[i64], dry_run: bool) -> Decision {
    let mut decision = Decision::default();
    let taken = answer.first() == Some(&1);
    for (Drawn { bound, cost }, numbers) in drawn.iter().zip(answer[1..].chunks_exact(3)) {
        let rule = &bound.rule;
        let (used, wait, fits) = (u64::try_from(numbers[0]).unwrap_or(0), numbers[1], numbers[2] == 1);
        let counted = if taken && !dry_run { *cost } else { 0 };
        let refused = !fits && rule.mode == Mode::Enforce;
        if refused {
            decision.refused = Some(Outcome::RateLimited);
        }
        if !fits && !dry_run && bound.counter.lock().is_first_hit() {
            decision.notices.push(Notice::hit(rule));
        }
        let wait = if used == 0 && counted > 0 { rule.window_micros() } else { wait };
        decision.limits.push(LimitState {
            rule: rule.clone(),
            remaining: rule.limit.saturating_sub(used + counted),
            reset_seconds: whole_seconds(wait),
            refused,
        });
    }
    decision
}
