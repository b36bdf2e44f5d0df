//! The book's table as the bench fills it, beside a plain table of the same rows with plain B-trees; on either database.

use std::collections::HashMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use keyward_core::month::Month;
use keyward_core::time::Timestamp;
use keyward_core::tree::{Growth, Tile};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use uuid::Uuid;

use crate::audit_events::{BareRow, COLUMNS, Event, add, write_line};
use crate::audit_search::{Sums, as_hex, growth_of};
use crate::instance::Instance;

const PLAIN_INDEXES: &str = "CREATE UNIQUE INDEX plain_by_id ON plain_event (id); CREATE INDEX plain_by_time ON plain_event (logged_at);
    CREATE INDEX plain_by_type ON plain_event (event_type, logged_at); CREATE INDEX plain_by_actor ON plain_event (actor_id, logged_at);
    CREATE INDEX plain_by_resource ON plain_event (resource_id, logged_at);
    CREATE INDEX plain_by_organization ON plain_event (organization_id, logged_at)";

/// What the plain table is asked, and how: $1 organization, $2 and $3 the month, $4 an actor, $5 a size.
const PLAIN_QUESTIONS: [(&str, &str); 5] = [
    (
        "newest 100 of a type in a month",
        "SELECT * FROM plain_event WHERE organization_id = $1 AND event_type = 'SECURITY' AND logged_at >= $2 AND logged_at < $3
            AND $4 <> '' AND $5 <> -1 ORDER BY logged_at DESC LIMIT 100",
    ),
    (
        "one actor's month",
        "SELECT * FROM plain_event WHERE organization_id = $1 AND actor_id = $4 AND logged_at >= $2 AND logged_at < $3 AND $5 <> -1
            ORDER BY logged_at DESC LIMIT 200",
    ),
    (
        "details contained, in a month",
        "SELECT * FROM plain_event WHERE organization_id = $1 AND logged_at >= $2 AND logged_at < $3 AND $4 <> ''
            AND DETAILS_SIZE = $5 ORDER BY logged_at DESC LIMIT 50",
    ),
    (
        "count of a month by type and action",
        "SELECT event_type, action, success, count(*) FROM plain_event WHERE organization_id = $1 AND logged_at >= $2
            AND logged_at < $3 AND $4 <> '' AND $5 <> -1 GROUP BY event_type, action, success",
    ),
    (
        "distinct actors of a month",
        "SELECT count(DISTINCT actor_id) FROM plain_event WHERE organization_id = $1 AND logged_at >= $2 AND logged_at < $3
            AND $4 <> '' AND $5 <> -1",
    ),
];

/// Bytes of each side, on PostgreSQL.
pub struct Sizes {
    pub ours: f64,
    pub plain: f64,
    pub time: f64,
    pub plain_time: f64,
}

pub enum Table {
    Sqlite { book: SqliteConnection, plain: SqliteConnection, _folder: tempfile::TempDir },
    Postgres(PgConnection),
}

impl Table {
    pub async fn open(instance: &Instance, database_url: Option<&str>) -> Result<Self> {
        if let Some(url) = database_url {
            let mut connection = PgConnection::connect(url).await?;
            let plain = "CREATE TABLE plain_event (LIKE audit_event INCLUDING DEFAULTS)";
            sqlx::raw_sql(plain).execute(&mut connection).await?;
            sqlx::raw_sql(PLAIN_INDEXES).execute(&mut connection).await?;
            return Ok(Self::Postgres(connection));
        }
        let options = SqliteConnectOptions::new()
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .pragma("cache_size", "-65536");
        let mut book = options.clone().filename(instance.database_file()).connect().await?;
        let schema = "SELECT sql FROM sqlite_master WHERE name = 'audit_event'";
        let schema: String = sqlx::query(schema).fetch_one(&mut book).await?.get(0);
        let folder = tempfile::Builder::new().prefix("keyward-bench-").tempdir()?;
        let mut plain = options.filename(folder.path().join("plain.db")).create_if_missing(true).connect().await?;
        let schema = schema.replace("audit_event", "plain_event");
        sqlx::raw_sql(AssertSqlSafe(schema)).execute(&mut plain).await?;
        sqlx::raw_sql(PLAIN_INDEXES).execute(&mut plain).await?;
        Ok(Self::Sqlite { book, plain, _folder: folder })
    }

