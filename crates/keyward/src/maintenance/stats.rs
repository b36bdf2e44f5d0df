//! Sizes, counts and use: of tables and their partitions, of indexes, of statements. No judgement.

use keyward_core::access::Permission;
use keyward_core::time::Timestamp;
use serde::Serialize;

use super::{Maintenance, sql as statements};
use crate::context::Context;
use crate::db::{row, sql};
use crate::error::Result;

/// Statements shown at most.
const MOST_STATEMENTS: u32 = 50;

row! {
    /// A table or a partition.
    #[derive(Debug, Clone, Serialize)]
    pub struct Part {
        pub name: String,
        /// The partitioned table that it belongs to.
        pub parent: Option<String>,
        /// As the catalog writes them; instants are in UTC.
        pub bounds: Option<String>,
        /// By the last ANALYZE.
        pub estimated_rows: Option<i64>,
        pub bytes: Option<i64>,
        pub index_bytes: Option<i64>,
        /// Taken out, but not to the end.
        pub detaching: bool,
    }
}

row! {
    #[derive(Debug, Clone, Serialize)]
    pub struct Index {
        pub schema: String,
        pub table_name: String,
        pub name: String,
        pub method: String,
        pub bytes: Option<i64>,
        /// How often it was used since the counters began.
        pub scans: Option<i64>,
        pub rows_read: Option<i64>,
        pub is_unique: bool,
        pub is_primary: bool,
        pub is_valid: bool,
        pub definition: String,
        /// The index of the partitioned table that it belongs to.
        pub parent: Option<String>,
    }
}

row! {
    #[derive(Debug, Clone, Serialize)]
    pub struct SlowQuery {
        pub query: String,
        pub calls: i64,
        pub total_ms: f64,
        pub mean_ms: f64,
        pub max_ms: f64,
        pub rows: i64,
        pub io_ms: f64,
    }
}

#[derive(Debug, Clone, Serialize)]
pub struct PartitionStats {
    pub database: &'static str,
    pub partitioned: bool,
    pub items: Vec<Part>,
    /// Why figures are missing, where they are.
    pub why: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct IndexStats {
    pub database: &'static str,
    /// Since when uses are counted.
    pub counted_since: Option<Timestamp>,
    pub items: Vec<Index>,
    pub why: Option<String>,
}

/// The slowest statements, or why they are not known.
#[derive(Debug, Clone, Serialize)]
pub struct SlowQueries {
    pub database: &'static str,
    /// `ok` or `unknown`.
    pub status: &'static str,
    pub why: Option<String>,
    pub items: Vec<SlowQuery>,
}

impl Maintenance {
    /// Tables and partitions, with their sizes and rows.
    pub async fn partitions(&self, context: &Context) -> Result<PartitionStats> {
        context.require_at_instance(Permission::SystemRead)?;
        let mut items: Vec<Part> = statements::PARTITIONS.on(&self.ground.db).all(&self.ground.db).await?;
        let mut why = None;
        if !self.ground.db.is_postgres() {
            self.measure_file(&mut items).await?;
            why = Some("SQLite keeps the log in one table; old months are deleted in small steps.".to_owned());
        }
        let partitioned = items.iter().any(|part| part.parent.is_some());
        Ok(PartitionStats { database: self.ground.db.kind(), partitioned, items, why })
    }

    /// Indexes with their sizes and use, the largest first.
    pub async fn indexes(&self, context: &Context) -> Result<IndexStats> {
        context.require_at_instance(Permission::SystemRead)?;
        let items: Vec<Index> = statements::INDEXES.on(&self.ground.db).all(&self.ground.db).await?;
        let (counted_since, why) = if self.ground.db.is_postgres() {
            let since: (Option<Timestamp>,) = sql(statements::STATISTICS_RESET).one(&self.ground.db).await?;
            (since.0, None)
        } else {
            (None, Some("SQLite counts neither the uses nor the sizes of its indexes.".to_owned()))
        };
        Ok(IndexStats { database: self.ground.db.kind(), counted_since, items, why })
    }

    /// The slowest statements by their mean time.
    pub async fn slow_queries(&self, context: &Context) -> Result<SlowQueries> {
        context.require_at_instance(Permission::SystemRead)?;
        let database = self.ground.db.kind();
        let unknown = |why: String| SlowQueries { database, status: "unknown", why: Some(why), items: Vec::new() };
        if !self.ground.db.is_postgres() {
            return Ok(unknown("SQLite keeps no record of its statements.".to_owned()));
        }
        if self.number(statements::HAS_STATEMENTS).await? == 0 {
            return Ok(unknown(
                "The extension pg_stat_statements is not there: add it to shared_preload_libraries, restart, and run \
                 CREATE EXTENSION pg_stat_statements."
                    .to_owned(),
            ));
        }
        if let Some(why) = self.missing_right().await? {
            return Ok(unknown(why));
        }
        match sql(statements::SLOW).bind(MOST_STATEMENTS).all::<SlowQuery>(&self.ground.db).await {
            Ok(items) => Ok(SlowQueries { database, status: "ok", why: None, items }),
            Err(error) => Ok(unknown(error.told())),
        }
    }

    /// Why the doings of other roles cannot be seen, if they cannot.
    pub(super) async fn missing_right(&self) -> Result<Option<String>> {
        let (monitor,): (bool,) = sql(statements::IS_MONITOR).one(&self.ground.db).await?;
        if monitor {
            return Ok(None);
        }
        let (role,): (String,) = sql(statements::ROLE).one(&self.ground.db).await?;
        Ok(Some(format!("The role {role} does not see what others do: GRANT pg_monitor TO {role}.")))
    }
}
