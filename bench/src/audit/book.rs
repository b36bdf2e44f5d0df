//! The book as the desk would have written it, straight into the database: rows, sums and the tree.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use keyward_core::distinct::Distinct;
use keyward_core::leaf::{Actor, Leaf, Object, Seal};
use keyward_core::month::Month;
use keyward_core::text::hex;
use keyward_core::time::Timestamp;
use keyward_core::tree::{Growth, TILE_WIDTH, Tile};
use sqlx::ConnectOptions as _;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use uuid::Uuid;

use super::database::{Database, Either, Kind};
use super::events::{BareRow, Event, details};
use super::fill::{DAY_MICROS, Span};
use crate::instance::Instance;

const HOUR_MICROS: i64 = 3_600_000_000;
/// Whole tiles that wait until they are written.
const TILES: usize = 256;

type Hashes = Vec<[u8; 32]>;

/// Where it lies. Each work on it has a connection of its own, and none is open while Keyward is measured.
pub struct Book {
    file: PathBuf,
    database_url: Option<String>,
}

/// What the desk keeps beside the rows.
#[derive(Default)]
struct Sums {
    counts: HashMap<(&'static str, i64, &'static str, &'static str, bool), i64>,
    distinct: BTreeMap<i64, Distinct>,
    actors: HashMap<(i64, u64), (i64, i64)>,
    hours: BTreeMap<i64, i64>,
}

/// The tree while it grows.
struct Tree {
    growth: Growth,
    /// The tiles that are not whole yet, by level.
    edge: BTreeMap<u8, (Tile, Hashes)>,
}

impl Book {
    pub fn of(instance: &Instance, database_url: Option<&str>) -> Self {
        Self { file: instance.database_file(), database_url: database_url.map(str::to_owned) }
    }

    fn open(&self) -> Result<Database> {
        Database::open(async || match &self.database_url {
            Some(url) => Database::postgres(url).await,
            None => Ok(Either::Sqlite(filled_fast().filename(&self.file).connect().await?)),
        })
    }

    /// How many events it has.
    pub fn size(&self) -> Result<i64> {
        Ok(head(&mut self.open()?)?.1)
    }

    /// Writes the rows of the span behind what there is, and the sums and the tree. Nobody else writes meanwhile.
    pub fn fill(&self, span: &Span) -> Result<()> {
        let mut database = self.open()?;
        let (log, first) = head(&mut database)?;
        make_months(&mut database, span)?;
        let (mut sums, mut tree) = (Sums::default(), Tree::read(&mut database, first)?);
        let keep = |events: &[Event], rows: &[BareRow]| {
            let leaves = events.iter().zip(rows).map(|(event, row)| {
                sums.add(event, row);
                leaf_of(log, span.organization, event, row)
            });
            tree.grow(leaves.collect())
        };
        let mut waiting = Vec::new();
        let write_whole = |database: &mut Database, whole: Vec<(Tile, Hashes)>| {
            waiting.extend(whole);
            if waiting.len() >= TILES { write_tiles(database, std::mem::take(&mut waiting)) } else { Ok(()) }
        };
        span.fill(&mut database, "audit_event", first, keep, write_whole)?;
        waiting.extend(tree.edge.into_values());
        write_tiles(&mut database, waiting)?;
        sums.write(&mut database, span, first)
    }

    /// The bytes of the book with all its indexes and sums, and of its indexes of time alone; PostgreSQL tells.
    pub fn bytes(&self) -> Result<Option<[f64; 2]>> {
        let question = "SELECT (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('audit_event')) +
                pg_total_relation_size('audit_count') + pg_total_relation_size('audit_distinct') + pg_total_relation_size('audit_actor') +
                pg_total_relation_size('audit_hour') + pg_total_relation_size('audit_tile'),
            (SELECT sum(pg_relation_size(c.oid)) FROM pg_class c JOIN pg_am a ON a.oid = c.relam
                WHERE a.amname = 'brin' AND c.relkind = 'i') + pg_total_relation_size('audit_hour')";
        self.open()?.sizes(question)
    }

    /// As it is after its upkeep.
    pub fn settle(&self) -> Result<()> {
        if self.database_url.is_some() { self.open()?.run("VACUUM ANALYZE") } else { Ok(()) }
    }
}

/// How a file is opened that is only filled: what a power cut would take is made anew, and pages that many rows touch are written
/// once for all of them.
pub fn filled_fast() -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new().journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Off);
    options.pragma("cache_size", "-1048576").pragma("wal_autocheckpoint", "131072")
}

/// The name of the log and how many events it has.
fn head(database: &mut Database) -> Result<(Uuid, i64)> {
    let question = "SELECT log_id, size FROM audit_head";
    database.with(async |connection| {
        Ok(match connection {
            Either::Sqlite(connection) => {
                let row = sqlx::query(question).fetch_one(connection).await?;
                (Uuid::from_slice(&row.get::<Vec<u8>, _>(0))?, row.get(1))
            }
            Either::Postgres(connection) => {
                let row = sqlx::query(question).fetch_one(connection).await?;
                (row.get(0), row.get(1))
            }
        })
    })
}