    /// The name of the log and how many events it has.
    pub async fn head(&mut self) -> Result<(Uuid, i64)> {
        let question = "SELECT log_id, size FROM audit_head";
        Ok(match self {
            Self::Sqlite { book, .. } => {
                let row = sqlx::query(question).fetch_one(book).await?;
                (Uuid::from_slice(&row.get::<Vec<u8>, _>(0))?, row.get(1))
            }
            Self::Postgres(connection) => {
                let row = sqlx::query(question).fetch_one(connection).await?;
                (row.get(0), row.get(1))
            }
        })
    }

    pub async fn growth(&mut self, size: i64) -> Result<Growth> {
        let question = "SELECT level, place, hashes FROM audit_tile";
        let rows: Vec<(i64, i64, Vec<u8>)> = match self {
            Self::Sqlite { book, .. } => sqlx::query_as(question).fetch_all(book).await?,
            Self::Postgres(connection) => sqlx::query_as(question).fetch_all(connection).await?,
        };
        let tiles = rows.into_iter().map(|(level, index, hashes)| {
            (Tile { level: level as u8, index: index as u64 }, hashes.as_chunks::<32>().0.to_vec())
        });
        growth_of(size as u64, &tiles.collect())
    }

    /// Partitions for every month of a span.
    pub async fn make_months(&mut self, from: i64, to: i64) -> Result<()> {
        let Self::Postgres(connection) = self else { return Ok(()) };
        let mut month = Month::of(Timestamp::from_micros(from));
        while month.start().as_micros() <= to {
            let (name, start, end) = (month.to_string().replace('-', ""), month.start(), month.end());
            let text = format!(
                "CREATE TABLE IF NOT EXISTS audit_event_p{name} PARTITION OF audit_event FOR VALUES FROM ('{start}') TO ('{end}')"
            );
            sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *connection).await?;
            month = Month::of(end);
        }
        Ok(())
    }

    pub async fn insert(&mut self, organization: Uuid, batch: &[Event], rows: &[BareRow]) -> Result<()> {
        match self {
            Self::Sqlite { book, plain, .. } => {
                let row = format!("({})", vec!["?"; COLUMNS].join(","));
                let values = vec![row; rows.len()].join(",");
                for (connection, table) in [(book, "audit_event"), (plain, "plain_event")] {
                    let mut arguments = SqliteArguments::default();
                    for (event, row) in batch.iter().zip(rows) {
                        add(&mut arguments, organization, event, row).map_err(|error| anyhow::anyhow!(error))?;
                    }
                    let text = AssertSqlSafe(format!("INSERT INTO {table} VALUES {values}"));
                    sqlx::query_with(text, arguments).execute(connection).await?;
                }
            }
            Self::Postgres(connection) => {
                let mut text = String::with_capacity(400 * rows.len());
                for (event, row) in batch.iter().zip(rows) {
                    write_line(&mut text, organization, event, row)?;
                }
                for table in ["audit_event", "plain_event"] {
                    let mut copy = connection.copy_in_raw(&format!("COPY {table} FROM STDIN")).await?;
                    copy.send(text.clone().into_bytes()).await?;
                    copy.finish().await?;
                }
            }
        }
        Ok(())
    }

    /// The sums, the tiles and the new end of the book.
    pub async fn write_sums(&mut self, organization: Uuid, sums: &Sums, size: i64, last: i64) -> Result<()> {
        let postgres = matches!(self, Self::Postgres(_));
        let at = |micros: i64| match postgres {
            true => format!("'{}'", Timestamp::from_micros(micros)),
            false => micros.to_string(),
        };
        let id = match postgres {
            true => format!("'{organization}'"),
            false => format!("x'{}'", organization.simple()),
        };
        let bytes = |hex: &str| if postgres { format!("'\\x{hex}'") } else { format!("x'{hex}'") };
        let mut rows: HashMap<&str, Vec<String>> = HashMap::new();
        for ((span, start, kind, action, success), events) in &sums.counts {
            let row = format!("({id},'{span}',{},'{kind}','{action}',{success},{events})", at(*start));
            rows.entry("audit_count").or_default().push(row);
        }
        for (day, sketch) in &sums.distinct {
            let hex = keyward_core::text::hex(&sketch.to_bytes());
            rows.entry("audit_distinct").or_default().push(format!("({id},{},{})", at(*day), bytes(&hex)));
        }
        for ((month, actor), (events, failures)) in &sums.actors {
            let row = format!("({id},{},'user','user-{actor}',{events},{failures},{events})", at(*month));
            rows.entry("audit_actor").or_default().push(row);
        }
        for (hour, first) in &sums.hours {
            rows.entry("audit_hour").or_default().push(format!("({},{first})", at(*hour)));
        }
        for (tile, hashes) in &sums.tiles {
            let row = format!("({},{},{})", tile.level, tile.index, bytes(&as_hex(hashes)));
            rows.entry("audit_tile").or_default().push(row);
        }
        self.run("DELETE FROM audit_tile; DELETE FROM audit_hour").await?;
        for table in ["audit_count", "audit_distinct", "audit_actor"] {
            self.run(&format!("DELETE FROM {table} WHERE organization_id = {id}")).await?;
        }
        for (table, rows) in rows {
            for part in rows.chunks(400) {
                let mut text = format!("INSERT INTO {table} VALUES ");
                write!(text, "{}", part.join(","))?;
                self.run(&text).await?;
            }
        }
        self.run(&format!("UPDATE audit_head SET size = {size}, logged_at = {}", at(last))).await
    }

    async fn run(&mut self, text: &str) -> Result<()> {
        let text = sqlx::raw_sql(AssertSqlSafe(text.to_owned()));
        match self {
            Self::Sqlite { book, .. } => text.execute(book).await.map(|_| ())?,
            Self::Postgres(connection) => text.execute(connection).await.map(|_| ())?,
        }
        Ok(())
    }

    /// Both sides as they are after their upkeep.
    pub async fn settle(&mut self) -> Result<()> {
        match self {
            Self::Sqlite { plain, .. } => sqlx::raw_sql("ANALYZE").execute(plain).await.map(|_| ())?,
            Self::Postgres(connection) => sqlx::raw_sql("VACUUM ANALYZE").execute(connection).await.map(|_| ())?,
        }
        Ok(())
    }

    pub fn plain_questions() -> [(&'static str, &'static str); 5] {
        PLAIN_QUESTIONS
    }

    pub async fn ask_plain(
        &mut self,
        question: &'static str,
        organization: Uuid,
        (from, to): (Timestamp, Timestamp),
        number: usize,
        size: &Value,
    ) -> Result<()> {
        let (actor, size) = (format!("user-{number}"), size.as_i64().context("a size")?);
        match self {
            Self::Sqlite { plain, .. } => {
                let text = question.replace("DETAILS_SIZE", "details ->> 'size_bytes'");
                let query =
                    sqlx::query(AssertSqlSafe(text)).bind(organization.as_bytes().to_vec()).bind(from.as_micros());
                query.bind(to.as_micros()).bind(actor).bind(size).fetch_all(plain).await?;
            }
            Self::Postgres(connection) => {
                let text = question
                    .replace("DETAILS_SIZE = $5", "details @> jsonb_build_object('size_bytes', $5)")
                    .replace("$2", &format!("'{from}'::timestamptz"))
                    .replace("$3", &format!("'{to}'::timestamptz"))
                    .replace("$4", &format!("'{actor}'"))
                    .replace("$5", &format!("{size}::bigint"));
                sqlx::query(AssertSqlSafe(text)).bind(organization).fetch_all(connection).await?;
            }
        }
        Ok(())
    }

    pub async fn sizes(&mut self) -> Result<Option<Sizes>> {
        let Self::Postgres(connection) = self else { return Ok(None) };
        let question = "SELECT (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('audit_event')) +
                pg_total_relation_size('audit_count') + pg_total_relation_size('audit_distinct') + pg_total_relation_size('audit_actor') +
                pg_total_relation_size('audit_hour') + pg_total_relation_size('audit_tile'),
            pg_total_relation_size('plain_event')::numeric, (SELECT sum(pg_relation_size(c.oid)) FROM pg_class c JOIN pg_am a ON a.oid = c.relam
                WHERE a.amname = 'brin' AND c.relkind = 'i') + pg_total_relation_size('audit_hour'), pg_relation_size('plain_by_time')::numeric";
        let question = format!("SELECT a::float8, b::float8, c::float8, d::float8 FROM ({question}) AS s (a, b, c, d)");
        let row = sqlx::query(AssertSqlSafe(question)).fetch_one(connection).await?;
        let sizes = Sizes { ours: row.get(0), plain: row.get(1), time: row.get(2), plain_time: row.get(3) };
        ensure!(sizes.plain > 0.0, "sizes: {}", json!([sizes.ours, sizes.plain]));
        Ok(Some(sizes))
    }
}
