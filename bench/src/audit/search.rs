//! How fast the book is read when it is large: eighteen months of events are written straight into the database as the desk would
//! have written them, then asked for over HTTP. The same rows lay in a plain table with plain B-trees before, asked by SQL; one after
//! the other, so that the disk needs room for one of them.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use keyward_core::id::{Id, Organization};
use keyward_core::time::Clock;
use serde_json::Value;

use super::book::Book;
use super::fill::Span;
use super::plain::{Plain, QUESTIONS};
use crate::figures::{Figure, Target::AtLeast, Target::AtMost};
use crate::instance::Instance;
use crate::report::Report;

/// Times that each question is asked.
const TIMES: usize = 31;

/// The path of the n-th call.
type PathOf = Box<dyn Fn(usize) -> String>;

/// Which of the two is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sides {
    Both,
    BookOnly,
}

/// Measures `count` events.
pub fn measure(
    count: usize,
    sides: Sides,
    database_url: Option<&str>,
    program: &Path,
    report: &mut Report,
) -> Result<()> {
    let instance = Instance::set_up_on(program, database_url)?;
    // One call, so that the book has its first row and its name.
    instance.api.get("/v1/audit-log/checkpoint")?;
    let organization = instance.organization.parse::<Id<Organization>>()?.uuid();
    let book = Book::of(&instance, database_url);
    let span = Span::until(Clock::System.now(), count, organization);
    let mut of_plain = Report::default();
    let plain_bytes = match sides {
        Sides::Both => measure_plain(&instance, database_url, &span, &mut of_plain)?,
        Sides::BookOnly => None,
    };
    let instance = instance.restart_after(|| book.fill(&span))?;
    for upkeep in ["partitions", "analyze"] {
        let began = Instant::now();
        instance.maintain(upkeep)?;
        eprintln!("  upkeep of {upkeep}, {:.0} s", began.elapsed().as_secs_f64());
    }
    book.settle()?;
    ask(&instance, &span, report)?;
    report.figures.append(&mut of_plain.figures);
    if let (Some(ours), Some(plain)) = (book.bytes()?, plain_bytes) {
        eprintln!("  {:.0} bytes an event, plain {:.0}", ours[0] / count as f64, plain[0] / count as f64);
        for (name, index, most) in [
            ("bytes of an event, indexes and sums included / plain", 0, 1.0),
            ("indexes of time / the B-tree that they replace", 1, 0.01),
        ] {
            report.figures.push(Figure::new(name, "", vec![ours[index] / plain[index]], AtMost(most)));
        }
    }
    verify(&instance, book.size()?, program, report)
}

/// The program reads the whole book.
fn verify(instance: &Instance, size: i64, program: &Path, report: &mut Report) -> Result<()> {
    let began = Instant::now();
    let mut verify = Command::new(program);
    let output = verify.args(["audit", "verify", "--json"]).args(instance.place_flags()).output()?;
    let told: Value = serde_json::from_slice(&output.stdout).context("verify answers JSON")?;
    ensure!(told["whole"] == true, "the book that was written is not whole: {told}");
    let speed = size as f64 / began.elapsed().as_secs_f64();
    report.figures.push(Figure::new("full verification, on one core", "events/s", vec![speed], AtLeast(500_000.0)));
    Ok(())
}

/// Milliseconds, each time. Each question was asked once before: what it reads is warm.
fn time(mut question: impl FnMut(usize) -> Result<()>) -> Result<Vec<f64>> {
    (1..=TIMES).try_for_each(&mut question)?;
    let ask = |number| {
        let start = Instant::now();
        question(number)?;
        Ok(start.elapsed().as_secs_f64() * 1_000.0)
    };
    (1..=TIMES).map(ask).collect()
}

fn ask(instance: &Instance, span: &Span, report: &mut Report) -> Result<()> {
    let month = span.month();
    let (from, to) = (month.start(), month.end());
    let events = format!("/v1/organizations/{}/audit-events", instance.organization);
    let within = format!("from={from}&to={to}");
    let get = |path: &str| -> Result<Value> { Ok(serde_json::from_str(&instance.api.get(path)?)?) };
    let of_type = format!("{events}?event_type=SECURITY&{within}&limit=100");
    ensure!(get(&of_type)?["items"].as_array().is_some_and(|items| items.len() == 100), "a month has 100 of a type");
    let mut deep = of_type.clone();
    for _ in 0..20 {
        let page = get(&deep)?;
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        deep = format!("{of_type}&cursor={cursor}");
    }
    let sample = get(&of_type)?["items"][7].clone();
    let (id, size) = (sample["id"].as_str().context("an id")?.to_owned(), sample["details"]["size_bytes"].clone());
    let contains = format!("{events}?{within}&details={{%22size_bytes%22:{size}}}");
    let reports = format!("/v1/organizations/{}/audit-log/reports", instance.organization);
    let ours: [(&str, f64, PathOf); 8] = [
        ("newest 100 of a type in a month", 1.0, Box::new(move |_| of_type.clone())),
        ("a deep page of them", 2.0, Box::new(move |_| deep.clone())),
        ("one actor's month", 2.0, {
            let (events, within) = (events.clone(), within.clone());
            Box::new(move |number| format!("{events}?actor=user-{number}&{within}&limit=200"))
        }),
        ("details contained, in a month", 5.0, Box::new(move |_| contains.clone())),
        ("daily report of a month", 1.0, {
            let reports = reports.clone();
            Box::new(move |_| format!("{reports}/daily?month={month}"))
        }),
        ("monthly summary, distinct actors in it", 2.0, Box::new(move |_| format!("{reports}/monthly?month={month}"))),
        ("one event by its id", 1.0, {
            let (events, id) = (events.clone(), id.clone());
            Box::new(move |_| format!("{events}/{id}"))
        }),
        ("proof of one event", 5.0, Box::new(move |_| format!("{events}/{id}/proof"))),
    ];
    for (name, most, path) in ours {
        let times = time(|number| instance.api.get(&path(number)).map(|_| ()))?;
        // The API may add a millisecond to what the database is promised to take.
        let bound = if name.starts_with("proof") { most } else { most + 1.0 };
        report.figures.push(Figure::new(format!("{name}, over HTTP"), "ms", times, AtMost(bound)));
    }
    Ok(())
}

/// Fills a plain table, asks it and removes it; answers its bytes.
fn measure_plain(
    instance: &Instance,
    database_url: Option<&str>,
    span: &Span,
    report: &mut Report,
) -> Result<Option<[f64; 2]>> {
    let mut plain = Plain::new(instance, database_url)?;
    let size = plain.fill(span)?;
    for (name, question) in QUESTIONS {
        let times = time(|number| plain.ask(question, span, number, size))?;
        report.figures.push(Figure::new(format!("{name}, plain table by SQL"), "ms", times, AtLeast(0.0)));
    }
    let bytes = plain.bytes()?;
    plain.remove()?;
    Ok(bytes)
}
