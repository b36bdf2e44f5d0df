//! The load generator: one thread, a fixed number of keep-alive connections with one request in flight on each.
//!
//! At full speed a connection sends its next request when it has its answer. At a fixed rate every request has the
//! instant at which it should leave, and its latency counts from there: a slow answer cannot hold back the requests
//! that would have shown it. Every run ends after a number of requests or a time, and a server that falls silent ends
//! it with an error.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::{Events, Poll};

use crate::connection::{Connection, Expected};
use crate::histogram::Histogram;
use crate::keyset::Keyset;
use crate::request::Request;

/// Longest time without any answer.
const SILENCE: Duration = Duration::from_secs(30);

/// What is sent, and what must come back.
pub struct Load<'a> {
    pub to: SocketAddr,
    pub request: &'a Request,
    pub keys: &'a Keyset,
    pub expected: Expected,
    pub connections: usize,
    pub pace: Pace,
}

/// How fast, and until when.
#[derive(Clone, Copy)]
pub enum Pace {
    /// Keys at random, as fast as answers come, for a time.
    Full { time: Duration },
    /// Keys at random, so many requests a second, for a time.
    Rate { per_second: f64, time: Duration },
    /// Every key once, as fast as answers come.
    EachOnce,
}

/// What a run saw.
pub struct Outcome {
    pub requests: u64,
    /// Answers with another status or verdict than expected, and requests that could not be sent in time.
    pub errors: u64,
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
    pub fn run(&self) -> Result<Outcome> {
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(self.connections);
        let mut connections = (0..self.connections)
            .map(|token| Connection::open(self.to, &poll, token, self.request.with(self.keys.get(0))))
            .collect::<Result<Vec<_>>>()?;
        let mut idle: VecDeque<usize> = (0..self.connections).collect();
        let mut keys = KeyPicker::new(self.keys.len(), self.pace);

        let start = Instant::now();
        let mut schedule = Schedule::new(self.pace, self.keys.len(), start);
        let mut outcome = Outcome { requests: 0, errors: 0, answer_bytes: 0, time: Duration::ZERO, latency: Histogram::default() };
        let mut now = start;
        let mut last_answer = start;
        loop {
            while !idle.is_empty()
                && let Some(due) = schedule.next(now)
            {
                let index = idle.pop_front().expect("an idle connection");
                connections[index].send(self.request, self.keys.get(keys.pick()), due)?;
            }
            if idle.len() == self.connections && schedule.is_over(now) {
                break;
            }
            poll.poll(&mut events, schedule.patience()).context("cannot poll")?;
            now = Instant::now();
            for event in &events {
                let index = event.token().0;
                let Some(answer) = connections[index].receive(&self.expected)? else { continue };
                now = Instant::now();
                last_answer = now;
                outcome.requests += 1;
                outcome.errors += u64::from(!answer.is_as_expected);
                outcome.answer_bytes += answer.bytes as u64;
                outcome.latency.record(now.duration_since(answer.due));
                match schedule.next(now) {
                    Some(due) if idle.is_empty() => {
                        connections[index].send(self.request, self.keys.get(keys.pick()), due)?;
                    }
                    Some(due) => {
                        let first = idle.pop_front().expect("not empty");
                        idle.push_back(index);
                        connections[first].send(self.request, self.keys.get(keys.pick()), due)?;
                    }
                    None => idle.push_back(index),
                }
            }
            ensure!(now.duration_since(last_answer) < SILENCE, "no answer from {} for {SILENCE:?}", self.to);
        }
        if outcome.requests == 0 {
            bail!("{} answered nothing", self.to);
        }
        outcome.errors += schedule.unsent();
        outcome.time = last_answer.duration_since(start);
        Ok(outcome)
    }
}
