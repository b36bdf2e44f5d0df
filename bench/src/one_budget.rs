//! Whether two nodes under full load keep one limit together: in every sliding minute never more than it allows, and of the first
//! minute nearly all of it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::connection::Expected;
use crate::figures::{Figure, Target::AtLeast, Target::AtMost};
use crate::instance::{Instance, Place};
use crate::load::Load;
use crate::report::Report;
use crate::request::Request;
use crate::schedule::Pace;
use crate::shared_limits::{limit, settings};
use crate::stores::{Databases, Redis};

/// Calls a minute, of both nodes together.
const LIMIT: u64 = 10_000;
const MINUTE: Duration = Duration::from_secs(60);
/// Two minutes and a little: the budget is used up, comes back, and is used up again.
const TIME: Duration = Duration::from_secs(125);
/// On each node.
const CONNECTIONS: usize = 64;

/// A call that was admitted: at some instant between these two.
struct Admitted {
    sent: Instant,
    answered: Instant,
}

/// Loads two nodes that share limits in slices with calls of one key.
pub fn measure(program: &Path, report: &mut Report) -> Result<()> {
    let (mut databases, redis) = (Databases::start()?, Redis::start()?);
    let settings = settings(&redis, "leased").to_vec();
    let first = Instance::set_up_at(program, Place { database_url: Some(databases.make()?), settings })?;
    let second = first.join(&[])?;
    let key = first.import_with(1, 1, &limit(LIMIT))?;
    eprintln!("One budget of {LIMIT} a minute on two nodes, {} s", TIME.as_secs());
    let request = Request::verify(first.api.address, &first.api.service_key, key.get(0).len());
    let (to, expected) = (vec![first.api.address, second.api.address], Expected::VALID);
    let load = Load { to, request: &request, keys: &key, expected, connections: 2 * CONNECTIONS };
    let mut admitted = Vec::new();
    let start = Instant::now();
    let outcome = load.run_and_tell(Pace::Full { time: TIME }, |answer| {
        if answer.is_expected {
            admitted.push(Admitted { sent: answer.due, answered: Instant::now() });
        }
    })?;
    let first = admitted.iter().filter(|call| call.answered - start <= MINUTE).count();
    let most = most_in_a_minute(admitted);
    eprintln!("  {} calls, {} of them refused", outcome.requests, outcome.errors);
    let figure = |name: &str, count: usize, target| Figure::new(name, "calls", vec![count as f64], target);
    report.figures.push(figure("one budget, most in any minute", most, AtMost(LIMIT as f64)));
    report.figures.push(figure("one budget, in the first minute", first, AtLeast(0.95 * LIMIT as f64)));
    Ok(())
}

/// The most calls that were all decided within one minute, wherever it begins: sent and answered within it.
fn most_in_a_minute(mut calls: Vec<Admitted>) -> usize {
    calls.sort_by_key(|call| call.answered);
    let mut most = 0;
    for (last, call) in calls.iter().enumerate() {
        let within = calls[..=last].iter().rev().take_while(|other| call.answered - other.answered < MINUTE);
        most = most.max(within.filter(|other| call.answered.saturating_duration_since(other.sent) < MINUTE).count());
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_begins_anywhere() {
        let start = Instant::now();
        let call = |millis: u64, took: u64| {
            let sent = start + Duration::from_millis(millis);
            Admitted { sent, answered: sent + Duration::from_millis(took) }
        };
        let calls =
            vec![call(0, 1), call(30_000, 1), call(59_000, 1), call(60_000, 1), call(60_500, 1), call(60_500, 1)];
        assert_eq!(most_in_a_minute(calls), 5);
        // Sent more than a minute before the other's answer: the two may have been decided a minute apart.
        assert_eq!(most_in_a_minute(vec![call(0, 500), call(60_100, 100)]), 1);
        assert_eq!(most_in_a_minute(vec![call(300, 500), call(60_100, 100)]), 2);
    }
}
