//! What must hold before a table is touched. What would be lost by the change, such as triggers and grants, is a reason to
//! refuse: it is for a person to decide.

use keyward_core::problem::Code;
use keyward_core::time::Timestamp;

use super::steps::{IndexOf, Steps};
use super::{Maintenance, sql};
use crate::db::{row, sql as statement};
use crate::error::{Error, Result};

row! {
    struct Obstacle {
        reason: String,
    }
}

impl Maintenance {
    pub(super) async fn steps_for(&self, table: &str, column: &str, cut: Timestamp) -> Result<Steps> {
        let key: Vec<(String,)> = statement(sql::KEY_COLUMNS).bind(table).all(&self.ground.db).await?;
        let key_name: Option<(String,)> = statement(sql::KEY_NAME).bind(table).optional(&self.ground.db).await?;
        let indexes: Vec<IndexOf> = statement(sql::INDEXES).bind(table).all(&self.ground.db).await?;
        Ok(Steps {
            table: table.to_owned(),
            column: column.to_owned(),
            cut,
            key: key.into_iter().map(|(name,)| name).collect(),
            key_name: key_name.map(|(name,)| name).unwrap_or_default(),
            indexes,
        })
    }

    /// Refuses a table that cannot be changed without a loss or a stop, with every reason at once.
    pub(super) async fn check_convertible(&self, steps: &Steps) -> Result<()> {
        let Steps { table, column, cut, .. } = steps;
        let obstacles: Vec<Obstacle> = statement(sql::OBSTACLES).bind(table).bind(column).all(&self.ground.db).await?;
        let mut reasons: Vec<String> = obstacles.into_iter().map(|obstacle| obstacle.reason).collect();
        if reasons.is_empty() {
            let latest =
                crate::db::ddl("SELECT (extract(epoch FROM max(").name(column).then(")))::bigint AS value FROM ");
            // Of an empty table there is no latest instant.
            let latest = latest.name(table).number(&self.owner).await.unwrap_or_default();
            if latest >= cut.as_seconds() {
                reasons.push(format!("it has rows from {cut} on, where the months are to begin"));
            }
        }
        match reasons.as_slice() {
            [] => Ok(()),
            reasons => {
                Err(Error::new(Code::Conflict, format!("{table} cannot be partitioned: {}.", reasons.join("; "))))
            }
        }
    }

    /// Refuses the way back of a table that never went there.
    pub(super) async fn check_converted(&self, steps: &Steps) -> Result<()> {
        let legacy = steps.legacy();
        if self.relation_exists(&legacy).await? {
            return Ok(());
        }
        let detail = format!("{} was not changed by this command: there is no {legacy}.", steps.table);
        Err(Error::new(Code::Conflict, detail))
    }
}
