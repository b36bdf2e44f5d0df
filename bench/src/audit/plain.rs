//! The same rows in a plain table with plain B-trees, asked by SQL: what one would have without Keyward.

use anyhow::Result;
use keyward_core::month::Month;
use keyward_core::time::Timestamp;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};

use super::book::filled_fast;
use super::database::{Database, Either, Kind};
use super::events::{BareRow, Event};
use super::fill::Span;
use crate::instance::Instance;

const INDEXES: &str = "CREATE UNIQUE INDEX plain_by_id ON plain_event (id); CREATE INDEX plain_by_time ON plain_event (logged_at);
    CREATE INDEX plain_by_type ON plain_event (event_type, logged_at); CREATE INDEX plain_by_actor ON plain_event (actor_id, logged_at);
    CREATE INDEX plain_by_resource ON plain_event (resource_id, logged_at);
    CREATE INDEX plain_by_organization ON plain_event (organization_id, logged_at)";

/// What the plain table is asked, and how: $1 organization, $2 and $3 the month, $4 an actor, $5 a size.
pub const QUESTIONS: [(&str, &str); 5] = [
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

/// On SQLite it is gone when dropped, on PostgreSQL by `remove`.
pub struct Plain {
    database: Database,
    _folder: tempfile::TempDir,
}

impl Plain {
    /// An empty one with the columns of the book, in a file of its own on SQLite.
    pub fn new(instance: &Instance, database_url: Option<&str>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("keyward-bench-").tempdir()?;
        let mut schema = "CREATE TABLE plain_event (LIKE audit_event INCLUDING DEFAULTS)".to_owned();
        let mut database = Database::open(async || {
            if let Some(url) = database_url {
                return Database::postgres(url).await;
            }
            let mut theirs = filled_fast().filename(instance.database_file()).connect().await?;
            let text = sqlx::query("SELECT sql FROM sqlite_master WHERE name = 'audit_event'").fetch_one(&mut theirs);
            schema = text.await?.get::<String, _>(0).replace("audit_event", "plain_event");
            let file = filled_fast().filename(folder.path().join("plain.db")).create_if_missing(true);
            Ok(Either::Sqlite(file.connect().await?))
        })?;
        database.run(schema)?;
        database.run(INDEXES)?;
        Ok(Self { database, _folder: folder })
    }

    /// Writes the rows of the span; answers the size that one of the month that is asked about has in its details.
    pub fn fill(&mut self, span: &Span) -> Result<u64> {
        let (month, mut sample) = (span.month(), 0);
        let in_month = |row: &BareRow| Month::of(Timestamp::from_micros(row.at)) == month;
        let keep = |events: &[Event], rows: &[BareRow]| {
            let found = events.iter().zip(rows).find(|(_, row)| in_month(row));
            sample = found.map_or(sample, |(event, _)| event.size);
        };
        span.fill(&mut self.database, "plain_event", 0, keep, |_, ()| Ok(()))?;
        match self.database.kind() {
            Kind::Sqlite => self.database.run("ANALYZE")?,
            Kind::Postgres => self.database.run("VACUUM ANALYZE plain_event")?,
        }
        Ok(sample)
    }

    /// The bytes of the table with all its indexes, and of its index of time alone; PostgreSQL tells.
    pub fn bytes(&mut self) -> Result<Option<[f64; 2]>> {
        self.database.sizes("SELECT pg_total_relation_size('plain_event'), pg_relation_size('plain_by_time')")
    }

    pub fn ask(&mut self, question: &str, span: &Span, number: usize, size: u64) -> Result<()> {
        let (from, to, actor) = (span.month().start(), span.month().end(), format!("user-{number}"));
        self.database.with(async |connection| {
            match connection {
                Either::Sqlite(connection) => {
                    let text = question.replace("DETAILS_SIZE", "details ->> 'size_bytes'");
                    let query = sqlx::query(AssertSqlSafe(text)).bind(span.organization.as_bytes().to_vec());
                    let query = query.bind(from.as_micros()).bind(to.as_micros()).bind(actor).bind(size as i64);
                    query.fetch_all(connection).await?;
                }
                Either::Postgres(connection) => {
                    let text = question
                        .replace("DETAILS_SIZE = $5", "details @> jsonb_build_object('size_bytes', $5)")
                        .replace("$2", &format!("'{from}'::timestamptz"))
                        .replace("$3", &format!("'{to}'::timestamptz"))
                        .replace("$4", &format!("'{actor}'"))
                        .replace("$5", &format!("{size}::bigint"));
                    sqlx::query(AssertSqlSafe(text)).bind(span.organization).fetch_all(connection).await?;
                }
            }
            Ok(())
        })
    }

    /// Makes room for what comes next.
    pub fn remove(mut self) -> Result<()> {
        if self.database.kind() == Kind::Postgres { self.database.run("DROP TABLE plain_event") } else { Ok(()) }
    }
}
