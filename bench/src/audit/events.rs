//! How fast events are taken into the book over HTTP, in batches of 500, durable, numbered, hashed and summed up, beside the bare rows
//! going into an equal table: a COPY on PostgreSQL, a batched insert with `synchronous=FULL` on SQLite.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sqlx::Arguments;
use sqlx::sqlite::SqliteArguments;
use uuid::Uuid;

use super::database::Kind;
use crate::figures::Target::AtLeast;
use crate::instance::Instance;
use crate::intake::{Bare, TURN, Turns, send};
use crate::report::Report;

/// Events in a batch.
const BATCH: usize = 500;
const ACTORS: u64 = 2_000;
const FILES: u64 = 50_000;
const KINDS: [(&str, &str); 6] = [
    ("FILE_ACCESS", "upload"),
    ("FILE_ACCESS", "download"),
    ("FILE_ACCESS", "delete"),
    ("DATA", "read"),
    ("SECURITY", "login_failed"),
    ("DISK_MONITOR", "checked"),
];
pub const COLUMNS: usize = 21;

pub struct Event {
    pub kind: (&'static str, &'static str),
    pub actor: u64,
    pub file: u64,
    pub size: u64,
    pub success: bool,
}

/// The same events in every run.
pub struct Events {
    organization: Uuid,
    dice: u64,
    made: i64,
}

impl Events {
    pub fn new(organization: Uuid) -> Self {
        Self { organization, dice: 7, made: 0 }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % limit
    }

    fn batch(&mut self) -> Vec<Event> {
        self.some(BATCH)
    }

    pub fn some(&mut self, count: usize) -> Vec<Event> {
        (0..count)
            .map(|_| Event {
                kind: KINDS[self.below(KINDS.len() as u64) as usize],
                actor: self.below(ACTORS),
                file: self.below(FILES),
                size: self.below(1 << 30),
                success: self.below(20) > 0,
            })
            .collect()
    }

    fn row(&mut self, event: &Event) -> BareRow {
        let sequence = self.made;
        self.row_at(event, sequence, 1_795_000_000_000_000 + sequence * 1_000)
    }

    /// The columns of a row that are not the event's own.
    pub fn row_at(&mut self, event: &Event, sequence: i64, at: i64) -> BareRow {
        self.made += 1;
        let low = u128::from(self.below(1 << 31)) << 16 | 1;
        let id = Uuid::from_u128((at as u128 / 1_000) << 80 | 7 << 76 | 2 << 62 | low);
        let mut seal = [0; 16];
        seal[..8].copy_from_slice(&self.below(1 << 31).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        BareRow { sequence, at, id, seal, request: format!("req_{:026}", self.made), details: details(event) }
    }
}

pub struct BareRow {
    pub sequence: i64,
    /// Microseconds.
    pub at: i64,
    pub id: Uuid,
    pub seal: [u8; 16],
    pub request: String,
    pub details: String,
}

pub fn details(event: &Event) -> String {
    format!("{{\"duration_ms\":{},\"mime_type\":\"application/pdf\",\"size_bytes\":{}}}", event.size % 900, event.size)
}

fn body(events: &[Event]) -> String {
    let mut body = String::with_capacity(450 * events.len());
    body.push_str("{\"events\":[");
    for (index, event) in events.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let Event { kind: (kind, action), actor, file, success, .. } = event;
        let error = if *success { "null" } else { "\"permission denied\"" };
        write!(
            body,
            "{comma}{{\"event_type\":\"{kind}\",\"action\":\"{action}\",\"actor\":{{\"type\":\"user\",\"id\":\"user-{actor}\",\
             \"name\":\"Person {actor}\"}},\"resource\":{{\"type\":\"file\",\"id\":\"file-{file}\",\"name\":\"report-{file}.pdf\"}},\
             \"success\":{success},\"error_message\":{error},\"details\":{},\"ip_address\":\"192.0.2.{}\",\
             \"user_agent\":\"app/2.1 (bench)\"}}",
            details(event),
            actor % 250
        )
        .expect("a string takes everything");
    }
    body.push_str("]}");
    body
}

