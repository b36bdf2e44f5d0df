//! The load generator: one thread, a fixed number of keep-alive connections with one request in flight on each.
//!
//! At full speed a connection sends its next request when it has its answer. At a fixed rate every request has the
//! instant at which it should leave, and its latency counts from there: a slow answer cannot hold back the requests
//! that would have shown it. Every run ends after a number of requests or a time, and a server that falls silent ends
//! it with an error.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mio::{Events, Poll};

use crate::connection::{Answer, Connection, Expected};
use crate::histogram::Histogram;
use crate::keyset::Keyset;
use crate::request::Request;
use crate::schedule::{KeyPicker, Pace, Schedule};

/// Longest time without any answer.
const SILENCE: Duration = Duration::from_secs(30);

/// What is sent, and what must come back.
pub struct Load<'a> {
    /// One server, or nodes over which the connections are spread in turn.
    pub to: Vec<SocketAddr>,
    pub request: &'a Request,
    pub keys: &'a Keyset,
    pub expected: Expected,
    pub connections: usize,
}

/// What a run saw.
#[derive(Default)]
pub struct Outcome {
    pub requests: u64,
    /// Answers with another status or verdict than expected.
    pub errors: u64,
    /// Requests that a fixed rate asked for and that could not be sent in twice the time.
    pub unsent: u64,
    pub answer_bytes: u64,
    pub time: Duration,
    pub latency: Histogram,
}

impl Outcome {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.time.as_secs_f64()
    }
}

impl Load<'_> {
    /// Sends the load and waits for the last answer.
    pub fn run(&self, pace: Pace) -> Result<Outcome> {
        self.run_and_tell(pace, |_| {})
    }

    /// The same; each answer is told as it comes.
    pub fn run_and_tell(&self, pace: Pace, mut tell: impl FnMut(&Answer)) -> Result<Outcome> {
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(self.connections);
        let first = self.request.with(self.keys.get(0));
        let open = |token: usize| {
            let to = self.to[token % self.to.len()];
            Connection::open(to, &poll, token, first.clone()).with_context(|| format!("cannot connect to {to}"))
        };
        let connections = (0..self.connections).map(open).collect::<Result<_>>()?;

        let start = Instant::now();
        let mut run = Run {
            load: self,
            connections,
            idle: (0..self.connections).collect(),
            keys: KeyPicker::new(pace, self.keys.len()),
            schedule: Schedule::new(pace, self.keys.len(), start),
            outcome: Outcome::default(),
        };
        let (mut now, mut last_answer) = (start, start);
        loop {
            run.send_what_is_due(now)?;
            if run.is_over(now) {
                break;
            }
            poll.poll(&mut events, Some(run.schedule.patience())).context("cannot poll")?;
            now = Instant::now();
            for event in &events {
                if run.receive(event.token().0, &mut tell)? {
                    now = Instant::now();
                    last_answer = now;
                }
            }
            ensure!(now - last_answer < SILENCE, "no answer from {:?} for {SILENCE:?}", self.to);
        }
        run.outcome.unsent = run.schedule.unsent();
        run.outcome.time = last_answer - start;
        ensure!(run.outcome.requests > 0, "{:?} answered nothing", self.to);
        Ok(run.outcome)
    }
}

/// A load on its way.
struct Run<'a> {
    load: &'a Load<'a>,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    keys: KeyPicker,
    schedule: Schedule,
    outcome: Outcome,
}

impl Run<'_> {
    fn send_what_is_due(&mut self, now: Instant) -> Result<()> {
        while !self.idle.is_empty()
            && let Some(due) = self.schedule.next(now)
            && let Some(index) = self.idle.pop_front()
        {
            self.connections[index].send(self.load.request, self.load.keys.get(self.keys.pick()), due)?;
        }
        Ok(())
    }

    /// Whether the connection has its whole answer now; then it is free for the next request.
    fn receive(&mut self, index: usize, tell: &mut impl FnMut(&Answer)) -> Result<bool> {
        let Some(answer) = self.connections[index].receive(&self.load.expected)? else { return Ok(false) };
        let now = Instant::now();
        tell(&answer);
        self.outcome.requests += 1;
        self.outcome.errors += u64::from(!answer.is_expected);
        self.outcome.answer_bytes += answer.bytes as u64;
        self.outcome.latency.record(now - answer.due);
        self.idle.push_back(index);
        self.send_what_is_due(now)?;
        Ok(true)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.idle.len() == self.connections.len() && self.schedule.is_over(now)
    }
}
