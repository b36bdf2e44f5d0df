//! Servers under load in turn, round after round, so that a noisy neighbour meets all of them alike.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::load::Load;
use crate::machine;
use crate::schedule::Pace;

/// When a run is in doubt because of others, and what is done about it.
struct Doubt {
    /// What others may take of the two cores.
    share: f64,
    /// Most tries.
    tries: u32,
    /// Most tries beyond the first of all runs together: where it is never quiet, it is measured as it is.
    more_tries: u32,
}

const AT_FULL_SPEED: Doubt = Doubt { share: 0.05, tries: 3, more_tries: 60 };
/// One request in a hundred decides here. A pause delays those that come in it, and about as many while the queue is worked
/// off: pauses of 0.5 % of the server's core, which is 0.25 % of both, are that one in a hundred.
const AT_FIXED_RATE: Doubt = Doubt { share: 0.002, tries: 8, more_tries: 40 };

/// A server or several nodes, and what is asked of them.
pub struct Subject<'a> {
    pub name: &'static str,
    pub pids: Vec<u32>,
    /// What works for them beside, such as a Redis: neither theirs nor others'.
    pub stores: Vec<u32>,
    pub load: Load<'a>,
}

impl<'a> Subject<'a> {
    /// One server.
    pub fn of(name: &'static str, pid: u32, load: Load<'a>) -> Self {
        Self { name, pids: vec![pid], stores: Vec::new(), load }
    }
}

/// One run of one subject.
#[derive(Default, Serialize)]
pub struct Run {
    pub subject: &'static str,
    pub round: u32,
    /// How often it was measured; the quietest is this one.
    pub tries: u32,
    /// Whether requests left at a fixed rate, rather than as fast as answers came.
    pub at_fixed_rate: bool,
    pub requests: u64,
    /// Answers with another status or verdict than expected.
    pub errors: u64,
    /// Requests that the fixed rate asked for and that could not even be sent.
    pub unsent: u64,
    pub requests_per_second: f64,
    /// Processor time of the server, in microseconds.
    pub cpu_micros_per_request: f64,
    /// How much of its core the server used; well below 1 at full speed, the load generator was the slower one.
    pub core_share: f64,
    /// What the host took of the two cores meanwhile, as far as it tells, with other programs and the kernel's own threads.
    pub others_share: f64,
    pub answer_bytes: f64,
    pub p50_micros: f64,
    pub p99_micros: f64,
    pub p999_micros: f64,
}

impl Run {
    pub fn is_quiet(&self) -> bool {
        self.others_share <= self.doubt().share
    }

    fn doubt(&self) -> &'static Doubt {
        if self.at_fixed_rate { &AT_FIXED_RATE } else { &AT_FULL_SPEED }
    }

    /// How often it may be measured at most, after what earlier runs have taken.
    fn tries_after(&self, earlier: &[Run]) -> u32 {
        let alike = earlier.iter().filter(|run| run.at_fixed_rate == self.at_fixed_rate);
        let more = alike.map(|run| run.tries - 1).sum::<u32>();
        self.doubt().tries.min(1 + self.doubt().more_tries.saturating_sub(more))
    }
}

/// All runs of a measurement.
#[derive(Default)]
pub struct Runs(pub Vec<Run>);