/// Partitions for every month of the span.
fn make_months(database: &mut Database, span: &Span) -> Result<()> {
    if database.kind() == Kind::Sqlite {
        return Ok(());
    }
    let mut month = Month::of(Timestamp::from_micros(span.at(0)));
    while month.start().as_micros() <= span.at(span.count) {
        let (name, start, end) = (month.to_string().replace('-', ""), month.start(), month.end());
        database.run(format!(
            "CREATE TABLE IF NOT EXISTS audit_event_p{name} PARTITION OF audit_event FOR VALUES FROM ('{start}') TO ('{end}')"
        ))?;
        month = Month::of(end);
    }
    Ok(())
}

fn write_tiles(database: &mut Database, tiles: Vec<(Tile, Hashes)>) -> Result<()> {
    let kind = database.kind();
    let row = |(tile, hashes): (Tile, Hashes)| {
        format!("({},{},{})", tile.level, tile.index, kind.bytes(&hex(hashes.as_flattened())))
    };
    database.insert_values("audit_tile", &tiles.into_iter().map(row).collect::<Vec<_>>())
}

impl Tree {
    /// The tree of the few events that a new instance has; its tiles, none of them whole, are written anew.
    fn read(database: &mut Database, size: i64) -> Result<Self> {
        ensure!((size as u64) < TILE_WIDTH, "the book has {size} events already");
        let question = "SELECT level, place, hashes FROM audit_tile";
        let rows: Vec<(i64, i64, Vec<u8>)> = database.with(async |connection| {
            Ok(match connection {
                Either::Sqlite(connection) => sqlx::query_as(question).fetch_all(connection).await?,
                Either::Postgres(connection) => sqlx::query_as(question).fetch_all(connection).await?,
            })
        })?;
        database.run("DELETE FROM audit_tile")?;
        let tiles = rows.into_iter().map(|(level, index, hashes)| {
            (Tile { level: level as u8, index: index as u64 }, hashes.as_chunks::<32>().0.to_vec())
        });
        let tiles: HashMap<Tile, Hashes> = tiles.collect();
        let growth = Growth::new(size as u64, |tile| tiles.get(&tile).cloned()).context("the stored tiles fit")?;
        Ok(Self { growth, edge: tiles.into_iter().map(|(tile, hashes)| (tile.level, (tile, hashes))).collect() })
    }

    /// Adds leaves; answers the tiles that they made whole.
    fn grow(&mut self, leaves: Vec<[u8; 32]>) -> Vec<(Tile, Hashes)> {
        let mut whole = Vec::new();
        for (tile, hashes) in self.growth.extend(leaves) {
            if hashes.len() as u64 == TILE_WIDTH {
                self.edge.remove(&tile.level);
                whole.push((tile, hashes));
            } else {
                self.edge.insert(tile.level, (tile, hashes));
            }
        }
        whole
    }
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
        self.hours.entry(row.at - row.at.rem_euclid(HOUR_MICROS)).or_insert(row.sequence);
    }

    /// Writes them and the new end of the book.
    fn write(self, database: &mut Database, span: &Span, first: i64) -> Result<()> {
        let kind = database.kind();
        let at = |micros: i64| match kind {
            Kind::Postgres => format!("'{}'", Timestamp::from_micros(micros)),
            Kind::Sqlite => micros.to_string(),
        };
        let id = match kind {
            Kind::Postgres => format!("'{}'", span.organization),
            Kind::Sqlite => format!("x'{}'", span.organization.simple()),
        };
        let counts = self.counts.iter().map(|((each, start, event_type, action, success), events)| {
            format!("({id},'{each}',{},'{event_type}','{action}',{success},{events})", at(*start))
        });
        let distinct = self
            .distinct
            .iter()
            .map(|(day, sketch)| format!("({id},{},{})", at(*day), kind.bytes(&hex(&sketch.to_bytes()))));
        let actors = self.actors.iter().map(|((month, actor), (events, failures))| {
            format!("({id},{},'user','user-{actor}',{events},{failures},{events})", at(*month))
        });
        let hours = self.hours.iter().map(|(hour, first)| format!("({},{first})", at(*hour)));
        database.run("DELETE FROM audit_hour")?;
        for table in ["audit_count", "audit_distinct", "audit_actor"] {
            database.run(format!("DELETE FROM {table} WHERE organization_id = {id}"))?;
        }
        database.insert_values("audit_count", &counts.collect::<Vec<_>>())?;
        database.insert_values("audit_distinct", &distinct.collect::<Vec<_>>())?;
        database.insert_values("audit_actor", &actors.collect::<Vec<_>>())?;
        database.insert_values("audit_hour", &hours.collect::<Vec<_>>())?;
        let (size, last) = (first + span.count as i64, at(span.at(span.count - 1)));
        database.run(format!("UPDATE audit_head SET size = {size}, logged_at = {last}"))
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
