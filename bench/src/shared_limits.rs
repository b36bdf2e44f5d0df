//! What sharing limits costs: nodes on one PostgreSQL with a Redis, in slices and decision by decision, beside the same nodes
//! without one and beside a client that only calls the script.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use keyward_core::limit::LimitRule;
use serde_json::{Value, json};

use crate::Options;
use crate::bare_script::BareScript;
use crate::connection::Expected;
use crate::contest::{Runs, Subject};
use crate::figures::{Figure, Target::AtLeast};
use crate::instance::{Instance, PLAN_PER_MINUTE, Place};
use crate::load::Load;
use crate::report::Report;
use crate::request::Request;
use crate::schedule::Pace;
use crate::stores::{Databases, Redis};

const LOCAL: &str = "two nodes, local";
const LEASED: &str = "two nodes, leased";
const EXACT: &str = "one node, exact";
const KEY_LIMIT: u64 = 1_000;

/// Every node on one database, one pair or one node under load at a time.
pub fn measure(options: &Options, program: &Path, report: &mut Report) -> Result<()> {
    let (mut databases, redis) = (Databases::start()?, Redis::start()?);
    let place = Place { database_url: Some(databases.make()?), ..Place::default() };
    eprintln!("Preparing {} keys on PostgreSQL", options.keys);
    let local = Instance::set_up_at(program, place)?;
    let keys = local.import_with(options.keys, options.keys, &limit(KEY_LIMIT))?;
    let second = local.join(&[])?;
    let leased = [local.join(&settings(&redis, "leased"))?, local.join(&settings(&redis, "leased"))?];
    let exact = local.join(&settings(&redis, "exact"))?;
    for api in [&local.api, &second.api, &leased[0].api, &leased[1].api, &exact.api] {
        api.warm_up(&keys)?;
    }

    let request = Request::verify(local.api.address, &local.api.service_key, keys.get(0).len());
    let subject = |name, nodes: &[(u32, SocketAddr)], stores| {
        let (pids, to) = nodes.iter().copied().unzip();
        let (request, keys, connections) = (&request, &keys, options.connections);
        Subject { name, pids, stores, load: Load { to, request, keys, expected: Expected::VALID, connections } }
    };
    let of_leased = leased.each_ref().map(|node| (node.pid(), node.api.address));
    let of_local = [(local.pid(), local.api.address), (second.pid(), second.api.address)];
    let contestants = [subject(LOCAL, &of_local, vec![]), subject(LEASED, &of_leased, vec![redis.pid()])];
    let full = Pace::Full { time: options.time() };
    let mut runs = Runs::default();
    runs.add_rounds(&contestants, options.rounds, |_, _| full)?;

    let exactly = subject(EXACT, &[(exact.pid(), exact.api.address)], vec![redis.pid()]);
    let rules = [KEY_LIMIT, PLAN_PER_MINUTE].map(|limit| LimitRule::plain("requests", limit, 60));
    let bare = BareScript::connect(&redis.url, options.keys, rules)?;
    let mut beside_bare = Vec::new();
    for round in 1..=options.rounds {
        let called = bare.run(options.connections, options.time())?;
        runs.add(&exactly, round, full)?;
        let decided = runs.of(EXACT, false, |run| run.requests_per_second);
        eprintln!("  round {round}  {:<24} {called:>9.0}/s", "bare script");
        beside_bare.push(decided.last().copied().unwrap_or_default() / called);
    }

    let errors = runs.0.iter().map(|run| run.errors as f64).sum();
    let name = format!("{LEASED} / {LOCAL}");
    let (speed, cost) = (runs.speed_ratio(LEASED, LOCAL), runs.cpu_ratio(LEASED, LOCAL));
    report.figures.push(Figure::new(&name, "requests/s", speed, AtLeast(0.9)));
    report.figures.push(Figure::new(&name, "by CPU time", cost, AtLeast(0.9)));
    report.figures.push(Figure::new(format!("{EXACT} / bare script"), "requests/s", beside_bare, AtLeast(0.6)));
    report.figures.push(Figure::none("answers other than expected, with Redis", errors));
    report.runs.0.extend(runs.0);
    Ok(())
}

/// Settings of a node that shares its limits; nodes of one mode share them with each other.
pub fn settings(redis: &Redis, mode: &str) -> [(&'static str, String); 3] {
    let prefix = ("KEYWARD_REDIS_PREFIX", mode.to_owned());
    [("KEYWARD_REDIS_URL", redis.url.clone()), ("KEYWARD_REDIS_MODE", mode.to_owned()), prefix]
}

/// The fields of a key with a limit a minute.
pub fn limit(limit: u64) -> Value {
    json!({ "limits": [{ "name": "requests", "limit": limit, "window_seconds": 60 }] })
}