async fn insert(bare: &mut Bare, events: &mut Events, batch: &[Event]) -> Result<()> {
    let rows: Vec<BareRow> = batch.iter().map(|event| events.row(event)).collect();
    match bare {
        Bare::Sqlite { connection, .. } => {
            Kind::Sqlite.rows(events.organization, batch, &rows)?.insert(connection, "audit_event").await
        }
        Bare::Postgres(connection) => {
            Kind::Postgres.rows(events.organization, batch, &rows)?.copy(connection, "bare.audit_event").await
        }
    }
}

pub fn add(
    values: &mut SqliteArguments,
    organization: Uuid,
    event: &Event,
    row: &BareRow,
) -> Result<(), sqlx::error::BoxDynError> {
    let Event { kind: (kind, action), actor, file, success, .. } = event;
    values.add(row.sequence)?;
    values.add(row.at)?;
    values.add(row.at)?;
    values.add(row.id.as_bytes().to_vec())?;
    values.add(organization.as_bytes().to_vec())?;
    values.add(*success)?;
    values.add(*kind)?;
    values.add(*action)?;
    values.add("user")?;
    values.add(format!("user-{actor}"))?;
    values.add(format!("Person {actor}"))?;
    values.add("file")?;
    values.add(format!("file-{file}"))?;
    values.add(format!("report-{file}.pdf"))?;
    values.add((!success).then_some("permission denied"))?;
    values.add(format!("192.0.2.{}", actor % 250))?;
    values.add("app/2.1 (bench)")?;
    values.add(row.request.as_str())?;
    values.add(row.details.as_str())?;
    values.add(row.seal.to_vec())?;
    values.add(row.seal.to_vec())
}

/// A line of COPY's text form; none of the texts has a character that it treats differently.
pub fn write_line(text: &mut String, organization: Uuid, event: &Event, row: &BareRow) -> std::fmt::Result {
    let Event { kind: (kind, action), actor, file, success, .. } = event;
    let at = keyward_core::time::Timestamp::from_micros(row.at);
    let seal: String = row.seal.iter().map(|byte| format!("{byte:02x}")).collect();
    let error = if *success { "\\N" } else { "permission denied" };
    writeln!(
        text,
        "{}\t{at}\t{at}\t{}\t{organization}\t{success}\t{kind}\t{action}\tuser\tuser-{actor}\tPerson {actor}\tfile\tfile-{file}\t\
         report-{file}.pdf\t{error}\t192.0.2.{}\tapp/2.1 (bench)\t{}\t{}\t\\\\x{seal}\t\\\\x{seal}",
        row.sequence,
        row.id,
        actor % 250,
        row.request,
        row.details
    )
}

/// Measures `count` events.
pub fn measure(count: usize, database_url: Option<&str>, program: &Path, report: &mut Report) -> Result<()> {
    let instance = Instance::set_up_on(program, database_url)?;
    let organization = instance.organization.parse::<keyward_core::id::Id<keyward_core::id::Organization>>()?.uuid();
    let mut events = Events::new(organization);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut bare = runtime.block_on(Bare::beside(&instance, "audit_event", database_url))?;
    let path = format!("/v1/organizations/{}/audit-events", instance.organization);
    let all_kept = |answer: &Value| {
        let kept = answer["items"].as_array().context("items")?.len();
        ensure!(kept == BATCH, "not all were taken: {kept}");
        Ok(())
    };
    let (mut turns, mut done) = (Turns::default(), 0);
    while done < count {
        let batches: Vec<Vec<Event>> = (0..TURN).map(|_| events.batch()).collect();
        let bodies: Vec<String> = batches.iter().map(|batch| body(batch)).collect();
        let start = Instant::now();
        send(&instance.api, &path, &bodies, all_kept)?;
        let ours = start.elapsed();
        let start = Instant::now();
        for batch in &batches {
            runtime.block_on(insert(&mut bare, &mut events, batch))?;
        }
        turns.add(ours, start.elapsed());
        done += BATCH * TURN;
        turns.tell(done, count, "events");
    }
    turns.report(done, "events", AtLeast(0.5), report);
    Ok(())
}