impl Runs {
    /// Measures every subject in every round, each round in the opposite order of the one before.
    pub fn add_rounds(
        &mut self,
        subjects: &[Subject<'_>],
        rounds: u32,
        pace: impl Fn(&Runs, &Subject<'_>) -> Pace,
    ) -> Result<()> {
        for round in 1..=rounds {
            let forwards = (0..subjects.len()).map(|index| &subjects[index]);
            let order: Vec<_> = if round % 2 == 1 { forwards.collect() } else { forwards.rev().collect() };
            for subject in order {
                self.add(subject, round, pace(self, subject))?;
            }
        }
        Ok(())
    }

    /// Measures one subject; again when others disturb it.
    pub fn add(&mut self, subject: &Subject<'_>, round: u32, pace: Pace) -> Result<()> {
        let run = quietest(&self.0, || measure(subject, round, pace))?;
        self.keep(run);
        Ok(())
    }

    /// Measures one subject once, while something else goes on that is meant to disturb it.
    pub fn add_once(&mut self, subject: &Subject<'_>, round: u32, pace: Pace) -> Result<()> {
        self.keep(measure(subject, round, pace)?);
        Ok(())
    }

    fn keep(&mut self, run: Run) {
        eprintln!(
            "  round {}  {:<22} {:>9.0}/s  {:>8.2} µs CPU  p99 {:>6.0} µs",
            run.round, run.subject, run.requests_per_second, run.cpu_micros_per_request, run.p99_micros
        );
        self.0.push(run);
    }

    /// A figure of a subject, one value a round.
    pub fn of(&self, subject: &str, at_fixed_rate: bool, figure: impl Fn(&Run) -> f64) -> Vec<f64> {
        let runs = self.0.iter().filter(|run| run.subject == subject && run.at_fixed_rate == at_fixed_rate);
        runs.map(figure).collect()
    }

    /// How fast one subject is beside another at full speed, round by round: by requests per second.
    pub fn speed_ratio(&self, subject: &str, baseline: &str) -> Vec<f64> {
        let speed = |name| self.of(name, false, |run| run.requests_per_second);
        speed(subject).iter().zip(speed(baseline)).map(|(subject, baseline)| subject / baseline).collect()
    }

    /// The same by processor time for each request; above 1, the subject takes less than the baseline.
    pub fn cpu_ratio(&self, subject: &str, baseline: &str) -> Vec<f64> {
        let cost = |name| self.of(name, false, |run| run.cpu_micros_per_request);
        cost(subject).iter().zip(cost(baseline)).map(|(subject, baseline)| baseline / subject).collect()
    }
}

/// Measures again when others took part of the cores, a few times at most, and keeps the quietest run.
fn quietest(earlier: &[Run], mut measure: impl FnMut() -> Result<Run>) -> Result<Run> {
    let mut quietest = measure()?;
    while !quietest.is_quiet() && quietest.tries < quietest.tries_after(earlier) {
        let tries = quietest.tries + 1;
        let again = measure()?;
        if again.others_share < quietest.others_share {
            quietest = again;
        }
        quietest.tries = tries;
    }
    Ok(quietest)
}

fn measure(subject: &Subject<'_>, round: u32, pace: Pace) -> Result<Run> {
    let cpu_time = || subject.pids.iter().map(|pid| machine::cpu_time(*pid)).sum::<Result<Duration>>();
    let ours = [&subject.pids[..], &subject.stores, &[std::process::id()]].concat();
    let (run_times, stolen, cpu) = (machine::run_times()?, machine::stolen_time()?, cpu_time()?);
    let outcome = subject.load.run(pace)?;
    let cpu = cpu_time()?.saturating_sub(cpu);
    let stolen = machine::stolen_time()?.saturating_sub(stolen);
    let others = machine::others_time(&run_times, &ours)? + stolen;
    let micros = |q| outcome.latency.quantile(q).as_nanos() as f64 / 1e3;
    Ok(Run {
        subject: subject.name,
        round,
        tries: 1,
        at_fixed_rate: matches!(pace, Pace::Rate { .. }),
        requests: outcome.requests,
        errors: outcome.errors,
        unsent: outcome.unsent,
        requests_per_second: outcome.per_second(),
        cpu_micros_per_request: cpu.as_secs_f64() * 1e6 / outcome.requests as f64,
        core_share: cpu.as_secs_f64() / outcome.time.as_secs_f64(),
        others_share: others.as_secs_f64() / outcome.time.as_secs_f64() / 2.0,
        answer_bytes: outcome.answer_bytes as f64 / outcome.requests as f64,
        p50_micros: micros(0.5),
        p99_micros: micros(0.99),
        p999_micros: micros(0.999),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(others_share: f64) -> Run {
        Run { tries: 1, at_fixed_rate: true, others_share, ..Run::default() }
    }

    /// What is kept of runs that others disturb so much, after earlier ones.
    fn kept(shares: &[f64], earlier: &[Run]) -> (f64, u32) {
        let mut shares = shares.iter().cycle();
        let kept = quietest(earlier, || Ok(run(*shares.next().expect("there is one")))).expect("it can be measured");
        (kept.others_share, kept.tries)
    }

    #[test]
    fn the_quietest_run_counts() {
        assert_eq!(kept(&[0.002, 0.001], &[]), (0.002, 1));
        assert_eq!(kept(&[0.01, 0.03, 0.001, 0.0], &[]), (0.001, 3));
        assert_eq!(kept(&[0.03, 0.01], &[]), (0.01, AT_FIXED_RATE.tries));
    }

    #[test]
    fn where_it_is_never_quiet_it_is_measured_as_it_is() {
        let disturbed = |tries| Run { tries, ..run(0.1) };
        let earlier: Vec<Run> = (0..5).map(|_| disturbed(AT_FIXED_RATE.tries)).collect();
        assert_eq!(kept(&[0.01], &earlier), (0.01, 1 + AT_FIXED_RATE.more_tries - 35));
        let earlier: Vec<Run> = (0..6).map(|_| disturbed(AT_FIXED_RATE.tries)).collect();
        assert_eq!(kept(&[0.01], &earlier), (0.01, 1));
    }
}
