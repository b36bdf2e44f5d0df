//! How fast usage records are taken in, sums and all, beside a bare insert of the same rows into an equal table: same
//! database, same driver, same durability, 1,000 rows a transaction. And how long the summary of the month then takes.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use keyward_core::id::{Id, Key, Organization};
use keyward_core::month::Month;
use keyward_core::time::{Clock, Timestamp};
use serde_json::{Value, json};
use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe};
use uuid::Uuid;

use crate::figures::{Figure, Target::AtLeast, Target::LessThan};
use crate::instance::Instance;
use crate::intake::{Bare, TURN, Turns, send};
use crate::report::Report;

/// Records in a batch.
const BATCH: usize = 1_000;
const KEYS: usize = 100;
const ROUTES: u64 = 20;
/// Between two calls: ten million of them are 25 days.
const STEP_MICROS: i64 = 216_000;
const SUMMARIES: usize = 30;
const COLUMNS: usize = 16;

/// One call, as both sides store it.
struct Record {
    id: String,
    key: Id<Key>,
    at: Timestamp,
    endpoint: String,
    status: i64,
    micros: i64,
    numbers: [i64; 5],
    error: Option<&'static str>,
}

/// The same calls in every run, as a busy service makes them: in the order of time, over some keys and routes.
struct Calls {
    keys: Vec<Id<Key>>,
    start: Timestamp,
    total: usize,
    made: usize,
    dice: u64,
}

impl Calls {
    fn below(&mut self, limit: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % limit
    }

