//! Whether a large database slows the verification of keys that are in memory.

use std::path::Path;

use anyhow::Result;

use crate::Options;
use crate::connection::Expected;
use crate::contest::{Runs, Subject};
use crate::figures::{Figure, Target::AtLeast};
use crate::instance::Instance;
use crate::load::Load;
use crate::report::Report;
use crate::request::Request;
use crate::schedule::Pace;

const SMALL: &str = "verify, small database";
const LARGE: &str = "verify, large database";

/// Two instances side by side, the same number of keys in memory; one has `count` in its database, the other only those.
pub fn measure(options: &Options, count: usize, program: &Path, report: &mut Report) -> Result<()> {
    let mut contestants = Vec::new();
    for (name, stored) in [(SMALL, options.keys), (LARGE, count.max(options.keys))] {
        eprintln!("Preparing {stored} keys in a database");
        let instance = Instance::set_up(program)?;
        let keys = instance.import(stored, options.keys)?;
        instance.api.warm_up(&keys)?;
        let request = Request::verify(instance.api.address, &instance.api.service_key, keys.get(0).len());
        contestants.push((name, instance, keys, request));
    }
    let subjects: Vec<Subject<'_>> = contestants
        .iter()
        .map(|(name, instance, keys, request)| {
            let (to, connections) = (vec![instance.api.address], options.connections);
            let load = Load { to, request, keys, expected: Expected::VALID, connections };
            Subject::of(name, instance.pid(), load)
        })
        .collect();
    let mut runs = Runs::default();
    runs.add_rounds(&subjects, options.rounds, |_, _| Pace::Full { time: options.time() })?;
    let name = format!("verify with {count} keys stored / with {}", options.keys);
    report.figures.push(Figure::new(&name, "requests/s", runs.speed_ratio(LARGE, SMALL), AtLeast(0.9)));
    report.figures.push(Figure::new(&name, "by CPU time", runs.cpu_ratio(LARGE, SMALL), AtLeast(0.9)));
    report.runs.0.extend(runs.0);
    Ok(())
}
