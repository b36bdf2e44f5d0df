//! The load: so many connections, each with one question at a time, until the time is over or the questions are used up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::latency::Latencies;

/// A connection that gets no answer so often in a row asks no more.
const MOST_FAILURES: u32 = 10;
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked, and how much.
pub struct Load {
    pub address: String,
    pub service_key: String,
    /// Bodies of the questions, asked in turn.
    pub bodies: Vec<Bytes>,
    pub connections: usize,
    pub time: Duration,
    pub most_requests: u64,
}

/// What came of it.
#[derive(Default)]
pub struct Outcome {
    pub latencies: Latencies,
    /// Verdicts, problems, and questions without an answer.
    pub codes: BTreeMap<String, u64>,
    pub elapsed: Duration,
}

/// What all connections share.
struct Asking {
    load: Load,
    asked: AtomicU64,
    end: Instant,
}

#[derive(Deserialize)]
struct Answer {
    code: String,
}

impl Load {
    /// Asks until a bound is reached, or `stop` is done.
    pub async fn run(self, stop: impl Future<Output = ()>) -> reqwest::Result<Outcome> {
        let (begun, connections) = (Instant::now(), self.connections);
        let asking = Arc::new(Asking { asked: AtomicU64::new(0), end: begun + self.time, load: self });
        let mut running = JoinSet::new();
        for first in 0..connections {
            // A client of its own: what it keeps open is one connection.
            let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().tcp_nodelay(true).build()?;
            running.spawn(asking.clone().ask(http, first));
        }
        let mut all = Outcome::default();
        let mut stop = std::pin::pin!(stop);
        let mut stopped = false;
        loop {
            tokio::select! {
                () = &mut stop, if !stopped => {
                    asking.asked.store(asking.load.most_requests, Ordering::Relaxed);
                    stopped = true;
                }
                one = running.join_next() => match one {
                    Some(one) => all.add(one.expect("a connection does not panic")),
                    None => break,
                }
            }
        }
        all.elapsed = begun.elapsed();
        Ok(all)
    }
}

impl Asking {
    async fn ask(self: Arc<Self>, http: reqwest::Client, first: usize) -> Outcome {
        let mut outcome = Outcome::default();
        let (load, mut place, mut failures) = (&self.load, first, 0);
        while failures < MOST_FAILURES && self.has_more() {
            let body = load.bodies[place % load.bodies.len()].clone();
            place += 1;
            let request =
                http.post(&load.address).bearer_auth(&load.service_key).header(CONTENT_TYPE, "application/json");
            let begun = Instant::now();
            if let Ok(code) = answered(request.body(body)).await {
                outcome.latencies.add(begun.elapsed().as_micros() as u64);
                outcome.count(code, 1);
                failures = 0;
            } else {
                outcome.count("no answer".to_owned(), 1);
                failures += 1;
            }
        }
        outcome
    }

    fn has_more(&self) -> bool {
        Instant::now() < self.end && self.asked.fetch_add(1, Ordering::Relaxed) < self.load.most_requests
    }
}

/// The verdict's code, or the problem's with its status.
async fn answered(request: reqwest::RequestBuilder) -> reqwest::Result<String> {
    let answer = request.send().await?;
    let status = answer.status();
    let body = answer.bytes().await?;
    let code = serde_json::from_slice(&body).map_or_else(|_| "unreadable".to_owned(), |Answer { code }| code);
    Ok(if status == StatusCode::OK { code } else { format!("{code} (HTTP {})", status.as_u16()) })
}

impl Outcome {
    fn count(&mut self, code: String, more: u64) {
        *self.codes.entry(code).or_default() += more;
    }

    fn add(&mut self, one: Self) {
        self.latencies.merge(&one.latencies);
        one.codes.into_iter().for_each(|(code, count)| self.count(code, count));
    }
}
