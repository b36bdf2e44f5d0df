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
}

const AT_FULL_SPEED: Doubt = Doubt { share: 0.05, tries: 3 };
/// One request in a hundred decides here. A pause delays those that come in it, and about as many while the queue is worked
/// off: pauses of 0.5 % of the server's core, which is 0.25 % of both, are that one in a hundred.
const AT_FIXED_RATE: Doubt = Doubt { share: 0.002, tries: 8 };

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
#[derive(Serialize)]
pub struct Run {
    pub subject: &'static str,
    pub round: u32,
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
    /// What the host took of the two cores meanwhile, and other programs at least.
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
        self.keep(measure_in_quiet(subject, round, pace)?);
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
fn measure_in_quiet(subject: &Subject<'_>, round: u32, pace: Pace) -> Result<Run> {
    let mut quietest = measure(subject, round, pace)?;
    for _ in 1..quietest.doubt().tries {
        if quietest.is_quiet() {
            break;
        }
        let again = measure(subject, round, pace)?;
        if again.others_share < quietest.others_share {
            quietest = again;
        }
    }
    Ok(quietest)
}

fn measure(subject: &Subject<'_>, round: u32, pace: Pace) -> Result<Run> {
    let own = std::process::id();
    let of = |pids: &[u32]| pids.iter().map(|pid| machine::cpu_time(*pid)).sum::<Result<Duration>>();
    let beside = || anyhow::Ok(machine::cpu_time(own)? + of(&subject.stores)?);
    let times = || anyhow::Ok([of(&subject.pids)?, beside()?, machine::programs_time()?, machine::stolen_time()?]);
    let before = times()?;
    let outcome = subject.load.run(pace)?;
    let after = times()?;
    let [cpu, beside, programs, stolen] = std::array::from_fn(|index| after[index].saturating_sub(before[index]));
    let others = programs.saturating_sub(cpu + beside) + stolen;
    let micros = |q| outcome.latency.quantile(q).as_nanos() as f64 / 1e3;
    Ok(Run {
        subject: subject.name,
        round,
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
