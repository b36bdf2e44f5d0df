//! Verify and forward-auth over keys that are all in memory, beside servers that do nothing but answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::Options;
use crate::api::exchange;
use crate::connection::Expected;
use crate::contest::{Runs, Subject};
use crate::figures::{Figure, Target::*, median};
use crate::instance::Instance;
use crate::keyset::Keyset;
use crate::load::Load;
use crate::report::Report;
use crate::request::Request;
use crate::schedule::Pace;
use crate::server::Server;

const VERIFY: &str = "verify";
/// With a limit of the plan, one of the key and a monthly quota.
const LIMITED: &str = "verify, limits and quota";
const MALFORMED: &str = "verify, malformed";
const FORWARD_AUTH: &str = "forward-auth";
const ECHO: &str = "axum JSON echo";
const HELLO: &str = "hyper hello";
/// A turn at full speed: short, as neighbours of the machine come and go within seconds, and those that are compared should meet the
/// same ones.
const TURN: Duration = Duration::from_secs(1);
/// About the size of a forward-auth answer, for when there is none to measure.
const HELLO_BYTES: usize = 280;

/// Measures both routes of Keyward beside their baselines, on an empty PostgreSQL database where one is given.
pub fn measure(options: &Options, database_url: Option<&str>, program: &Path, report: &mut Report) -> Result<()> {
    eprintln!("Preparing {} keys", options.keys);
    let instance = Instance::set_up_on(program, database_url)?;
    let keys = instance.import(options.keys, options.keys)?;
    instance.api.warm_up(&keys)?;
    let limit = json!({ "limits": [{ "name": "requests", "limit": 1_000, "window_seconds": 60 }] });
    let limited_keys = instance.import_with(options.keys, options.keys, &limit)?;
    instance.api.warm_up(&limited_keys)?;
    let wrong_keys = keys.with_wrong_checksums();

    let (address, service_key) = (instance.api.address, &instance.api.service_key);
    let verify = Request::verify(address, service_key, keys.get(0).len());
    let forward_auth = Request::forward_auth(address, service_key);
    let (_, verdict) = exchange(address, &verify.with(keys.get(0)))?;
    let (admitted, _) = exchange(address, &forward_auth.with(keys.get(0)))?;

    let folder = tempfile::tempdir()?;
    let answer = folder.path().join("answer.json");
    std::fs::write(&answer, &verdict)?;
    let echo = Server::start_baseline(&beside("echo")?, &["--answer", &answer.to_string_lossy()])?;
    let hello = Server::start_baseline(&beside("hello")?, &["--answer-bytes", &admitted.bytes.to_string()])?;
    let (_, echoed) = exchange(echo.address, &verify.with(keys.get(0)))?;
    ensure!(echoed.len() == verdict.len(), "the echo answers {} bytes, Keyward {}", echoed.len(), verdict.len());
    let (filled, _) = exchange(hello.address, &forward_auth.with(keys.get(0)))?;
    ensure!(filled.bytes == admitted.bytes, "hello answers {} bytes, Keyward {}", filled.bytes, admitted.bytes);

    let load =
        |to, request, keys, expected| Load { to: vec![to], request, keys, expected, connections: options.connections };
    let (pid, malformed) = (instance.pid(), Expected::MALFORMED);
    let mut subjects = vec![
        Subject::of(ECHO, echo.pid(), load(echo.address, &verify, &keys, Expected::VALID)),
        Subject::of(VERIFY, pid, load(address, &verify, &keys, Expected::VALID)),
        Subject::of(LIMITED, pid, load(address, &verify, &limited_keys, Expected::VALID)),
        Subject::of(MALFORMED, pid, load(address, &verify, &wrong_keys, malformed)),
        Subject::of(FORWARD_AUTH, pid, load(address, &forward_auth, &keys, Expected::ADMITTED)),
        Subject::of(HELLO, hello.pid(), load(hello.address, &forward_auth, &keys, Expected::ADMITTED)),
    ];

    let misses_before = instance.api.cache_misses()?;
    eprintln!("At full speed");
    add_at_full_speed(options, &subjects, &mut report.runs)?;
    eprintln!("At half of that speed");
    subjects.retain(|subject| subject.name != MALFORMED);
    report.runs.add_rounds(&subjects, options.rounds, |runs, subject| half_of_peak(options, runs, subject))?;
    let misses = instance.api.cache_misses()? - misses_before;

    report.figures.extend(figures(&report.runs));
    report.figures.push(Figure::new(
        "keys read from the database while measured",
        "",
        vec![misses as f64],
        AtMost(0.0),
    ));
    Ok(())
}

/// Measures the baselines alone, to see what the machine and the load generator can do.
pub fn measure_baselines(options: &Options, report: &mut Report) -> Result<()> {
    let keys = Keyset::generate(options.keys);
    let service_key = Keyset::generate(1);
    let service_key = std::str::from_utf8(service_key.get(0))?;
    let echo = Server::start_baseline(&beside("echo")?, &[])?;
    let hello = Server::start_baseline(&beside("hello")?, &["--answer-bytes", &HELLO_BYTES.to_string()])?;
    let verify = Request::verify(echo.address, service_key, keys.get(0).len());
    let forward_auth = Request::forward_auth(hello.address, service_key);
    let load =
        |to, request, expected| Load { to: vec![to], request, keys: &keys, expected, connections: options.connections };
    let subjects = [
        Subject::of(ECHO, echo.pid(), load(echo.address, &verify, Expected::VALID)),
        Subject::of(HELLO, hello.pid(), load(hello.address, &forward_auth, Expected::ADMITTED)),
    ];
    add_at_full_speed(options, &subjects, &mut report.runs)?;
    report.runs.add_rounds(&subjects, options.rounds, |runs, subject| half_of_peak(options, runs, subject))
}

/// As long for each subject as the rounds are together.
fn add_at_full_speed(options: &Options, subjects: &[Subject<'_>], runs: &mut Runs) -> Result<()> {
    let turns = (options.time() * options.rounds).div_duration_f64(TURN).ceil() as u32;
    runs.add_rounds(subjects, turns, |_, _| Pace::Full { time: TURN })
}

fn half_of_peak(options: &Options, runs: &Runs, subject: &Subject<'_>) -> Pace {
    let peak = median(&runs.of(subject.name, false, |run| run.requests_per_second));
    Pace::Rate { per_second: peak / 2.0, time: options.time() }
}

fn figures(runs: &Runs) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (subject, baseline, target) in [
        (VERIFY, ECHO, AtLeast(0.85)),
        (LIMITED, ECHO, AtLeast(0.75)),
        (FORWARD_AUTH, HELLO, AtLeast(0.85)),
        (MALFORMED, VERIFY, MoreThan(1.0)),
    ] {
        let speed = runs.speed_ratio(subject, baseline);
        figures.push(Figure::new(format!("{subject} / {baseline}"), "requests/s", speed, target));
        figures.push(Figure::new(
            format!("{subject} / {baseline}"),
            "by CPU time",
            runs.cpu_ratio(subject, baseline),
            target,
        ));
    }
    for subject in [VERIFY, FORWARD_AUTH] {
        let p99 = runs.of(subject, true, |run| run.p99_micros);
        figures.push(Figure::new(format!("{subject}, p99 at half of the peak"), "µs", p99, LessThan(1000.0)));
    }
    let errors = runs.0.iter().map(|run| run.errors as f64).sum();
    figures.push(Figure::new("answers other than expected", "", vec![errors], AtMost(0.0)));
    figures
}

/// A program that was built together with this one.
pub fn beside(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.exists(), "{} is missing: build all of keyward-bench", path.display());
    Ok(path)
}