    fn batch(&mut self) -> Vec<Record> {
        (0..BATCH.min(self.total - self.made)).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> Record {
        let micros = STEP_MICROS * self.made as i64;
        self.made += 1;
        let status = if self.below(50) == 0 { 500 } else { 200 };
        let (high, low) = (self.below(1 << 32), self.below(1 << 32));
        let index = self.below(self.keys.len() as u64) as usize;
        Record {
            id: format!("{high:08x}{low:08x}-{:08x}", self.made),
            key: self.keys[index],
            at: Timestamp::from_micros(self.start.as_micros() + micros),
            endpoint: format!("/v1/resource-{}", self.below(ROUTES)),
            status,
            micros: 1 + self.below(1 << 20) as i64,
            numbers: [5_000, 20_000, 2_000, 1_000, 1_000_000_000].map(|limit| self.below(limit) as i64),
            error: (status == 500).then_some("upstream timeout"),
        }
    }
}

fn body(records: &[Record]) -> String {
    let mut body = String::with_capacity(400 * records.len());
    body.push_str("{\"records\":[");
    for (index, record) in records.iter().enumerate() {
        let Record {
            id,
            key,
            at,
            endpoint,
            status,
            micros,
            numbers: [request, response, tokens_in, tokens_out, nanos],
            error,
        } = record;
        let comma = if index == 0 { "" } else { "," };
        let error = error.map_or_else(|| "null".to_owned(), |text| format!("\"{text}\""));
        write!(
            body,
            "{comma}{{\"id\":\"{id}\",\"key_id\":\"{key}\",\"endpoint\":\"{endpoint}\",\"method\":\"POST\",\"status\":{status},\
             \"duration_ms\":{},\"request_bytes\":{request},\"response_bytes\":{response},\"tokens_in\":{tokens_in},\
             \"tokens_out\":{tokens_out},\"cost_usd\":\"0.{nanos:09}\",\"ip\":\"192.0.2.1\",\"user_agent\":\"bench/1.0\",\
             \"error\":{error},\"occurred_at\":\"{at}\"}}",
            *micros as f64 / 1000.0
        )
        .expect("a string takes everything");
    }
    body.push_str("]}");
    body
}

/// Adds the values of a row, in the order of the table's columns.
macro_rules! add {
    ($values:ident, $ids:expr, $record:ident, $at:expr) => {
        let (organization, id, key) = $ids;
        let add = || -> Result<(), sqlx::error::BoxDynError> {
            $values.add(organization)?;
            $values.add(id)?;
            $values.add(key)?;
            $values.add($at)?;
            $values.add($record.endpoint.clone())?;
            $values.add("POST")?;
            $values.add($record.status)?;
            $values.add($record.micros)?;
            $record.numbers.iter().try_for_each(|number| $values.add(*number))?;
            $values.add("192.0.2.1")?;
            $values.add("bench/1.0")?;
            $values.add($record.error)
        };
        add().map_err(|error| anyhow::anyhow!(error))?;
    };
}

/// SQLite counts nameless placeholders much faster than numbered ones.
fn statement(bare: &Bare, rows: usize) -> String {
    let (table, row) = match bare {
        Bare::Sqlite { .. } => ("usage_record", vec![format!("({})", vec!["?"; COLUMNS].join(",")); rows]),
        Bare::Postgres(_) => {
            let column = |number: usize| match number % COLUMNS {
                4 => format!("to_timestamp(${number})"),
                _ => format!("${number}"),
            };
            let row = |row: usize| (1..=COLUMNS).map(|at| column(row * COLUMNS + at)).collect::<Vec<_>>().join(",");
            ("bare.usage_record", (0..rows).map(|number| format!("({})", row(number))).collect())
        }
    };
    format!("INSERT INTO {table} VALUES {}", row.join(","))
}

async fn insert(bare: &mut Bare, organization: Uuid, records: &[Record]) -> Result<()> {
    let text = AssertSqlSafe(statement(bare, records.len()));
    match bare {
        Bare::Sqlite { connection, .. } => {
            let mut values = SqliteArguments::default();
            for record in records {
                let fields =
                    (organization.as_bytes().to_vec(), record.id.clone(), record.key.uuid().as_bytes().to_vec());
                add!(values, fields, record, record.at.as_micros());
            }
            sqlx::query_with(text, values).execute(connection).await?;
        }
        Bare::Postgres(connection) => {
            let mut values = PgArguments::default();
            for record in records {
                let fields = (organization, record.id.clone(), record.key.uuid());
                add!(values, fields, record, record.at.as_micros() as f64 / 1e6);
            }
            sqlx::query_with(text, values).execute(connection).await?;
        }
    }
    Ok(())
}

/// Measures `count` records.
pub fn measure(count: usize, database_url: Option<&str>, program: &Path, report: &mut Report) -> Result<()> {
    let instance = Instance::set_up_on(program, database_url)?;
    instance.import(KEYS, KEYS)?;
    let start = Clock::System.now().plus_seconds(-STEP_MICROS * count as i64 / 1_000_000);
    let mut calls = Calls { keys: keys_of(&instance)?, start, total: count, made: 0, dice: 7 };
    let organization = instance.organization.parse::<Id<Organization>>()?.uuid();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut bare = runtime.block_on(Bare::beside(&instance, "usage_record", database_url))?;
    let path = format!("/v1/organizations/{}/usage", instance.organization);
    let all_taken = |answer: &Value| {
        let is_all = answer["rejected"] == json!([]) && answer["duplicates"] == 0;
        ensure!(is_all, "not all were taken: {answer}");
        Ok(())
    };
    let mut turns = Turns::default();
    while calls.made < count {
        let batches: Vec<Vec<Record>> = (0..TURN).map(|_| calls.batch()).filter(|batch| !batch.is_empty()).collect();
        let bodies: Vec<String> = batches.iter().map(|batch| body(batch)).collect();
        let begun = Instant::now();
        send(&instance.api, &path, &bodies, all_taken)?;
        // A report adds up first: a turn ends when its records stand in the sums.
        instance.api.get(&format!("{path}/summary"))?;
        let ours = begun.elapsed();
        let begun = Instant::now();
        for batch in &batches {
            runtime.block_on(insert(&mut bare, organization, batch))?;
        }
        turns.add(ours, begun.elapsed());
        turns.tell(calls.made, count, "usage records");
    }
    let middle = start.plus_seconds(STEP_MICROS * count as i64 / 2_000_000);
    let summaries = time_summaries(&instance, Month::of(middle))?;
    turns.report(count, "usage records", AtLeast(0.7), report);
    report.figures.push(Figure::new("summary of the month", "ms", summaries, LessThan(20.0)));
    Ok(())
}

fn keys_of(instance: &Instance) -> Result<Vec<Id<Key>>> {
    let listed = instance.api.get(&format!("/v1/organizations/{}/api-keys?limit={KEYS}", instance.organization))?;
    let listed: Value = serde_json::from_str(&listed)?;
    let keys = listed["items"].as_array().context("items")?.iter();
    keys.map(|key| Ok(key["id"].as_str().context("a key has an id")?.parse()?)).collect()
}

/// Milliseconds for the summary of the month in which most of the records are.
fn time_summaries(instance: &Instance, month: Month) -> Result<Vec<f64>> {
    let path = format!("/v1/organizations/{}/usage/summary?month={month}", instance.organization);
    let time = |_| {
        let start = Instant::now();
        instance.api.get(&path)?;
        Ok(start.elapsed().as_secs_f64() * 1000.0)
    };
    (0..SUMMARIES).map(time).collect()
}
