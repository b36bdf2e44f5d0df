//! People: how many sign in a second beside bare Argon2id, how long verifies wait meanwhile, and what the check of a session
//! costs a management call.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Options;
use crate::api::exchange;
use crate::connection::Expected;
use crate::contest::{Runs, Subject};
use crate::figures::{Figure, Target::*, median};
use crate::hot_routes::beside;
use crate::instance::{Instance, OWNER, PASSWORD};
use crate::keyset::Keyset;
use crate::load::Load;
use crate::report::Report;
use crate::request::Request;
use crate::schedule::Pace;
use crate::server;

const SIGN_IN: &str = "sign-in";
const VERIFY: &str = "verify";
const VERIFY_MEANWHILE: &str = "verify, people sign in";
const BY_SESSION: &str = "call by a session";
const BY_NOBODY: &str = "call by nobody";

/// More than Keyward hashes at a time, so that a hash always waits for its turn; and fewer than the five tries of one account that
/// may be under way before it is held (statement B-01).
const VISITORS: usize = 4;
/// Keys that are verified meanwhile.
const KEYS: usize = 10_000;
/// A turn of sign-ins counts some hundred of them.
const SIGN_IN_TIME: Duration = Duration::from_secs(8);
/// How long sign-ins are under way before a verify is measured, and after.
const MARGIN: Duration = Duration::from_millis(500);

pub fn measure(options: &Options, program: &Path, report: &mut Report) -> Result<()> {
    eprintln!("Preparing {KEYS} keys");
    let instance = Instance::set_up(program)?;
    let keys = instance.import(KEYS, KEYS)?;
    instance.warm_up(&keys)?;
    let (address, pid) = (instance.api.address, instance.pid());
    let password = Keyset::of(PASSWORD);
    let sign_in = Request::log_in(address, OWNER, PASSWORD.len());
    let load = |request, keys, expected, connections| Load { to: address, request, keys, expected, connections };
    let people = Subject { name: SIGN_IN, pid, load: load(&sign_in, &password, Expected::SIGNED_IN, VISITORS) };

    eprintln!("Sign-ins beside bare hashes");
    let mut ratios = Vec::new();
    for round in 1..=options.rounds {
        let before = bare_hashes()?;
        report.runs.add(&people, round, Pace::Full { time: SIGN_IN_TIME })?;
        let rates = report.runs.of(SIGN_IN, false, |run| run.requests_per_second);
        let bare = f64::midpoint(before, bare_hashes()?);
        eprintln!("           bare hashes          {bare:>9.1}/s");
        ratios.push(rates[rates.len() - 1] / bare);
    }
    report.figures.push(Figure::new("sign-ins / bare Argon2id on the same core", "a second", ratios, AtLeast(0.9)));

    let verify = Request::verify(address, &instance.api.service_key, keys.get(0).len());
    let verifies = |name| Subject { name, pid, load: load(&verify, &keys, Expected::VALID, options.connections) };
    eprintln!("Verify while people sign in");
    report.runs.add_rounds(&[verifies(VERIFY)], options.rounds, |_, _| Pace::Full { time: options.time() })?;
    let per_second = median(&report.runs.of(VERIFY, false, |run| run.requests_per_second)) / 2.0;
    let pace = Pace::Rate { per_second, time: options.time() };
    let mut meanwhile = Vec::new();
    for round in 1..=options.rounds {
        let time = options.time() + 2 * MARGIN;
        let (signed_in, run) = std::thread::scope(|scope| {
            let crowd = scope.spawn(|| people.load.run(Pace::Full { time }));
            std::thread::sleep(MARGIN);
            let run = report.runs.add_once(&verifies(VERIFY_MEANWHILE), round, pace);
            (crowd.join().expect("the crowd ends well"), run)
        });
        run?;
        let signed_in = signed_in?;
        ensure!(signed_in.errors == 0, "{} of {} sign-ins were refused", signed_in.errors, signed_in.requests);
        eprintln!("           sign-ins             {:>9.1}/s", signed_in.per_second());
        meanwhile.push(signed_in.per_second());
    }
    let p99 = report.runs.of(VERIFY_MEANWHILE, true, |run| run.p99_micros);
    report.figures.push(Figure::new(
        "verify, p99 at half of the peak while people sign in",
        "µs",
        p99,
        LessThan(5000.0),
    ));
    report.figures.push(Figure::new("sign-ins meanwhile", "a second", meanwhile, MoreThan(0.0)));

    session_check(options, &instance, report)?;
    let errors = report.runs.0.iter().map(|run| run.errors as f64).sum();
    report.figures.push(Figure::new("answers other than expected", "", vec![errors], AtMost(0.0)));
    Ok(())
}

/// The same request, to a route that wants to know who calls and to one that does not ask. The first also finds the caller's
/// limits and writes the larger answer; all of that is counted with the check.
fn session_check(options: &Options, instance: &Instance, report: &mut Report) -> Result<()> {
    eprintln!("The check of a session");
    let (address, pid) = (instance.api.address, instance.pid());
    let token = Keyset::of(&access_token(address)?);
    let (me, anybody) = (Request::get(address, "/v1/auth/me"), Request::get(address, "/v1/auth/oidc"));
    let subject = |name, request, body_start| {
        let expected = Expected { status: 200, body_start };
        let load = Load { to: address, request, keys: &token, expected, connections: options.connections };
        Subject { name, pid, load }
    };
    let subjects = [subject(BY_SESSION, &me, r#"{"active":true"#), subject(BY_NOBODY, &anybody, r#"{"enabled":false"#)];
    report.runs.add_rounds(&subjects, options.rounds, |_, _| Pace::Full { time: options.time() })?;
    report.figures.push(Figure::new("check of a session, warm", "µs CPU", added(&report.runs), AtMost(15.0)));
    Ok(())
}

fn added(runs: &Runs) -> Vec<f64> {
    let cost = |name| runs.of(name, false, |run| run.cpu_micros_per_request);
    cost(BY_SESSION).iter().zip(cost(BY_NOBODY)).map(|(session, nobody)| session - nobody).collect()
}

/// Bare hashes a second, on the servers' core.
fn bare_hashes() -> Result<f64> {
    let mut command = Command::new(beside("hashes")?);
    let output = server::output(command.args(["--seconds", "4"]))?;
    ensure!(output.status.success(), "hashes failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}

fn access_token(address: SocketAddr) -> Result<String> {
    let request = Request::log_in(address, OWNER, PASSWORD.len());
    let (head, body) = exchange(address, &request.with(PASSWORD.as_bytes()))?;
    ensure!(head.status == 200, "the sign-in answered {}: {body}", head.status);
    let answer: Value = serde_json::from_str(&body)?;
    Ok(answer["access_token"].as_str().context("an access token")?.to_owned())
}
