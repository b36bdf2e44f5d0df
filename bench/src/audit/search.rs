//! How fast the book is read when it is large: eighteen months of events are written straight into the database as the desk would
//! have written them, then asked for over HTTP; the same rows lie in a plain table with plain B-trees, asked by SQL.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use keyward_core::distinct::Distinct;
use keyward_core::id::{Id, Organization};
use keyward_core::leaf::{Actor, Leaf, Object, Seal};
use keyward_core::month::Month;
use keyward_core::text::hex;
use keyward_core::time::{Clock, Timestamp};
use keyward_core::tree::{Growth, Tile};
use serde_json::Value;
use uuid::Uuid;

use crate::audit_events::{BareRow, Event, Events, details};
use crate::audit_table::Table;
use crate::figures::{Figure, Target::AtLeast, Target::AtMost};
use crate::instance::Instance;
use crate::report::Report;

const MONTHS: i64 = 18;
/// Rows of one statement or COPY.
const BATCH: usize = 1_000;
/// Times that each question is asked.
const TIMES: usize = 31;
const DAY_MICROS: i64 = 86_400_000_000;

/// The path of the n-th call.
type PathOf = Box<dyn Fn(usize) -> String>;

/// What the desk keeps beside the rows.
#[derive(Default)]
pub struct Sums {
    pub counts: HashMap<(&'static str, i64, &'static str, &'static str, bool), i64>,
    pub distinct: BTreeMap<i64, Distinct>,
    pub actors: HashMap<(i64, u64), (i64, i64)>,
    pub hours: BTreeMap<i64, i64>,
    pub tiles: HashMap<Tile, Vec<[u8; 32]>>,
}

/// Where the rows lie in time.
struct Span {
    start: i64,
    step: i64,
    count: usize,
}

impl Span {
    fn at(&self, number: usize) -> i64 {
        self.start + self.step * number as i64
    }

    /// A whole month in the middle of what there is.
    fn month(&self) -> Month {
        Month::of(Timestamp::from_micros(self.at(self.count * 4 / 5)))
    }
}

/// Measures `count` events.
pub fn measure(count: usize, database_url: Option<&str>, program: &Path, report: &mut Report) -> Result<()> {
    let instance = Instance::set_up_on(program, database_url)?;
    // One call, so that the book has its first row and its name.
    instance.api.get("/v1/audit-log/checkpoint")?;
    let organization = instance.organization.parse::<Id<Organization>>()?.uuid();
    let now = Clock::System.now().as_micros();
    let start = now - MONTHS * 30 * DAY_MICROS;
    let span = Span { start, step: (now - start) / count as i64, count };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut table = runtime.block_on(Table::open(&instance, database_url))?;
    let written = Instant::now();
    runtime.block_on(fill(&mut table, &span, organization))?;
    let (_, size) = runtime.block_on(table.head())?;
    eprintln!("  {count} events twice, in {:.0} s", written.elapsed().as_secs_f64());
    instance.maintain("partitions")?;
    instance.maintain("analyze")?;
    runtime.block_on(table.settle())?;
    ask(&instance, &runtime, &mut table, &span, organization, report)?;
    sizes(&runtime, &mut table, report)?;
    let began = Instant::now();
    let mut verify = Command::new(program);
    let output = verify.args(["audit", "verify", "--json"]).args(instance.place_flags()).output()?;
    let told: Value = serde_json::from_slice(&output.stdout).context("verify answers JSON")?;
    ensure!(told["whole"] == true, "the book that was written is not whole: {told}");
    let speed = size as f64 / began.elapsed().as_secs_f64();
    report.figures.push(Figure::new("full verification, on one core", "events/s", vec![speed], AtLeast(500_000.0)));
    Ok(())
}

/// Writes the rows into both tables, and the sums and the tree.
async fn fill(table: &mut Table, span: &Span, organization: Uuid) -> Result<()> {
    let mut events = Events::new(organization);
    let (log, first) = table.head().await?;
    let mut growth = table.growth(first).await?;
    let mut sums = Sums::default();
    table.make_months(span.start, span.at(span.count)).await?;
    let mut sequence = first;
    let mut left = span.count;
    while left > 0 {
        let batch: Vec<Event> = events.some(BATCH.min(left));
        let mut rows = Vec::with_capacity(batch.len());
        for event in &batch {
            let at = span.at((sequence - first) as usize);
            let row = events.row_at(event, sequence, at);
            sums.add(event, &row);
            rows.push(row);
            sequence += 1;
        }
        let leaves = batch.iter().zip(&rows).map(|(event, row)| leaf_of(log, organization, event, row));
        sums.tiles.extend(growth.extend(leaves.collect::<Vec<_>>()));
        table.insert(organization, &batch, &rows).await?;
        left -= batch.len();
        if (span.count - left).is_multiple_of(500_000) {
            eprintln!("  {} of {} events written", span.count - left, span.count);
        }
    }
    table.write_sums(organization, &sums, sequence, span.at(span.count - 1)).await
}

impl Sums {
    fn add(&mut self, event: &Event, row: &BareRow) {
        let day = row.at - row.at.rem_euclid(DAY_MICROS);
        let month = Month::of(Timestamp::from_micros(day)).start().as_micros();
        for (span, starts_at) in [("day", day), ("month", month)] {
            *self.counts.entry((span, starts_at, event.kind.0, event.kind.1, event.success)).or_default() += 1;
        }
        let actor = [b"user\0".as_slice(), format!("user-{}", event.actor).as_bytes()].concat();
        self.distinct.entry(day).or_default().add(&actor);
        let sums = self.actors.entry((month, event.actor)).or_default();
        sums.0 += 1;
        sums.1 += i64::from(!event.success);
        self.hours.entry(row.at - row.at.rem_euclid(3_600_000_000)).or_insert(row.sequence);
    }
}

fn leaf_of(log: Uuid, organization: Uuid, event: &Event, row: &BareRow) -> [u8; 32] {
    let (actor, name, file) =
        (format!("user-{}", event.actor), format!("Person {}", event.actor), format!("file-{}", event.file));
    let (report, address, told) =
        (format!("report-{}.pdf", event.file), format!("192.0.2.{}", event.actor % 250), details(event));
    let at = Timestamp::from_micros(row.at);
    let leaf = Leaf {
        log: log.into_bytes(),
        sequence: row.sequence as u64,
        id: row.id.into_bytes(),
        organization: Some(organization.into_bytes()),
        event_type: event.kind.0,
        action: event.kind.1,
        success: event.success,
        actor_kind: "user",
        resource_kind: "file",
        request_id: Some(&row.request),
        occurred_at: at,
        logged_at: at,
        actor: Actor { id: &actor, name: Some(&name), ip_address: Some(&address), user_agent: Some("app/2.1 (bench)") },
        actor_seal: Seal::Salt(row.seal),
        object: Object {
            id: &file,
            name: Some(&report),
            error_message: (!event.success).then_some("permission denied"),
            details: &told,
        },
        object_seal: Seal::Salt(row.seal),
    };
    leaf.hash()
}

/// Milliseconds, each time.
fn time(mut question: impl FnMut(usize) -> Result<()>) -> Result<Vec<f64>> {
    question(0)?;
    let ask = |number| {
        let start = Instant::now();
        question(number)?;
        Ok(start.elapsed().as_secs_f64() * 1_000.0)
    };
    (1..=TIMES).map(ask).collect()
}

fn ask(
    instance: &Instance,
    runtime: &tokio::runtime::Runtime,
    table: &mut Table,
    span: &Span,
    organization: Uuid,
    report: &mut Report,
) -> Result<()> {
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
    let (id, contained) = (sample["id"].as_str().context("an id")?.to_owned(), sample["details"]["size_bytes"].clone());
    let contains = format!("{events}?{within}&details={{%22size_bytes%22:{contained}}}");
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
    for (name, question) in Table::plain_questions() {
        let times =
            time(|number| runtime.block_on(table.ask_plain(question, organization, (from, to), number, &contained)))?;
        report.figures.push(Figure::new(format!("{name}, plain table by SQL"), "ms", times, AtLeast(0.0)));
    }
    Ok(())
}

fn sizes(runtime: &tokio::runtime::Runtime, table: &mut Table, report: &mut Report) -> Result<()> {
    let Some(sizes) = runtime.block_on(table.sizes())? else { return Ok(()) };
    report.figures.push(Figure::new(
        "bytes of an event, indexes and sums included / plain",
        "",
        vec![sizes.ours / sizes.plain],
        AtMost(1.0),
    ));
    report.figures.push(Figure::new(
        "indexes of time / the B-tree that they replace",
        "",
        vec![sizes.time / sizes.plain_time],
        AtMost(0.01),
    ));
    Ok(())
}

/// Hashes as the database takes them in JSON.
pub fn as_hex(hashes: &[[u8; 32]]) -> String {
    hex(hashes.as_flattened())
}

/// The edge of the tree that is stored.
pub fn growth_of(size: u64, tiles: &HashMap<Tile, Vec<[u8; 32]>>) -> Result<Growth> {
    Growth::new(size, |tile| tiles.get(&tile).cloned()).context("the stored tiles fit")
}
